"""The motion of the camera over a video, measured on the background, so that objects move or stand still in the world.

Points of the background are followed from frame to frame (Lucas and Kanade 1981), and a homography is fitted to them by
RANSAC (Fischler and Bolles 1981). A homography is exact for a camera that turns or zooms, and for a flat background.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

SIDE = 320  # pixels of the longer side of the pictures that are compared
_POINTS = 400  # points of the background that are followed, at most
_ENOUGH = 12  # followed points that a homography must fit, at least
_SHARE = 0.4  # and their share of all followed points
_FIT = 2.0  # pixels (of SIDE) within which a point fits
_SAME = 4  # grey levels: a background in which 99 % of the pixels change by at most this stands still
_GROWN = 9  # pixels by which objects are enlarged, since their edges move with them


def camera_path(frames: Sequence[np.ndarray], objects: Sequence[np.ndarray | None]) -> list[np.ndarray | None]:
    """Where the picture of each frame lies in the first frame.

    Args:
      frames: T pictures uint8[h, w, 3] of one size, in order, close enough in time that most of the background is in
        both of two neighbours.
      objects: for each frame bool[h', w'] of any size, True at pixels that are not background; None = not known.

    Returns T matrices float64[3, 3] that map homogeneous points of a frame, unit frame, to those of the first frame;
    the first is the identity. None from the first frame on at which the background cannot be followed.
    """
    path: list[np.ndarray | None] = [np.eye(3)]
    grey = [_small_grey(frame) for frame in frames]
    background = [_background(mask, image.shape) for mask, image in zip(objects, grey, strict=True)]
    for t in range(1, len(grey)):
        last = path[-1]
        step = None if last is None else fitted(grey[t - 1], grey[t], background[t - 1], background[t])
        path.append(None if step is None else last @ np.linalg.inv(step))
    return path


def moved_share(path: Sequence[np.ndarray]) -> float:
    """How far the camera moves a corner or the centre of the picture, at most: unit frame."""
    points = np.array([[0.0, 0, 1], [1, 0, 1], [0, 1, 1], [1, 1, 1], [0.5, 0.5, 1]]).T
    places = np.array([_normalised(matrix @ points) for matrix in path])
    return float(np.abs(places - places[0]).max())


def in_first_frame(boxes: np.ndarray, path: Sequence[np.ndarray]) -> np.ndarray:
    """The boxes float64[T, 4] of an object, unit frame of their own frames, where they lie in the first frame.

    The centre of a box is mapped, and its sides are scaled as areas are at the centre. Empty boxes stay empty.
    """
    placed = np.zeros_like(boxes, dtype=np.float64)
    for t, (box, matrix) in enumerate(zip(boxes, path, strict=True)):
        if box[2] <= box[0] or box[3] <= box[1]:
            continue
        centre = np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, 1.0])
        x, y, scale = matrix @ centre
        sides = np.array([box[2] - box[0], box[3] - box[1]]) * np.sqrt(abs(np.linalg.det(matrix) / scale**3))
        middle = np.array([x, y]) / scale
        placed[t] = [*(middle - sides / 2), *(middle + sides / 2)]
    return placed


def _normalised(points: np.ndarray) -> np.ndarray:
    return points[:2] / points[2]


def _small_grey(frame: np.ndarray) -> np.ndarray:
    scale = min(1.0, SIDE / max(frame.shape[:2]))
    size = tuple(max(1, round(side * scale)) for side in frame.shape[1::-1])
    return cv2.resize(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA)


def _background(mask: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """uint8[h, w], 255 at the background."""
    if mask is None:
        return np.full(shape, 255, np.uint8)
    objects = cv2.resize(mask.astype(np.uint8), shape[::-1], interpolation=cv2.INTER_NEAREST)
    return np.where(cv2.dilate(objects, np.ones((_GROWN, _GROWN), np.uint8)) > 0, 0, 255).astype(np.uint8)


def fitted(
    before: np.ndarray, after: np.ndarray, background_before: np.ndarray, background_after: np.ndarray | None = None
) -> np.ndarray | None:
    """The homography that maps points of one picture to their places in the next one.

    Args:
      before, after: uint8[h, w], two grey pictures of one size.
      background_before: uint8[h, w], 255 at the background of the first picture, whose points are followed.
      background_after: the same of the second picture. With it, a background that does not change stands still, even
        if it has no points to follow. None = not known.

    Returns float64[3, 3] in the unit frame, up to a factor; None if too few points agree on a plausible motion.
    """
    if before.shape != after.shape:
        return None
    if background_after is not None:
        both = (background_before > 0) & (background_after > 0)
        if not both.any():
            return None
        if np.percentile(cv2.absdiff(before, after)[both], 99) <= _SAME:
            return np.eye(3)
    points = cv2.goodFeaturesToTrack(before, _POINTS, 0.01, 6, mask=background_before)
    if points is None or len(points) < _ENOUGH:
        return None
    moved, found, _ = cv2.calcOpticalFlowPyrLK(before, after, points, None)
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(after, before, moved, None)
    kept = (found.ravel() > 0) & (found_back.ravel() > 0) & (np.abs(back - points).reshape(-1, 2).max(1) < 1)
    if kept.sum() < _ENOUGH:
        return None
    cv2.setRNGSeed(0)
    matrix, fits = cv2.findHomography(points[kept], moved[kept], cv2.RANSAC, _FIT)
    height, width = before.shape
    if matrix is None or fits.sum() < _ENOUGH or fits.mean() < _SHARE or not _plausible(matrix, width, height):
        return None
    pixels = np.diag([width, height, 1.0])
    return np.linalg.inv(pixels) @ matrix @ pixels


def _plausible(matrix: np.ndarray, width: int, height: int) -> bool:
    """Whether the corners of the picture stay in order, and its area changes by less than a factor of 4."""
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    places = np.c_[corners, np.ones(4)] @ matrix.T
    if not np.isfinite(matrix).all() or (places[:, 2] <= 1e-6).any():
        return False
    moved = places[:, :2] / places[:, 2:]
    following = np.roll(moved, -1, 0)
    area = 0.5 * np.sum(moved[:, 0] * following[:, 1] - moved[:, 1] * following[:, 0])
    return bool(0.25 < area / (width * height) < 4 and cv2.isContourConvex(moved.astype(np.float32)))
