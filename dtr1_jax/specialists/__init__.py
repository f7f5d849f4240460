"""Specialists: vision models that fill a part of a twin (segment, detect, estimate depth, track).

    from dtr1_jax import specialists
    sam = specialists.load("facebook/sam2.1-hiera-tiny")
    masks = sam.segment(images, boxes=boxes)

`load` takes a hub id, a folder or a file, and finds out which model it is.
"""

from typing import Any

from dtr1_jax.specialists.results import DepthMap, Detections, Masks, Track

__all__ = ["DepthMap", "Detections", "Masks", "Track", "load"]


def __getattr__(name: str) -> Any:
    """`load`, imported when it is first used: worker processes import modules of this package, but no JAX."""
    if name == "load":
        from dtr1_jax.specialists.loading import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
