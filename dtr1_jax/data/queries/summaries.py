"""Summaries of a scene or video, or of some of its objects, in one paragraph: reference texts from the annotation.

Most requests are implicit: they mean some objects, as a query that points does, and finding these objects takes
reasoning. All wordings say the same about the same objects in the same order: what they are and where, or, in a video,
what they do. The first wording is the oracle's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dtr1_jax.data.queries.chains import Context, Draft, centre, ids_text
from dtr1_jax.data.queries.chance import pick
from dtr1_jax.data.queries.motion import Motion, measure_motion
from dtr1_jax.data.queries.phrases import ADJECTIVES, Phrases
from dtr1_jax.data.queries.questions import NUMBERS, Question, choose_objects
from dtr1_jax.data.queries.temporal_chains import video_context
from dtr1_jax.data.queries.wording import sentence_about
from dtr1_jax.types import Instance

REQUESTS = {  # for a summary of all objects
    "picture": Phrases(
        (
            "describe the picture.",
            "what can be seen here?",
            "say in a few words what is here.",
            "say what can be seen here.",
            "say what is in the picture.",
            "describe what is here.",
        ),
        ("please describe what is in the picture.", "say what can be seen in the picture."),
        ("tell us what is in the picture.", "say what is here in the picture."),
    ),
    "video": Phrases(
        (
            "describe the video.",
            "what happens here?",
            "say in a few words what happens.",
            "say what can be seen here.",
            "say what happens in the video.",
            "describe what happens here.",
        ),
        ("please describe what happens in the video.", "say what can be seen in the video."),
        ("tell us what happens in the video.", "say what happens here in the video."),
    ),
}
REQUESTS_FOR_SOME = {  # for a summary of some objects
    "picture": Phrases(
        (
            "describe {}.",
            "describe in a few words {}.",
            "say how {} looks.",
            "say in a few words how {} looks.",
            "what can be seen of {}?",
        ),
        ("please describe {}.", "say what can be seen of {}."),
        ("tell us how {} looks.", "say what {} looks like."),
    ),
    "video": Phrases(
        (
            "describe {}.",
            "say what {} does.",
            "say in a few words what {} does.",
            "describe what {} does.",
            "what happens to {}?",
        ),
        ("please describe {}.", "say what happens to {}."),
        ("tell us what {} does.", "say in a few words what happens to {}."),
    ),
}
_WHOLE_SHARE = 0.25  # share of the requests that mean all objects
_MAX_OBJECTS = 4  # objects in any other request, at most: twin, thought and paragraph must fit into one completion
_ATTEMPTS = 6  # requests for some objects that are tried before all objects are described
_ANSWER_COUNTS = ("none", "one", "one", "one", "many", "many", "many", "many")
_NOTHING = ("there is no such thing.", "we see no such thing.", "no such thing can be seen.")  # one for each wording
_MIDDLE = 0.4, 0.6  # share of the width: centres between these two are in the middle
PLACES = {  # one phrase for each wording
    "left": ("on the left", "at the left side", "to the left"),
    "middle": ("in the middle", "near the middle", "in the centre"),
    "right": ("on the right", "at the right side", "to the right"),
}
ACTIONS = {  # one phrase for each wording
    "still": ("stays where it is", "does not move", "stands still"),
    "left": ("moves to the left", "goes left", "moves left"),
    "right": ("moves to the right", "goes right", "moves right"),
    "up": ("moves up", "goes up", "moves to the top"),
    "down": ("moves down", "goes down", "moves to the bottom"),
    "moves": ("moves", "changes its place", "is moving"),
    "turns": ("moves and turns back", "goes one way and comes back", "moves, turns and comes back"),
    "hidden": ("is hidden for a while", "goes out of sight and comes back", "is out of sight for a while"),
    "enters": ("comes in", "comes into the picture", "enters"),
    "leaves": ("leaves", "goes out of the picture", "is gone at the end"),
}
NEAREST_AND_FARTHEST = (  # clauses for the nearest and the farthest object; one pair for each wording
    ("{} is nearest", "{} is farthest away"),
    ("nearest to us is {}", "farthest from us is {}"),
    ("{} is in front of all", "{} is behind all"),
)
_LINKS = (" and ", ", ", " and ")  # between these clauses; one for each wording
WORDINGS = 3  # reference texts of a summary


def sample_summary(
    rng: np.random.Generator,
    split: str,
    scene: Sequence[Instance],
    *,
    video: bool = False,
    prefer: frozenset[int] = frozenset(),
) -> Question:
    """Draws a request for a summary, with WORDINGS reference texts as its answers, the oracle's first.

    Args:
      split: "train", "heldout" or "validation", which selects the phrases of the request.
      scene: the objects, at least one; those of a video have boxes over time, and each is visible in some frame.
      video: whether the scene is a video.
      prefer: ids of objects of which one should be described, if possible.
    """
    ordered = sorted(scene, key=lambda instance: instance.id)
    request = None if rng.random() < _WHOLE_SHARE else _summary_of_some(rng, split, ordered, video, prefer)
    return request or _summary_of_all(rng, split, ordered, video)


def _summary_of_some(
    rng: np.random.Generator, split: str, ordered: Sequence[Instance], video: bool, prefer: frozenset[int]
) -> Question | None:
    """Draws a request that means some objects; None if no attempt succeeds."""
    for _ in range(_ATTEMPTS):
        answer_count = pick(rng, _ANSWER_COUNTS)
        if video:
            context = video_context(rng, split, ordered, answer_count)
        else:
            context = Context(rng, split, {instance.id: instance for instance in ordered}, answer_count)
        draft, category, level = choose_objects(
            context, video=video, timed=video, counted=answer_count != "one", prefer=prefer, accept=_is_describable
        )
        if draft is not None:
            break
    else:
        return None
    instances = [context.scene[i] for i in draft.ids]
    text = sentence_about(rng, getattr(REQUESTS_FOR_SOME["video" if video else "picture"], split), draft.text)
    if text is None:
        return None
    if not instances:
        return Question(text, _NOTHING, " ".join(draft.steps), category, level, draft.program)
    steps = draft.steps
    if len(instances) > 1 and not video:
        nearest, farthest = _depth_extremes(instances)
        steps = (*steps, f"nearest {nearest.id}.", f"farthest {farthest.id}.")
    return Question(text, _reference_texts(instances, video), " ".join(steps), category, level, draft.program)


def _is_describable(draft: Draft) -> bool:
    return not draft.whole and len(draft.ids) <= _MAX_OBJECTS


def _summary_of_all(rng: np.random.Generator, split: str, ordered: Sequence[Instance], video: bool) -> Question:
    """Draws a request that means all objects."""
    text = pick(rng, getattr(REQUESTS["video" if video else "picture"], split))
    references = _reference_texts(ordered, video)
    if video:
        motions = [measure_motion(instance) for instance in ordered]
        steps = [f"in order{ids_text([instance.id for instance in ordered])}."]
        for name, holds in (
            ("moves", lambda m: m.moves), ("enters", lambda m: m.first > 0),
            ("leaves", lambda m: m.last < len(m.visible) - 1),
        ):  # fmt: skip
            steps.append(f"{name}{ids_text([i.id for i, m in zip(ordered, motions) if holds(m)])}.")
        return Question(text, references, " ".join(steps), "temporal", 4, ("all",))
    nearest, farthest = _depth_extremes(ordered)
    steps = [f"left to right{ids_text([instance.id for instance in ordered])}."]
    if len(ordered) > 1:
        steps += [f"nearest {nearest.id}.", f"farthest {farthest.id}."]
    return Question(text, references, " ".join(steps), "spatial", len(steps), ("all",))


def _reference_texts(instances: Sequence[Instance], video: bool) -> tuple[str, ...]:
    """Returns the summary of some objects in all wordings."""
    if video:
        motions = [measure_motion(instance) for instance in instances]
        return tuple(_video_text(instances, motions, wording) for wording in range(WORDINGS))
    return tuple(_picture_text(instances, wording) for wording in range(WORDINGS))


def _picture_text(instances: Sequence[Instance], wording: int) -> str:
    parts = [f"{_description(instance, wording)} {PLACES[_place(instance)][wording]}" for instance in instances]
    text = f"{_opening(len(instances), wording)} {_joined(parts)}."
    if len(instances) > 1:
        names = [_shortest_name(instance, instances) for instance in _depth_extremes(instances)]
        clauses = [clause.format(name) for clause, name in zip(NEAREST_AND_FARTHEST[wording], names)]
        text += f" {_LINKS[wording].join(clauses)}."
    return text


def _video_text(instances: Sequence[Instance], motions: Sequence[Motion], wording: int) -> str:
    parts = [
        f"{_description(instance, wording)} that {_actions(motion, wording)}"
        for instance, motion in zip(instances, motions)
    ]
    return f"{_opening(len(instances), wording)} {_joined(parts)}."


def _opening(count: int, wording: int) -> str:
    things = f"{NUMBERS[count]} thing{'s' * (count > 1)}"
    return (f"there {'is' if count == 1 else 'are'} {things}:", f"we see {things}:", f"{things} can be seen:")[wording]


def _description(instance: Instance, wording: int) -> str:
    colour, size, material = instance.attributes
    material = ADJECTIVES.get(material, material)
    article = "an" if instance.label[0] in "aeiou" else "a"
    return (
        f"a {size} {colour} {material} {instance.label}",
        f"a {size} {instance.label}, {colour} and {material},",
        f"{article} {instance.label} that is {size}, {colour} and {material},",
    )[wording]


def _depth_extremes(instances: Sequence[Instance]) -> tuple[Instance, Instance]:
    """Returns the nearest and the farthest object."""
    ordered = sorted(instances, key=lambda instance: instance.depth)
    return ordered[0], ordered[-1]


def _shortest_name(instance: Instance, instances: Sequence[Instance]) -> str:
    """Returns the shortest name that fits no other of `instances`, or a description if there is no such name."""
    same = [other for other in instances if other.label == instance.label]
    if len(same) == 1:
        return f"the {instance.label}"
    if sum(other.attributes[0] == instance.attributes[0] for other in same) == 1:
        return f"the {instance.attributes[0]} {instance.label}"
    alone = sum(other.attributes == instance.attributes for other in same) == 1
    return f"{'the' if alone else 'a'} {_description(instance, 0).removeprefix('a ')}"


def _place(instance: Instance) -> str:
    x = centre(instance)[0]
    return "left" if x < _MIDDLE[0] else "right" if x > _MIDDLE[1] else "middle"


def _actions(motion: Motion, wording: int) -> str:
    """Describes what an object does, in the order of time."""
    names = ["enters"] * (motion.first > 0)
    names.append(motion.direction or ("turns" if motion.turns else "still" if motion.moves is False else "moves"))
    names += ["hidden"] * bool(motion.hidden) + ["leaves"] * (motion.last < len(motion.visible) - 1)
    return _joined([ACTIONS[name][wording] for name in names])


def _joined(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)


def pools() -> Iterator[Phrases]:
    """Yields all phrases of this module, so that a test can check them."""
    yield from REQUESTS.values()
    yield from REQUESTS_FOR_SOME.values()
