"""Which slots of the memory bank each object reads and writes on a frame: arithmetic of frame numbers, on the host.

A bank has first the slots of conditioning frames, in the order of their prompts, and then a ring: the memory of another
frame goes to slot `frame % ring`, where it replaces one that is too old to be read. So the bank does not grow with the
video.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from dtr1_jax.specialists.sam2.spec import Memory


@dataclasses.dataclass(frozen=True)
class Record:
    """Frames that an object remembers: conditioning frames in the order of their slots, and others in the ring."""

    conditions: tuple[int, ...] = ()
    recent: tuple[int, ...] = ()

    def with_frame(self, frame: int, condition: bool, memory: Memory) -> Record:
        """The record after a frame."""
        if condition:
            return dataclasses.replace(self, conditions=(*self.conditions, frame))
        oldest = frame - max(_ring(memory.frames), _ring(memory.pointers))
        return dataclasses.replace(self, recent=(*(f for f in self.recent if f > oldest), frame))


def slot_counts(memory: Memory, conditions: int) -> tuple[int, int]:
    """Slots for memories and for pointers, with room for `conditions` conditioning frames."""
    return conditions + _ring(memory.frames), conditions + _ring(memory.pointers)


def written(record: Record, frame: int, condition: bool, memory: Memory, conditions: int) -> tuple[int, int]:
    """The slots for the memory and the pointer of a frame."""
    if condition:
        return len(record.conditions), len(record.conditions)
    return conditions + frame % _ring(memory.frames), conditions + frame % _ring(memory.pointers)


def read(
    record: Record, frame: int, memory: Memory, conditions: int, longest: int
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """The slots that a frame reads.

    Args:
      record: what the object remembers, of frames before this one.
      frame: this frame.
      memory: sizes.
      conditions: slots for conditioning frames.
      longest: number of frames whose pointers are read, as `pointer_frames` gives it.

    Returns (int32[S] rows of the temporal embedding, float32[P] distances), as memory_attention.Remembered has them.
    """
    memories, pointers = slot_counts(memory, conditions)
    age, distance = np.full(memories, -1, np.int32), np.full(pointers, -1, np.float32)
    span = max(longest - 1, 1)
    nearest = _nearest(record.conditions, frame, memory.most_conditions)
    for slot, condition in enumerate(record.conditions):
        distance[slot] = (frame - condition) / span
        if condition in nearest:
            age[slot] = memory.frames - 1
        elif frame - condition < memory.frames:  # too many conditioning frames: this one counts as any other frame
            age[slot] = frame - condition - 1
    for other in record.recent:
        gap = frame - other
        if 0 < gap < memory.frames:
            age[conditions + other % _ring(memory.frames)] = gap - 1
        if 0 < gap < longest:
            distance[conditions + other % _ring(memory.pointers)] = gap / span
    return age, distance


def pointer_frames(memory: Memory, frames: int | None) -> int:
    """Most frames whose pointers are read: fewer in a short video, whose length is then known."""
    return memory.pointers if frames is None else min(frames, memory.pointers)


def _ring(frames: int) -> int:
    return max(1, frames - 1)


def _nearest(conditions: tuple[int, ...], frame: int, most: int | None) -> set[int]:
    """The conditioning frames that are read as such: the last one, then the others by their distance."""
    if most is None or len(conditions) <= most:
        return set(conditions)
    return set(sorted(conditions, key=lambda c: abs(c - frame))[:most])
