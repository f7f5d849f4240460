"""The phrases of a call, checked, for each picture, and padded to a few lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dtr1_jax.specialists.batching import padded_count


def per_picture(phrases: Any, count: int) -> list[Sequence[str]]:
    """The list of phrases of each of `count` pictures.

    `phrases` is one list of phrases for all pictures, or a list for each picture.

    Raises ValueError: no phrases, an empty phrase, something that is no phrase, or another number of lists.
    """
    if isinstance(phrases, str) or not isinstance(phrases, Sequence):
        raise ValueError(f"phrases: expected a list of phrases, got {phrases!r:.60}; one phrase is [phrase]")
    nested = bool(phrases) and not any(isinstance(phrase, str) for phrase in phrases)
    lists: list[Any] = list(phrases) if nested else [phrases] * count
    if len(lists) != count:
        raise ValueError(f"phrases: expected a list for each of {count} pictures, got {len(lists)} lists")
    for i, asked in enumerate(lists if nested else [phrases]):
        _check(asked, f"phrases of picture {i}" if nested else "phrases")
    return lists


def padded(lists: Sequence[Sequence[str]], table: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Queries of B pictures: float32[B, q, d] and bool[B, q], True at real phrases; q is a power of two.

    `table` has the embedding of each phrase.
    """
    count = padded_count(max(map(len, lists)))
    width = len(table[lists[0][0]])
    query_bqd = np.zeros((len(lists), count, width), np.float32)
    mask_bq = np.zeros((len(lists), count), bool)
    for row, mask, asked in zip(query_bqd, mask_bq, lists):
        row[: len(asked)] = [table[phrase] for phrase in asked]
        mask[: len(asked)] = True
    return query_bqd, mask_bq


def _check(asked: Any, where: str) -> None:
    if isinstance(asked, str) or not isinstance(asked, Sequence) or not len(asked):
        raise ValueError(f"{where}: expected a list with at least one phrase, got {asked!r:.60}")
    for i, phrase in enumerate(asked):
        if not isinstance(phrase, str) or not phrase.strip():
            raise ValueError(f"{where}: expected words, got {phrase!r:.60} as phrase {i}")
