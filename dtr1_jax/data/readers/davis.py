"""Videos with a mask for each frame, in folders as DAVIS has them, with generated queries.

    ROOT/JPEGImages/NAME/00000.jpg ...     frames (or ROOT/JPEGImages/480p/NAME, or ROOT/images/NAME)
    ROOT/Annotations/NAME/00000.png ...    masks of the same names (or Annotations/480p, or masks): a pixel has the
                                           number of its object, 0 is none; where 255 is alone, it is object 1
    ROOT/labels.json, optional             {"NAME": {"1": "camel", ...}, ...}: what the objects are

Without labels an object is called by the first word of NAME, or "object" where a video has several. A video all of
whose frames have a mask is asked about time, as TwinWorld's videos are (queries/temporal.py). Of one with fewer masks
it is not known what a frame lacks, so it is asked for one object at a time, and frames whose masks do not have that
object count neither way. A clip has at most `frames` frames, of the whole video or of a part of it. Masks whose sides
differ from their frame's by at most MISFIT pixels are fitted to it, and frames of another size than the clip's first
are brought to that, with their masks. Every fifth video is held out, or, of fewer than 5, query.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from dtr1_jax.data import image_files, json_files, video_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.queries import temporal
from dtr1_jax.data.queries.chance import pick
from dtr1_jax.data.queries.phrases import SENTENCES
from dtr1_jax.data.queries.pointing import Query
from dtr1_jax.twin import masks
from dtr1_jax.types import Example, Instance, Target, Video

FOLDERS = (("JPEGImages", "Annotations"), ("images", "masks"))
FRAMES = 8  # of a clip, as is usual
QUERIES = 10  # about a video
FIFTH = 5
MISFIT = 2
_WANTS = ("none", "one", "one", "one", "many")


@dataclasses.dataclass(frozen=True)
class Clip:
    """One video: its name, frames in order, the mask of each or None, and what its objects are called, by number."""

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path | None, ...]
    labels: Mapping[int, str]


@dataclasses.dataclass(frozen=True, repr=False)
class Davis:
    """QUERIES examples of each video."""

    root: Path
    split: str
    task: str
    seed: int
    max_objects: int
    items: tuple[tuple[Clip, int], ...]
    frames: int = FRAMES

    def __repr__(self) -> str:
        settings = f"split={self.split!r}, task={self.task!r}, seed={self.seed}, max_objects={self.max_objects}"
        settings += f", frames={self.frames}"
        return f"Davis({self.root.as_posix()!r}, {settings}, items={len(self.items)})"

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Example:
        """Example `index`. Raises ImageError where a frame or mask is broken or does not fit; IndexError."""
        clip, k = self.items[index]
        rng = _rng(self.seed, clip.name, k)
        if all(clip.masks):
            return _dense(clip, k, rng, self)
        return _sparse(clip, k, rng, self)


def open_folder(path: str, split: str, task: str, *, seed: int, max_objects: int, frames: int = FRAMES) -> Davis:
    """Finds the videos of a split; frames and masks are read when asked for.

    Args:
      path: the folder.
      split: "train" or "heldout".
      task: segmentation or grounding.
      seed: of the queries and of which part of a video is shown.
      max_objects: of a scene; those with the most pixels are kept.
      frames: of a clip, at most.

    Raises DataError: no such folders, no video with a mask, a bad labels.json, or nothing of this split.
    """
    root = Path(path)
    where = [tuple(_below(root / name) for name in pair) for pair in FOLDERS]
    found = next((pair for pair in where if all(part.is_dir() for part in pair)), None)
    if found is None:
        known = " or ".join(f"{a} and {b}" for a, b in FOLDERS)
        raise DataError(f"{root}: expected folders {known}, got none of these pairs; set data.root to their parent")
    names = _labels(root / "labels.json")
    clips = [
        _sequence(folder, found[1] / folder.name, names) for folder in sorted(found[0].iterdir()) if folder.is_dir()
    ]
    clips = [clip for clip in clips if any(clip.masks)]
    if not clips:
        raise DataError(f"{root}: expected a video with a mask of the same name as a frame, got none")
    if split not in ("train", "heldout"):
        raise DataError(f'{root}: expected data.*_split "train" or "heldout", got {split!r}')
    items = [(clip, k) for clip in clips for k in range(QUERIES)]
    unit = QUERIES if len(clips) >= FIFTH else 1  # what is held out whole
    chosen = [item for i, item in enumerate(items) if (i // unit % FIFTH == FIFTH - 1) == (split == "heldout")]
    return Davis(root, split, task, seed, max_objects, tuple(chosen), frames)


def _below(folder: Path) -> Path:
    return folder / "480p" if (folder / "480p").is_dir() else folder


def _labels(file: Path) -> dict:
    if not file.is_file():
        return {}
    value = json_files.read_json(file)
    good = isinstance(value, dict) and all(
        isinstance(names, dict) and all(key.isdecimal() and json_files.is_name(name) for key, name in names.items())
        for names in value.values()
    )
    if not good:
        raise DataError(f'{file}: expected {{"NAME": {{"1": "label", ...}}, ...}}, got something else')
    return {name: {int(key): label for key, label in names.items()} for name, names in value.items()}


def _sequence(folder: Path, annotations: Path, names: Mapping) -> Clip:
    frames = sorted(file for file in folder.iterdir() if file.suffix.lower() in video_files.PICTURES and file.is_file())
    there = [annotations / f"{frame.stem}.png" for frame in frames]
    found = tuple(file if file.is_file() else None for file in there)
    return Clip(folder.name, tuple(frames), found, names.get(folder.name, {}))


def _rng(*key) -> np.random.Generator:
    digest = hashlib.blake2b(json.dumps(key).encode(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def _shown(clip: Clip, numbers: Sequence[int]) -> tuple[Video, np.ndarray]:
    """(frames; uint8[T, h, w], the object at each pixel, 0 in frames without a mask). Raises ImageError."""
    frames = [image_files.load_image(clip.frames[i]) for i in numbers]
    stacked = video_files.stack_frames(frames)
    owner = np.zeros(stacked.shape[:3], np.uint8)
    for k, i in enumerate(numbers):
        if clip.masks[i] is not None:
            own = _mask(clip.masks[i], *frames[k].shape[:2])
            owner[k] = _fitted(own, *owner.shape[1:])
    return Video(stacked, np.asarray(numbers, np.int64), video_files.RATE, len(clip.frames)), owner


def _fitted(owner: np.ndarray, h: int, w: int) -> np.ndarray:
    return owner if owner.shape == (h, w) else cv2.resize(owner, (w, h), interpolation=cv2.INTER_NEAREST)


def _mask(file: Path, h: int, w: int) -> np.ndarray:
    """uint8[h, w], the number of the object at each pixel. Raises ImageError."""
    found = image_files.load_bitmap(file)
    found = found.astype(np.uint8)
    if found.shape != (h, w):
        if max(abs(found.shape[0] - h), abs(found.shape[1] - w)) > MISFIT:
            got = f"{found.shape[1]} x {found.shape[0]}"
            raise image_files.ImageError(f"{file}: expected a mask of the frame's size, {w} x {h} pixels, got {got}")
        found = _fitted(found, h, w)
    values = np.unique(found[found > 0])
    if values.tolist() == [255]:
        return (found > 0).astype(np.uint8)
    return np.where(found == 255, np.uint8(0), found)


def _instances(clip: Clip, owner: np.ndarray, most: int) -> tuple[tuple[Instance, ...], bool]:
    """(the objects of uint8[T, h, w], in the order of their numbers; whether none was left out)."""
    sizes = {int(n): int(count) for n, count in zip(*np.unique(owner, return_counts=True)) if n}
    kept = sorted(sorted(sizes, key=lambda n: -sizes[n])[:most])
    found = []
    for i, number in enumerate(kept, 1):
        part = owner == number
        boxes = np.array([masks.bbox(mask) or (0.0,) * 4 for mask in part])
        label = _label(clip, number, len(sizes))
        found.append(Instance(i, label, tuple(boxes[0].tolist()), part[0], boxes=boxes, masks=part))
    return tuple(found), len(kept) == len(sizes)


def _label(clip: Clip, number: int, count: int) -> str:
    word = re.split(r"[\W_\d]", clip.name)[0].lower()
    return clip.labels.get(number) or (word if word and count == 1 else "object")


def _dense(clip: Clip, k: int, rng: np.random.Generator, data: Davis) -> Example:
    """Query k about a part of a video all of whose frames are annotated; about all of it where k is 0."""
    total = len(clip.frames)
    length = total if k == 0 else int(rng.integers(min(total, max(data.frames, total // 2)), total + 1))
    start = int(rng.integers(total - length + 1))
    numbers = (start + video_files.even_indices(length, data.frames)).tolist()
    shown, owner = _shown(clip, numbers)
    scene, whole = _instances(clip, owner, data.max_objects)
    query = None  # of a level that changes with k, or else of a low one, or else for what is called by its name
    for level in (1 + k % 4, 1 + (k + 1) % 2) if whole and len(numbers) > 1 else ():
        query = query or temporal.sample_temporal_query(rng, data.split, scene, level, pick(rng, _WANTS), bare=True)
    if query is None:
        return _named(clip, k, scene, shown, np.ones(len(numbers), bool), whole, rng, data)
    return _example(clip, k, query, scene, shown, None, data)


def _sparse(clip: Clip, k: int, rng: np.random.Generator, data: Davis) -> Example:
    """Query k about a video some of whose frames are annotated: these are shown, and others between them."""
    annotated = [i for i, file in enumerate(clip.masks) if file is not None]
    numbers = [annotated[i] for i in video_files.even_indices(len(annotated), data.frames)]
    others = [i for i in video_files.even_indices(len(clip.frames), data.frames).tolist() if i not in numbers]
    numbers = sorted(numbers + others[: data.frames - len(numbers)])
    shown, owner = _shown(clip, numbers)
    scene, _ = _instances(clip, owner, data.max_objects)
    labelled = np.array([clip.masks[i] is not None for i in numbers])
    return _named(clip, k, scene, shown, labelled, False, rng, data)


def _named(clip, k, scene, shown, labelled, whole: bool, rng, data: Davis) -> Example:
    """A query for what is called by one name, or, where not `whole` all of it is known, for one object of that name."""
    if not scene:
        raise image_files.ImageError(f"{clip.name}: expected an object in some mask of the clip, got none")
    thing = scene[k % len(scene)]
    same = tuple(item for item in scene if item.label == thing.label)
    if not whole:
        same = (thing,)
        labelled = labelled & (thing.boxes[:, 2] > 0)
    name = thing.label if len(scene) == 1 or whole else f"{thing.label} {thing.id}"
    text = pick(rng, getattr(SENTENCES, data.split)).format(f"the {name}")
    thought = f"{thing.label}: {','.join(str(item.id) for item in same)}."
    query = Query(text, thought, tuple(item.id for item in same), "semantic", 1)
    return _example(clip, k, query, scene, shown, None if labelled.all() else labelled, data)


def _example(clip, k, query, scene, shown, labelled, data: Davis) -> Example:
    wanted = [item for item in scene if item.id in query.ids]
    union = np.any([item.masks for item in wanted], 0) if wanted else np.zeros(shown.frames.shape[:3], bool)
    boxes = np.array([item.boxes for item in wanted], np.float32).reshape(-1, len(shown.frames), 4)
    first = boxes[:, 0]
    target = Target(union[0], first[first[:, 2] > first[:, 0]], masks=union, tracks=boxes, labelled=labelled)
    return Example(
        f"davis/{clip.name}/{k}", shown.frames[0], query.text, data.task, target, scene, query.ids, query.thought,
        query.category, query.level, (shown,),
    )  # fmt: skip
