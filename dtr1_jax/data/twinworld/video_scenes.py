"""Random scenes of videos: their objects, the places of these in each frame, and which of them are visible.

An object with less than SEEN_SHARE of its pixels uncovered in a frame is not painted there. So each painted pixel
belongs to an annotated object, and an object is clearly visible or not at all.
"""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np

from dtr1_jax.data.queries import motion
from dtr1_jax.data.twinworld import motion_paths
from dtr1_jax.data.twinworld.scenes import Sprite, sample_kinds, sample_picture_scene, sample_sprite
from dtr1_jax.types import Instance

FEWEST_FRAMES, MOST_FRAMES = 4, 64
MOST_OBJECTS = 6
SEEN_SHARE = 0.25  # an object is painted in a frame only if at least this share of its pixels is visible
SEEN_PIXELS = 30  # the same as a number of pixels, at size 96
_CLEAR_SHARE = 0.4  # share of an object's pixels that are visible in at least half of the frames in which it is painted
_ATTEMPTS = 24  # changes of paths before a scene without motion is drawn


@dataclasses.dataclass(frozen=True)
class VideoScene:
    """The objects of a video and their places in each frame.

    Attributes:
      sprites: from the farthest to the nearest.
      motions: the motion that was drawn for each sprite: one of motion_paths.MOTIONS, "hiding" (it passes behind
        another one) or "crossing" (it passes another one).
      paths: float64[n, T, 2], upper left corner of each sprite in each frame, pixels.
      visible: bool[T, n], whether each sprite is painted.
      owner: uint8[T, size, size], the sprite that is visible at each pixel: k for sprites[k - 1], 0 for the background.
    """

    sprites: tuple[Sprite, ...]
    motions: tuple[str, ...]
    paths: np.ndarray
    visible: np.ndarray
    owner: np.ndarray

    @property
    def corners(self) -> np.ndarray:
        """int[T, n, 2], left, top of each sprite in each frame, pixels."""
        return np.rint(self.paths).astype(int).transpose(1, 0, 2)


def sample_video_scene(rng: np.random.Generator, split: str, count: int, size: int, frames: int) -> VideoScene:
    """Draws a video of `count` objects, each of which is clearly visible at some time; always succeeds.

    Args:
      split: as in scenes.sample_kinds.
      count: 1 .. MOST_OBJECTS.
      size: side of the picture, pixels, at least 96.
      frames: FEWEST_FRAMES .. MOST_FRAMES.
    """
    plan = motion_paths.sample_plan(rng, count)
    kinds = sample_kinds(rng, split, count)
    if plan == "hide":
        kinds[:2] = [dataclasses.replace(kinds[0], size="large"), dataclasses.replace(kinds[1], size="small")]
    sprites = [sample_sprite(rng, kind, size) for kind in kinds]
    motions = [motion_paths.sample_motion(rng) for _ in kinds]
    paths = [_sample_path(rng, name, sprite, size, frames) for name, sprite in zip(motions, sprites)]
    pair_is_fine = False
    for _ in range(_ATTEMPTS):
        if not pair_is_fine and plan != "free":
            motions[:2], paths[:2] = _sample_pair(rng, plan, sprites[:2], size, frames)
        scene, faultless = _arrange(sprites, motions, paths, size)
        faulty = [i for i, is_faultless in enumerate(faultless) if not is_faultless]
        if not faulty:
            return scene
        # The pair that hides or crosses is drawn again until it is fine; then the other objects, one at a time.
        pair_is_fine = plan != "free" and faulty[0] > 1
        if plan == "free" or pair_is_fine:
            i = faulty[int(rng.integers(len(faulty)))]
            motions[i] = motion_paths.sample_motion(rng)
            paths[i] = _sample_path(rng, motions[i], sprites[i], size, frames)
    return _sample_still_scene(rng, split, count, size, frames)


def _sample_path(rng: np.random.Generator, name: str, sprite: Sprite, size: int, frames: int) -> np.ndarray:
    height, width = sprite.tones.shape
    return motion_paths.sample_path(rng, name, width, height, size, frames)


def _sample_pair(
    rng: np.random.Generator, plan: str, pair: list[Sprite], size: int, frames: int
) -> tuple[list[str], list[np.ndarray]]:
    """Draws motions and paths of two objects that pass one another ("cross"), or of which one hides the other."""
    (high, wide), (height, width) = (sprite.tones.shape for sprite in pair)
    if plan == "cross":
        paths = motion_paths.sample_crossing_paths(rng, (wide, width), (high, height), size, frames)
        return ["crossing", "crossing"], list(paths)
    place = np.array([rng.uniform(0.3, 0.7) * size - wide / 2, rng.uniform(0.45, 0.98) * size - high])
    cover = np.repeat(np.maximum(place, 1.0)[None], frames, 0)
    path = motion_paths.sample_hiding_path(rng, cover[0], wide, high, width, height, size, frames)
    return ["still", "hiding"], [cover, path]


def _sample_still_scene(rng: np.random.Generator, split: str, count: int, size: int, frames: int) -> VideoScene:
    """Draws a video in which nothing moves."""
    scene = sample_picture_scene(rng, split, count, size)
    paths = np.repeat(np.array(scene.corners, float)[:, None], frames, 1)
    visible = np.ones((frames, count), bool)
    return VideoScene(scene.sprites, ("still",) * count, paths, visible, np.repeat(scene.owner[None], frames, 0))


def _arrange(
    sprites: list[Sprite], motions: list[str], paths: list[np.ndarray], size: int
) -> tuple[VideoScene, list[bool]]:
    """Orders sprites by depth and finds their visible pixels.

    Returns the scene, and for each of `sprites` whether it is visible enough and moves as the name of its motion says.
    """
    depth = sorted(range(len(sprites)), key=lambda i: float(paths[i][:, 1].mean()) + sprites[i].tones.shape[0])
    if "hiding" in motions:  # sprite 0 hides sprite 1, so sprite 1 comes directly behind it
        depth.remove(1)
        depth.insert(depth.index(0), 1)
    ordered = [sprites[i] for i in depth]
    ordered_paths = np.stack([paths[i] for i in depth])
    corners = np.rint(ordered_paths).astype(int).transpose(1, 0, 2).tolist()
    areas = np.array([sprite.area for sprite in ordered])
    min_pixels = np.maximum(SEEN_SHARE * areas, min(SEEN_PIXELS * (size / 96) ** 2, 1e9))
    owner, pixels = _visible_pixels(ordered, corners, None, size)
    visible = pixels >= min_pixels
    if not visible.all():
        owner, pixels = _visible_pixels(ordered, corners, visible, size)
    scene = VideoScene(tuple(ordered), tuple(motions[i] for i in depth), ordered_paths, visible, owner)
    faultless = {i: _is_faultless(scene, k, pixels[:, k] / areas[k]) for k, i in enumerate(depth)}
    return scene, [faultless[i] for i in range(len(sprites))]


def _visible_pixels(
    sprites: list[Sprite], corners: list, visible: np.ndarray | None, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns (`owner` of VideoScene, int[T, n] number of visible pixels of each sprite) for the `visible` sprites.

    None stands for all sprites.
    """
    frames = len(corners)
    owner = np.zeros((frames, size, size), np.uint8)
    silhouettes = [(sprite.tones > 0).view(np.uint8) for sprite in sprites]
    pixels = np.empty((frames, len(sprites)), int)
    for t, frame_corners in enumerate(corners):
        for k, ((left, top), silhouette) in enumerate(zip(frame_corners, silhouettes), 1):
            if visible is not None and not visible[t, k - 1]:
                continue
            height, width = silhouette.shape
            x1, y1, x2, y2 = max(left, 0), max(top, 0), min(left + width, size), min(top + height, size)
            if x1 < x2 and y1 < y2:
                part = silhouette[y1 - top : y2 - top, x1 - left : x2 - left]
                cv2.copyTo(np.full(part.shape, k, np.uint8), part, owner[t, y1:y2, x1:x2])
        pixels[t] = np.bincount(owner[t].ravel(), minlength=len(sprites) + 1)[1:]
    return owner, pixels


def _is_faultless(scene: VideoScene, k: int, visible_share: np.ndarray) -> bool:
    """Whether sprite k is visible in a quarter of the frames, mostly clearly, and moves as the name of its motion says.

    `visible_share` is float[T], the share of its pixels that are visible.
    """
    visible, name = scene.visible[:, k], scene.motions[k]
    clear = visible_share[visible] >= _CLEAR_SHARE
    if visible.sum() < max(2, len(visible) // 4) or 2 * clear.sum() < len(clear):
        return False
    measured = motion.measure_motion(_instance(scene, k, 1))
    if name == "hiding":
        return bool(measured.hidden) and measured.first == 0 and measured.last == len(visible) - 1
    # Objects appear and disappear at the edge of the picture only, never behind another object.
    if (measured.first > 0) != (name in ("entering", "passing")):
        return False
    if (measured.last < len(visible) - 1) != (name in ("leaving", "passing")):
        return False
    if measured.moves is not (name != "still"):
        return False
    return measured.turns == (name == "bouncing")


def _instance(scene: VideoScene, k: int, number: int) -> Instance:
    """Annotates sprite k, with `number` as its id."""
    size, visible = scene.owner.shape[1], scene.visible[:, k]
    masks = scene.owner == k + 1
    boxes = np.zeros((len(masks), 4))
    times = np.flatnonzero(visible)
    for t in times:
        x, y, w, h = cv2.boundingRect(masks[t].view(np.uint8))
        boxes[t] = (x, y, x + w, y + h)
    boxes /= size
    steps = max(int(times[-1] - times[0]), 1)
    velocity = tuple(((scene.paths[k, times[-1]] - scene.paths[k, times[0]]) / steps / size).tolist())
    kind = scene.sprites[k].kind
    attributes = (kind.colour, kind.size, kind.material)
    depth = len(scene.sprites) - k
    return Instance(number, kind.label, tuple(boxes[0].tolist()), masks[0], depth, attributes, boxes, masks, velocity)


def video_instances(scene: VideoScene) -> tuple[Instance, ...]:
    """Annotates a scene: ids 1, 2, ... in the order of appearance, depth 1 = nearest.

    Objects that appear in the same frame are ordered from left to right by the centre of the visible box.
    """
    instances = [_instance(scene, k, 0) for k in range(len(scene.sprites))]

    def order(instance: Instance) -> tuple[int, float, float]:
        t = int(np.flatnonzero(instance.boxes[:, 2])[0])
        x1, y1, x2, y2 = instance.boxes[t]
        return t, round(x1 + x2, 9), round(y1 + y2, 9)

    return tuple(dataclasses.replace(instance, id=i) for i, instance in enumerate(sorted(instances, key=order), 1))
