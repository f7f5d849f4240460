"""Picture example i of TwinWorld, a pure function of (seed, split, i)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dtr1_jax.data.queries.chance import pick
from dtr1_jax.data.queries.pointing import KINDS, Query, sample_query
from dtr1_jax.data.twinworld.categories import UNSEEN_IN
from dtr1_jax.data.twinworld.drawing import paint_picture
from dtr1_jax.data.twinworld.drills import sample_drill
from dtr1_jax.data.twinworld.scenes import MOST_OBJECTS, PictureScene, picture_instances, sample_picture_scene
from dtr1_jax.types import Example, Instance, Target

SPLITS = ("train", "heldout", "validation")
SMALLEST = 96  # side of a picture, pixels; the details of smaller drawings would vanish
_CELLS = tuple(KINDS)
_SCENE_ATTEMPTS = 6  # scenes that are tried for one kind of query before another kind is taken
_EMPTY, _SEVERAL = 0.09, 0.24  # share of queries whose answer should be no object, and several objects
_PRACTICE = 2  # separates the random numbers of practice from those of the splits


def example(
    seed: int, split: str, index: int, *, size: int = SMALLEST, min_objects: int = 2, max_objects: int = 7
) -> Example:
    """Returns one scene with one implicit query, the same in every call.

    Args:
      seed: of the whole data set, >= 0.
      split: "train", or "heldout" or "validation", each with phrases and combinations of category and colour that no
        other split has.
      index: number of the example, >= 0.
      size: side of the picture, pixels, >= 96.
      min_objects, max_objects: 1 <= min_objects <= max_objects <= 9.

    Returns:
      An Example with task "segmentation", image uint8[size, size, 3], masks bool[size, size], boxes in the unit frame.

    Raises:
      ValueError: an argument is out of range.
    """
    check_arguments(split, size, min_objects, max_objects)
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    scene, instances, query = _sample_scene_and_query(rng, split, size, min_objects, max_objects)
    image = paint_picture(rng, scene)
    targets = [instance for instance in instances if instance.id in query.ids]
    mask = np.zeros((size, size), bool)
    for instance in targets:
        mask |= instance.mask
    boxes = np.array([instance.box for instance in targets], np.float32).reshape(-1, 4)
    return Example(
        uid=f"twinworld/{split}/{seed}/{index}",
        image=image,
        query=query.text,
        task="segmentation",
        target=Target(mask, boxes),
        scene=instances,
        answer_ids=query.ids,
        thought=query.thought,
        category=query.category,
        level=query.level,
        program=query.program,
    )


def check_arguments(split: str, size: int, low: int, high: int, most: int = MOST_OBJECTS) -> None:
    """Checks the arguments of an example with `low` to `high` objects, at most `most`.

    Raises:
      ValueError: an argument is out of range.
    """
    if split not in SPLITS:
        raise ValueError(f"twinworld split: expected one of {SPLITS}, got {split!r}")
    if not 1 <= low <= high <= most:
        raise ValueError(f"twinworld objects: expected 1 <= min_objects <= max_objects <= {most}, got {low} and {high}")
    if size < SMALLEST:
        raise ValueError(f"twinworld size: expected at least {SMALLEST} pixels, got {size}")


def practice_queries(
    seed: int, index: int, count: int, queries: int, drills: int = 0
) -> tuple[tuple[Instance, ...], list[Query]]:
    """Returns an unpainted scene of `count` objects with drills (drills.py) and, after them, queries.

    A pure function of its arguments, in the phrases of the training split.
    """
    rng = np.random.default_rng([seed, _PRACTICE, index])
    instances = picture_instances(sample_picture_scene(rng, "train", count, SMALLEST))
    result: list[Query] = []
    while len(result) < queries:
        (category, level), answer_count = pick(rng, _CELLS), sample_answer_count(rng)
        query = sample_query(rng, "train", instances, category, level, answer_count)
        if query is None:
            query = sample_query(rng, "train", instances, "semantic", 1, "one")
        result.append(query)
    return instances, [sample_drill(rng, instances) for _ in range(drills)] + result


def sample_answer_count(rng: np.random.Generator) -> str:
    """Draws how many objects a query should have as its answer: "none", "one" or "many"."""
    draw = rng.random()
    return "none" if draw < _EMPTY else "many" if draw < _EMPTY + _SEVERAL else "one"


def unseen_ids(split: str, instances: Sequence[Instance]) -> frozenset[int]:
    """Returns the ids of the objects that a query should be about, if possible.

    These are the objects with one of the split's unseen combinations of category and colour; in training, none.
    """
    own = UNSEEN_IN.get(split, frozenset())
    return frozenset(i.id for i in instances if (i.label, i.attributes[0]) in own)


def _sample_scene_and_query(
    rng: np.random.Generator, split: str, size: int, low: int, high: int
) -> tuple[PictureScene, tuple[Instance, ...], Query]:
    """Draws a scene and a query about it.

    If no scene allows the drawn category and level, the query has others.
    """
    category, level = pick(rng, _CELLS)
    answer_count = sample_answer_count(rng)
    for _ in range(_SCENE_ATTEMPTS):
        scene = sample_picture_scene(rng, split, int(rng.integers(low, high + 1)), size)
        instances = picture_instances(scene)
        prefer = unseen_ids(split, instances)
        query = sample_query(rng, split, instances, category, level, answer_count, prefer)
        if query is not None:
            return scene, instances, query
        level = max(1, level - 1) if len(instances) < 4 else level  # small scenes seldom allow long chains
    return scene, instances, sample_query(rng, split, instances, "semantic", 1, "one", prefer)
