"""The figures of texts over a whole set of queries with one or more references each, from rows of predictions.jsonl.

They are those of COCO's caption evaluation (benchmarks/captions.py): the weights of CIDEr-D are the document
frequencies of the references of all rows, and BLEU is one figure of all rows. A failed answer counts as an empty text.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from dtr1_jax.evaluation.benchmarks import captions
from dtr1_jax.evaluation.query_metrics import truncate_answer

Row = dict[str, Any]


def answer_text(row: Row) -> str | None:
    """The text answer of a row, cut to the length that counts; None without one, or if the transcript is unsound."""
    text = (row["answer"] or {}).get("text") if row["sound"] else None
    return None if text is None else truncate_answer(text)


def bleu4(rows: Sequence[Row]) -> float:
    """BLEU-4 of the rows that have references, in [0, 1]; 0 if none has."""
    return figures(rows)["bleu4"]


def cider(rows: Sequence[Row]) -> float:
    """The mean of CIDEr-D over the rows, in [0, 10]; a row without references has 0."""
    return figures(rows)["cider"]


def figures(rows: Sequence[Row]) -> dict[str, float]:
    """cider, in [0, 10], and bleu1 to bleu4, in [0, 1], of rows of the task summary."""
    compared = [row for row in rows if row["references"]]
    if not compared:
        return {"cider": 0.0} | {f"bleu{n}": 0.0 for n in range(1, captions.ORDER + 1)}
    answers, references = _texts(compared)
    total, orders = _of_texts(answers, references)
    return {"cider": total / len(rows)} | {f"bleu{n}": value for n, value in enumerate(orders, 1)}


def _texts(rows: Sequence[Row]) -> tuple[tuple[str | None, ...], tuple[tuple[str, ...], ...]]:
    return tuple(map(answer_text, rows)), tuple(tuple(row["references"]) for row in rows)


@functools.lru_cache(maxsize=4)  # the table and the figures of a benchmark are about the same texts
def _of_texts(
    answers: tuple[str | None, ...], references: tuple[tuple[str, ...], ...]
) -> tuple[float, tuple[float, ...]]:  # fmt: skip
    """(the sum of CIDEr-D, BLEU of each order)."""
    weights = captions.frequencies(references)
    total = sum(captions.cider_d(answer, texts, weights) for answer, texts in zip(answers, references))
    return total, captions.bleus(answers, references)
