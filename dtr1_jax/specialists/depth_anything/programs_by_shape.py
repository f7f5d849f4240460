"""Compiled programs for the input shapes last used, so that many aspect ratios do not fill the memory with programs."""

from __future__ import annotations

import collections
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import jax


class ProgramsByShape:
    """One jitted function for each shape; of more than `most` shapes, the one used least recently is dropped.

    Attributes:
      made: number of functions made so far. A shape that comes back after it was dropped is counted, and compiled,
        again.
    """

    def __init__(self, function: Callable[..., Any], most: int):
        """`function` is compiled for each shape apart. Raises ValueError: `most` below 1."""
        if most < 1:
            raise ValueError(f"programs: expected at least 1, got {most}")
        self._function, self._most = function, most
        self._programs: collections.OrderedDict[Hashable, Any] = collections.OrderedDict()
        self.made = 0

    def get(self, shape: Hashable) -> Callable[..., Any]:
        """The jitted function for this shape, which then counts as the last used."""
        if shape not in self._programs:
            self._programs[shape] = jax.jit(lambda *arrays: self._function(*arrays))
            self.made += 1
            if len(self._programs) > self._most:
                self._programs.popitem(last=False)[1].clear_cache()
        self._programs.move_to_end(shape)
        return self._programs[shape]

    def __len__(self) -> int:
        return len(self._programs)


def indices_by_shape(shapes: Sequence[Hashable], most: int) -> Iterator[tuple[Any, list[int]]]:
    """(shape, indices of at most `most` members with it), in the order in which the shapes first appear."""
    for shape in dict.fromkeys(shapes):
        indices = [i for i, other in enumerate(shapes) if other == shape]
        for start in range(0, len(indices), most):
            yield shape, indices[start : start + most]
