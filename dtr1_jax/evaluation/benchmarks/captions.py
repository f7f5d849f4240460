"""BLEU-4, ROUGE-L and CIDEr-D of captions and summaries.

Conventions of COCO's caption evaluation (pycocoevalcap 1.2) unless a function says otherwise: words are those of
`words.ptb_words`, each answer has one or more references, and

    bleu      Papineni et al. 2002: over the whole set, closest reference length, no smoothing (1e-15 and 1e-9 guard
              the divisions)
    rouge_l   Lin 2004 with beta = 1.2: precision and recall each from the reference that suits it best
    cider_d   Vedantam et al. 2015: 1 to 4 words, clipped, length penalty of sigma 6, times 10, so in [0, 10]

`rouge_l_f1` is what rouge_score 0.1.2 computes, which summaries are reported with; it differs in the words (rouge_score
keeps a-z and 0-9 alone) and in beta (1). It is restated here because rouge_score brings all of nltk.

A sample without an answer (None: a failed sample, or one that answers in another task's form) counts as an empty
caption: it stays in every denominator, and its reference lengths stay in BLEU. METEOR is not here: its reference is a
Java program, and the libraries without Java compute another figure under its name.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from dtr1_jax.evaluation.benchmarks.words import lcs, ngrams, ptb_words

ORDER = 4  # longest n-gram of BLEU and CIDEr-D
_BETA = 1.2
_SIGMA = 6.0


@dataclasses.dataclass(frozen=True)
class Frequencies:
    """In how many documents an n-gram occurs; a document is the set of references of one sample.

    Attributes:
      documents: number of documents, at least 1.
      counts: tuple of words -> number of documents that have it; one that is not here counts as in one document.
    """

    documents: int
    counts: Mapping[tuple[str, ...], int]


def frequencies(references: Sequence[Sequence[str]]) -> Frequencies:
    """Document frequencies of the references of a whole data set. Raises ValueError where there are no samples."""
    _check(references)
    counts: collections.Counter = collections.Counter()
    for of_sample in references:
        counts.update(set().union(*(ngrams(ptb_words(reference), ORDER) for reference in of_sample)))
    return Frequencies(len(references), counts)


def write_frequencies(path: str | Path, table: Frequencies) -> None:
    """Writes a table as JSON, {"documents": n, "counts": {"words with spaces": n}}."""
    counts = {" ".join(gram): count for gram, count in sorted(table.counts.items())}
    text = json.dumps({"documents": table.documents, "counts": counts}, ensure_ascii=False, separators=(",", ":"))
    Path(path).write_text(text + "\n", "utf-8", errors="replace")


def read_frequencies(path: str | Path) -> Frequencies:
    """Reads what `write_frequencies` wrote. Raises ValueError, naming the file, where it is something else."""
    try:
        form = json.loads(Path(path).read_text("utf-8"))
        documents, counts = form["documents"], form["counts"]
        sound = type(documents) is int and documents >= 1
        sound = sound and all(type(n) is int and 1 <= n <= documents for n in counts.values())
        if not sound:
            raise ValueError("a count that is no integer from 1 to the number of documents")
        return Frequencies(documents, {tuple(gram.split(" ")): count for gram, count in counts.items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f'{path}: expected JSON {{"documents": n, "counts": {{"words": n}}}} as write_frequencies makes it, got'
            f" {type(error).__name__}: {error}"
        ) from error


def cider_d(answer: str | None, references: Sequence[str], table: Frequencies) -> float:
    """CIDEr-D of one answer, in [0, 10]; the figure of a data set is the mean over its samples.

    With `table = frequencies(all references of the set)` this is COCO's figure ("corpus" mode). A table of another,
    larger set makes a figure that does not depend on which samples are scored together. Where the table has a single
    document, every weight is 0 and so is the figure.
    """
    _check([references])
    mine = _weights(tuple(ptb_words(answer or "")), table)
    total = 0.0
    for reference in references:
        other = _weights(tuple(ptb_words(reference)), table)
        penalty = math.exp(-((mine.length - other.length) ** 2) / (2 * _SIGMA**2))
        for mine_n, other_n in zip(mine.weights, other.weights):
            scale = _norm(mine_n) * _norm(other_n)
            dot = sum(min(weight, other_n.get(gram, 0.0)) * other_n.get(gram, 0.0) for gram, weight in mine_n.items())
            total += penalty * dot / scale if scale else 0.0
    return 10.0 * total / ORDER / len(references)


def rouge_l(answer: str | None, references: Sequence[str]) -> float:
    """COCO's ROUGE-L of one answer, in [0, 1]: (1 + b^2) P R / (R + b^2 P) with b = 1.2; the figure is the mean."""
    _check([references])
    mine = ptb_words(answer or "")
    others = [words for words in map(ptb_words, references) if words]
    if not mine or not others:
        return 0.0
    common = [lcs(mine, other) for other in others]
    precision, recall = max(common) / len(mine), max(n / len(other) for n, other in zip(common, others))
    return _f(precision, recall, _BETA)


def rouge_l_f1(answer: str | None, references: Sequence[str]) -> float:
    """rouge_score's ROUGE-L F1 of one answer (no stemmer), in [0, 1]: the best over its references.

    Words are runs of a-z and 0-9 after lower-casing; letters outside them are lost, as they are in rouge_score.
    """
    _check([references])
    mine = _ascii_words(answer or "")
    best = 0.0
    for other in map(_ascii_words, references):
        if mine and other:
            common = lcs(mine, other)
            best = max(best, _f(common / len(mine), common / len(other), 1.0))
    return best


def bleu(answers: Sequence[str | None], references: Sequence[Sequence[str]], order: int = ORDER) -> float:
    """BLEU of a whole data set, in [0, 1]: exp(min(0, 1 - r / c)) times the geometric mean of its n-gram precisions.

    c is the number of words of all answers, r the sum of the reference lengths that are closest to each answer's (of
    two that are equally close, the shorter). Raises ValueError where the numbers of answers and references differ.
    """
    _check(references)
    if len(answers) != len(references):
        raise ValueError(f"expected one answer for each sample (None where it failed), got {len(answers)} answers"
                         f" and {len(references)} samples")  # fmt: skip
    length, wanted = 0, 0
    correct, guessed = [0] * order, [0] * order
    for answer, of_sample in zip(answers, references):
        mine, others = ptb_words(answer or ""), [ptb_words(reference) for reference in of_sample]
        length += len(mine)
        wanted += min((abs(len(other) - len(mine)), len(other)) for other in others)[1]
        most = functools.reduce(lambda a, b: a | b, (ngrams(other, order) for other in others))
        for gram, count in ngrams(mine, order).items():
            guessed[len(gram) - 1] += count
            correct[len(gram) - 1] += min(count, most[gram])
    precisions = [(right + 1e-15) / (tried + 1e-9) for right, tried in zip(correct, guessed)]
    ratio = (length + 1e-15) / (wanted + 1e-9)
    penalty = math.exp(1 - 1 / ratio) if ratio < 1 and 1 / ratio < 700 else float(ratio >= 1)
    return penalty * math.prod(precisions) ** (1 / order)


@dataclasses.dataclass(frozen=True)
class _Weighted:
    """Tf-idf weights of a text's n-grams, one dict for each n, and its length (in bigrams, as in the reference)."""

    weights: tuple[dict, ...]
    length: int


def _weights(words: tuple[str, ...], table: Frequencies) -> _Weighted:
    weights: tuple[dict, ...] = tuple({} for _ in range(ORDER))
    log_documents = math.log(table.documents)
    for gram, count in ngrams(words, ORDER).items():
        weights[len(gram) - 1][gram] = count * (log_documents - math.log(max(1, table.counts.get(gram, 0))))
    return _Weighted(weights, max(len(words) - 1, 0))


def _norm(weights: dict) -> float:
    return math.sqrt(sum(w * w for w in weights.values()))


def _f(precision: float, recall: float, beta: float) -> float:
    if not precision or not recall:
        return 0.0
    return (1 + beta**2) * precision * recall / (recall + beta**2 * precision)


def _ascii_words(text: str) -> list[str]:
    return re.findall("[a-z0-9]+", text.lower())


def _check(references: Sequence[Sequence[str]]) -> None:
    if any(isinstance(of_sample, str) for of_sample in references):
        raise ValueError("expected a list of references for each sample, got a string")
    if not references or not all(references):
        raise ValueError(
            "expected at least one sample, and at least one reference for each; got "
            + ("no samples" if not references else f"none for sample {[bool(r) for r in references].index(False)}")
        )
