"""Videos with a mask for each frame, in folders as DAVIS has them, with generated queries.

    ROOT/JPEGImages/NAME/00000.jpg ...     frames (or ROOT/JPEGImages/480p/NAME, or ROOT/images/NAME)
    ROOT/Annotations/NAME/00000.png ...    masks of the same names or numbers (or Annotations/480p, or masks): the
                                           value of a pixel is the number of its object, 0 is background; 255 is
                                           background too, or object 1 if it is the only value above 0; in masks with
                                           colours, each colour but black is an object
    ROOT/labels.json, optional             {"NAME": {"1": "camel", ...}, ...}: the labels of the objects by number

Frames are in the order of the numbers in their names. Without labels, the label of an object is "object": the name of a
video may say what happens in it ("breakdance"), and is no label.

Videos that have a mask for every frame get queries about time, as TwinWorld's videos do (queries/temporal.py), if the
background shows how the camera moves. In the other videos, a frame without a mask may show any object. Their queries
name objects by their label, and frames whose mask lacks these objects are not scored (davis_queries.py).

An example shows at most `frames` frames, of the whole video or of a part of it. A mask whose sides differ from those of
its frame by at most MISFIT pixels is resized to its frame. All frames and masks are resized to the size of the first
frame.

A fifth of the videos is held out, as their names decide (json_files.held_out_part); of 2 to 4 videos the last one. A
single video is cut in time: its last fifth is held out, or a larger part if the last fifth has no mask.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dtr1_jax.data import image_files, json_files, mask_files, video_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.queries.pointing import Query
from dtr1_jax.data.readers import davis_queries, file_names
from dtr1_jax.data.readers.davis_queries import UNNAMED
from dtr1_jax.run import local_copy
from dtr1_jax.twin import masks
from dtr1_jax.types import Example, Instance, Target, Video

FOLDERS = (("JPEGImages", "Annotations"), ("images", "masks"))
MASKS = (".png", ".bmp", ".tif", ".tiff")  # suffixes of masks without loss
FRAMES = 8  # frames of an example, if the settings give no number
QUERIES = 10  # queries about each video
FIFTH = 5  # the last fifth of a single video is held out
FEW = 4  # of up to so many videos, the last one is held out
MISFIT = 2  # pixels

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class VideoFolder:
    """The files of one video: its name, frames in order, the mask of each or None, and labels by object number."""

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path | None, ...]
    labels: Mapping[int, str]


@dataclasses.dataclass(frozen=True, repr=False)
class Davis:
    """QUERIES examples of each video; an item is a video and the number of a query about it."""

    root: Path
    split: str
    task: str
    seed: int
    max_objects: int
    items: tuple[tuple[VideoFolder, int], ...]
    frames: int = FRAMES

    def __repr__(self) -> str:
        settings = f"split={self.split!r}, task={self.task!r}, seed={self.seed}, max_objects={self.max_objects}"
        settings += f", frames={self.frames}"
        return f"Davis({local_copy.stable_name(self.root)!r}, {settings}, items={len(self.items)})"

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Example:
        """Example `index`. Raises ImageError if a frame or mask is broken or does not fit; IndexError."""
        folder, k = self.items[index]
        rng = _rng(self.seed, folder.name, k)
        if all(folder.masks):
            return _dense_example(folder, k, rng, self)
        return _sparse_example(folder, k, rng, self)


def open_davis_source(path: str, split: str, task: str, *, seed: int, max_objects: int, frames: int = FRAMES) -> Davis:
    """Finds the videos of a split and returns its examples; files are read when an example is indexed.

    Args:
      path: the folder.
      split: "train" or "heldout".
      task: segmentation or grounding.
      seed: of the queries, and of the part of a video that an example shows.
      max_objects: most objects of a scene; those with the most pixels are kept.
      frames: most frames of an example.

    Raises DataError: no such folders, no video with a mask, a bad labels.json, or nothing of this split.
    """
    root = Path(path)
    pairs = [tuple(_resolution_folder(root / name) for name in pair) for pair in FOLDERS]
    pair = next((pair for pair in pairs if all(map(file_names.is_folder, pair))), None)
    if pair is None:
        known = " or ".join(f"{a} and {b}" for a, b in FOLDERS)
        inner = next((p.parent for a, _ in FOLDERS for p in sorted(root.glob(f"*/{a}"))), None)
        place = f"{inner}, which has them" if inner and file_names.is_folder(root) else "their parent"
        raise DataError(f"{root}: expected folders {known}, got none of these pairs; set data.root to {place}")
    frame_root, mask_root = pair
    labels = _read_labels(root / "labels.json")
    videos = _video_folders(frame_root, mask_root, labels)
    if split not in ("train", "heldout"):
        raise DataError(f'{root}: expected data.*_split "train" or "heldout", got {split!r}; set it to one of them')
    items = tuple((video, k) for video in _part(videos, split == "heldout", root) for k in range(QUERIES))
    return Davis(root, split, task, seed, max_objects, items, frames)


def _part(videos: Sequence[VideoFolder], held_out: bool, root: Path) -> list[VideoFolder]:
    """The videos of a part; at least one, and no frame is in both parts.

    Raises DataError if no part of a single video can be held out.
    """
    if len(videos) == 1:
        return [_cut(videos[0], held_out, root)]
    names = [video.name for video in videos]
    held = json_files.held_out_part(names) if len(names) > FEW else {names[-1]}
    part = [video for video in videos if (video.name in held) == held_out]
    if held_out:
        log.info("%s: %d of its %d videos are held out for evaluation", root, len(part), len(videos))
    return part


def _cut(video: VideoFolder, held_out: bool, root: Path) -> VideoFolder:
    """The last fifth of a video, or the frames before it. The cut moves until both parts have a mask.

    A video with one mask has no last part. Raises DataError if it is wanted.
    """
    total = len(video.frames)
    annotated = [i for i, file in enumerate(video.masks) if file is not None]
    if len(annotated) < 2 and not held_out:
        return video
    if len(annotated) < 2:
        raise DataError(
            f"{root}: expected 2 frames with a mask or more, to hold one out for evaluation, got 1 in the only video "
            f"{video.name}; add masks or videos"
        )
    cut = min(max(total * (FIFTH - 1) // FIFTH, annotated[0] + 1), annotated[-1])
    if held_out:
        log.info("%s: the last %d of %d frames of its only video are held out", root, total - cut, total)
    part = slice(cut, None) if held_out else slice(cut)
    return dataclasses.replace(video, frames=video.frames[part], masks=video.masks[part])


def _resolution_folder(folder: Path) -> Path:
    return folder / "480p" if file_names.is_folder(folder / "480p") else folder


def _read_labels(file: Path) -> dict[str, dict[int, str]]:
    """Name of a video -> number of an object -> label; {} where there is no file."""
    if not file_names.is_file(file):
        return {}
    value = json_files.read_json(file)
    good = isinstance(value, dict) and all(
        isinstance(names, dict) and all(key.isdecimal() and json_files.is_name(name) for key, name in names.items())
        for names in value.values()
    )
    if not good:
        raise DataError(
            f'{file}: expected {{"NAME": {{"1": "label", ...}}, ...}}, got JSON of another form; correct or remove it'
        )
    return {name: {int(key): label for key, label in names.items()} for name, names in value.items()}


def _video_folders(frame_root: Path, mask_root: Path, labels: Mapping) -> list[VideoFolder]:
    """The videos with a mask; the others are counted in one warning. Raises DataError if there are none."""
    try:
        folders = sorted(folder for folder in frame_root.iterdir() if file_names.is_folder(folder))
        folders = [folder for folder in folders if folder.name[:1] != "." and folder.name != "__MACOSX"]
    except OSError as error:
        raise DataError(f"{frame_root}: cannot be read ({error.strerror}); check its permissions") from None
    videos, others = [], []
    for folder in folders:
        try:
            video = _video_folder(folder, mask_root / folder.name, labels)
        except (OSError, image_files.ImageError) as error:
            others.append(f"{folder.name}: {error}")
            continue
        if any(video.masks):
            videos.append(video)
        else:
            others.append(f"{folder.name}: {_missing_masks(mask_root / folder.name)}")
    if not videos:
        fault = f" ({others[0]})" if others else ""
        raise DataError(
            f"{mask_root}: expected a video with a mask, NAME/00000.png for the frame {frame_root}/NAME/00000.jpg, got "
            f"none{fault}; give each mask the name of its frame"
        )
    if others:
        log.warning("%s: left out %d videos without frames or masks, such as %s", frame_root, len(others), others[0])
    return videos


def _missing_masks(folder: Path) -> str:
    if not file_names.is_folder(folder):
        return f"no folder {folder}"
    names = sorted(file.name for file in folder.iterdir())
    if any(name.lower().endswith(mask_files.LOSSY) for name in names):
        return f"its masks are JPEG, such as {names[0]}; save them as palette or grey PNG"
    return f"no mask with the name of a frame, but {', '.join(names[:3]) or 'no file'}"


def _video_folder(folder: Path, annotations: Path, labels: Mapping) -> VideoFolder:
    """The files of one video. Raises ImageError or OSError if a folder cannot be read."""
    frames = video_files.list_frames(folder)
    files = []
    if file_names.is_folder(annotations):
        files = [file for file in annotations.iterdir() if file.suffix.lower() in MASKS and file.name[0] != "."]
    present: tuple[Path | None, ...] = (None,) * len(frames)
    # The same name, the same name with another padding of its number, or the same number behind another word.
    for key in (str, lambda stem: video_files.frame_order(stem)[0], _numbers):
        if not any(present):
            present = _by_key(frames, files, key)
    return VideoFolder(folder.name, tuple(frames), present, labels.get(folder.name, {}))


def _numbers(stem: str) -> list[int]:
    return [int(digits) for digits in re.findall("[0-9]+", stem)]


def _by_key(frames: Sequence[Path], files: Sequence[Path], key: Callable[[str], Any]) -> tuple[Path | None, ...]:
    """The mask file of each frame whose stem has the same key, or None; all None where two frames share a key."""
    by_key = {str(key(file.stem)): file for file in files}
    keys = [str(key(frame.stem)) for frame in frames]
    if len(set(keys)) < len(keys) or len(by_key) < len(files):
        keys = []
    return tuple(by_key.get(k) for k in keys) or (None,) * len(frames)


def _rng(*key: str | int) -> np.random.Generator:
    digest = hashlib.blake2b(json.dumps(key).encode(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def _load_frames(folder: VideoFolder, numbers: Sequence[int]) -> tuple[Video, np.ndarray]:
    """(frames; uint8[T, h, w], the object at each pixel, 0 in frames without a mask). Raises ImageError."""
    frames = [image_files.load_image(folder.frames[i]) for i in numbers]
    stacked = video_files.stack_frames(frames)
    _, height, width, _ = stacked.shape
    owner = np.zeros(stacked.shape[:3], np.uint8)
    for k, i in enumerate(numbers):
        if folder.masks[i] is not None:
            frame_owner = _load_owner(folder, folder.masks[i], *frames[k].shape[:2])
            owner[k] = _resize_owner(frame_owner, height, width)
    return Video(stacked, np.asarray(numbers, np.int64), video_files.RATE, len(folder.frames)), owner


def _resize_owner(owner: np.ndarray, h: int, w: int) -> np.ndarray:
    return owner if owner.shape == (h, w) else cv2.resize(owner, (w, h), interpolation=cv2.INTER_NEAREST)


def _load_owner(folder: VideoFolder, file: Path, h: int, w: int) -> np.ndarray:
    """uint8[h, w], the number of the object at each pixel. Raises ImageError."""
    owner = mask_files.load_numbers(file, [path for path in folder.masks if path is not None])
    if owner.shape != (h, w):
        if max(abs(owner.shape[0] - h), abs(owner.shape[1] - w)) > MISFIT:
            size = f"{owner.shape[1]} x {owner.shape[0]}"
            raise image_files.ImageError(
                f"{file}: expected a mask of the frame's size, {w} x {h} pixels, got {size}; resize one of the two"
            )
        owner = _resize_owner(owner, h, w)
    return owner


def _instances(folder: VideoFolder, owner: np.ndarray, max_objects: int) -> tuple[tuple[Instance, ...], frozenset[str]]:
    """(the objects of uint8[T, h, w] in the order of their numbers, the labels of those that were left out)."""
    sizes = {int(n): int(count) for n, count in zip(*np.unique(owner, return_counts=True)) if n}
    ranking = sorted(sizes, key=lambda n: -sizes[n])
    scene = []
    for i, number in enumerate(sorted(ranking[:max_objects]), 1):
        mask_thw = owner == number
        boxes = np.array([masks.bbox(mask) or (0.0,) * 4 for mask in mask_thw])
        label = folder.labels.get(number, UNNAMED)
        scene.append(Instance(i, label, tuple(boxes[0].tolist()), mask_thw[0], boxes=boxes, masks=mask_thw))
    return tuple(scene), frozenset(folder.labels.get(number, UNNAMED) for number in ranking[max_objects:])


def _dense_example(folder: VideoFolder, k: int, rng: np.random.Generator, source: Davis) -> Example:
    """Query k about a part of a video in which all frames have a mask; about the whole video if k is 0."""
    total = len(folder.frames)
    length = total if k == 0 else int(rng.integers(min(total, max(source.frames, total // 2)), total + 1))
    start = int(rng.integers(total - length + 1))
    numbers = (start + video_files.even_indices(length, source.frames)).tolist()
    video, owner = _load_frames(folder, numbers)
    scene, cut = _instances(folder, owner, source.max_objects)
    query = None
    # Try a level that changes with k, then a low level. If the scene allows neither, ask for objects by their label.
    if scene and not cut and len(numbers) > 1:
        levels = (1 + k % 4, 1 + (k + 1) % 2)
        path = davis_queries.sampled_path(folder.frames, folder.masks, numbers)
        query = davis_queries.temporal_query(rng, source.split, scene, levels, path)
    if query is None:
        return _label_example(folder, k, scene, video, np.ones(len(numbers), bool), cut, rng, source)
    return _example(folder, k, query, scene, video, None, source)


def _sparse_example(folder: VideoFolder, k: int, rng: np.random.Generator, source: Davis) -> Example:
    """Query k about a video in which some frames have a mask: shows these frames, and others between them."""
    annotated = [i for i, file in enumerate(folder.masks) if file is not None]
    numbers = [annotated[i] for i in video_files.even_indices(len(annotated), source.frames)]
    others = [i for i in video_files.even_indices(len(folder.frames), source.frames).tolist() if i not in numbers]
    numbers = sorted(numbers + others[: source.frames - len(numbers)])
    video, owner = _load_frames(folder, numbers)
    scene, cut = _instances(folder, owner, source.max_objects)
    scene = _shown_together(scene)
    labelled = np.array([folder.masks[i] is not None for i in numbers])
    return _label_example(folder, k, scene, video, labelled, cut, rng, source)


def _shown_together(scene: tuple[Instance, ...]) -> tuple[Instance, ...]:
    """Of each label the objects in the one mask that has most of them, numbered anew.

    The masks of a video may be drawn for different objects. Then an object of one mask may be visible in the frame of
    another one without being in its mask, and no frame shows what "every" object of their label is.
    """
    kept = []
    for label in dict.fromkeys(instance.label for instance in scene):
        alike = [instance for instance in scene if instance.label == label]
        present = np.array([instance.boxes[:, 2] > 0 for instance in alike])
        best = present.sum(0).argmax()
        kept += [instance for instance, seen in zip(alike, present[:, best]) if seen]
    kept.sort(key=lambda instance: instance.id)
    return tuple(dataclasses.replace(instance, id=i) for i, instance in enumerate(kept, 1))


def _label_example(
    folder: VideoFolder, k: int, scene: tuple[Instance, ...], video: Video, labelled: np.ndarray, cut: frozenset[str],
    rng: np.random.Generator, source: Davis,
) -> Example:  # fmt: skip
    """A query by label. Of a video with few masks, only frames are scored whose mask has all objects of the answer."""
    if not scene:
        raise image_files.ImageError(
            f"{folder.frames[0].parent}: expected an object in the mask of a frame among {video.index.tolist()}, got "
            "only empty masks; add masks, or remove the video"
        )
    query = davis_queries.label_query(rng, source.split, scene, k, cut)
    if query is None:
        raise image_files.ImageError(
            f"{folder.frames[0].parent}: the video has more objects of each label than data.max_objects ="
            f" {source.max_objects}, of about the same size, so no query names some of them; raise data.max_objects"
        )
    if not all(folder.masks):
        present = np.array([instance.boxes[:, 2] > 0 for instance in scene if instance.id in query.ids])
        labelled = labelled & present.all(0)
    return _example(folder, k, query, scene, video, None if labelled.all() else labelled, source)


def _example(
    folder: VideoFolder, k: int, query: Query, scene: tuple[Instance, ...], video: Video, labelled: np.ndarray | None,
    source: Davis,
) -> Example:  # fmt: skip
    answer = [instance for instance in scene if instance.id in query.ids]
    union = np.any([instance.masks for instance in answer], 0) if answer else np.zeros(video.frames.shape[:3], bool)
    tracks = np.array([instance.boxes for instance in answer], np.float32).reshape(-1, len(video.frames), 4)
    first = tracks[:, 0]
    target = Target(union[0], first[first[:, 2] > first[:, 0]], masks=union, tracks=tracks, labelled=labelled)
    return Example(
        f"davis/{folder.name}/{k}", video.frames[0], query.text, source.task, target, scene, query.ids, query.thought,
        query.category, query.level, (video,), query.program,
    )  # fmt: skip
