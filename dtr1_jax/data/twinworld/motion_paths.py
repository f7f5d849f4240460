"""How objects move: where the upper left corner of a silhouette is in each frame of a video.

A path is float64[T, 2], x and y in pixels, and need not be inside the picture. Each motion takes the silhouette's size,
the picture's side and the number of frames, draws what is free, and says a path.
"""

from __future__ import annotations

import numpy as np

from dtr1_jax.data.queries.chance import pick

MOTIONS = ("still", "constant", "accelerating", "bouncing", "entering", "leaving", "passing")
_WEIGHTS = np.cumsum((0.24, 0.2, 0.12, 0.12, 0.13, 0.13, 0.06))
_UPRIGHT = 0.3  # share of the motions that go up or down
_FAR = (0.4, 0.85)  # of the way that there is, which a motion within the picture takes


def drawn(rng: np.random.Generator) -> str:
    """One of MOTIONS."""
    return MOTIONS[min(int(np.searchsorted(_WEIGHTS, rng.random())), len(MOTIONS) - 1)]


def path(rng: np.random.Generator, motion: str, width: int, height: int, size: int, frames: int) -> np.ndarray:
    """float64[T, 2]: a path of one of MOTIONS, for a silhouette of width x height pixels.

    "passing" enters on one side and leaves on the other. Entering, leaving and passing objects are out of the picture
    in the first, the last or both frames. `frames` is at least 4.
    """
    room = np.array([size - width - 1, size - height - 1], float)
    low = np.array([1.0, min(0.3 * size, room[1])])  # the floor is the lower part, as in scenes.py; heights vary there
    place = rng.uniform(np.minimum(low, room) - (0, height / 2), room).clip(1.0, room)
    if motion == "still":
        return np.repeat(place[None], frames, 0)
    axis = int(rng.random() < _UPRIGHT)
    forward = rng.random() < 0.5
    length = (width, height)[axis]
    result = np.repeat(place[None], frames, 0)
    result[:, axis] = _along(rng, motion, length, float(room[axis]), size, frames, forward)
    return result


def _along(
    rng: np.random.Generator, motion: str, length: int, room: float, size: int, frames: int, forward: bool
) -> np.ndarray:
    """float64[T], the coordinate that changes; towards larger values where `forward`, mirrored otherwise."""
    t = np.linspace(0, 1, frames)
    way = (room - 1) * rng.uniform(*_FAR)
    start = rng.uniform(1, room - way)
    if motion == "constant":
        x = start + way * t
    elif motion == "accelerating":
        x = start + way * (t**2 if rng.random() < 0.5 else 1 - (1 - t) ** 2)
    elif motion == "bouncing":  # at the far edge, in a frame of its own where there are enough
        turn = t[int(rng.integers(frames // 3, frames - frames // 3))]
        x = room - way * np.abs(t - turn) / max(turn, 1 - turn)
    elif motion == "passing":
        begin, end = rng.integers(0, 1 + frames // 4, 2) / (frames - 1)
        x = -length + (size + length) * ((t - begin) / (1 - begin - end)).clip(0, 1)
    else:  # entering; leaving is the same backwards in time
        begin = t[int(rng.integers(0, frames // 2))]
        x = -length + (length + 1 + way) * ((t - begin) / (1 - begin)).clip(0, None)
        if motion == "leaving":
            x = x[::-1]
    return x if forward else size - length - x


def behind(
    rng: np.random.Generator, cover: np.ndarray, wide: int, high: int, width: int, height: int, size: int, frames: int
) -> np.ndarray:
    """float64[T, 2]: the path of a silhouette of width x height that goes behind another, which stands still, and on.

    Args:
      cover: float64[2], upper left corner of the other, of wide x high pixels.
    """
    middle = cover + (wide - width, high - height) * np.array([0.5, 0.5])
    turn = int(rng.integers(frames // 3, frames - frames // 3))  # the frame in which it is hidden
    left, right = middle[0] - 1, size - width - 1 - middle[0]  # way to either side
    before, after = (left, right) if rng.random() < 0.5 else (-right, -left)  # from the left, or from the right
    steps = np.arange(frames) - turn
    way = np.where(steps < 0, steps / max(turn, 1) * before, steps / max(frames - 1 - turn, 1) * after)
    result = np.repeat(middle[None], frames, 0)
    result[:, 0] = middle[0] + way
    return result


def crossing(
    rng: np.random.Generator, widths: tuple[int, int], heights: tuple[int, int], size: int, frames: int
) -> tuple[np.ndarray, np.ndarray]:
    """Two paths float64[T, 2] that go past one another, from side to side."""
    t, sides = np.linspace(0, 1, frames), rng.random() < 0.5
    paths = []
    for k, (width, height) in enumerate(zip(widths, heights)):
        ends = np.array([rng.uniform(0.02, 0.12), rng.uniform(0.88, 0.98)]) * (size - width - 1)
        start, stop = ends if sides == (k == 0) else ends[::-1]
        y = rng.uniform(0.3 * size - height / 2, size - height - 1)
        paths.append(np.stack([start + (stop - start) * t, np.full(frames, max(1.0, y))], -1))
    return paths[0], paths[1]


def pick_plan(rng: np.random.Generator, count: int) -> str:
    """What a video is about: "hide" (one goes behind another), "cross" (two go past one another), or "free"."""
    return pick(rng, ("hide", "cross", "free", "free")) if count > 1 else "free"
