"""Filters of queries about time: states, speeds, the order of events, relations between moving objects.

As in chains.py, a filter keeps some objects of a draft and adds its step, and returns None if a person could doubt its
result. Motion is measured from boxes (motion.py), so that each annotated video can be queried in the same way.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from dtr1_jax.data.queries.chains import Context, Draft, filter_draft
from dtr1_jax.data.queries.motion import STILL, Motion, measure_motion
from dtr1_jax.types import Instance

RATIO = 1.4  # two speeds that differ by less than this factor have no order
NEARER = 0.1  # unit frame: a distance that shrinks or grows by less than this is doubtful


@dataclasses.dataclass(frozen=True)
class VideoContext(Context):
    """A Context of a video: `motions` holds the motion of each object, by id."""

    motions: dict[int, Motion] = dataclasses.field(default_factory=dict)


def video_context(
    rng: np.random.Generator, split: str, scene: Sequence[Instance], answer_count: str,
    motions: Mapping[int, Motion] | None = None,
) -> VideoContext:  # fmt: skip
    """Returns the context of a video without the objects that are visible in no frame.

    `answer_count` is as in chains.Context. `motions` holds the motion of each visible object, by id; None = measured
    from its boxes.
    """
    if motions is None:
        measured = {instance.id: measure_motion(instance) for instance in scene}
        motions = {i: motion for i, motion in measured.items() if motion is not None}
    visible = {instance.id: instance for instance in scene if instance.id in motions}
    return VideoContext(rng, split, visible, answer_count, {i: motions[i] for i in visible})


def is_in_state(motion: Motion, name: str) -> bool | None:
    """Whether an object is in the state `name`, one of temporal_phrases.STATES; None if doubtful."""
    end = len(motion.visible) - 1
    if name == "still":
        return None if motion.moves is None else not motion.moves
    if name == "moves":
        return motion.moves
    if name == "enters":
        return motion.first > 0
    if name == "leaves":
        return motion.last < end
    if name == "stays":
        return motion.first == 0 and motion.last == end and not motion.hidden
    if name == "hidden":
        return bool(motion.hidden)
    if name == "turns":
        return None if motion.turns is None else motion.turns > 0
    return None if motion.direction is None else motion.direction == name.removeprefix("moves ")


def filter_by_state(context: VideoContext, draft: Draft | None, name: str) -> Draft | None:
    """Keeps the objects in the state `name`, one of temporal_phrases.STATES."""
    if draft is None:
        return None
    answers = {i: is_in_state(context.motions[i], name) for i in draft.ids}
    if any(answer is None for answer in answers.values()):
        return None
    ids = [i for i, answer in answers.items() if answer]
    return filter_draft(draft, name, ids, program=(name, draft.program))


def filter_by_speed(context: VideoContext, draft: Draft | None, name: str) -> Draft | None:
    """Keeps the "fastest" or "slowest" (`name`) of at least two objects that move.

    None if the speed of the second one is too close, or if an object turns back, which leaves its speed undefined.
    """
    draft = filter_by_state(context, draft, "moves")
    if draft is None or len(draft.ids) < 2 or any(context.motions[i].turns != 0 for i in draft.ids):
        return None
    ranking = sorted(draft.ids, key=lambda i: context.motions[i].speed, reverse=name == "fastest")
    one, two = (context.motions[i].speed for i in ranking[:2])
    if max(one, two) < RATIO * min(one, two):
        return None
    return filter_draft(draft, name, ranking[:1], program=(name, draft.program))


def filter_by_order(context: VideoContext, draft: Draft | None, name: str) -> Draft | None:
    """Keeps the object that is first or last in an event, such as "first to leave" (`name`).

    None if fewer than two objects take part in the event, or if two take part at the same time.
    """
    rank, _, verb = name.partition(" to ")
    event = {"enter": "enters", "leave": "leaves"}[verb]
    draft = filter_by_state(context, draft, event)
    if draft is None or len(draft.ids) < 2:
        return None
    times = {i: _event_time(context.motions[i], event) for i in draft.ids}
    ranking = sorted(draft.ids, key=times.get, reverse=rank == "last")
    if times[ranking[0]] == times[ranking[1]]:
        return None
    return filter_draft(draft, name, ranking[:1], program=(name, draft.program))


def _event_time(motion: Motion, event: str) -> int:
    """Returns the first frame after the event: an object that enters is visible in it, one that leaves is not."""
    return motion.first if event == "enters" else motion.last + 1


def filter_by_motion_relation(context: VideoContext, draft: Draft | None, name: str, anchor: Draft) -> Draft | None:
    """Keeps the objects in relation `name`, one of temporal_phrases.RELATIONS, to the one object of `anchor`.

    The anchor must move, or, for "towards" and "away from", stand still; None otherwise. The steps of the anchor come
    before the filter's own step.
    """
    if draft is None:
        return None
    motions, (number,) = context.motions, anchor.ids
    answers = {i: _is_in_relation(motions[i], motions[number], name) for i in draft.ids if i != number}
    if any(answer is None for answer in answers.values()):
        return None
    ids, program = [i for i, answer in answers.items() if answer], (name, draft.program, anchor.program)
    return filter_draft(draft, f"{name} {number} is", ids, *anchor.steps, program=program)


def _is_in_relation(motion: Motion, anchor: Motion, name: str) -> bool | None:
    if name in ("towards", "away from"):
        return _approaches_or_departs(motion, anchor, name)
    if not anchor.moves or motion.moves is None:
        return None
    if name == "same way as":
        return None if None in (motion.direction, anchor.direction) else motion.direction == anchor.direction
    if anchor.turns != 0 or (motion.moves and motion.turns != 0):
        return None
    if motion.moves and max(motion.speed, anchor.speed) < RATIO * min(motion.speed, anchor.speed):
        return None
    return bool(motion.moves) and (motion.speed > anchor.speed) == (name == "faster than")


def _approaches_or_departs(motion: Motion, anchor: Motion, name: str) -> bool | None:
    """Whether an object moves "towards" or "away from" (`name`) an anchor that stands still; None if doubtful."""
    if anchor.moves is not False:
        return None
    if motion.moves is False:
        return False
    distance = np.hypot(*(motion.centre - anchor.centre[anchor.first]).T)[motion.first : motion.last + 1]
    growth = float(distance[-1] - distance[0])
    if motion.moves is None or abs(growth) < NEARER or motion.turns != 0:
        return None
    nearest = distance[-1] if growth < 0 else distance[0]
    if nearest > distance.min() + STILL:  # it comes nearer first and goes away then
        return None
    return (growth < 0) == (name == "towards")


def filter_by_event_time(
    context: VideoContext, draft: Draft | None, event: str, when: str, anchor: Draft, anchor_event: str
) -> Draft | None:
    """Keeps the objects whose event comes before or after an event of the one object of `anchor`.

    None if the anchor has no such event, or if an event comes at the same time as the anchor's. The steps of the anchor
    come before the filter's own step.

    Args:
      event, anchor_event: keys of temporal_phrases.EVENTS.
      when: "before" or "after".
    """
    (number,) = anchor.ids
    if not is_in_state(context.motions[number], anchor_event):
        return None
    draft = filter_by_state(context, draft, event)
    if draft is None:
        return None
    anchor_time = _event_time(context.motions[number], anchor_event)
    times = {i: _event_time(context.motions[i], event) for i in draft.ids if i != number}
    if any(time == anchor_time for time in times.values()):
        return None
    ids = [i for i, time in times.items() if (time < anchor_time) == (when == "before")]
    program = (when, draft.program, event, anchor.program, anchor_event)
    return filter_draft(draft, f"{when} {number} {anchor_event}", ids, *anchor.steps, program=program)
