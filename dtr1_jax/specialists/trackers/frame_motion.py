"""The motion of the camera from frame to frame, as trackers use it: the identity where it is not known.

camera_motion.py fits the homographies. An object that covers less than half of the picture does not disturb them.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from dtr1_jax import camera_motion

SIDE = 480  # longest side of the frames that are compared, pixels


def grey(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8[h, w, 3] -> uint8[height, width], grey and resized to `size` (width, height)."""
    shrinks = frame.shape[1] > size[0]
    image = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def working_size(frame: np.ndarray, side: int = SIDE) -> tuple[int, int]:
    """(width, height) of a frame whose longest side is shrunk to at most `side` pixels; at least 16 each."""
    scale = min(1.0, side / max(frame.shape[:2]))
    return max(16, round(frame.shape[1] * scale)), max(16, round(frame.shape[0] * scale))


def homographies(frames: Sequence[np.ndarray], boxes: Sequence[np.ndarray] | None = None) -> np.ndarray:
    """The motion from each frame to the next one.

    Args:
      frames: T pictures uint8[h, w, 3]; frames of other sizes are resized to that of the first one.
      boxes: float[n, 4] of each frame, unit frame: where objects are that may move by themselves. None = unknown.

    Returns float64[T, 3, 3]: entry t moves a point (x, y, 1) of frame t - 1 to its place in frame t, in the unit frame,
    up to a factor. Entry 0, and entries where too few corners agree, are the identity.
    """
    motions = np.tile(np.eye(3), (len(frames), 1, 1))
    if len(frames) < 2:
        return motions
    size = working_size(frames[0])
    last = grey(frames[0], size)
    for t in range(1, len(frames)):
        now = grey(frames[t], size)
        motions[t] = between(last, now, None if boxes is None else boxes[t - 1])
        last = now
    return motions


def between(before: np.ndarray, after: np.ndarray, boxes: np.ndarray | None = None) -> np.ndarray:
    """The homography of the unit frame between two grey pictures uint8[h, w] of one size; `boxes` as above."""
    height, width = before.shape
    allowed = np.full(before.shape, 255, np.uint8)
    for x1, y1, x2, y2 in np.clip(np.zeros((0, 4)) if boxes is None else boxes, 0, 1):
        allowed[round(y1 * height) : round(y2 * height), round(x1 * width) : round(x2 * width)] = 0
    if np.count_nonzero(allowed) < 0.2 * allowed.size:
        allowed[:] = 255
    motion = camera_motion.fitted(before, after, allowed)
    return np.eye(3) if motion is None else motion


def moved_box(box: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """The box float[4] around the middles of the moved sides: a turning camera does not enlarge it."""
    x1, y1, x2, y2 = box
    cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
    points = np.array([[x1, cy, 1], [x2, cy, 1], [cx, y1, 1], [cx, y2, 1]]) @ motion.T
    points = points[:, :2] / points[:, 2:]
    return np.array([points[0, 0], points[2, 1], points[1, 0], points[3, 1]])
