"""Several sources as one, interleaved in proportion: what stands where is a pure function of the weights.

A cycle has the slots of each part spread evenly over it, so that any row of examples has its share of each part within
less than four (within less than two inside a cycle), and a batch of a whole number of cycles exactly. Each cycle begins
one slot later than the one before, so that hosts that take every so many-th example do not get the same parts for ever.
"""

from __future__ import annotations

import dataclasses
import fractions
import functools
import math
from collections.abc import Sequence

import numpy as np

from dtr1_jax.types import Example

SLOTS = 240  # of a cycle before it is reduced: shares are rounded to such parts, and none to nothing


@dataclasses.dataclass(frozen=True)
class Interleaving:
    """Which part each place n = 0, 1, ... belongs to, and which of the part's examples stands there.

    Attributes:
      part: the part of each slot of a cycle.
      rank: which of the part's slots of the cycle it is.
      slots: the other way round, `slots[part][rank]`.
    """

    part: tuple[int, ...]
    rank: tuple[int, ...]
    slots: tuple[tuple[int, ...], ...]

    def at(self, place: int) -> tuple[int, int]:
        """(part, number of the example within its part) at a place."""
        cycle, slot = divmod(place, len(self.part))
        slot = (slot + cycle) % len(self.part)
        part = self.part[slot]
        return part, cycle * len(self.slots[part]) + self.rank[slot]

    def place(self, part: int, number: int) -> int:
        """Where example `number` of a part stands; the inverse of `at`."""
        cycle, rank = divmod(number, len(self.slots[part]))
        size = len(self.part)
        return cycle * size + (self.slots[part][rank] - cycle) % size


@functools.lru_cache(maxsize=64)
def interleave(weights: tuple[float, ...]) -> Interleaving:
    """The interleaving of parts with these weights, all above 0, which need not sum to 1.

    Shares are rounded to SLOTS by largest remainders, and the slots are then given out as by `spread`.

    Raises ValueError where there are no weights, too many, or one that is not above 0 and finite.
    """
    if not 1 <= len(weights) <= SLOTS or not all(w > 0 and math.isfinite(w) for w in weights):
        raise ValueError(f"expected 1 to {SLOTS} weights above 0, got {weights}")
    wanted = np.asarray(weights) / sum(weights) * SLOTS
    counts = np.maximum(np.floor(wanted), 1).astype(int)
    while counts.sum() != SLOTS:
        missing = wanted - counts
        if counts.sum() < SLOTS:
            counts[missing.argmax()] += 1
        else:
            counts[np.where(counts > 1, missing, np.inf).argmin()] -= 1
    counts = (counts // math.gcd(*counts.tolist())).tolist()
    slots: list[list[int]] = [[] for _ in counts]
    parts, ranks = spread(counts), []
    for slot, part in enumerate(parts):
        ranks.append(len(slots[part]))
        slots[part].append(slot)
    return Interleaving(parts, tuple(ranks), tuple(map(tuple, slots)))


def spread(counts: Sequence[int]) -> tuple[int, ...]:
    """The part of each of sum(counts) slots: after any t slots, part i has had its share of t, less than 1 off.

    No more than 1 - 1 / (2 n - 2) off for n parts, the least that is possible (R. Tijdeman, The chairman assignment
    problem, Discrete Mathematics 32, 1980): slot k of a part may come from (k + d) sum / count on, d = 1 / (2 n - 2),
    and of those that may, the one comes whose (k + 1 - d) sum / count is nearest; of equals, the first part's.
    """
    size, one = sum(counts), max(2 * len(counts) - 2, 2)  # d is 1 of `one`
    given, order = [0] * len(counts), []
    for t in range(1, size + 1):
        may = [i for i, m in enumerate(counts) if (given[i] * one + 1) * size <= t * m * one]
        part = min(may, key=lambda i: fractions.Fraction((given[i] + 1) * one - 1, counts[i]))
        order.append(part)
        given[part] += 1
    return tuple(order)


@dataclasses.dataclass(frozen=True)
class Mixture:
    """A source (sources.Source) whose examples are those of its parts, interleaved in the proportion of the weights.

    Its length ends where the first part does, so that all of it is balanced and nothing comes twice. Examples of the
    other parts beyond it have places too, for those who go through each part by itself.
    """

    parts: tuple[Sequence[Example], ...]
    weights: tuple[float, ...]

    def __len__(self) -> int:
        return self._length

    @functools.cached_property
    def _length(self) -> int:
        return min(self.places.place(i, len(part)) for i, part in enumerate(self.parts))

    @property
    def places(self) -> Interleaving:
        """Which example of which part stands where."""
        return interleave(self.weights)

    def __getitem__(self, index: int) -> Example:
        """The example at a place. Raises IndexError where its part has no more, and the errors of the part."""
        if index < 0:
            raise IndexError(f"expected a place from 0 on, got {index}")
        part, number = self.places.at(index)
        return self.parts[part][number]
