"""Calls a model on a list of pictures so that a picture on which it fails costs that picture alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Failed:
    """Takes the place of a result; `message` has the cause in words."""

    message: str


def each(call: Callable[[list], Sequence[Any]], items: Sequence[Any], most: int) -> list[Any]:
    """call(items) in batches of at most `most`; the results in order, with a Failed in place of each that failed.

    A batch that raises, or that returns another number of results, is tried again item by item.
    """
    results: list[Any] = []
    for start in range(0, len(items), most):
        batch = list(items[start : start + most])
        found = _attempt(call, batch)
        if isinstance(found, Failed):
            found = [found] if len(batch) == 1 else [_one(call, item) for item in batch]
        results += found
    return results


def _one(call: Callable[[list], Sequence[Any]], item: Any) -> Any:
    found = _attempt(call, [item])
    return found if isinstance(found, Failed) else found[0]


def _attempt(call: Callable[[list], Sequence[Any]], batch: list) -> list[Any] | Failed:
    try:
        found = list(call(batch))
    except Exception as error:  # models and their libraries raise anything; the caller names it in `failures`
        return Failed(f"{type(error).__name__}: {' '.join(str(error).split())}"[:300])
    if len(found) != len(batch):
        return Failed(f"expected {len(batch)} results, got {len(found)}")
    return found
