"""TwinWorld's examples of all tasks, pictures and videos: pure functions of (task, video, seed, split, i)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from dtr1_jax.data.queries.questions import Question, sample_question
from dtr1_jax.data.queries.summaries import sample_summary
from dtr1_jax.data.twinworld import picture_examples, video_examples
from dtr1_jax.data.twinworld.drawing import paint_picture
from dtr1_jax.data.twinworld.scenes import picture_instances, sample_picture_scene
from dtr1_jax.types import TASKS, Example, Instance, Target

_STREAMS = {"vqa": 11, "summary": 13}  # separate the random numbers of the tasks
_MAX_OBJECTS = {False: 7, True: 5}  # of a picture and of a video, where the caller does not choose


def example(
    task: str, seed: int = 0, split: str = "train", index: int = 0, *, video: bool = False,
    size: int = picture_examples.SMALLEST, frames: int = 8, min_objects: int = 2, max_objects: int | None = None,
) -> Example:  # fmt: skip
    """Returns one example of a task, the same in every call.

    Segmentation and grounding share the scenes and queries of picture_examples.example and video_examples.example. Vqa
    and summary have scenes of their own and answers in words.

    Args:
      task: one of types.TASKS.
      seed, split, index, size, min_objects: as in picture_examples.example.
      video: whether the example is a video.
      max_objects: at most 9 for a picture and 6 for a video; None = 7 for a picture and 5 for a video, or min_objects
        if that is larger.
      frames: number of frames of a video, 4 .. 64.

    Raises:
      ValueError: an argument is out of range.
    """
    if task not in TASKS:
        raise ValueError(f"twinworld task: expected one of {', '.join(TASKS)}, got {task!r}")
    if max_objects is None:
        max_objects = max(min_objects, _MAX_OBJECTS[video])
    bounds = {"size": size, "min_objects": min_objects, "max_objects": max_objects}
    if task not in _STREAMS:
        if video:
            result = video_examples.example(seed, split, index, frames=frames, **bounds)
        else:
            result = picture_examples.example(seed, split, index, **bounds)
        return dataclasses.replace(result, task=task)
    uid = f"twinworld{'-video' * video}/{task}/{split}/{seed}/{index}"
    if video:
        rng, scene, instances = video_examples.first_scene(
            seed, split, index, size, frames, min_objects, max_objects, video_examples.STREAM + _STREAMS[task]
        )
        question = _sample_question(rng, task, split, instances, True)
        result = video_examples.paint_example(rng, scene, instances, uid, question.text)
        return _with_answer(result, task, question)
    picture_examples.check_arguments(split, size, min_objects, max_objects)
    rng = np.random.default_rng([seed, picture_examples.SPLITS.index(split), index, _STREAMS[task]])
    scene = sample_picture_scene(rng, split, int(rng.integers(min_objects, max_objects + 1)), size)
    instances = picture_instances(scene)
    question = _sample_question(rng, task, split, instances, False)
    empty = Target(np.zeros((size, size), bool), np.zeros((0, 4), np.float32))
    result = Example(uid, paint_picture(rng, scene), question.text, task, empty, instances)
    return _with_answer(result, task, question)


def _sample_question(
    rng: np.random.Generator, task: str, split: str, instances: Sequence[Instance], video: bool
) -> Question:
    sample = sample_summary if task == "summary" else sample_question
    return sample(rng, split, instances, video=video, prefer=picture_examples.unseen_ids(split, instances))


def _with_answer(example: Example, task: str, question: Question) -> Example:
    """Returns the example with the answers of a question as its target."""
    return dataclasses.replace(
        example, task=task, target=dataclasses.replace(example.target, references=question.answers),
        thought=question.thought, category=question.category, level=question.level, program=question.program,
    )  # fmt: skip
