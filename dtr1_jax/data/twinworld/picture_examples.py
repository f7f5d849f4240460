"""Example i of TwinWorld, a pure function of (seed, split, i)."""

from __future__ import annotations

import numpy as np

from dtr1_jax.data.queries.chance import pick
from dtr1_jax.data.queries.pointing import KINDS, Query, sample_query
from dtr1_jax.data.twinworld.categories import UNSEEN
from dtr1_jax.data.twinworld.drawing import paint
from dtr1_jax.data.twinworld.drills import sample_drill
from dtr1_jax.data.twinworld.scenes import MOST_OBJECTS, Layout, instances, layout
from dtr1_jax.types import Example, Instance, Target

SPLITS = ("train", "heldout")
SMALLEST = 96  # side of a picture, pixels: below this the drawn details vanish
_CELLS = tuple(KINDS)
_SCENES = 6  # scenes drawn for one wished kind of query before another kind is taken
_EMPTY, _SEVERAL = 0.09, 0.24  # share of queries that wish for no object, for several
_PRACTICE = 2  # keeps the random numbers of practice apart from those of the splits


def example(
    seed: int, split: str, index: int, *, size: int = SMALLEST, min_objects: int = 2, max_objects: int = 7
) -> Example:
    """One scene with one implicit query, the same on every call.

    Args:
      seed: of the whole data set, >= 0.
      split: "train", or "heldout" with combinations of category and colour and with phrasings that training never has.
      index: which example, >= 0.
      size: side of the picture, pixels, >= 96.
      min_objects, max_objects: 1 <= min_objects <= max_objects <= 9.

    Returns:
      An Example with task "segmentation", image uint8[size, size, 3], masks bool[size, size], boxes in the unit frame.

    Raises:
      ValueError: an argument is out of range.
    """
    check(split, size, min_objects, max_objects)
    rng = np.random.default_rng([seed, SPLITS.index(split), index])
    scene, things, query = _compose(rng, split, size, min_objects, max_objects)
    image = paint(rng, scene)
    wanted = [thing for thing in things if thing.id in query.ids]
    mask = np.zeros((size, size), bool)
    for thing in wanted:
        mask |= thing.mask
    boxes = np.array([thing.box for thing in wanted], np.float32).reshape(-1, 4)
    return Example(
        uid=f"twinworld/{split}/{seed}/{index}",
        image=image,
        query=query.text,
        task="segmentation",
        target=Target(mask, boxes),
        scene=things,
        answer_ids=query.ids,
        thought=query.thought,
        category=query.category,
        level=query.level,
    )


def check(split: str, size: int, low: int, high: int, most: int = MOST_OBJECTS) -> None:
    """Raises ValueError where an argument of an example, `low` to `high` objects, is out of range."""
    if split not in SPLITS:
        raise ValueError(f"twinworld split: expected one of {SPLITS}, got {split!r}")
    if not 1 <= low <= high <= most:
        raise ValueError(f"twinworld objects: expected 1 <= min_objects <= max_objects <= {most}, got {low} and {high}")
    if size < SMALLEST:
        raise ValueError(f"twinworld size: expected at least {SMALLEST} pixels, got {size}")


def practice(
    seed: int, index: int, count: int, queries: int, drills: int = 0
) -> tuple[tuple[Instance, ...], list[Query]]:
    """A scene of `count` objects with drills (drills.py) and, after them, queries in the phrasings of training.

    A pure function of its arguments. Nothing is painted: the instances are all there is of the scene.
    """
    rng = np.random.default_rng([seed, _PRACTICE, index])
    things = instances(layout(rng, "train", count, SMALLEST))
    asked: list[Query] = []
    while len(asked) < queries:
        (category, level), want = pick(rng, _CELLS), wish(rng)
        query = sample_query(rng, "train", things, category, level, want)
        if query is None:
            query = sample_query(rng, "train", things, "semantic", 1, "one")
        asked.append(query)
    return things, [sample_drill(rng, things) for _ in range(drills)] + asked


def wish(rng: np.random.Generator) -> str:
    """How many objects a query should have as its answer: "none", "one" or "many"."""
    draw = rng.random()
    return "none" if draw < _EMPTY else "many" if draw < _EMPTY + _SEVERAL else "one"


def _compose(
    rng: np.random.Generator, split: str, size: int, low: int, high: int
) -> tuple[Layout, tuple[Instance, ...], Query]:
    """A scene and a query that fit together. A wished category and level that no scene allows gives way to another."""
    category, level = pick(rng, _CELLS)
    want = wish(rng)
    for _ in range(_SCENES):
        scene = layout(rng, split, int(rng.integers(low, high + 1)), size)
        things = instances(scene)
        prefer = frozenset()
        if split == "heldout":
            prefer = frozenset(t.id for t in things if (t.label, t.attributes[0]) in UNSEEN)
        query = sample_query(rng, split, things, category, level, want, prefer)
        if query is not None:
            return scene, things, query
        level = max(1, level - 1) if len(things) < 4 else level  # small scenes seldom carry long chains
    return scene, things, sample_query(rng, split, things, "semantic", 1, "one", prefer)
