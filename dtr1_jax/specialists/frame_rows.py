"""Which sightings of a video's frames are one object: a row for each object, by a tracker or one row a sighting."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from dtr1_jax.specialists.findings import Detections
from dtr1_jax.specialists.sightings import Sighting

Row = list[Sighting | None]


def rows(
    frames: Sequence[Sequence[Sighting]], images: Sequence[np.ndarray], link: Callable[..., list] | None, gap: int
) -> tuple[list[Row], str]:
    """(rows of T sightings or None, what failed in words or "").

    Args:
      frames: the sightings of each of T frames.
      images: the frames, uint8[h, w, 3].
      link: trackers/linking.link, or None: each sighting has a row of its own then, as where the tracker fails.
      gap: frames for which an object may be out of sight.
    """
    if link is None:
        return _alone(frames), ""
    detections = [
        Detections(
            np.array([one.box for one in found], np.float32).reshape(-1, 4),
            np.array([one.score for one in found], np.float32), tuple(one.label for one in found),
        )
        for found in frames
    ]  # fmt: skip
    try:
        tracks = link(list(images), detections, gap=gap, high=0.0, low=0.0)
        return _of_tracks(frames, detections, tracks), ""
    except Exception as error:  # a tracker may raise anything
        return _alone(frames), f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def _alone(frames: Sequence[Sequence[Sighting]]) -> list[Row]:
    return [[one if t == k else None for k in range(len(frames))] for t, found in enumerate(frames) for one in found]


def _of_tracks(frames: Sequence[Sequence[Sighting]], detections: Sequence[Detections], tracks: Sequence) -> list[Row]:
    """The rows of the tracks, whose boxes are those of detections; detections in no track have rows of their own."""
    free = [dict(enumerate(found)) for found in frames]
    result: list[Row] = []
    for track in tracks:
        row: Row = [None] * len(frames)
        for t, box in enumerate(np.asarray(track.boxes, np.float32)):
            equal = [i for i in free[t] if np.array_equal(detections[t].boxes[i], box)]
            same = [i for i in equal if free[t][i].label == track.label] or equal
            if same:
                row[t] = free[t].pop(same[0])
        if any(one is not None for one in row):
            result.append(row)
    return result + _alone([list(found.values()) for found in free])
