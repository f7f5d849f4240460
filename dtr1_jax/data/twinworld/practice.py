"""Practice for the cold start: a scene or video as a twin in words, with queries, questions and requests about it.

Nothing is painted. The queries about a picture are the same as in picture_examples.practice_queries.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dtr1_jax.data.queries.chance import pick
from dtr1_jax.data.queries.pointing import Query, sample_query
from dtr1_jax.data.queries.questions import sample_question
from dtr1_jax.data.queries.summaries import sample_summary
from dtr1_jax.data.queries.temporal import sample_temporal_query
from dtr1_jax.data.twinworld.drills import sample_drill
from dtr1_jax.data.twinworld.picture_examples import SMALLEST, practice_queries, sample_answer_count
from dtr1_jax.data.twinworld.video_scenes import sample_video_scene, video_instances
from dtr1_jax.twin.schema import Answer
from dtr1_jax.types import LEVELS, POINTING, Instance

_STREAM = 17  # separates these random numbers from those of examples and of practice_queries

Exercise = tuple[str, str, Answer]  # query, thought, answer


def practice(
    seed: int, index: int, count: int, tasks: Sequence[str], drills: int, frames: int = 0
) -> tuple[tuple[Instance, ...], list[Exercise]]:
    """Returns a scene with drills (drills.py) and, after them, one exercise for each task.

    A pure function of its arguments, in the phrases of the training split. Segmentation and grounding have ids as their
    answers.

    Args:
      seed, index: of the data set, and number of the scene.
      count: number of objects.
      tasks: of types.TASKS; a task may occur several times.
      drills: number of drills.
      frames: number of frames of a video, or 0 for a picture.
    """
    rng = np.random.default_rng([seed, _STREAM, index, frames])
    pointing = sum(task in POINTING for task in tasks)
    if frames:
        instances = video_instances(sample_video_scene(rng, "train", count, SMALLEST, frames))
        queries = [sample_drill(rng, instances, video=True) for _ in range(drills)]
        queries += [_sample_video_query(rng, instances) for _ in range(pointing)]
    else:
        instances, queries = practice_queries(seed, index, count, pointing, drills)
    exercises = [(query.text, query.thought, Answer(objects=tuple(query.ids))) for query in queries]
    result, remaining = exercises[:drills], iter(exercises[drills:])
    for task in tasks:
        if task in POINTING:
            result.append(next(remaining))
        else:
            sample = sample_question if task == "vqa" else sample_summary
            question = sample(rng, "train", instances, video=frames > 0)
            result.append((question.text, question.thought, Answer(text=question.answers[0])))
    return instances, result


def _sample_video_query(rng: np.random.Generator, instances: Sequence[Instance]) -> Query:
    """Draws a query about time, or a semantic one if the video allows none about time."""
    level, answer_count = pick(rng, LEVELS), sample_answer_count(rng)
    query = sample_temporal_query(rng, "train", instances, level, answer_count)
    if query is None:
        query = sample_temporal_query(rng, "train", instances, 1, "one")
    if query is None:
        query = sample_query(rng, "train", instances, "semantic", 1, "one")
    return query
