"""Text metrics of an answer and its references, pure host functions, each in [0, 1].

    rouge_l     ROUGE-L as COCO's captions have it (evaluation/benchmarks/captions.py)
    bleu4       (column "bleu") BLEU-4 of one sentence, smoothed, by sacrebleu
    cider       CIDEr-D / 10, weighed by a fixed table of document frequencies
    similarity  cosine of sentence embeddings, from a function that is passed in (models/sentence_encoder.py makes one)

The answer comes from a policy and may be any text: empty, huge, in any script, with lone surrogates. It is cleaned and
cut first, so that each metric takes a few milliseconds and never raises. An answer or a reference without words scores
0, and so does None (an unsound transcript, or an answer in another task's form). The package rouge_score is not used:
it drops every letter but a-z, so that a right answer in Arabic would earn nothing, and it fills its quadratic table of
the longest common subsequence in Python.
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

CUT = 2000  # the most characters of an answer or a reference; a summary of 300 words fits
FLAT = Frequencies(2, {})  # for a data set without a table: every n-gram weighs the same
# Scripts that are written without spaces: each of their characters is a word.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")

# texts -> float32[n, d], rows of length 1
EmbedFn = Callable[[Sequence[str]], np.ndarray]


def clean(text: str) -> str:
    """The first CUT characters of a text, in Unicode's form C, without format characters and lone surrogates.

    The marks of writing direction are format characters: they do not change a word, but they make equal words differ.
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
    words = ptb_words(answer)
    if not words or not references:
        return 0.0
    targets = [" ".join(ptb_words(reference)) for reference in references]
    return min(max(_bleu().sentence_score(" ".join(words), targets).score / 100.0, 0.0), 1.0)


def cider(answer: str | None, references: Sequence[str], table: Frequencies = FLAT) -> float:
    """CIDEr-D / 10, in [0, 1]; `table` has the number of documents of each n-gram, see `captions.frequencies`."""
    answer, references = _prepared(answer, references)
    return min(captions.cider_d(answer, references, table) / 10.0, 1.0) if references else 0.0


def similarity(answers: Sequence[str | None], references: Sequence[Sequence[str]], embed: EmbedFn) -> list[float]:
    """Similarity in meaning of n answers with their references, each in [0, 1]: max(0, cosine) with the best reference.

    All distinct texts are embedded in one call, so pass the whole batch. A negative cosine counts as 0, since unrelated
    sentences have cosines around 0.

    Raises ValueError if `embed` does not return one row for each text.
    """
    pairs = [_prepared(*pair) for pair in zip(answers, references, strict=True)]
    pairs = [(answer, targets if ptb_words(answer) else []) for answer, targets in pairs]
    place: dict[str, int] = {}
    for text in (text for answer, targets in pairs if targets for text in (answer, *targets)):
        place.setdefault(text, len(place))
    if not place:
        return [0.0] * len(pairs)
    rows = np.asarray(embed(list(place)), np.float64)
    if rows.ndim != 2 or len(rows) != len(place):
        raise ValueError(f"embed must return one row for each text: expected {len(place)} rows, got shape {rows.shape}")
    scores = [max((float(rows[place[a]] @ rows[place[o]]) for o in targets), default=0.0) for a, targets in pairs]
    return [min(max(score, 0.0), 1.0) if np.isfinite(score) else 0.0 for score in scores]


PLAIN = {"rouge_l": rouge_l, "bleu": bleu4, "cider": cider}  # columns that need no model


def scorer(table: str) -> Callable[[dict], list[float]]:
    """The function that scores one answer, for `worker_pool.Pool("dtr1_jax.rewards.text_metrics:scorer",
    argument=table)`.

    It takes {"columns": names out of PLAIN, "answer": text or None, "references": texts} and returns one score for each
    of the columns. `table` is the path of a file that `captions.write_frequencies` wrote, or "" for FLAT.
    """
    _bleu()  # imports sacrebleu now, so that the import does not use up the first answer's deadline
    metrics = PLAIN | {"cider": functools.partial(cider, table=captions.read_frequencies(table) if table else FLAT)}

    def score(item: dict) -> list[float]:
        return [metrics[name](item["answer"], item["references"]) for name in item["columns"]]

    return score


def _prepared(answer: str | None, references: Sequence[str]) -> tuple[str, list[str]]:
    """Cleaned answer, and the cleaned references that have words."""
    targets = [clean(reference) for reference in references]
    return clean(answer or ""), [target for target in targets if ptb_words(target)]


@functools.cache
def _bleu():
    from sacrebleu.metrics import BLEU  # takes 0.2 s, which a run without answers in words need not spend

    return BLEU(effective_order=True, smooth_method="exp", tokenize="none", force=True)
