"""What `--mode=perceive` looks at: a folder of pictures, a video, or the examples of a data set."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dtr1_jax import config, places
from dtr1_jax.data import image_files, json_files, picture_places, sources, video_files
from dtr1_jax.data.mixture import Mixture
from dtr1_jax.data.readers.jsonl import FRAMES
from dtr1_jax.modes import perceive_files, perceive_journal
from dtr1_jax.run import atomic, local_copy
from dtr1_jax.specialists import phrase_classes
from dtr1_jax.types import Example, Video

COPY = "twins.jsonl names its pictures by their path, so copy them to this machine first"

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm")
SHEET = "sheet.png"
PICTURES = "pictures"  # folder in --out for pictures that lie in no file


@dataclasses.dataclass(frozen=True)
class Item:
    """One picture or video to look at.

    Attributes:
      uid: unique among the inputs.
      visual: the picture uint8[h, w, 3] or the video.
      fields: "image", or "video" and "frames", as a JSON line in --out names them.
      example: the example of a data set; None = a picture or video without a query.
      split: its split; "" = none.
    """

    uid: str
    visual: np.ndarray | Video
    fields: dict[str, Any]
    example: Example | None = None
    split: str = ""


@dataclasses.dataclass(frozen=True)
class Inputs:
    """A sequence of inputs.

    Attributes:
      name: in words, the same in every run on the same inputs.
      count: how many there are.
      load: index -> Item. Raises ImageError for a picture that cannot be used.
      files: perceive_files.digests of the annotation files of a data set; {} = it has none.
      known: index -> (the uid of the Item, perceive_files.digests of its files), where these are known without loading
        it; else None.
    """

    name: str
    count: int
    load: Callable[[int], Item]
    files: dict[str, str] = dataclasses.field(default_factory=dict)
    known: Callable[[int], tuple[str, dict[str, str]]] | None = None


def open_inputs(c: config.Config, images: str | None, video: str | None, out: Path) -> Inputs:
    """The inputs that the flags name: --images, --video, or else the data set of the settings, both splits.

    Raises ConfigError: a folder without pictures, both flags, or a generated data set without specialists.examples.
    Raises DataError as sources.open_source does.
    """
    if images and video:
        raise config.ConfigError("--images, --video: expected one of them, got both")
    if images:
        return _folder(places.here(images, "--images", COPY), out)
    if video:
        path, frames = places.here(video, "--video", COPY), c.data.frames or FRAMES
        if not path.exists():
            raise config.ConfigError(f"--video: expected a video file or a folder of frames, got {path}: no such file")
        return _one_video(path, frames, out)
    places.here(c.data.root, "config.data.root", COPY)
    return _data_set(c, out)


def check_out(data: config.Data, images: str | None, video: str | None, out: Path) -> None:
    """Raises ConfigError if what the run writes into `out` would be read as an input, or would replace one."""
    for flag, folder in (("--images", images), ("--video", video)):
        if folder and Path(folder).resolve() == out.resolve():
            raise config.ConfigError(
                f"--out={out}: expected another folder than {flag}, because {SHEET} in it would be an input of the "
                "next run, got the same; choose another --out"
            )
    twins = out / perceive_journal.TWINS
    if not (images or video) and data.root and Path(data.root).resolve() == twins.resolve():
        raise config.ConfigError(
            f"--out={out}: expected another folder than that of config.data.root, because {twins.name} would be "
            "replaced, got the same; choose another --out"
        )


def _folder(folder: Path, out: Path) -> Inputs:
    try:
        files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES and file.name[0] != ".")
    except OSError as error:
        raise config.ConfigError(f"--images: {folder}: cannot be read ({error.strerror}); expected a folder") from None
    if not files:
        raise config.ConfigError(f"--images: expected a folder with pictures ({', '.join(SUFFIXES)}), got {folder}")

    def load(index: int) -> Item:
        image = image_files.load_image(files[index])
        return Item(files[index].name, image, {"image": _relative(files[index], out)})

    def known(index: int) -> tuple[str, dict[str, str]]:
        return files[index].name, perceive_files.digests(files[index : index + 1], folder)

    return Inputs(f"{len(files)} pictures of {folder.name}", len(files), load, known=known)


def _one_video(path: Path, frames: int, out: Path) -> Inputs:
    try:
        files = video_files.list_frames(path) if path.is_dir() else [path]
    except image_files.ImageError as error:
        raise config.ConfigError(f"--video: {error}") from None

    def load(_: int) -> Item:
        video = video_files.load_evenly(path, frames)
        return Item(path.name, video, {"video": _relative(path, out), "frames": video.index.tolist()})

    def known(_: int) -> tuple[str, dict[str, str]]:
        return path.name, perceive_files.digests(files, path)

    return Inputs(f"video {path.name}, {frames} frames", 1, load, known=known)


def _data_set(c: config.Config, out: Path) -> Inputs:
    splits = list(dict.fromkeys((c.data.train_split, c.data.eval_split)))
    opened = [(split, sources.open_source(c.data, split)) for split in splits]
    most = c.specialists.examples
    if not most and any(len(source) > 10**6 for _, source in opened):
        raise config.ConfigError(
            f"config.specialists.examples: expected a number above 0 for data.source={c.data.source}, whose examples "
            "never end, got 0"
        )
    counts = [min(len(source), most) if most else len(source) for _, source in opened]

    def load(index: int) -> Item:
        for (split, source), count in zip(opened, counts):
            if index < count:
                return _example(source, index, split, out)
            index -= count
        raise IndexError(index)

    name = "; ".join(repr(source) for _, source in opened)
    return Inputs(name, sum(counts), load, perceive_files.of_data_set(c.data, out))


def _example(source: sources.Source, index: int, split: str, out: Path) -> Item:
    """Example `index` of a source. In a mixture the examples of several tasks may share a uid, so the task and the
    number of the part are added to it.
    """
    example = source[index]
    if isinstance(source, Mixture):
        example = dataclasses.replace(example, uid=f"{example.uid}/{example.task}/{source.places.at(index)[0]}")
    visual = example.video or example.image
    fields = picture_places.place(source, index, example)
    fields = _copied(example, out) if fields is None else dict(fields)
    if "video" in fields:
        fields["video"] = _relative(fields["video"], out)
    else:
        names = [_relative(path, out) for path in fields["image"]]
        fields["image"] = names[0] if len(names) == 1 else names
    return Item(example.uid, visual, fields, example, split)


def _copied(example: Example, out: Path) -> dict[str, Any]:
    """The fields of pictures that lie in no file, which are written into a folder of --out."""
    name = "".join(c if c.isalnum() or c in "-_" else "_" for c in example.uid)[:100]
    if name != example.uid:  # "a/b" and "a_b" are two pictures
        name += "-" + hashlib.blake2b(example.uid.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    folder = out / PICTURES
    if example.video is not None:
        frames = [folder / name / f"{number:05d}.png" for number in range(len(example.video.frames))]
        for path, frame in zip(frames, example.video.frames):
            _write(path, frame)
        return {"video": folder / name, "frames": list(range(len(frames)))}
    pictures = [visual for visual in (example.visuals or (example.image,)) if not isinstance(visual, Video)]
    paths = [folder / (f"{name}.png" if len(pictures) == 1 else f"{name}-{k}.png") for k in range(len(pictures))]
    for path, picture in zip(paths, pictures):
        _write(path, picture)
    return {"image": paths}


def _write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        with atomic.replacing(path) as partial:
            Image.fromarray(np.ascontiguousarray(picture)).save(partial, "PNG")


def _relative(path: str | Path, out: Path) -> str:
    return Path(os.path.relpath(Path(path).resolve(), out.resolve())).as_posix()


def phrases(c: config.Specialists, classes: Sequence[str] | None) -> tuple[str, ...]:
    """What to look for: the setting, a line of the file that it names each, or all classes of the detector.

    Raises ConfigError: phrases that can be no label, none for a detector that has no classes, or only such as mean no
    class of the detector.
    """
    file = local_copy.fetch(c.phrases, "config.specialists.phrases")
    if c.phrases and file.is_file():
        words = file.read_text("utf-8", errors="replace").splitlines()
    else:
        words = c.phrases.split(",") if c.phrases else list(classes or ())
    found = tuple(dict.fromkeys(" ".join(word.split()) for word in words if word.strip()))
    if not found and classes:
        raise config.ConfigError(
            "config.specialists.phrases: expected phrases with commas between, or a file with a phrase in each line, "
            f"got none in {c.phrases[:80]!r}; leave it empty to look for all {len(classes)} classes of the detector"
        )
    if not found:
        raise config.ConfigError(
            "config.specialists.phrases: expected what to look for, because the detector has no classes of its own, "
            "such as dog,red car or a file with a phrase in each line, got none"
        )
    bad = next((word for word in found if not json_files.is_name(word)), None)
    if bad is not None:
        raise config.ConfigError(
            f"config.specialists.phrases: expected 1 to 64 printable characters without <, got {bad[:80]!r}"
        )
    if classes and not any(phrase_classes.classes_of(word, classes) for word in found):
        raise config.ConfigError(
            f"config.specialists.phrases: expected some of the {len(classes)} classes of the detector, such as "
            f"{', '.join(classes[:3])}, got {', '.join(found[:5])}; leave it empty to look for all, or take a detector "
            "that knows any phrase, such as OWLv2"
        )
    return found
