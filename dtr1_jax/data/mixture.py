"""Several sources as one, interleaved in proportion to their weights. The order is a pure function of the weights.

The order repeats a cycle, over which the slots of each part are spread evenly. So in any run of consecutive examples,
the count of each part is less than four away from its exact share (less than two inside one cycle), and in a whole
number of cycles it is exact. Each cycle begins one slot later than the one before. Else a host, which takes the same
rows of each batch, could get the same part for ever.
"""

from __future__ import annotations

import dataclasses
import fractions
import functools
import math
from collections.abc import Sequence

import numpy as np

from dtr1_jax.types import Example

SLOTS = 240  # of a cycle: shares are rounded to multiples of 1 / SLOTS, and each part has at least one slot


@dataclasses.dataclass(frozen=True)
class Interleaving:
    """Maps each place n = 0, 1, ... of a mixture to a part and to the number of the example within the part.

    Attributes:
      part: the part at each slot of a cycle.
      rank: how many earlier slots of the cycle have the same part, for each slot.
      slots: the inverse: `slots[part][rank]` is the slot.
    """

    part: tuple[int, ...]
    rank: tuple[int, ...]
    slots: tuple[tuple[int, ...], ...]

    def at(self, place: int) -> tuple[int, int]:
        """The (part, number of the example within its part) at a place."""
        cycle, slot = divmod(place, len(self.part))
        slot = (slot + cycle) % len(self.part)
        part = self.part[slot]
        return part, cycle * len(self.slots[part]) + self.rank[slot]

    def place(self, part: int, number: int) -> int:
        """The place of example `number` of a part; the inverse of `at`."""
        cycle, rank = divmod(number, len(self.slots[part]))
        size = len(self.part)
        return cycle * size + (self.slots[part][rank] - cycle) % size


@functools.lru_cache(maxsize=64)
def interleave(weights: tuple[float, ...]) -> Interleaving:
    """Interleaves parts in proportion to their weights, which need not sum to 1.

    The shares are rounded to SLOTS slots by largest remainders; `spread` then orders the slots.

    Raises ValueError if there are no weights, more than SLOTS, or one that is not positive and finite.
    """
    if not 1 <= len(weights) <= SLOTS or not all(w > 0 and math.isfinite(w) for w in weights):
        raise ValueError(f"expected 1 to {SLOTS} weights above 0, got {weights}")
    exact = np.asarray(weights) / sum(weights) * SLOTS
    counts = np.maximum(np.floor(exact), 1).astype(int)
    while counts.sum() != SLOTS:
        missing = exact - counts
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
    """Orders sum(counts) slots so that after any number t of slots, each part is less than 1 from its share of t.

    The algorithm is R. Tijdeman's (The chairman assignment problem, Discrete Mathematics 32, 1980). The deviation is at
    most 1 - 1 / (2 n - 2) for n parts, the smallest bound possible. With d = 1 / (2 n - 2), slot k of a part may not
    come before time (k + d) sum / count. Among the parts that may come next, the one with the earliest deadline
    (k + 1 - d) sum / count does, and the first of equals.

    Args:
      counts: number of slots of each part, at least 1.

    Returns:
      The part at each slot.
    """
    size, scale = sum(counts), max(2 * len(counts) - 2, 2)  # times are multiplied by `scale`, so d becomes 1
    used, order = [0] * len(counts), []
    for t in range(1, size + 1):
        candidates = [i for i, count in enumerate(counts) if (used[i] * scale + 1) * size <= t * count * scale]
        part = min(candidates, key=lambda i: fractions.Fraction((used[i] + 1) * scale - 1, counts[i]))
        order.append(part)
        used[part] += 1
    return tuple(order)


@dataclasses.dataclass(frozen=True)
class Mixture:
    """A source (sources.Source) that interleaves the examples of its parts in proportion to the weights.

    It ends where the first part is used up, so that all of it is balanced and no example comes twice. Examples of the
    other parts beyond this end have places too, for a caller that goes through each part by itself.
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
        """Maps places of the mixture to parts and their examples."""
        return interleave(self.weights)

    def __getitem__(self, index: int) -> Example:
        """The example at a place. Raises IndexError beyond the end of its part, and the errors of the part."""
        if index < 0:
            raise IndexError(f"expected a place from 0 on, got {index}")
        part, number = self.places.at(index)
        return self.parts[part][number]
