"""BLEU-4, ROUGE-L and CIDEr-D of captions and summaries.

The definitions are those of COCO's caption evaluation (pycocoevalcap 1.2) unless a docstring says otherwise. Words are
those of `words.ptb_words`, and each answer has one or more references:

    bleu      Papineni et al. 2002: over the whole set, with the closest reference length, without smoothing (1e-15 and
              1e-9 guard the divisions)
    rouge_l   Lin 2004 with beta = 1.2: precision is the best over the references, and so, separately, is recall
    cider_d   Vedantam et al. 2015: n-grams of 1 to 4 words, clipped, length penalty of sigma 6, times 10: in [0, 10]

`rouge_l_f1` is the figure of rouge_score 0.1.2, which papers on summaries report. Its words are runs of a-z and 0-9,
and its beta is 1. It is written again here because rouge_score needs all of nltk.

The answer None (a failed sample, or an answer in another task's form) counts as an empty caption: the sample stays in
every denominator, and its reference lengths stay in BLEU. METEOR is left out, because its own implementation is a Java
program, and the libraries without Java compute another figure under its name.
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
    """Document frequencies of n-grams; a document is the set of references of one sample.

    Attributes:
      documents: number of documents, at least 1.
      counts: tuple of words -> number of documents that have it; a missing n-gram counts as in one document.
    """

    documents: int
    counts: Mapping[tuple[str, ...], int]


def frequencies(references: Sequence[Sequence[str]]) -> Frequencies:
    """Document frequencies of the references of a whole data set. Raises ValueError if there are no samples."""
    _check(references)
    counts: collections.Counter = collections.Counter()
    for document in references:
        counts.update(set().union(*(ngrams(ptb_words(reference), ORDER) for reference in document)))
    return Frequencies(len(references), counts)


def write_frequencies(path: str | Path, table: Frequencies) -> None:
    """Writes document frequencies as JSON, {"documents": n, "counts": {"words with spaces": n}}."""
    counts = {" ".join(gram): count for gram, count in sorted(table.counts.items())}
    text = json.dumps({"documents": table.documents, "counts": counts}, ensure_ascii=False, separators=(",", ":"))
    Path(path).write_text(text + "\n", "utf-8", errors="replace")


def read_frequencies(path: str | Path) -> Frequencies:
    """Reads a file of `write_frequencies`. Raises ValueError, with the path, for any other or no file."""
    try:
        form = json.loads(Path(path).read_text("utf-8"))
        documents, counts = form["documents"], form["counts"]
        valid = type(documents) is int and documents >= 1
        valid = valid and all(type(n) is int and 1 <= n <= documents for n in counts.values())
        if not valid:
            raise ValueError("a count is not an integer from 1 to the number of documents")
        return Frequencies(documents, {tuple(gram.split(" ")): count for gram, count in counts.items()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(
            f'{path}: expected JSON {{"documents": n, "counts": {{"words": n}}}} as write_frequencies makes it, got'
            f" {type(error).__name__}: {error}"
        ) from error


def cider_d(answer: str | None, references: Sequence[str], table: Frequencies) -> float:
    """CIDEr-D of one answer, in [0, 10]; the figure of a data set is the mean over its samples.

    With `table = frequencies(all references of the set)` this is COCO's figure ("corpus" mode). With the table of
    another, larger set the figure of an answer does not depend on the other samples. With a table of a single document
    all weights are 0, and so is the figure. Raises ValueError if there are no references.
    """
    _check([references])
    candidate = _weights(tuple(ptb_words(answer or "")), table)
    total = 0.0
    for text in references:
        reference = _weights(tuple(ptb_words(text)), table)
        penalty = math.exp(-((candidate.length - reference.length) ** 2) / (2 * _SIGMA**2))
        for weights, targets in zip(candidate.weights, reference.weights):
            scale = _norm(weights) * _norm(targets)
            dot = sum(min(weight, targets.get(gram, 0.0)) * targets.get(gram, 0.0) for gram, weight in weights.items())
            total += penalty * dot / scale if scale else 0.0
    return 10.0 * total / ORDER / len(references)


def rouge_l(answer: str | None, references: Sequence[str]) -> float:
    """COCO's ROUGE-L of one answer, in [0, 1]: (1 + b^2) P R / (R + b^2 P) with b = 1.2.

    The figure of a data set is the mean over its samples. Raises ValueError if there are no references.
    """
    _check([references])
    candidate = ptb_words(answer or "")
    targets = [words for words in map(ptb_words, references) if words]
    if not candidate or not targets:
        return 0.0
    common = [lcs(candidate, target) for target in targets]
    precision, recall = max(common) / len(candidate), max(n / len(target) for n, target in zip(common, targets))
    return _f(precision, recall, _BETA)


def rouge_l_f1(answer: str | None, references: Sequence[str]) -> float:
    """rouge_score's ROUGE-L F1 of one answer (without stemmer), in [0, 1]: the best over its references.

    Words are runs of a-z and 0-9 after lower-casing; all other letters are dropped, as in rouge_score. Raises
    ValueError if there are no references.
    """
    _check([references])
    candidate = _ascii_words(answer or "")
    best = 0.0
    for target in map(_ascii_words, references):
        if candidate and target:
            common = lcs(candidate, target)
            best = max(best, _f(common / len(candidate), common / len(target), 1.0))
    return best


def bleu(answers: Sequence[str | None], references: Sequence[Sequence[str]], order: int = ORDER) -> float:
    """Corpus BLEU in [0, 1]: exp(min(0, 1 - r / c)) times the geometric mean of the clipped n-gram precisions.

    The precisions are those of the whole data set for n = 1 to `order`. c is the number of words of all answers. r sums
    the length of the reference that is closest in length to its answer (the shorter one on a tie). An answer None
    counts as one without words. Raises ValueError if there are no samples, or if `answers` and `references` differ in
    number.
    """
    return bleus(answers, references, order)[-1]


def bleus(
    answers: Sequence[str | None], references: Sequence[Sequence[str]], order: int = ORDER
) -> tuple[float, ...]:  # fmt: skip
    """`bleu` of each order from 1 to `order`: BLEU-1, BLEU-2, and so on. Raises ValueError as `bleu`."""
    _check(references)
    if len(answers) != len(references):
        raise ValueError(f"expected one answer for each sample (None where it failed), got {len(answers)} answers"
                         f" and {len(references)} samples")  # fmt: skip
    length, target_length = 0, 0
    matches, totals = [0] * order, [0] * order
    for answer, texts in zip(answers, references):
        candidate, targets = ptb_words(answer or ""), [ptb_words(text) for text in texts]
        length += len(candidate)
        target_length += min((abs(len(target) - len(candidate)), len(target)) for target in targets)[1]
        limits = functools.reduce(lambda a, b: a | b, (ngrams(target, order) for target in targets))
        for gram, count in ngrams(candidate, order).items():
            totals[len(gram) - 1] += count
            matches[len(gram) - 1] += min(count, limits[gram])
    precisions = [(match + 1e-15) / (total + 1e-9) for match, total in zip(matches, totals)]
    ratio = (length + 1e-15) / (target_length + 1e-9)
    penalty = math.exp(1 - 1 / ratio) if ratio < 1 and 1 / ratio < 700 else float(ratio >= 1)
    return tuple(penalty * math.prod(precisions[:n]) ** (1 / n) for n in range(1, order + 1))


@dataclasses.dataclass(frozen=True)
class _Weighted:
    """Tf-idf weights of a text's n-grams, one dict for each n, and its length (in bigrams, as in pycocoevalcap)."""

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
    if any(isinstance(texts, str) for texts in references):
        raise ValueError("expected a list of references for each sample, got a string")
    if not references or not all(references):
        raise ValueError(
            "expected at least one sample, and at least one reference for each; got "
            + ("no samples" if not references else f"none for sample {[bool(r) for r in references].index(False)}")
        )
