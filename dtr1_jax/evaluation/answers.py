"""One answer: its boxes and mask in the picture or in each frame of the video, and the files that show it."""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dtr1_jax import draw, places, plain_text
from dtr1_jax.rewards.answer_regions import (
    RealFrames,
    RealMasks,
    SegmentFn,
    answer_masks,
    masks_of,
    pictures,
    united,
)
from dtr1_jax.twin import text, tracks
from dtr1_jax.twin.coordinates import Canvas, to_unit
from dtr1_jax.twin.schema import Twin
from dtr1_jax.twin.transcript import Transcript
from dtr1_jax.types import POINTING, Example

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class AnswerFrame:
    """The answer in a picture, or in one sampled frame of a video.

    Attributes:
      number: number of the frame in its video, counted from 0; 0 for a picture.
      image: uint8[h, w, 3], sRGB.
      ids: n ids, of the answer's objects that are visible in this frame; None for a box that the answer gives directly.
      boxes: float32[n, 4], the boxes of `ids`, x1,y1,x2,y2 in the unit frame.
      twin_boxes_m4: float32[M, 4], unit frame, the boxes of all objects of the twin; NaN for one that is not visible.
      mask: bool[h, w], the pixels of the answer; None if the caller wants no masks, or if the segmenter failed.
      failed: True if the segmenter failed in this frame.
    """

    number: int
    image: np.ndarray
    ids: tuple[int | None, ...]
    boxes: np.ndarray
    twin_boxes_m4: np.ndarray
    mask: np.ndarray | None = None
    failed: bool = False


def resolve_frames(
    example: Example,
    canvas: Canvas,
    transcript: Transcript,
    segment_fn: SegmentFn | None,
    real: RealMasks | None = None,
) -> list[AnswerFrame]:
    """The answer of a transcript as boxes and a mask in the picture, or in each sampled frame of the video.

    Between the keyframes of its track an object moves as twin/tracks.py interpolates. Boxes that an answer about a
    video gives directly belong to the first frame. A frame without a box of the answer has an empty mask. An unsound
    transcript has no boxes and empty masks, but may have a twin.

    Args:
      example: the query with its picture or video.
      canvas: the coordinates and frame numbers in which the twin is written.
      transcript: the parsed completion.
      segment_fn: turns boxes into masks, frame by frame; None = no masks.
      real: masks of the twin's objects that specialists found; they take the place of the segmenter's.
    """
    numbers = (0,) if example.video is None else map(int, example.video.index)
    boxes_by_id = (
        {o.id: tracks.boxes(o, canvas.frames or (0,)) for o in transcript.twin.objects} if transcript.twin else {}
    )
    answer = transcript.answer if transcript.sound else None
    frames = []
    for k, (number, image) in enumerate(zip(numbers, pictures(example), strict=True)):
        pairs = [(i, boxes_by_id[i][k]) for i in answer.objects or () if i in boxes_by_id] if answer else []
        pairs += [(None, box) for box in answer.boxes or ()] if answer and k == 0 else []
        pairs = [(i, box) for i, box in pairs if box is not None]
        ids, boxes = tuple(i for i, _ in pairs), _unit([box for _, box in pairs], canvas)
        twin_boxes_m4 = _unit([track[k] for track in boxes_by_id.values()], canvas)
        frames.append(AnswerFrame(number, image, ids, boxes, twin_boxes_m4))
    known = {} if real is None else dict(answer_masks(transcript, real))
    return frames if segment_fn is None else _with_masks(frames, segment_fn, known)


def _unit(boxes: list, canvas: Canvas) -> np.ndarray:
    return np.array([[np.nan] * 4 if b is None else to_unit(b, canvas) for b in boxes], np.float32).reshape(-1, 4)


def _with_masks(frames: list[AnswerFrame], segment_fn: SegmentFn, known: Mapping[int, RealFrames]) -> list[AnswerFrame]:
    unknown = [
        np.array([i is None or i not in known or known[i](k) is None for i in f.ids], bool)
        for k, f in enumerate(frames)
    ]
    masks = masks_of([f.image for f in frames], [f.boxes[rows] for f, rows in zip(frames, unknown)], segment_fn)
    masks = [united(mask, known, k, f.image.shape[:2]) for k, (f, mask) in enumerate(zip(frames, masks))]
    return [dataclasses.replace(f, mask=mask, failed=mask is None) for f, mask in zip(frames, masks)]


def write_answer(
    folder: Path, example: Example, canvas: Canvas, transcript: Transcript, frames: list[AnswerFrame],
    notes: dict[str, Any],
) -> None:  # fmt: skip
    """Writes the files of one answer into `folder`, which must exist.

        transcript.txt, answer.json   always; in .txt files, invisible characters are escaped (plain_text.py)
        twin.json                     in the coordinates and the size in which the policy wrote the twin
        twin.png                      the twin over the picture, or over the first frame of the video
        answer.txt                    for tasks that are answered in words
        boxes.json                    for tasks that are answered by objects or boxes, in pixels of the picture
        mask.png, overlay.png         for a picture; the mask (white = answer) at its own size, if there is one
        masks/<frame number>.png, overlay.gif, overlay.mp4    for a video; the last only if PyAV is installed

    For an unsound transcript, of which answer.json has the faults, the missing parts are empty: a twin without objects,
    no boxes, an empty mask, no words.

    Args:
      example, canvas, transcript: as in `resolve_frames`.
      frames: from `resolve_frames`.
      notes: further entries of answer.json.
    """
    video = example.video
    places.write_text(folder / "transcript.txt", plain_text.visible(transcript.text))
    first, names = frames[0], [f"{o.id} {o.label}" for o in transcript.twin.objects] if transcript.twin else []
    twin = transcript.twin or Twin(canvas.size, (), frames=canvas.frames)
    _write_json(folder / "twin.json", {"frame": canvas.frame.value, **json.loads(text.dumps_twin(twin))})
    small = draw.shrink(first.image)
    places.write_bytes(folder / "twin.png", draw.to_png(draw.overlay(small, boxes=first.twin_boxes_m4, names=names)))
    answer = {
        "query": example.query, "task": example.task, "sound": transcript.sound, "transcript": transcript.text,
        "answer": json.loads(text.dumps_answer(transcript.answer, transcript.twin)) if transcript.answer else None,
        "thought": transcript.thought,
        "boxes_pixels": _pixels(first), "segmenter_failed": any(f.failed for f in frames),
        "faults": [dataclasses.asdict(f) for f in transcript.faults],
    }  # fmt: skip
    _write_json(folder / "answer.json", answer | notes)
    if example.task in POINTING:
        _write_json(folder / "boxes.json", _boxes(frames, video is not None))
    else:
        words = transcript.answer.text if transcript.sound else ""
        places.write_text(folder / "answer.txt", plain_text.visible(words) + "\n")
    if video is None:
        if first.mask is not None:
            places.write_bytes(folder / "mask.png", draw.to_png(first.mask))
        places.write_bytes(
            folder / "overlay.png", draw.to_png(draw.overlay(small, marked=first.boxes, mask=first.mask))
        )
        return
    for f in frames:
        if f.mask is not None:
            places.make_folder(folder / "masks")
            places.write_bytes(folder / "masks" / f"{f.number:06d}.png", draw.to_png(f.mask))
    places.write_bytes(folder / "overlay.gif", draw.to_gif(_draw_frames(frames, names), video.sampled_fps))
    try:
        places.write_bytes(folder / "overlay.mp4", draw.to_mp4(_draw_frames(frames, names), video.sampled_fps))
    except ImportError:
        log.info("no overlay.mp4, only overlay.gif: writing it needs PyAV: pip install 'dtr1_jax[video]'")
    except Exception as error:  # encoders differ between builds of PyAV, and so do their errors; the GIF shows the same
        log.warning("no overlay.mp4, only overlay.gif: %s: %s", type(error).__name__, error)


def _draw_frames(frames: list[AnswerFrame], names: list[str]) -> Iterator[np.ndarray]:
    """Each frame, uint8[h, w, 3], with the twin's objects in their colours, their paths so far, and the answer."""
    middle_mk2 = np.stack([(f.twin_boxes_m4[:, :2] + f.twin_boxes_m4[:, 2:]) / 2 for f in frames], 1)
    for k, f in enumerate(frames):
        yield draw.overlay(
            draw.shrink(f.image), boxes=f.twin_boxes_m4, names=names, mask=f.mask, marked=f.boxes,
            trails=middle_mk2[:, : k + 1], caption=f"frame {f.number}",
        )  # fmt: skip


def _pixels(frame: AnswerFrame) -> list[list[float]]:
    height, width = frame.image.shape[:2]
    return np.round(frame.boxes.astype(np.float64) * [width, height, width, height], 1).tolist()


def _boxes(frames: list[AnswerFrame], is_video: bool) -> dict[str, Any]:
    height, width = frames[0].image.shape[:2]
    rows = [[{"id": i, "box": box} for i, box in zip(f.ids, _pixels(f))] for f in frames]
    if not is_video:
        return {"size": [width, height], "boxes": rows[0]}
    return {"size": [width, height], "frames": [{"frame": f.number, "boxes": r} for f, r in zip(frames, rows)]}


def _write_json(path: Path, value: dict[str, Any]) -> None:
    places.write_text(path, json.dumps(value, indent=2) + "\n")
