"""Practice for the cold start: a scene or video as a twin in words, with queries, questions and requests about it.

Nothing is painted. The queries about pictures are those of generate.practice, whatever else is asked.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dtr1_jax.data.queries import temporal
from dtr1_jax.data.queries.chance import pick
from dtr1_jax.data.queries.pointing import Query, sample_query
from dtr1_jax.data.queries.questions import sample_question
from dtr1_jax.data.queries.summaries import sample_summary
from dtr1_jax.data.twinworld import picture_examples, video_scenes
from dtr1_jax.data.twinworld.drills import sample_drill
from dtr1_jax.twin.schema import Answer
from dtr1_jax.types import POINTING, Instance

_STREAM = 17  # keeps the random numbers apart from those of the splits and of generate.practice
_LEVELS = (1, 2, 3, 4)

Exercise = tuple[str, str, Answer]  # query, thought, answer


def practice(
    seed: int, index: int, count: int, tasks: Sequence[str], drills: int, frames: int = 0
) -> tuple[tuple[Instance, ...], list[Exercise]]:
    """A scene of `count` objects, or a video of `frames` frames, with drills and, after them, one query of each task.

    A pure function of its arguments, in the phrasings of training. Segmentation and grounding are answered by ids.
    """
    rng = np.random.default_rng([seed, _STREAM, index, frames])
    pointing = sum(task in POINTING for task in tasks)
    if frames:
        things = video_scenes.instances(video_scenes.film(rng, "train", count, picture_examples.SMALLEST, frames))
        asked = [sample_drill(rng, things, video=True) for _ in range(drills)] + [
            _point(rng, things) for _ in range(pointing)
        ]
    else:
        things, asked = picture_examples.practice(seed, index, count, pointing, drills)
    found = [(query.text, query.thought, Answer(objects=tuple(query.ids))) for query in asked]
    drilled, pointed = found[:drills], iter(found[drills:])
    rest = []
    for task in tasks:
        if task not in POINTING:
            said = (sample_question if task == "vqa" else sample_summary)(rng, "train", things, video=frames > 0)
            rest.append((said.text, said.thought, Answer(text=said.answers[0])))
        else:
            rest.append(next(pointed))
    return things, drilled + rest


def _point(rng: np.random.Generator, things: Sequence[Instance]) -> Query:
    """A query about time, or, where none can be found, about what an object is."""
    level, want = pick(rng, _LEVELS), picture_examples.wish(rng)
    for wanted, easier in ((want, level), ("one", 1)):
        query = temporal.sample_temporal_query(rng, "train", things, easier, wanted)
        if query is not None:
            return query
    return sample_query(rng, "train", things, "semantic", 1, "one")
