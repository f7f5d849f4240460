"""What the benchmarks of referring and reasoning video segmentation share: frames in folders, masks, one query each.

Videos are listed in a JSON file {"videos": {NAME: {"frames": [...], "expressions": {...}}}}, their frames are
JPEGImages/NAME/FRAME.jpg. Nothing is decoded until an example is indexed; then the frames that the policy sees are
read, evenly spaced among those that the benchmark scores. Evaluation reads the others one at a time (types.WholeVideo).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dtr1_jax.data import image_files, json_files, video_files
from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import benchmark, coco_records, file_names, mask_lists
from dtr1_jax.data.readers.benchmark import Benchmark, Photo, Query
from dtr1_jax.data.readers.jsonl_fields import is_text
from dtr1_jax.twin import masks
from dtr1_jax.types import Example, FrameTruth, Target, Video

SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG")  # of frames, the usual one first
VOID = 255  # in palette PNGs, pixels that count neither way


class ObjectMasks(Protocol):
    """The masks of one object, or of several that a query asks for together."""

    def mask(self, k: int) -> np.ndarray | None:
        """bool[h, w] in frame k of the video; None where the object is not there. Raises ImageError."""


@dataclasses.dataclass(frozen=True)
class ListedMasks:
    """Masks in a list of RLEs (mask_lists.py), one for each of the `count` frames of the video."""

    file: Path
    place: mask_lists.Place
    count: int

    def mask(self, k: int) -> np.ndarray | None:
        """As ObjectMasks says."""
        rows = mask_lists.read_list(self.file, self.place)
        where = f"{self.file}: the masks at byte {self.place[0]}"
        if len(rows) != self.count:
            raise ImageError(
                f"{where}: expected one for each of the {self.count} frames, got {len(rows)}; fetch the files again"
            )
        return mask_lists.mask_of(rows[k], where)


@dataclasses.dataclass(frozen=True)
class PaletteMasks:
    """Masks in PNG files, one for each frame: the pixels of one number, or all above 0.

    Attributes:
      files: the file of each frame, or None.
      number: of the object; None = the file shows the object alone.
    """

    files: tuple[Path | None, ...]
    number: int | None = None

    def mask(self, k: int) -> np.ndarray | None:
        """As ObjectMasks says."""
        values = self._values(k)
        return None if values is None else (values > 0 if self.number is None else values == self.number)

    def void(self, k: int) -> np.ndarray | None:
        """bool[h, w], pixels of VOID in frame k; None where there are none."""
        values = self._values(k) if self.number is not None else None
        return None if values is None or not (values == VOID).any() else values == VOID

    def _values(self, k: int) -> np.ndarray | None:
        file = self.files[k]
        if file is None:
            return None
        values, kind = image_files.load_values(file)
        if kind in ("JPEG", "MPO") or (values.ndim == 3 and self.number is not None):
            got = "a JPEG" if kind in ("JPEG", "MPO") else "colours"
            raise ImageError(f"{file}: expected a palette or grey PNG of object numbers, got {got}; fetch it again")
        return values[..., :3].max(-1) if values.ndim == 3 else values


@dataclasses.dataclass(frozen=True)
class QueriedVideo:
    """The video of a query with its masks: a types.WholeVideo.

    Attributes:
      folder: of the frames.
      names: the names of all frames without suffix, in order.
      suffix: of their files.
      numbers: the places in `names` of the frames that are scored, ascending.
      objects: the masks of the objects that the query asks for; () = no object fits.
      foreground: the masks of all annotated objects, or None.
    """

    folder: Path
    names: tuple[str, ...]
    suffix: str
    numbers: tuple[int, ...]
    objects: tuple[ObjectMasks, ...]
    foreground: ObjectMasks | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of all frames."""
        return tuple(self.folder / f"{name}{self.suffix}" for name in self.names)

    def frame(self, k: int) -> np.ndarray:
        """As types.WholeVideo says."""
        return image_files.load_image(self.folder / f"{self.names[self.numbers[k]]}{self.suffix}")

    def truth(self, k: int) -> FrameTruth:
        """As types.WholeVideo says."""
        number = self.numbers[k]
        target, ignore = None, None
        for item in self.objects:
            mask = item.mask(number)
            if mask is not None:
                target = mask if target is None else target | self._fitting(mask, target.shape, number)
            if isinstance(item, PaletteMasks):
                ignore = item.void(number)
        foreground = None if self.foreground is None else self.foreground.mask(number)
        if target is None:
            target = np.zeros(self._shape(number) if foreground is None else foreground.shape, bool)
        if self.foreground is not None:
            foreground = target if foreground is None else self._fitting(foreground, target.shape, number)
        return FrameTruth(target, ignore, foreground)

    def _shape(self, number: int) -> tuple[int, int]:
        width, height, _ = image_files.stored_size(self.folder / f"{self.names[number]}{self.suffix}")
        return height, width

    def _fitting(self, mask: np.ndarray, shape: tuple[int, ...], number: int) -> np.ndarray:
        if mask.shape != shape:
            raise ImageError(
                f"{self.folder}: frame {self.names[number]}: expected masks of one size, {shape[1]} x {shape[0]} "
                f"pixels, got {mask.shape[1]} x {mask.shape[0]}; fetch the masks again"
            )
        return mask


@dataclasses.dataclass(frozen=True)
class Listing:
    """One video of a file of expressions: its name, the folder and names of its frames, their suffix, its record."""

    name: str
    folder: Path
    names: tuple[str, ...]
    suffix: str
    record: dict[str, Any]


def read_videos(file: Path, frames: Sequence[Path], faults: coco_records.Faults) -> Iterator[Listing]:
    """The videos of a file of expressions. Raises DataError: it cannot be read, or is of another form.

    Args:
      file: the JSON file.
      frames: the folders that may hold a folder of frames for each video.
      faults: counts the videos that cannot be used.
    """
    value = json_files.read_json(file)
    videos = value.get("videos") if isinstance(value, dict) else None
    if not isinstance(videos, dict):
        raise DataError(f'{file}: expected {{"videos": {{NAME: ...}}}}, got none; take the benchmark\'s own file')
    for name, record in videos.items():
        names = record.get("frames") if isinstance(record, dict) else None
        if not _is_path(name) or not isinstance(names, list) or not names or not all(map(_is_part, names)):
            faults.add("videos without a usable name and frames", name)
            continue
        if all(name.endswith(SUFFIXES) for name in names):  # some mirrors list the files in place of the names
            names = [name.rpartition(".")[0] for name in names]
        if len(set(names)) < len(names):
            faults.add("videos that list a frame twice", name)
            continue
        folder = next((f / name for f in frames if file_names.is_folder(f / name)), frames[0] / name)
        yield Listing(name, folder, tuple(names), frame_suffix(folder, names[0]), record)


def frame_suffix(folder: Path, name: str) -> str:
    """The suffix of the frame with a name; the usual one where there is no such file."""
    return next((s for s in SUFFIXES if file_names.is_file(folder / f"{name}{s}")), SUFFIXES[0])


def make_query(
    name: str, split: str, video: Listing, number: Any, text: Any, whole: QueriedVideo, tags: Sequence[str] = ()
) -> Query | None:
    """The query of one expression; None where it has no text."""
    if not is_text(text):
        return None
    photo = Photo((f"{video.names[0]}{video.suffix}",), (video.folder,))
    return Query(f"{name}/{split}/{video.name}/{number}", text.strip(), photo, tags=tuple(tags), more=whole)


def open_videos(
    name: str, root: Path, split: str, task: str, queries: Sequence[Query], faults: coco_records.Faults,
    counts: tuple[int | None, int | None], layout: str,
) -> Benchmark:  # fmt: skip
    """The source of these queries, after warnings of what was left out and of unusual numbers.

    `counts` are the published numbers of videos and of queries. Raises DataError as benchmark.check_files.
    """
    source = Benchmark(name, root, split, task, tuple(queries), load)
    return benchmark.checked_videos(
        source, faults, counts, layout, lambda query: query.more.folder, benchmark.photo_file, "picture"
    )


def load(source: Benchmark, query: Query) -> Example:
    """The example of a query with the frames that the policy sees. Raises ImageError."""
    whole: QueriedVideo = query.more
    places = video_files.even_indices(len(whole.numbers), source.frames).tolist()
    frames = video_files.stack_frames([whole.frame(k) for k in places])
    shape = frames.shape[1:3]
    numbers = [whole.numbers[k] for k in places]
    rows = [_object_frames(item, numbers, shape, whole) for item in whole.objects]
    rows = [mask_thw for mask_thw in rows if mask_thw.any()]
    union = np.zeros((len(numbers), *shape), bool)
    for mask_thw in rows:
        union |= mask_thw
    tracks = np.array([[masks.bbox(mask) or (0.0,) * 4 for mask in mask_thw] for mask_thw in rows], np.float32)
    tracks = tracks.reshape(-1, len(numbers), 4)
    first = tracks[:, 0]
    ignore = whole.truth(places[0]).ignore
    target = Target(union[0], first[first[:, 2] > first[:, 0]], ignore, masks=union, tracks=tracks)
    video = Video(frames, np.asarray(numbers, np.int64), video_files.RATE, len(whole.names))
    return Example(query.uid, frames[0], query.text, source.task, target, visuals=(video,), whole=whole)


def _object_frames(item: ObjectMasks, numbers: list[int], shape: tuple[int, int], whole: QueriedVideo) -> np.ndarray:
    """bool[T, h, w], the masks of an object in these frames. Raises ImageError."""
    found = np.zeros((len(numbers), *shape), bool)
    for t, number in enumerate(numbers):
        mask = item.mask(number)
        if mask is None:
            continue
        if mask.shape != shape:
            raise ImageError(
                f"{whole.folder}: frame {whole.names[number]}: expected a mask of the frame's size, {shape[1]} x "
                f"{shape[0]} pixels, got {mask.shape[1]} x {mask.shape[0]}; fetch frames and masks again"
            )
        found[t] = mask
    return found


def _is_path(name: Any) -> bool:
    """Whether a name is a path below its folder, in one spelling."""
    return isinstance(name, str) and file_names.stays_inside(name) and not set(name) & set("\\%") and name != "."


def _is_part(name: Any) -> bool:
    """Whether a name is one part of such a path."""
    return _is_path(name) and "/" not in name
