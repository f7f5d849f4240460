"""Video example i of TwinWorld, a pure function of (seed, split, i)."""

from __future__ import annotations

import dataclasses

import numpy as np

from dtr1_jax.data.queries import temporal
from dtr1_jax.data.queries.chance import pick
from dtr1_jax.data.queries.pointing import sample_query
from dtr1_jax.data.twinworld import drawing, video_scenes
from dtr1_jax.data.twinworld.categories import UNSEEN
from dtr1_jax.data.twinworld.picture_examples import SMALLEST, SPLITS, check, wish
from dtr1_jax.types import Example, Instance, Target, Video

FPS = 2.0  # frames per second that a video says
STREAM = 7  # keeps the random numbers of videos apart from those of pictures
_SCENES = 5  # videos drawn for one wished kind of query before another kind is taken
_TEMPORAL = 0.75  # share of the queries that are about time; the others are about what an object is
_LEVELS = (1, 2, 3, 4)


def example(
    seed: int, split: str, index: int, *, size: int = SMALLEST, frames: int = 8, min_objects: int = 2,
    max_objects: int = 5,
) -> Example:  # fmt: skip
    """One video with one implicit query, the same on every call.

    Args:
      seed, split, index, size: as of generate.example; the random numbers are others than those of pictures.
      frames: of the video, 4 .. 64.
      min_objects, max_objects: 1 <= min_objects <= max_objects <= 6.

    Returns:
      An Example with task "segmentation" and `media` of one Video; `image` is its first frame. The scene's instances
      have boxes, masks and velocities over time.

    Raises:
      ValueError: an argument is out of range.
    """
    rng, film, things = begin(seed, split, index, size, frames, min_objects, max_objects)
    about_time, level, want = rng.random() < _TEMPORAL, pick(rng, _LEVELS), wish(rng)
    enough = max(min_objects, min(max_objects, level + 1))  # few objects seldom carry long chains
    for tried in range(_SCENES):
        prefer = preferred(split, things)
        if about_time:
            query = temporal.sample_temporal_query(rng, split, things, level, want, prefer)
        else:
            query = sample_query(rng, split, things, "semantic", level, want, prefer)
        if query is not None:
            break
        level = max(1, level - (tried > 1))
        film, things = _film(rng, split, size, frames, enough, max_objects)
    else:
        query = sample_query(rng, split, things, "semantic", 1, "one", preferred(split, things))
    made = filmed(rng, film, things, f"twinworld-video/{split}/{seed}/{index}", query.text)
    return dataclasses.replace(
        made, target=over_time(things, query.ids, film.owner.shape), answer_ids=query.ids, thought=query.thought,
        category=query.category, level=query.level,
    )  # fmt: skip


def begin(
    seed: int, split: str, index: int, size: int, frames: int, low: int, high: int, stream: int = STREAM
) -> tuple[np.random.Generator, video_scenes.Film, tuple[Instance, ...]]:
    """(the random numbers of an example, its first film, the film's instances). Raises ValueError as `example` does."""
    check(split, size, low, high, video_scenes.MOST_OBJECTS)
    if not video_scenes.FEWEST_FRAMES <= frames <= video_scenes.MOST_FRAMES:
        raise ValueError(
            f"twinworld frames: expected {video_scenes.FEWEST_FRAMES} to {video_scenes.MOST_FRAMES} frames of a video,"
            f" got {frames}"
        )
    rng = np.random.default_rng([seed, SPLITS.index(split), index, stream])
    return rng, *_film(rng, split, size, frames, low, high)


def preferred(split: str, things: tuple[Instance, ...]) -> frozenset[int]:
    """Ids of the objects about which a held-out query should be: those of unseen combinations."""
    if split != "heldout":
        return frozenset()
    return frozenset(thing.id for thing in things if (thing.label, thing.attributes[0]) in UNSEEN)


def filmed(
    rng: np.random.Generator, film: video_scenes.Film, things: tuple[Instance, ...], uid: str, query: str
) -> Example:
    """The example of a film, with an empty target; paints the frames."""
    size, frames = film.owner.shape[1], len(film.owner)
    pixels = drawing.film(rng, size, film.sprites, film.corners, film.shown)
    nothing = Target(np.zeros((size, size), bool), np.zeros((0, 4), np.float32))
    visuals = (Video(pixels, np.arange(frames), FPS, frames),)
    return Example(uid, pixels[0], query, "segmentation", nothing, things, visuals=visuals)


def over_time(things: tuple[Instance, ...], ids: tuple[int, ...], shape: tuple[int, int, int]) -> Target:
    """The target of a video in which the objects with these ids are wanted; `shape` is frames, height, width."""
    wanted = [thing for thing in things if thing.id in ids]
    masks = np.zeros(shape, bool)
    for thing in wanted:
        masks |= thing.masks
    tracks = np.array([thing.boxes for thing in wanted], np.float32).reshape(-1, shape[0], 4)
    first = tracks[:, 0]
    return Target(masks[0], first[first[:, 2] > first[:, 0]], masks=masks, tracks=tracks)


def _film(
    rng: np.random.Generator, split: str, size: int, frames: int, low: int, high: int
) -> tuple[video_scenes.Film, tuple[Instance, ...]]:
    film = video_scenes.film(rng, split, int(rng.integers(low, high + 1)), size, frames)
    return film, video_scenes.instances(film)
