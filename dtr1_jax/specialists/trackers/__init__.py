"""Trackers without learned weights: detections are linked to tracks, and a box or mask is carried through a video."""

from dtr1_jax.specialists.trackers.linking import link
from dtr1_jax.specialists.trackers.propagation import carry_box, carry_mask

__all__ = ["carry_box", "carry_mask", "link"]
