"""The operations of specialists that can help with a query, by its task and its program."""

from __future__ import annotations

from dtr1_jax.twin import programs
from dtr1_jax.twin.construct import DEPTH, DETECT, SEGMENT, TRACK
from dtr1_jax.types import Example


def useful_ops(example: Example) -> frozenset[str]:
    """The operations of which the answer can make use.

    Those that it needs (`needed_ops`), and segment and depth where nobody knows, because there is no program.
    """
    return needed_ops(example) | (frozenset() if example.program else {SEGMENT, DEPTH})


def needed_ops(example: Example) -> frozenset[str]:
    """The operations that the answer is known to need.

    detect always; segment where the answer is masks, and where the program reads attributes, because colours are those
    of an object's pixels; depth where the program compares depths; both for a summary, which tells them; track for a
    video.
    """
    ops, reads = {DETECT}, programs.reads(example.program) if example.program else frozenset()
    if example.task in ("segmentation", "summary") or "attributes" in reads:
        ops.add(SEGMENT)
    if example.task == "summary" or "depth" in reads:
        ops.add(DEPTH)
    if example.video is not None:
        ops.add(TRACK)
    return frozenset(ops)
