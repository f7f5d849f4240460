"""Specialists: vision models that fill a part of a twin (segment, detect, estimate depth, track).

    from dtr1_jax import specialists
    sam = specialists.load("facebook/sam2.1-hiera-tiny")
    masks = sam.segment(images, boxes=boxes)

`load` takes a hub id, a folder or a file, and finds out which model it is.
"""

from typing import TYPE_CHECKING, Any

from dtr1_jax.specialists.findings import DepthMap, Detections, Masks, PictureFeatures, Track, TrackedMasks

if TYPE_CHECKING:
    from dtr1_jax.specialists.catalogue import load

__all__ = ["DepthMap", "Detections", "Masks", "PictureFeatures", "Track", "TrackedMasks", "load"]


def __getattr__(name: str) -> Any:
    # Worker processes import this package too, and JAX, which `load` needs, would cost each a second and 100 MB.
    if name != "load":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from dtr1_jax.specialists.catalogue import load

    return load
