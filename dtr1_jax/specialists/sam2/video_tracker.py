"""Runs the program of one frame over a video, for groups of objects, with memory that does not grow with the video."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from dtr1_jax import mesh as meshes
from dtr1_jax.specialists.batching import padded_count
from dtr1_jax.specialists.findings import TrackedMasks
from dtr1_jax.specialists.sam2 import memory_schedule, tracking, video_prompts
from dtr1_jax.specialists.sam2.mask_sizes import at_picture_size, given_mask
from dtr1_jax.specialists.sam2.memory_schedule import Record
from dtr1_jax.specialists.sam2.model import Features, MaskPrompts
from dtr1_jax.specialists.sam2.spec import Sam2Spec
from dtr1_jax.specialists.sam2.video_prompts import Prompt

_CLAMP = 32.0  # limit of the logits that are fed back, as in the reference


@dataclasses.dataclass(frozen=True)
class Tracker:
    """The programs and settings of one video.

    Attributes:
      spec: sizes.
      device_mesh: the devices; the objects of a group are cut over its batch axes.
      advance: jitted (features, bank, step) -> (tracked, bank).
      prompts: {frame: {object: prompt}}.
      frames: length of the video; None if it is not known.
      places: points of an object in the arrays of every frame, so that one program serves all frames.
      group: most objects in one call.
      feed_previous: whether the mask that tracking found goes into a correction.
      corrections_condition: whether a corrected frame is remembered for the rest of the video.
    """

    spec: Sam2Spec
    device_mesh: jax.sharding.Mesh
    advance: Callable[..., Any]
    prompts: dict[int, dict[Hashable, Prompt]]
    frames: int | None
    places: int
    group: int
    feed_previous: bool
    corrections_condition: bool


@dataclasses.dataclass
class _Group:
    """Objects that are computed together: their names, records and bank."""

    names: list[Hashable]
    records: dict[Hashable, Record]
    bank: Any
    rows: int


def tracked(tracker: Tracker, frames: Iterable[tuple[tuple[int, int], Features | None]]) -> Iterator[TrackedMasks]:
    """The masks of all objects on each frame.

    Args:
      tracker: programs and settings.
      frames: (height, width) and feature maps of one frame after another; the maps may be None before the first prompt.
    """
    conditions = _condition_slots(tracker)
    names = list(dict.fromkeys(name for frame in sorted(tracker.prompts) for name in tracker.prompts[frame]))
    shards = meshes.batch_shards(tracker.device_mesh)
    groups = []
    for start in range(0, len(names), tracker.group):
        part = names[start : start + tracker.group]
        rows = padded_count(len(part), shards)
        bank = tracking.empty_bank(tracker.spec, rows, *memory_schedule.slot_counts(tracker.spec.memory, conditions))
        bank = jax.device_put(bank, meshes.batch(tracker.device_mesh))
        groups.append(_Group(part, {}, bank, rows))
    for index, (size, features) in enumerate(frames):
        prompts = tracker.prompts.get(index, {})
        results: dict[Hashable, tuple[np.ndarray, float, float]] = {}
        for group in groups:
            if features is not None and (group.records or any(name in prompts for name in group.names)):
                _advance(tracker, group, index, features, prompts, conditions, results)
        yield _collected(tracker, index, size, names, results)


def _condition_slots(tracker: Tracker) -> int:
    """Slots for conditioning frames: a power of two that is enough for every object."""
    counts: dict[Hashable, int] = {}
    for frame in sorted(tracker.prompts):
        for name, prompt in tracker.prompts[frame].items():
            keeps = name not in counts or prompt.restart or tracker.corrections_condition
            counts[name] = counts.get(name, 0) + keeps
    return padded_count(max(counts.values()))


def _advance(
    tracker: Tracker, group: _Group, index: int, features: Features, prompts: dict[Hashable, Prompt], conditions: int,
    results: dict[Hashable, tuple[np.ndarray, float, float]],
) -> None:  # fmt: skip
    """One frame of a group: tracking, and where an object is corrected a second call with the prompts."""
    mine = {name: prompts[name] for name in group.names if name in prompts}
    fresh = {name for name, prompt in mine.items() if name not in group.records or prompt.restart}
    corrected = {name for name, prompt in mine.items() if name not in fresh}
    previous = _no_previous(tracker, group)
    if previous is not None and any(mine[name].mask is None for name in corrected):
        step = _step(tracker, group, index, {}, set(), conditions, previous, False)
        first, _ = tracker.advance(features, group.bank, step)
        used = np.array([n in corrected and mine[n].mask is None for n in _filled(group)])
        previous = MaskPrompts(np.clip(np.asarray(first.logits), -_CLAMP, _CLAMP), used)
    # The reference encodes the memories of all objects of a frame together, as 0 and 1 if any of them is prompted.
    step = _step(tracker, group, index, mine, fresh, conditions, previous, bool(prompts))
    out, group.bank = tracker.advance(features, group.bank, step)
    for name in [*group.records, *(n for n in fresh if n not in group.records)]:
        condition = name in fresh or (name in corrected and tracker.corrections_condition)
        record = group.records.get(name, Record())
        group.records[name] = record.with_frame(index, condition, tracker.spec.memory)
    logits, ious, present = (np.asarray(x) for x in (out.logits, out.ious, out.present))
    for row, name in enumerate(group.names):
        if name in group.records:
            results[name] = logits[row], float(ious[row]), float(present[row])


def _no_previous(tracker: Tracker, group: _Group) -> MaskPrompts | None:
    """Arrays for masks that are fed back, with none in them; None for a video without corrections."""
    seen: set[Hashable] = set()
    for frame in sorted(tracker.prompts):
        if tracker.feed_previous and any(n in seen and not p.restart for n, p in tracker.prompts[frame].items()):
            side = tracker.spec.mask_size
            return MaskPrompts(np.zeros((group.rows, side, side), np.float32), np.zeros(group.rows, bool))
        seen |= set(tracker.prompts[frame])
    return None


def _filled(group: _Group) -> list[Hashable | None]:
    """The object of each row; None for rows that fill the batch."""
    return [*group.names, *[None] * (group.rows - len(group.names))]


def _step(
    tracker: Tracker, group: _Group, index: int, prompts: dict[Hashable, Prompt], fresh: set[Hashable],
    conditions: int, previous: MaskPrompts | None, binary: bool,
) -> tracking.Step:  # fmt: skip
    """The arrays of a call, on the devices."""
    spec, memory = tracker.spec, tracker.spec.memory
    longest = memory_schedule.pointer_frames(memory, tracker.frames)
    memories, pointers = memory_schedule.slot_counts(memory, conditions)
    points, slots, reads, several, given = [], [], [], [], []
    for name in _filled(group):
        prompt = prompts.get(name)
        points.append(video_prompts.points_of(prompt))
        several.append(
            memory.multimask and (name in fresh or memory.multimask_tracking)
            and memory.least_points <= len(points[-1][1]) <= memory.most_points
        )  # fmt: skip
        given.append(prompt.mask if prompt else None)
        record = group.records.get(name, Record())
        condition = name in fresh or (prompt is not None and tracker.corrections_condition)
        reads.append(memory_schedule.read(record, index, memory, conditions, longest))
        active = name in group.records or name in fresh
        slot = memory_schedule.written(record, index, condition, memory, conditions)
        slots.append(slot if active else (memories, pointers))
    at, labels = video_prompts.padded(points, tracker.places)
    step = tracking.Step(
        points=video_prompts.in_pixels(at, spec.image_size), labels=labels, several=np.array(several, bool),
        fresh=np.array([name in fresh for name in _filled(group)]), binary=np.full(group.rows, binary),
        age=np.stack([age for age, _ in reads]), distance=np.stack([distance for _, distance in reads]),
        memory_slot=np.array([m for m, _ in slots], np.int32), pointer_slot=np.array([p for _, p in slots], np.int32),
        previous=previous, given=_given(spec, given),
    )  # fmt: skip
    return meshes.put_batch(tracker.device_mesh, step)


def _given(spec: Sam2Spec, masks: list[np.ndarray | None]) -> MaskPrompts | None:
    """The masks that the user gives for this frame, at the size that the model reads."""
    if all(mask is None for mask in masks):
        return None
    side = spec.image_size
    whole = np.stack([np.zeros((side, side), np.float32) if m is None else given_mask(m, side) for m in masks])
    return MaskPrompts(whole, np.array([mask is not None for mask in masks]))


def _collected(
    tracker: Tracker, index: int, size: tuple[int, int], names: list[Hashable],
    results: dict[Hashable, tuple[np.ndarray, float, float]],
) -> TrackedMasks:  # fmt: skip
    side = tracker.spec.mask_size
    absent = np.full((side, side), tracking.HIDDEN, np.float32), 0.0, tracking.HIDDEN
    rows = [results.get(name, absent) for name in names]
    return TrackedMasks(
        masks=np.stack([at_picture_size(logits, *size) for logits, _, _ in rows]),
        scores=np.array([iou for _, iou, _ in rows], np.float32), frame=index, objects=tuple(names),
        present=np.array([present for _, _, present in rows], np.float32),
        logits=np.stack([logits for logits, _, _ in rows]),
    )  # fmt: skip
