"""Keeps what a specialist computed about pictures, by the content of the picture, up to a number of bytes."""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Hashable
from typing import Any

import jax
import numpy as np


def content_key(image: np.ndarray) -> tuple[Hashable, ...]:
    """Equal for pictures with equal pixels, shape and dtype."""
    digest = hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).digest()
    return image.shape, str(image.dtype), digest


class EmbeddingCache:
    """The values last used, at most `most` bytes of arrays together; a value that is larger alone is not kept.

    Attributes:
      hits, misses: calls of `get` so far that found a value, and that did not.
    """

    def __init__(self, most: int):
        self._values: collections.OrderedDict[Hashable, tuple[Any, int]] = collections.OrderedDict()
        self._most, self._bytes = most, 0
        self.hits = self.misses = 0

    def get(self, key: Hashable) -> Any | None:
        """The value, which then counts as the last used; None if it is not there."""
        if key not in self._values:
            self.misses += 1
            return None
        self.hits += 1
        self._values.move_to_end(key)
        return self._values[key][0]

    def put(self, key: Hashable, value: Any) -> None:
        """Keeps a tree of arrays; the values used least recently leave until all fit."""
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(value))
        self._bytes -= self._values.pop(key, (None, 0))[1]
        if size > self._most:
            return
        self._values[key] = value, size
        self._bytes += size
        while self._bytes > self._most:
            self._bytes -= self._values.popitem(last=False)[1][1]
