"""Rewards of answers in words: pure host functions of (answer, references), each in [0, 1].

    rouge_l     ROUGE-L as COCO's captions have it (evaluation/benchmarks/captions.py)
    bleu4       (column "bleu") BLEU-4 of one sentence, smoothed, by sacrebleu
    cider       CIDEr-D / 10, weighed by a fixed table of document frequencies
    similarity  cosine of sentence embeddings, from a function that is passed in (models/sentence_encoder.py makes one)

The answer is a policy's and may be anything: empty, in any script, huge, with lone surrogates. It is cleaned and cut
first, so each of these takes a few milliseconds and none raises. An answer or a reference without words scores 0, as
does None (an unsound transcript, or an answer in another task's form). rouge_score is not used: it drops every letter
but a-z, so that a right answer in Arabic would earn nothing, and its table of LCS is quadratic in Python.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Sequence

import numpy as np

from dtr1_jax.evaluation.benchmarks import captions
from dtr1_jax.evaluation.benchmarks.captions import Frequencies
from dtr1_jax.evaluation.benchmarks.words import ptb_words

CUT = 2000  # characters of an answer or a reference that count; a summary of 300 words fits
# Every n-gram weighs the same; for a data set without a table.
FLAT = Frequencies(2, {})
# Scripts that are written without spaces: each character is taken for a word.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")

# texts -> float32[n, d], rows of length 1
EmbedFn = Callable[[Sequence[str]], np.ndarray]


def clean(text: str) -> str:
    """The first CUT characters of a text, in Unicode's form C, without format characters and lone surrogates.

    Marks of writing direction are format characters: they change no word, but would make equal words differ.
    """
    text = unicodedata.normalize("NFC", text[:CUT])
    text = "".join(c for c in text if unicodedata.category(c) not in ("Cf", "Cs"))
    return _UNSPACED.sub(r" \g<0> ", text)


def rouge_l(answer: str | None, references: Sequence[str]) -> float:
    """ROUGE-L with beta 1.2, in [0, 1]; see `captions.rouge_l`."""
    answer, references = _prepared(answer, references)
    return captions.rouge_l(answer, references) if references else 0.0


def bleu4(answer: str | None, references: Sequence[str]) -> float:
    """BLEU-4 of one sentence against all its references, in [0, 1].

    sacrebleu's `sentence_bleu` on words of COCO's form: n-grams without a match count as 1/2, 1/4, ... of one (Chen and
    Cherry 2014, method 3), and a text shorter than four words is measured up to its own length ("effective order").
    """
    answer, references = _prepared(answer, references)
    mine = ptb_words(answer)
    if not mine or not references:
        return 0.0
    others = [" ".join(ptb_words(reference)) for reference in references]
    return min(max(_bleu().sentence_score(" ".join(mine), others).score / 100.0, 0.0), 1.0)


def cider(answer: str | None, references: Sequence[str], table: Frequencies = FLAT) -> float:
    """CIDEr-D / 10, in [0, 1]; `table` says in how many documents each n-gram occurs, see `captions.frequencies`."""
    answer, references = _prepared(answer, references)
    return min(captions.cider_d(answer, references, table) / 10.0, 1.0) if references else 0.0


def similarity(answers: Sequence[str | None], references: Sequence[Sequence[str]], embed: EmbedFn) -> list[float]:
    """Likeness in meaning of n answers with their references, each in [0, 1]: the best max(0, cosine) of each.

    All distinct texts are embedded in one call, so pass the whole batch. A negative cosine says no more than 0 does:
    unrelated sentences have cosines around 0.

    Raises ValueError where `embed` does not return one row for each text.
    """
    pairs = [_prepared(*pair) for pair in zip(answers, references, strict=True)]
    pairs = [(answer, others if ptb_words(answer) else []) for answer, others in pairs]
    place: dict[str, int] = {}
    for text in (text for answer, others in pairs if others for text in (answer, *others)):
        place.setdefault(text, len(place))
    if not place:
        return [0.0] * len(pairs)
    rows = np.asarray(embed(list(place)), np.float64)
    if rows.ndim != 2 or len(rows) != len(place):
        raise ValueError(f"embed must return one row for each text: expected {len(place)} rows, got shape {rows.shape}")
    scores = [max((float(rows[place[a]] @ rows[place[o]]) for o in others), default=0.0) for a, others in pairs]
    return [min(max(score, 0.0), 1.0) if np.isfinite(score) else 0.0 for score in scores]


PLAIN = {"rouge_l": rouge_l, "bleu": bleu4, "cider": cider}  # columns that need no model


def scorer(table: str) -> Callable[[dict], list[float]]:
    """What scores one answer, for `workers.Pool("dtr1_jax.rewards.text_metrics:scorer", argument=table)`.

    It takes {"columns": names out of PLAIN, "answer": text or None, "references": texts} and returns the columns in
    their order. `table` is the path of a file that `captions.write_frequencies` wrote, or "" for FLAT.
    """
    _bleu()  # now, and not within the deadline of the first answer
    read = PLAIN | {"cider": functools.partial(cider, table=captions.read_frequencies(table) if table else FLAT)}

    def score(item: dict) -> list[float]:
        return [read[name](item["answer"], item["references"]) for name in item["columns"]]

    return score


def _prepared(answer: str | None, references: Sequence[str]) -> tuple[str, list[str]]:
    """Cleaned answer, and the cleaned references that have words."""
    others = [clean(reference) for reference in references]
    return clean(answer or ""), [other for other in others if ptb_words(other)]


@functools.cache
def _bleu():
    from sacrebleu.metrics import BLEU  # 0.2 s, and a run that reads no texts does not need it

    return BLEU(effective_order=True, smooth_method="exp", tokenize="none", force=True)
