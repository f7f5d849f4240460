"""What a policy answered about a picture or each frame of a video, and the files that say it."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dtr1_jax import draw
from dtr1_jax.rewards.resolve import SegmentFn, masks_of, pictures
from dtr1_jax.twin import text, tracks
from dtr1_jax.twin.coordinates import Canvas, to_unit
from dtr1_jax.twin.schema import Twin
from dtr1_jax.twin.transcript import Transcript
from dtr1_jax.types import POINTING, Example

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Frame:
    """What was answered about a picture, or about one of the sampled frames of a video.

    Attributes:
      number: of the frame in its video; 0 of a picture.
      pixels: uint8[h, w, 3].
      ids: of the objects that the answer names and that are to be seen here; None in the place of each box that it
        names itself.
      boxes: float32[n, 4], unit frame, theirs.
      twin_m4: float32[M, 4], unit frame, of all objects of the twin; NaN where one is not to be seen.
      mask: bool[h, w], the pixels of the answer; None where no mask was asked for, or the segmenter failed.
      failed: True where it did.
    """

    number: int
    pixels: np.ndarray
    ids: tuple[int | None, ...]
    boxes: np.ndarray
    twin_m4: np.ndarray
    mask: np.ndarray | None = None
    failed: bool = False


def resolve(example: Example, canvas: Canvas, parsed: Transcript, segment_fn: SegmentFn | None) -> list[Frame]:
    """The answer in the picture, or in each frame of the video; `canvas` has the numbers by which the twin knows them.

    Objects move between the keyframes of their tracks as twin/tracks.py says; boxes that the answer of a video names
    itself are those of its first frame. The segmenter is asked about each frame by itself, where the answer has a box
    there; elsewhere the mask is empty. An unsound transcript has no boxes and empty masks, but may have a twin.

    Args:
      segment_fn: boxes -> mask; None = no masks are wanted.
    """
    numbers = (0,) if example.video is None else map(int, example.video.index)
    things = {o.id: tracks.boxes(o, canvas.frames or (0,)) for o in parsed.twin.objects} if parsed.twin else {}
    answer = parsed.answer if parsed.sound else None
    found = []
    for k, (number, pixels) in enumerate(zip(numbers, pictures(example), strict=True)):
        named = [(i, things[i][k]) for i in answer.objects or () if i in things] if answer else []
        named += [(None, box) for box in answer.boxes or ()] if answer and k == 0 else []
        named = [(i, box) for i, box in named if box is not None]
        twin = [things[i][k] for i in things]
        found.append(
            Frame(number, pixels, tuple(i for i, _ in named), _unit([b for _, b in named], canvas), _unit(twin, canvas))
        )
    return found if segment_fn is None else _masked(found, segment_fn)


def _unit(boxes: list, canvas: Canvas) -> np.ndarray:
    return np.array([[np.nan] * 4 if b is None else to_unit(b, canvas) for b in boxes], np.float32).reshape(-1, 4)


def _masked(frames: list[Frame], segment_fn: SegmentFn) -> list[Frame]:
    masks = masks_of([f.pixels for f in frames], [f.boxes for f in frames], segment_fn)
    return [dataclasses.replace(f, mask=mask, failed=mask is None) for f, mask in zip(frames, masks)]


def write(
    folder: Path, example: Example, canvas: Canvas, parsed: Transcript, frames: list[Frame], said: dict[str, Any]
) -> None:
    """The files of one answer, into a folder that is there.

    Of all: transcript.txt; answer.json with `said` in it; twin.json (in the frame and size that the policy wrote) and
    twin.png (its first frame, drawn). Of words answer.txt; of objects and boxes boxes.json, in pixels of the picture.
    Of a picture mask.png, where masks were asked for (white = answer, at the picture's own size), and overlay.png. Of a
    video masks/<number of the frame>.png, overlay.gif and, with PyAV, overlay.mp4. What an unsound transcript lacks is
    written as nothing: a twin without objects, no boxes, an empty mask, no words; answer.json says that it is unsound.
    """
    video = example.video
    (folder / "transcript.txt").write_text(parsed.text, "utf-8", errors="replace")
    first, names = frames[0], [f"{o.id} {o.label}" for o in parsed.twin.objects] if parsed.twin else []
    twin = parsed.twin or Twin(canvas.size, (), frames=canvas.frames)
    _write_json(folder / "twin.json", {"frame": canvas.frame.value, **json.loads(text.dumps_twin(twin))})
    small = draw.shrink(first.pixels)
    (folder / "twin.png").write_bytes(draw.to_png(draw.overlay(small, boxes=first.twin_m4, names=names)))
    answer = {
        "query": example.query, "task": example.task, "sound": parsed.sound,
        "answer": json.loads(text.dumps_answer(parsed.answer)) if parsed.answer else None, "thought": parsed.thought,
        "boxes_pixels": _pixels(first), "segmenter_failed": any(f.failed for f in frames),
        "faults": [dataclasses.asdict(f) for f in parsed.faults],
    }  # fmt: skip
    _write_json(folder / "answer.json", answer | said)
    if example.task in POINTING:
        _write_json(folder / "boxes.json", _boxes(frames, video is not None))
    else:
        words = parsed.answer.text if parsed.sound else ""
        (folder / "answer.txt").write_text(words + "\n", "utf-8", errors="replace")
    if video is None:
        if first.mask is not None:
            (folder / "mask.png").write_bytes(draw.to_png(first.mask))
        (folder / "overlay.png").write_bytes(draw.to_png(draw.overlay(small, marked=first.boxes, mask=first.mask)))
        return
    for f in frames:
        if f.mask is not None:
            (folder / "masks").mkdir(exist_ok=True)
            (folder / "masks" / f"{f.number:06d}.png").write_bytes(draw.to_png(f.mask))
    (folder / "overlay.gif").write_bytes(draw.to_gif(_drawn(frames, names), video.sampled_fps))
    try:
        (folder / "overlay.mp4").write_bytes(draw.to_mp4(_drawn(frames, names), video.sampled_fps))
    except ImportError:
        log.info("no overlay.mp4, only overlay.gif: writing it needs PyAV: pip install 'dtr1_jax[video]'")
    except Exception as error:  # of an encoder, which differs from build to build; the GIF shows the same
        log.warning("no overlay.mp4, only overlay.gif: %s: %s", type(error).__name__, error)


def _drawn(frames: list[Frame], names: list[str]) -> Iterator[np.ndarray]:
    """uint8[h, w, 3] of each frame: the twin's objects in their colours, where they came from, and the answer."""
    middle_mk2 = np.stack([(f.twin_m4[:, :2] + f.twin_m4[:, 2:]) / 2 for f in frames], 1)
    for k, f in enumerate(frames):
        yield draw.overlay(
            draw.shrink(f.pixels), boxes=f.twin_m4, names=names, mask=f.mask, marked=f.boxes,
            trails=middle_mk2[:, : k + 1], caption=f"frame {f.number}",
        )  # fmt: skip


def _pixels(frame: Frame) -> list[list[float]]:
    height, width = frame.pixels.shape[:2]
    return np.round(frame.boxes.astype(np.float64) * [width, height, width, height], 1).tolist()


def _boxes(frames: list[Frame], video: bool) -> dict[str, Any]:
    height, width = frames[0].pixels.shape[:2]
    rows = [[{"id": i, "box": box} for i, box in zip(f.ids, _pixels(f))] for f in frames]
    if not video:
        return {"size": [width, height], "boxes": rows[0]}
    return {"size": [width, height], "frames": [{"frame": f.number, "boxes": r} for f, r in zip(frames, rows)]}


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", "utf-8")
