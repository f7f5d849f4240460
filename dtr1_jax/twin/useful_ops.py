"""The operations of specialists that can help with a query, by its task and its program."""

from __future__ import annotations

from dtr1_jax.twin import programs
from dtr1_jax.twin.construct import DEPTH, DETECT, SEGMENT, TRACK
from dtr1_jax.types import Example


def useful_ops(example: Example) -> frozenset[str]:
    """The operations of which the answer can make use.

    detect always; segment where the answer is masks; depth where the query's program compares depths, or nobody knows
    because there is no program; track for a video.
    """
    ops = {DETECT}
    if example.task == "segmentation":
        ops.add(SEGMENT)
    if reads_depth(example) or not example.program:
        ops.add(DEPTH)
    if example.video is not None:
        ops.add(TRACK)
    return frozenset(ops)


def reads_depth(example: Example) -> bool:
    """Whether the answer is known to need depths: its program compares them, or it is a summary, which tells them."""
    return example.task == "summary" or (bool(example.program) and "depth" in programs.reads(example.program))
