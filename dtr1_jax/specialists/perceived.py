"""What specialists found in one picture or video, before it is written as a twin."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from dtr1_jax.specialists.embedding_cache import EmbeddingCache
from dtr1_jax.twin.construct import Request
from dtr1_jax.types import Instance, Video


@dataclasses.dataclass(frozen=True)
class PerceivedScene:
    """The objects of one picture or video.

    Attributes:
      instances: the objects; ids 1, 2, ... Their boxes, masks, depth ranks and attributes are the specialists'. Of a
        video, they have a row for each frame that was looked at. The masks have the size of the picture;
        a picture of more than specialists.max_pixels is shrunk first, and its masks have the smaller size.
      relations: (id, words, id), such as (1, "on", 2).
      provenance: for each object, by id, where its fields come from: {"label": {"by": "owlv2", "score": 0.83}, ...}.
      frames: numbers of the frames that were looked at, ascending; empty = a picture.
      failures: what could not be done, in words; empty if all went well.
      detected: whether the detector looked at the picture or at all of these frames. If not, it failed or knows nothing
        that was asked for, and no object in `instances` does not mean that there is none.
    """

    instances: tuple[Instance, ...]
    relations: tuple[tuple[int, str, int], ...] = ()
    provenance: Mapping[int, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    frames: tuple[int, ...] = ()
    failures: tuple[str, ...] = ()
    detected: bool = True


class Perceiver(Protocol):
    """Runs specialists on pictures and videos. Equal requests about equal pixels are computed once and remembered.

    Attributes:
      description: the specialists by name.
      cache: what was found before; `cache.hits` and `cache.misses` count.
    """

    description: str
    cache: EmbeddingCache

    def perceive(self, visuals: list[np.ndarray | Video], requests: list[Request]) -> list[PerceivedScene]:
        """The scenes of n requests.

        Args:
          visuals: for each request a picture uint8[h, w, 3], or a Video with the frames that the policy saw.
          requests: one for each visual; the frames of a request are numbers in `Video.index`.

        Never raises for any sound request: what fails is named in `failures`, and the scene lacks it.
        """

    def close(self) -> None:
        """Frees the models and ends their processes."""
