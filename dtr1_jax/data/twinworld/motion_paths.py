"""Random paths of moving objects: the place of an object's upper left corner in each frame of a video.

A path is float64[T, 2], x and y in pixels; it may lie outside the picture. In all functions `width` and `height` are
the size of the object's silhouette in pixels, `size` is the side of the picture in pixels, and `frames` is T.
"""

from __future__ import annotations

import numpy as np

from dtr1_jax.data.queries.chance import pick

MOTIONS = ("still", "constant", "accelerating", "bouncing", "entering", "leaving", "passing")
_WEIGHTS = np.cumsum((0.24, 0.2, 0.12, 0.12, 0.13, 0.13, 0.06))
_VERTICAL = 0.3  # share of the motions that go up or down
_DISTANCE = (0.4, 0.85)  # a motion within the picture covers between these shares of the free space


def sample_motion(rng: np.random.Generator) -> str:
    """Draws one of MOTIONS."""
    return MOTIONS[min(int(np.searchsorted(_WEIGHTS, rng.random())), len(MOTIONS) - 1)]


def sample_path(rng: np.random.Generator, motion: str, width: int, height: int, size: int, frames: int) -> np.ndarray:
    """Draws float64[T, 2], a path of one of MOTIONS, for at least 4 frames.

    "passing" enters on one side and leaves on the other. Entering, leaving and passing objects are outside the picture
    in the first, the last or both frames.
    """
    room = np.array([size - width - 1, size - height - 1], float)
    low = np.array([1.0, min(0.3 * size, room[1])])  # objects stand on the floor, the lower part, as in scenes.py
    place = rng.uniform(np.minimum(low, room) - (0, height / 2), room).clip(1.0, room)
    if motion == "still":
        return np.repeat(place[None], frames, 0)
    axis = int(rng.random() < _VERTICAL)
    forward = rng.random() < 0.5
    length = (width, height)[axis]
    result = np.repeat(place[None], frames, 0)
    result[:, axis] = _along(rng, motion, length, float(room[axis]), size, frames, forward)
    return result


def _along(
    rng: np.random.Generator, motion: str, length: int, room: float, size: int, frames: int, forward: bool
) -> np.ndarray:
    """Draws float64[T], the coordinate that changes: it grows if `forward`, and is mirrored otherwise."""
    t = np.linspace(0, 1, frames)
    distance = (room - 1) * rng.uniform(*_DISTANCE)
    start = rng.uniform(1, room - distance)
    if motion == "constant":
        x = start + distance * t
    elif motion == "accelerating":
        x = start + distance * (t**2 if rng.random() < 0.5 else 1 - (1 - t) ** 2)
    elif motion == "bouncing":  # it turns back at the far edge, in the middle third of the frames
        turn = t[int(rng.integers(frames // 3, frames - frames // 3))]
        x = room - distance * np.abs(t - turn) / max(turn, 1 - turn)
    elif motion == "passing":
        start_time, end_time = rng.integers(0, 1 + frames // 4, 2) / (frames - 1)
        x = -length + (size + length) * ((t - start_time) / (1 - start_time - end_time)).clip(0, 1)
    else:  # entering; leaving is entering backwards in time
        start_time = t[int(rng.integers(0, frames // 2))]
        x = -length + (length + 1 + distance) * ((t - start_time) / (1 - start_time)).clip(0, None)
        if motion == "leaving":
            x = x[::-1]
    return x if forward else size - length - x


def sample_hiding_path(
    rng: np.random.Generator, cover: np.ndarray, cover_width: int, cover_height: int,
    width: int, height: int, size: int, frames: int,
) -> np.ndarray:  # fmt: skip
    """Draws float64[T, 2], the path of an object that passes behind another object, which stands still.

    Args:
      cover: float64[2], upper left corner of the object that stands still.
      cover_width, cover_height: size of its silhouette, pixels.
    """
    middle = cover + (cover_width - width, cover_height - height) * np.array([0.5, 0.5])
    hidden_frame = int(rng.integers(frames // 3, frames - frames // 3))
    left, right = middle[0] - 1, size - width - 1 - middle[0]  # free space on either side
    before, after = (left, right) if rng.random() < 0.5 else (-right, -left)  # from the left, or from the right
    steps = np.arange(frames) - hidden_frame
    shift = np.where(
        steps < 0, steps / max(hidden_frame, 1) * before, steps / max(frames - 1 - hidden_frame, 1) * after
    )
    result = np.repeat(middle[None], frames, 0)
    result[:, 0] = middle[0] + shift
    return result


def sample_crossing_paths(
    rng: np.random.Generator, widths: tuple[int, int], heights: tuple[int, int], size: int, frames: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draws two paths float64[T, 2] from side to side in opposite directions, so that the objects pass one another.

    `widths` and `heights` are the sizes of the two silhouettes, pixels.
    """
    t, first_goes_right = np.linspace(0, 1, frames), rng.random() < 0.5
    paths = []
    for k, (width, height) in enumerate(zip(widths, heights)):
        ends = np.array([rng.uniform(0.02, 0.12), rng.uniform(0.88, 0.98)]) * (size - width - 1)
        start, stop = ends if first_goes_right == (k == 0) else ends[::-1]
        y = rng.uniform(0.3 * size - height / 2, size - height - 1)
        paths.append(np.stack([start + (stop - start) * t, np.full(frames, max(1.0, y))], -1))
    return paths[0], paths[1]


def sample_plan(rng: np.random.Generator, count: int) -> str:
    """Draws the plan of a video of `count` objects.

    "hide": one object passes behind another. "cross": two objects pass one another. "free": all motions are
    independent.
    """
    return pick(rng, ("hide", "cross", "free", "free")) if count > 1 else "free"
