"""Which objects a video has, where they are in each frame, and what is seen of them.

An object of which less than SEEN_SHARE of its pixels would be seen in a frame is not painted there, so that every
painted pixel belongs to an annotated object and "seen" has no in-between.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from dtr1_jax.data.queries import motion
from dtr1_jax.data.twinworld import motion_paths
from dtr1_jax.data.twinworld.scenes import Kind, Sprite, kinds, layout, sprite
from dtr1_jax.types import Instance

FEWEST_FRAMES, MOST_FRAMES = 4, 64
MOST_OBJECTS = 6
SEEN_SHARE = 0.25  # of an object's pixels, or it counts as not seen
SEEN_PIXELS = 30  # at least, at size 96
_CLEAR = 0.4  # of its pixels are seen in most of the frames in which it is
_ROUNDS = 24  # changes of a path before all objects stand still instead


@dataclasses.dataclass(frozen=True)
class Film:
    """A video without its colours.

    Attributes:
      sprites: from the farthest to the nearest.
      motions: how each was meant to move: one of motions.MOTIONS, "hiding" (behind another) or "crossing".
      paths: float64[n, T, 2], upper left corner of each in each frame, pixels.
      shown: bool[T, n], whether it is seen, and painted.
      owner: uint8[T, size, size], 0 = background, k = sprites[k - 1] is seen here.
    """

    sprites: tuple[Sprite, ...]
    motions: tuple[str, ...]
    paths: np.ndarray
    shown: np.ndarray
    owner: np.ndarray

    @property
    def corners(self) -> np.ndarray:
        """int[T, n, 2], left, top of each sprite in each frame, pixels."""
        return np.rint(self.paths).astype(int).transpose(1, 0, 2)


def film(rng: np.random.Generator, split: str, count: int, size: int, frames: int) -> Film:
    """A video of `count` objects, each of which is seen clearly at some time; always succeeds.

    Args:
      split: as of scenes.kinds.
      count: 1 .. MOST_OBJECTS.
      size: side of the picture, pixels, at least 96.
      frames: FEWEST_FRAMES .. MOST_FRAMES.
    """
    plan = motion_paths.pick_plan(rng, count)
    cast = kinds(rng, split, count)
    if plan == "hide":
        cast[:2] = [dataclasses.replace(cast[0], size="large"), dataclasses.replace(cast[1], size="small")]
    sprites = [sprite(rng, kind, size) for kind in cast]
    names = [motion_paths.drawn(rng) for _ in cast]
    paths = [_path(rng, name, item, size, frames) for name, item in zip(names, sprites)]
    fixed = 0
    for _ in range(_ROUNDS):
        if fixed == 0 and plan != "free":
            names[:2], paths[:2] = _pair(rng, plan, sprites[:2], size, frames)
        found = _filmed(sprites, names, paths, size)
        bad = [i for i, sound in enumerate(found[1]) if not sound]
        if not bad:
            return found[0]
        # what hides or crosses is drawn again as a pair while the rest waits; then the rest, one by one
        fixed = 2 if plan != "free" and bad[0] > 1 else 0
        if plan == "free" or fixed:
            i = bad[int(rng.integers(len(bad)))]
            names[i] = motion_paths.drawn(rng)
            paths[i] = _path(rng, names[i], sprites[i], size, frames)
    return _standing(rng, split, count, size, frames)


def _path(rng: np.random.Generator, name: str, item: Sprite, size: int, frames: int) -> np.ndarray:
    height, width = item.tones.shape
    return motion_paths.path(rng, name, width, height, size, frames)


def _pair(
    rng: np.random.Generator, plan: str, pair: list[Sprite], size: int, frames: int
) -> tuple[list[str], list[np.ndarray]]:
    """Names and paths of two objects of which one goes behind the other, or that go past one another."""
    (high, wide), (height, width) = (item.tones.shape for item in pair)
    if plan == "cross":
        return ["crossing", "crossing"], list(motion_paths.crossing(rng, (wide, width), (high, height), size, frames))
    place = np.array([rng.uniform(0.3, 0.7) * size - wide / 2, rng.uniform(0.45, 0.98) * size - high])
    cover = np.repeat(np.maximum(place, 1.0)[None], frames, 0)
    return ["still", "hiding"], [cover, motion_paths.behind(rng, cover[0], wide, high, width, height, size, frames)]


def _standing(rng: np.random.Generator, split: str, count: int, size: int, frames: int) -> Film:
    """A video in which nothing moves."""
    scene = layout(rng, split, count, size)
    paths = np.repeat(np.array(scene.corners, float)[:, None], frames, 1)
    shown = np.ones((frames, count), bool)
    return Film(scene.sprites, ("still",) * count, paths, shown, np.repeat(scene.owner[None], frames, 0))


def _filmed(sprites: list[Sprite], names: list[str], paths: list[np.ndarray], size: int) -> tuple[Film, list[bool]]:
    """The film, and for each of `sprites` whether it is seen well enough and moves as its name says."""
    depth = sorted(range(len(sprites)), key=lambda i: float(paths[i][:, 1].mean()) + sprites[i].tones.shape[0])
    if "hiding" in names:  # behind what it hides behind, wherever their lower edges are
        depth.remove(1)
        depth.insert(depth.index(0), 1)
    ordered = [sprites[i] for i in depth]
    whole = np.stack([paths[i] for i in depth])
    corners = np.rint(whole).astype(int).transpose(1, 0, 2).tolist()
    areas = np.array([item.area for item in ordered])
    least = np.maximum(SEEN_SHARE * areas, min(SEEN_PIXELS * (size / 96) ** 2, 1e9))
    owner, counts = _painted(ordered, corners, None, size)
    shown = counts >= least
    if not shown.all():
        owner, counts = _painted(ordered, corners, shown, size)
    result = Film(tuple(ordered), tuple(names[i] for i in depth), whole, shown, owner)
    sound = {i: _sound(result, k, counts[:, k] / areas[k]) for k, i in enumerate(depth)}
    return result, [sound[i] for i in range(len(sprites))]


def _painted(
    sprites: list[Sprite], corners: list, shown: np.ndarray | None, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """(owner as in Film, int[T, n] pixels that are seen of each sprite), without those that are not `shown`."""
    frames = len(corners)
    owner = np.zeros((frames, size, size), np.uint8)
    insides = [(item.tones > 0).view(np.uint8) for item in sprites]
    counts = np.empty((frames, len(sprites)), int)
    for t, places in enumerate(corners):
        for k, ((left, top), inside) in enumerate(zip(places, insides), 1):
            if shown is not None and not shown[t, k - 1]:
                continue
            height, width = inside.shape
            x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + width, size), min(top + height, size)
            if x1 < x2 and y1 < y2:
                part = inside[y1 - top : y2 - top, x1 - left : x2 - left]
                cv2.copyTo(np.full(part.shape, k, np.uint8), part, owner[t, y1:y2, x1:x2])
        counts[t] = np.bincount(owner[t].ravel(), minlength=len(sprites) + 1)[1:]
    return owner, counts


def _sound(film: Film, k: int, share: np.ndarray) -> bool:
    """Whether sprite k is seen clearly, in a quarter of the frames, and what is seen of it moves as it was meant to."""
    shown, name = film.shown[:, k], film.motions[k]
    clear = share[shown] >= _CLEAR
    if shown.sum() < max(2, len(shown) // 4) or 2 * clear.sum() < len(clear):
        return False
    thing = _instance(film, k, 1)
    found = motion.measure_motion(thing)
    if name == "hiding":
        return bool(found.hidden) and found.first == 0 and found.last == len(shown) - 1
    # what comes and goes does so at the picture's edge, not from behind another
    if (found.first > 0) != (name in ("entering", "passing")):
        return False
    if (found.last < len(shown) - 1) != (name in ("leaving", "passing")):
        return False
    if found.moves is not (name != "still"):
        return False
    return found.turns == (name == "bouncing")


def _instance(film: Film, k: int, number: int) -> Instance:
    size, shown = film.owner.shape[1], film.shown[:, k]
    masks = film.owner == k + 1
    boxes = np.zeros((len(masks), 4))
    for t in np.flatnonzero(shown):
        x, y, w, h = cv2.boundingRect(masks[t].view(np.uint8))
        boxes[t] = (x, y, x + w, y + h)
    boxes /= size
    there = np.flatnonzero(shown)
    steps = max(int(there[-1] - there[0]), 1)
    velocity = tuple(((film.paths[k, there[-1]] - film.paths[k, there[0]]) / steps / size).tolist())
    kind: Kind = film.sprites[k].kind
    words = (kind.colour, kind.size, kind.material)
    depth = len(film.sprites) - k
    return Instance(number, kind.label, tuple(boxes[0].tolist()), masks[0], depth, words, boxes, masks, velocity)


def instances(film: Film) -> tuple[Instance, ...]:
    """Annotations of a film, depth 1 = nearest.

    Ids count from 1 in the order in which the objects are first seen, and those of one frame from left to right by the
    centre of the visible box.
    """
    found = [_instance(film, k, 0) for k in range(len(film.sprites))]

    def place(item: Instance) -> tuple:
        t = int(np.flatnonzero(item.boxes[:, 2])[0])
        x1, y1, x2, y2 = item.boxes[t]
        return t, round(x1 + x2, 9), round(y1 + y2, 9)

    return tuple(dataclasses.replace(item, id=i) for i, item in enumerate(sorted(found, key=place), 1))
