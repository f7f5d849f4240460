"""The motion of the camera between the frames of a video, as homographies of the unit frame.

Corners are followed by optical flow (Lucas and Kanade), forth and back, and RANSAC fits a homography to them. The
background moves with it; an object that covers less than half of the picture does not disturb it.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

SIDE = 480  # longest side of the frames that are compared, pixels
_CORNERS = 400
_LEAST = 12  # corners that must agree, and their least share of those that could be followed
_LEAST_SHARE = 0.3
_BACK = 1.0  # pixels within which a corner comes back to its start
_AGREE = 2.0  # pixels within which a corner follows the homography


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
    start = cv2.goodFeaturesToTrack(before, _CORNERS, 0.01, 7, mask=allowed)
    if start is None or len(start) < _LEAST:
        return np.eye(3)
    end, found, _ = cv2.calcOpticalFlowPyrLK(before, after, start, None)
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(after, before, end, None)
    good = (found[:, 0] > 0) & (found_back[:, 0] > 0) & (np.abs(back - start).max((1, 2)) < _BACK)
    if good.sum() < _LEAST:
        return np.eye(3)
    motion, agree = cv2.findHomography(start[good], end[good], cv2.RANSAC, _AGREE)
    if motion is None or agree.sum() < max(_LEAST, _LEAST_SHARE * good.sum()) or not _plausible(motion, width, height):
        return np.eye(3)
    scale = np.diag([width, height, 1.0])
    return np.linalg.inv(scale) @ motion @ scale


def _plausible(motion: np.ndarray, width: int, height: int) -> bool:
    """Whether the corners of the frame stay in order, and the area changes by less than a factor of 4."""
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    homogeneous = np.c_[corners, np.ones(4)] @ motion.T
    if not np.isfinite(motion).all() or (homogeneous[:, 2] <= 1e-6).any():
        return False
    moved = homogeneous[:, :2] / homogeneous[:, 2:]
    after = np.roll(moved, -1, 0)
    area = 0.5 * np.sum(moved[:, 0] * after[:, 1] - moved[:, 1] * after[:, 0])
    return bool(0.25 < area / (width * height) < 4 and cv2.isContourConvex(moved.astype(np.float32)))


def moved_box(box: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """The box float[4] around the middles of the moved sides: a turning camera does not enlarge it."""
    x1, y1, x2, y2 = box
    cx, cy = (x1 + x2) / 2, (y1 + y2) / 2
    points = np.array([[x1, cy, 1], [x2, cy, 1], [cx, y1, 1], [cx, y2, 1]]) @ motion.T
    points = points[:, :2] / points[:, 2:]
    return np.array([points[0, 0], points[2, 1], points[1, 0], points[3, 1]])
