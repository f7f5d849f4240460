"""Video example i of TwinWorld, a pure function of (seed, split, i)."""

from __future__ import annotations

import dataclasses

import numpy as np

from dtr1_jax.data.queries.chance import pick
from dtr1_jax.data.queries.pointing import sample_query
from dtr1_jax.data.queries.temporal import sample_temporal_query
from dtr1_jax.data.twinworld import video_scenes
from dtr1_jax.data.twinworld.drawing import paint_video
from dtr1_jax.data.twinworld.picture_examples import SMALLEST, SPLITS, check_arguments, sample_answer_count, unseen_ids
from dtr1_jax.types import LEVELS, Example, Instance, Target, Video

FPS = 2.0  # frames per second that a video states
STREAM = 7  # separates the random numbers of videos from those of pictures
_SCENE_ATTEMPTS = 5  # videos that are tried for one kind of query before a simpler kind is drawn
_TEMPORAL = 0.75  # share of the queries that are about time; the others are semantic


def example(
    seed: int, split: str, index: int, *, size: int = SMALLEST, frames: int = 8, min_objects: int = 2,
    max_objects: int = 5,
) -> Example:  # fmt: skip
    """Returns one video with one implicit query, the same in every call.

    Args:
      seed, split, index, size: as in picture_examples.example; the random numbers differ from those of pictures.
      frames: number of frames of the video, 4 .. 64.
      min_objects, max_objects: 1 <= min_objects <= max_objects <= 6.

    Returns:
      An Example with task "segmentation" and one Video in `visuals`; `image` is its first frame. The scene's instances
      have boxes, masks and velocities over time.

    Raises:
      ValueError: an argument is out of range.
    """
    rng, scene, instances = first_scene(seed, split, index, size, frames, min_objects, max_objects)
    about_time, level, answer_count = rng.random() < _TEMPORAL, pick(rng, LEVELS), sample_answer_count(rng)
    enough_objects = max(min_objects, min(max_objects, level + 1))  # few objects seldom allow long chains
    for attempt in range(_SCENE_ATTEMPTS):
        prefer = unseen_ids(split, instances)
        if about_time:
            query = sample_temporal_query(rng, split, instances, level, answer_count, prefer)
        else:
            query = sample_query(rng, split, instances, "semantic", level, answer_count, prefer)
        if query is not None:
            break
        level = max(1, level - (attempt > 1))
        scene, instances = _sample_scene(rng, split, size, frames, enough_objects, max_objects)
    else:
        query = sample_query(rng, split, instances, "semantic", 1, "one", unseen_ids(split, instances))
    untargeted = paint_example(rng, scene, instances, f"twinworld-video/{split}/{seed}/{index}", query.text)
    return dataclasses.replace(
        untargeted, target=_target(instances, query.ids, scene.owner.shape), answer_ids=query.ids,
        thought=query.thought, category=query.category, level=query.level, program=query.program,
    )  # fmt: skip


def first_scene(
    seed: int, split: str, index: int, size: int, frames: int, low: int, high: int, stream: int = STREAM
) -> tuple[np.random.Generator, video_scenes.VideoScene, tuple[Instance, ...]]:
    """Returns the random numbers of an example, its first scene with `low` to `high` objects, and their annotations.

    Raises:
      ValueError: an argument is out of range.
    """
    check_arguments(split, size, low, high, video_scenes.MOST_OBJECTS)
    if not video_scenes.FEWEST_FRAMES <= frames <= video_scenes.MOST_FRAMES:
        raise ValueError(
            f"twinworld frames: expected {video_scenes.FEWEST_FRAMES} to {video_scenes.MOST_FRAMES} frames of a video,"
            f" got {frames}"
        )
    rng = np.random.default_rng([seed, SPLITS.index(split), index, stream])
    return rng, *_sample_scene(rng, split, size, frames, low, high)


def paint_example(
    rng: np.random.Generator, scene: video_scenes.VideoScene, instances: tuple[Instance, ...], uid: str, query: str
) -> Example:
    """Paints the frames of a video and returns its example, with an empty target."""
    size, frames = scene.owner.shape[1], len(scene.owner)
    pixels = paint_video(rng, size, scene.sprites, scene.corners, scene.visible)
    empty = Target(np.zeros((size, size), bool), np.zeros((0, 4), np.float32))
    visuals = (Video(pixels, np.arange(frames), FPS, frames),)
    return Example(uid, pixels[0], query, "segmentation", empty, instances, visuals=visuals)


def _target(instances: tuple[Instance, ...], ids: tuple[int, ...], shape: tuple[int, int, int]) -> Target:
    """Returns the target of a video whose answer is the objects with these ids; `shape` is frames, height, width."""
    targets = [instance for instance in instances if instance.id in ids]
    masks = np.zeros(shape, bool)
    for instance in targets:
        masks |= instance.masks
    tracks = np.array([instance.boxes for instance in targets], np.float32).reshape(-1, shape[0], 4)
    first = tracks[:, 0]
    return Target(masks[0], first[first[:, 2] > first[:, 0]], masks=masks, tracks=tracks)


def _sample_scene(
    rng: np.random.Generator, split: str, size: int, frames: int, low: int, high: int
) -> tuple[video_scenes.VideoScene, tuple[Instance, ...]]:
    scene = video_scenes.sample_video_scene(rng, split, int(rng.integers(low, high + 1)), size, frames)
    return scene, video_scenes.video_instances(scene)
