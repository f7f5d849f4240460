"""Batches made ahead by a thread. A budget in bytes limits them, because a batch of photos can be large."""

from __future__ import annotations

import collections
import copy
import dataclasses
import threading
import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

AHEAD = 4  # batches that wait at most, however small they are
BUDGET = 512 << 20  # bytes, if the caller gives no budget


def held_bytes(value: Any) -> int:
    """The bytes of all numpy arrays in a value made of dataclasses, dicts, lists and tuples.

    An array that stands there several times counts once. A view counts as the whole array whose memory it keeps.
    """
    sizes: dict[int, int] = {}
    _collect(value, sizes)
    return sum(sizes.values())


def _collect(value: Any, sizes: dict[int, int]) -> None:
    if isinstance(value, np.ndarray):
        while isinstance(value.base, np.ndarray):
            value = value.base
        sizes[id(value)] = value.nbytes
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            _collect(getattr(value, field.name), sizes)
    elif isinstance(value, dict):
        for item in value.values():
            _collect(item, sizes)
    elif isinstance(value, list | tuple):
        for item in value:
            _collect(item, sizes)


@dataclasses.dataclass(frozen=True)
class Prefetch:
    """Batches of which some are made ahead by a thread; each iterator has a thread of its own.

    Attributes:
      batches: makes the batches. Its iterators have get_state and set_state, as those of grain have.
      budget: bytes that the waiting batches and the next one may take together. One batch is made ahead even if it
        takes more.
    """

    batches: Iterable
    budget: int = BUDGET

    def __iter__(self) -> PrefetchIterator:
        return PrefetchIterator(iter(self.batches), self.budget)


class _Shelf:
    """The waiting batches, which the thread and the iterator share. `changed` guards all fields."""

    def __init__(self, budget: int):
        self.changed = threading.Condition()
        self.items: collections.deque[tuple] = collections.deque()  # (batch, its bytes, state after it, error or None)
        self.budget, self.waiting, self.largest = budget, 0, 0  # bytes
        self.stopped = False

    def has_room(self) -> bool:
        """Whether one more batch may be made. It is expected to be as large as the largest so far."""
        fits = self.waiting + self.largest <= self.budget and len(self.items) < AHEAD
        return not self.items or fits

    def stop(self) -> None:
        """Asks the thread to end."""
        with self.changed:
            self.stopped = True
            self.changed.notify_all()


class PrefetchIterator(Iterator):
    """Yields batches in the order of the iterator below. The thread starts with the first batch that is asked for."""

    def __init__(self, below: Any, budget: int):
        self._below, self._budget = below, budget
        self._state = copy.deepcopy(below.get_state())
        self._shelf: _Shelf | None = None
        self._thread: threading.Thread | None = None

    def __next__(self) -> Any:
        """The next batch. Raises the error of the iterator below, StopIteration included."""
        shelf = self._shelf or self._start()
        with shelf.changed:
            shelf.changed.wait_for(lambda: shelf.items)
            batch, size, state, error = shelf.items.popleft()
            shelf.waiting -= size
            shelf.changed.notify_all()
        if error is not None:
            self._stop()
            raise error
        self._state = state
        return batch

    def get_state(self) -> dict:
        """The position behind the last batch that was returned; batches that were made ahead do not count."""
        return self._state

    def set_state(self, state: dict) -> None:
        """Goes to a position that `get_state` gave."""
        self._stop()
        self._below.set_state(state)
        self._state = copy.deepcopy(self._below.get_state())

    def _start(self) -> _Shelf:
        self._shelf = shelf = _Shelf(self._budget)
        # The thread must not hold this iterator: it ends when the iterator is dropped.
        self._thread = threading.Thread(target=_fill, args=(self._below, shelf), daemon=True, name="prefetch")
        self._finalizer = weakref.finalize(self, shelf.stop)
        self._thread.start()
        return shelf

    def _stop(self) -> None:
        if self._shelf is not None and self._thread is not None:
            self._shelf.stop()
            self._thread.join()
            self._finalizer.detach()
        self._shelf = self._thread = None


def _fill(below: Any, shelf: _Shelf) -> None:
    """Makes batches while there is room for them, until the shelf is stopped or an error occurs."""
    while True:
        with shelf.changed:
            shelf.changed.wait_for(lambda: shelf.stopped or shelf.has_room())
            if shelf.stopped:
                return
        try:
            batch, error = next(below), None
            size, state = held_bytes(batch), copy.deepcopy(below.get_state())
        except Exception as caught:  # it is raised again where the batch is asked for
            batch, size, state, error = None, 0, {}, caught
        with shelf.changed:
            shelf.items.append((batch, size, state, error))
            shelf.waiting, shelf.largest = shelf.waiting + size, max(shelf.largest, size)
            shelf.changed.notify_all()
        del batch
        if error is not None:
            return
