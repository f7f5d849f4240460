"""Batches by their number, whatever process makes them: batch k is about the places k * B to k * B + B - 1 of the data.

Each of n processes prepares B / n neighbouring rows of every batch, in the order of the processes. So the rows of a
batch, and their order, do not depend on the number of processes or of workers, and the position of a run is one number.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import grain

from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.prefetch import Prefetch
from dtr1_jax.data.prompts import PromptError

ENDLESS = 2**53  # number of batches; never reached
# A pipeline gives up after this many unusable examples in a row: PASSES times all examples, but at most PATIENCE.
PASSES, PATIENCE = 10, 2000
FAR = 2**40  # places from here on stand in for those whose example cannot be used

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Share:
    """The rows of each batch that one process prepares.

    Attributes:
      batch: its number of rows.
      number: of the process among those that share the data, from 0 on.
      count: how many processes share the data, each with `batch` rows.
    """

    batch: int
    number: int = 0
    count: int = 1

    @property
    def rows(self) -> range:
        """The numbers of its rows in a batch of all processes."""
        return range(self.number * self.batch, (self.number + 1) * self.batch)

    def places(self, batch: int) -> range:
        """The places in the data of its rows of batch number `batch`."""
        start = batch * self.batch * self.count
        return range(start + self.rows.start, start + self.rows.stop)


def numbered_batches(
    row: Callable[[int], Any], stack: Callable[[list], Any], share: Share, workers: int, budget: int
) -> Any:
    """Endless batches, an iterable whose iterators have get_state and set_state.

    Args:
      row: makes the row of a place in the data.
      stack: makes a batch of rows.
      share: which rows this process prepares.
      workers: processes that make batches; 0 = a thread.
      budget: bytes of the batches that the thread makes ahead (prefetch.py).
    """

    def make(number: int) -> Any:
        return stack([row(place) for place in share.places(number)])

    return _Batches(make, share, workers) if workers else Prefetch(_Batches(make, share), budget)


@dataclasses.dataclass(frozen=True)
class _Batches:
    make: Callable[[int], Any]
    share: Share
    workers: int = 0

    def __iter__(self) -> _BatchIterator:
        return _BatchIterator(self)


class _BatchIterator(Iterator):
    """Yields the batches 0, 1, 2, ..., from the one on to which `set_state` goes."""

    def __init__(self, batches: _Batches):
        self._batches, self._number, self._below = batches, 0, None

    def __next__(self) -> Any:
        if self._below is None:
            self._below = self._open()
        batch = next(self._below)
        self._number += 1
        return batch

    def _open(self) -> Iterator:
        make, workers = self._batches.make, self._batches.workers
        if not workers:
            return map(make, itertools.count(self._number))
        # grain's own reading ahead counts batches, whatever their size.
        reading = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0)
        data = grain.MapDataset.range(self._number, ENDLESS).map(make).to_iter_dataset(reading)
        return iter(data.mp_prefetch(grain.multiprocessing.MultiprocessingOptions(num_workers=workers)))

    def get_state(self) -> dict:
        """The position: {"batch": number of the next batch}. It fits any number of processes and workers."""
        return {"batch": self._number}

    def set_state(self, state: dict) -> None:
        """Goes to a position of `get_state`, or to one of an earlier version, which counted the rows of a process."""
        self._number, self._below = self._number_in(state), None

    def _number_in(self, state: dict) -> int:
        if "batch" in state:
            return int(state["batch"])
        whole = self._batches.share.batch * self._batches.share.count
        number, rest = divmod(int(state.get("next_index", 0)), whole)
        if rest or self._batches.share.count > 1 or "next_index" not in state:
            log.warning(
                "the checkpoint has the position in the data of an earlier version, which depends on the number of"
                " processes and workers: the run goes on from batch %d, so some examples may come again or be left out",
                number,
            )
        return number


def usable_row(load: Callable[[int, int], tuple], examples: int, skips: Any) -> Callable[[int], tuple]:
    """A function place -> row: `load(place, 0)`, or the first of `load(place, 1)`, `load(place, 2)`, ... that works.

    So a place whose example cannot be used costs no other place its own example, and all processes agree on the rows.

    Args:
      load: (place, number of the attempt) -> row; raises ImageError, PromptError or OSError.
      examples: their number in the source.
      skips: pipeline.SkipCounter, which counts the examples that cannot be used.

    An endless pipeline without a usable example would search for ever and say nothing. So the function raises DataError
    after many unusable examples in a row.
    """
    most, in_a_row = min(PASSES * examples, PATIENCE), 0

    def row(place: int) -> tuple:
        nonlocal in_a_row
        for attempt in itertools.count():
            try:
                made = load(place, attempt)
            except (ImageError, PromptError, OSError) as error:
                skips.add(error)
                in_a_row += 1
                if in_a_row >= most:
                    raise DataError(
                        f"none of {in_a_row} examples in a row could be used (there are {examples}); the last: {error}"
                    ) from error
            else:
                in_a_row = 0
                return made
        raise AssertionError("itertools.count has no end")

    return row


def substitute(place: int, attempt: int) -> int:
    """The place in an endless order at which attempt number `attempt` for a place looks: itself, then far away."""
    return place if attempt == 0 else FAR + place + attempt - 1
