"""TwinWorld's examples of all tasks, pictures and videos: pure functions of (task, video, seed, split, i)."""

from __future__ import annotations

import dataclasses

import numpy as np

from dtr1_jax.data.queries.questions import Question, sample_question
from dtr1_jax.data.queries.summaries import sample_summary
from dtr1_jax.data.twinworld import drawing, picture_examples, scenes, video_examples
from dtr1_jax.types import TASKS, Example, Target

_STREAMS = {"vqa": 11, "summary": 13}  # keep the random numbers of the tasks apart


def example(
    task: str, seed: int, split: str, index: int, *, video: bool = False, size: int = picture_examples.SMALLEST,
    frames: int = 8, min_objects: int = 2, max_objects: int = 7,
) -> Example:  # fmt: skip
    """One example of a task, the same on every call.

    Segmentation and grounding share scenes and queries, which are those of generate.example and videos.example; vqa and
    summary have scenes of their own, and words as their target.

    Args:
      task: one of types.TASKS.
      seed, split, index, size, min_objects, max_objects: as of generate.example; of a video at most 6 objects.
      video: whether it is about a video of `frames` frames.

    Raises:
      ValueError: an argument is out of range.
    """
    if task not in TASKS:
        raise ValueError(f"twinworld task: expected one of {', '.join(TASKS)}, got {task!r}")
    bounds = {"size": size, "min_objects": min_objects, "max_objects": max_objects}
    if task not in _STREAMS:
        make = video_examples.example if video else picture_examples.example
        found = make(seed, split, index, **bounds, **({"frames": frames} if video else {}))
        return dataclasses.replace(found, task=task)
    uid = f"twinworld{'-video' * video}/{task}/{split}/{seed}/{index}"
    if video:
        rng, film, things = video_examples.begin(
            seed, split, index, size, frames, min_objects, max_objects, video_examples.STREAM + _STREAMS[task]
        )
        asked = _asked(rng, task, split, things, True)
        return _words(video_examples.filmed(rng, film, things, uid, asked.text), task, asked)
    picture_examples.check(split, size, min_objects, max_objects)
    rng = np.random.default_rng([seed, picture_examples.SPLITS.index(split), index, _STREAMS[task]])
    scene = scenes.layout(rng, split, int(rng.integers(min_objects, max_objects + 1)), size)
    things = scenes.instances(scene)
    asked = _asked(rng, task, split, things, False)
    nothing = Target(np.zeros((size, size), bool), np.zeros((0, 4), np.float32))
    return _words(Example(uid, drawing.paint(rng, scene), asked.text, task, nothing, things), task, asked)


def _asked(rng: np.random.Generator, task: str, split: str, things, video: bool) -> Question:
    make = sample_summary if task == "summary" else sample_question
    return make(rng, split, things, video=video, prefer=video_examples.preferred(split, things))


def _words(found: Example, task: str, asked: Question) -> Example:
    """The example with words as its target."""
    return dataclasses.replace(
        found, task=task, target=dataclasses.replace(found.target, references=asked.answers), thought=asked.thought,
        category=asked.category, level=asked.level,
    )  # fmt: skip
