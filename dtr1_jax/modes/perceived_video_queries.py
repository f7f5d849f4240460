"""Pseudo-queries about a perceived video: about time, and true by the tracks that the specialists found.

They are weaker than queries about annotated tracks: a tracker that loses an object for a moment says nothing about
whether it was hidden, so only what happens at the picture's edge counts as entering or leaving
(queries/track_queries.py). The motion of an object without a velocity is not known, and nobody asks for it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

import cv2
import numpy as np

from dtr1_jax import camera_motion
from dtr1_jax.data.queries import track_queries
from dtr1_jax.data.queries.motion import STILL
from dtr1_jax.data.queries.pointing import Query
from dtr1_jax.specialists.perceived import PerceivedScene
from dtr1_jax.types import Instance, Video

ABSENT = 2  # looked-at frames without an object before it enters or after it leaves, at least


def video_queries(video: Video, scene: PerceivedScene, count: int, seed: int, uid: str) -> list[Query]:
    """Up to `count` different queries about the objects of a perceived video; [] if the tracks settle none.

    Args:
      video: the frames.
      scene: what was perceived in some of them, with boxes and masks for each frame that was looked at.
      count: most queries.
      seed, uid: of the choice; the same give the same queries.
    """
    objects = [one for one in scene.instances if one.boxes is not None and one.masks is not None]
    if not objects or len(scene.frames) < 2:
        return []
    path = _path(video, scene, objects)
    is_still = path is not None and camera_motion.moved_share(path) <= STILL
    known = [one for one in objects if one.velocity is not None]  # else the twin says nothing of its motion either
    world = None if path is None else known if is_still else [_in_world(one, path) for one in known]
    tracked = track_queries.tracked(objects, world, is_still, exact=False, absent=ABSENT)
    found: dict[str, Query] = {}
    for k in range(count):
        query = track_queries.sample(_rng(seed, uid, k), "train", tracked)
        if query is not None:
            found.setdefault(query.text, query)
    return list(found.values())


def _in_world(one: Instance, path: list[np.ndarray]) -> Instance:
    return dataclasses.replace(one, boxes=camera_motion.in_first_frame(np.asarray(one.boxes), path), velocity=None)


def _path(video: Video, scene: PerceivedScene, objects: list[Instance]) -> list[np.ndarray] | None:
    """Where the looked-at frames lie in the first of them; None if the background cannot be followed."""
    numbers = np.asarray(video.index).tolist()
    frames = [video.frames[numbers.index(number)] for number in scene.frames]
    covered = [np.any([one.masks[t] for one in objects], axis=0) for t in range(len(frames))]
    try:
        path = camera_motion.camera_path(frames, covered)
    except (cv2.error, ValueError, ArithmeticError, np.linalg.LinAlgError):
        return None
    return None if any(matrix is None for matrix in path) else path


def _rng(*key: str | int) -> np.random.Generator:
    digest = hashlib.blake2b(json.dumps(key).encode(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def fields(query: Query, scene: PerceivedScene, rle: Any) -> dict[str, Any]:
    """The query and its target as fields of a JSON line; `rle` writes a mask bool[h, w] at the size of the video."""
    chosen = [one for one in scene.instances if one.id in query.ids]
    masks = {
        str(number): [rle(one.masks[t]) if one.masks[t].any() else None for one in chosen]
        for t, number in enumerate(scene.frames)
    }
    oracle: dict[str, Any] = {"answer": list(query.ids), "category": query.category, "level": query.level}
    oracle |= {"program": query.program} if query.program else {}
    return {"query": query.text, "task": "segmentation", "rles": masks, "oracle": oracle}
