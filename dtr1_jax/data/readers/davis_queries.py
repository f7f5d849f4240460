"""What is asked about a video with masks: about time, where all frames have a mask, or about objects by their label.

Nouns are labels that the data set gives. Without a label, an annotated object is a "main object or group": such data
sets annotate what a video is about, while others may do the same things in the background, and one number may stand for
a rider with the horse or for two who fight. Whether and where an
object moves is judged against the background, not against the picture's edges, because the camera moves too
(camera_motion.py), and where the tracks leave a doubt whether an object enters or leaves, nobody asks for that
(queries/track_queries.py). Every sentence asks to point at objects.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from dtr1_jax import camera_motion
from dtr1_jax.data import image_files, mask_files
from dtr1_jax.data.queries import temporal, track_queries
from dtr1_jax.data.queries.chance import pick
from dtr1_jax.data.queries.motion import STILL
from dtr1_jax.data.queries.phrases import NOUNS, SENTENCES
from dtr1_jax.data.queries.pointing import Query
from dtr1_jax.data.queries.wording import sentence_about
from dtr1_jax.types import Instance

UNNAMED = "object"  # the label of objects to which the data set gives none
MAIN = "main object or group"  # their noun in a query
RATIO = 1.3  # two objects whose numbers of pixels differ by less than this factor have no order
_ANSWER_SIZES = ("none", "one", "one", "one", "many")  # how many objects answer a query about time, drawn evenly
_GROWTH = 0.2  # share of the queries that ask for what becomes larger or comes nearer, where the video has it
_FOLLOWED = 240  # frames of a video over which the camera is followed, at most
_PIXELS = 320 * 240  # of the pictures on which it is followed
_FARTHEST = 3.0  # unit frame: a camera that moves farther is not followed, since the errors of all steps add up
_NOUNS = re.compile(rf"\b({'|'.join(NOUNS)})\b")


def temporal_query(
    rng: np.random.Generator, split: str, scene: Sequence[Instance], levels: Sequence[int],
    path: Sequence[np.ndarray] | None,
) -> Query | None:  # fmt: skip
    """A query about time, of one of these levels if the video allows one; None if its tracks settle none at all.

    Args:
      split: whose words are used.
      scene: all objects of the video, with boxes in each frame.
      levels: levels to try, in order (temporal.BARE_KINDS).
      path: where the frames lie in the first one, from `sampled_path`; None = not known, and then nothing is asked
        about time.
    """
    if path is None:
        return None
    is_still = camera_motion.moved_share(path) <= STILL
    world = scene if is_still else [_in_world(instance, path) for instance in scene]
    objects = track_queries.tracked(scene, world, is_still, exact=True)
    ask = functools.partial(track_queries.sample, rng, split, objects, nouns={UNNAMED: MAIN})
    if rng.random() < _GROWTH and (query := ask(tuple(track_queries.GROWTH))) is not None:
        return query
    for level in levels:
        size = pick(rng, _ANSWER_SIZES)
        query = temporal.sample_temporal_query(rng, split, world, level, size, bare=True, motions=objects.motions)
        if query is not None and track_queries.settles(query.program, objects):
            # a program measures motion in the picture, where the camera's motion is added to it
            text = _NOUNS.sub(MAIN, query.text)
            return dataclasses.replace(query, text=text, program=query.program if is_still else ())
    return ask()


def _in_world(instance: Instance, path: Sequence[np.ndarray]) -> Instance:
    return dataclasses.replace(instance, boxes=camera_motion.in_first_frame(instance.boxes, path), velocity=None)


def label_query(
    rng: np.random.Generator, split: str, scene: Sequence[Instance], k: int, cut: Collection[str]
) -> Query | None:
    """Query k by a label: all objects with the label of one object of the scene.

    Args:
      split: whose words are used.
      scene: the objects, with masks in each frame.
      k: which object.
      cut: labels with objects that are missing in the scene. Of such a label the largest object is asked for, since the
        scene has the largest ones.

    Returns None if the scene has no object whose label settles an answer.
    """
    for i in range(len(scene)):
        label = scene[(k + i) % len(scene)].label
        alike = [instance for instance in scene if instance.label == label]
        noun, program = (MAIN, ()) if label == UNNAMED else (label, ("label", label))
        step = f"{label}: {','.join(str(instance.id) for instance in alike)}."
        if label in cut:
            alike = _largest(alike)
            noun, program = f"largest {noun}", ("most pixels", program) if program else ()
            step += f" largest: {alike[0].id}." if alike else ""
        if alike:
            phrase = f"{'the' if len(alike) == 1 else 'every'} {noun}"
            text = sentence_about(rng, getattr(SENTENCES, split), phrase) or f"{phrase}."
            return Query(text, step, tuple(instance.id for instance in alike), "semantic", 1, program)
    return None


def _largest(instances: Sequence[Instance]) -> list[Instance]:
    """The instance with the most pixels in all frames; none if another one has nearly as many."""
    ranking = sorted(instances, key=lambda instance: -int(instance.masks.sum()))
    sizes = [int(instance.masks.sum()) for instance in ranking[:2]]
    return ranking[:1] if len(sizes) == 1 or sizes[0] >= RATIO * sizes[1] else []


def sampled_path(
    frames: tuple[Path, ...], masks: tuple[Path | None, ...], numbers: Sequence[int]
) -> list[np.ndarray] | None:
    """Where the sampled frames of a video lie in the first of them (camera_motion.camera_path); None if not known.

    The camera is followed over all frames of the video, or over every n-th one of a long video; it is remembered.

    Raises ImageError if a frame or mask cannot be read.
    """
    followed, path = _camera_path(frames, masks)
    places = [int(np.abs(np.asarray(followed) - number).argmin()) for number in numbers]
    if any(path[place] is None for place in places):
        return None
    to_first = np.linalg.inv(path[places[0]])
    sampled = [to_first @ path[place] for place in places]
    return sampled if camera_motion.moved_share(sampled) <= _FARTHEST else None


@functools.lru_cache(maxsize=256)
def _camera_path(frames: tuple[Path, ...], masks: tuple[Path | None, ...]) -> tuple[list[int], list[np.ndarray | None]]:
    followed = list(range(0, len(frames), -(-len(frames) // _FOLLOWED)))
    named = [path for path in masks if path is not None]
    pictures = [image_files.load_image(frames[i], max_pixels=_PIXELS) for i in followed]
    objects = [None if masks[i] is None else mask_files.load_numbers(masks[i], named) > 0 for i in followed]
    return followed, camera_motion.camera_path(pictures, objects)
