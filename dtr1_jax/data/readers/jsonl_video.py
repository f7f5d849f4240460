"""Lines of a JSON lines file that are about a video.

    {"video": "videos/1.mp4", "query": "what rolls away", "tracks": [{"0": [4, 6, 18, 22], "40": [90, 6, 104, 22]}]}

Fields of a line, beside those that jsonl.py explains:
    video     path of a video file or a folder of frames, relative to the file or absolute
    The target, in pixels of the upright frames by frame number, from 0 on, is exactly one of these fields:
    tracks    [{"0": [x1, y1, x2, y2], "7": null, ...}, ...], one for each object: boxes at keyframes, linear between
              (twin/tracks.py), null = out of sight from there on; the target masks are the filled boxes
    masks     {"0": path of a PNG, ...}; all pixels above 0 are one object
    rles      {"0": RLE of COCO, ...}, or a list of RLEs and nulls for each frame, in which item k is object k
    answers   as for a picture
    These fields are optional:
    frames    numbers of the frames to show. Default: with masks and rles, the frames that have one; otherwise frames at
              even distances from the first to the last. Without this field, at most data.frames frames are shown
    objects   as for a picture; an object that moves has a "track" in place of its "box"

An empty list of tracks, or empty masks, say that nothing in the video fits the query. Frames without a mask are not
scored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtr1_jax.data import image_files, mask_files, video_files
from dtr1_jax.data.readers import jsonl_scene
from dtr1_jax.data.readers.jsonl_fields import (  # fmt: skip
    ANSWERS,
    Line,
    answer_ids,
    are_answers,
    are_rles,
    check_outside,
    fill_box,
    has_label,
    is_box,
    keep_largest,
    keep_objects,
    unit_box,
    whole_rle,
)
from dtr1_jax.data.readers.jsonl_fields import is_text as is_path
from dtr1_jax.twin import masks, tracks
from dtr1_jax.types import Example, Instance, Target, Video

FRAMES = 8  # frames of a video that are shown, if neither the line nor the settings give a number
MAX_FRAMES = 256  # frames that a line may name
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")

Keyframes = Sequence[tuple[int, Sequence[float] | None]]  # (frame number, box in pixels or None), ascending
Track = tuple[np.ndarray, np.ndarray]  # float64[T, 4] boxes in the unit frame and bool[T, h, w] masks of one object


def are_frames(value: Any) -> bool:
    """Whether the value is a list of at most MAX_FRAMES ascending frame numbers."""
    numbers = isinstance(value, list) and len(value) <= MAX_FRAMES and all(type(v) is int for v in value)
    return numbers and all(0 <= v < 10**9 for v in value) and sorted(set(value)) == value


def is_object(value: Any) -> bool:
    """Whether the value is an object of a video: a label, a box or a track and, if any, attributes."""
    return has_label(value) and ("box" in value) != ("track" in value) and (
        is_box(value["box"]) if "box" in value else _is_track(value["track"])
    )  # fmt: skip


def _by_frame(value: Any, sound: Callable[[Any], bool]) -> bool:
    keys = isinstance(value, dict) and bool(value) and all(_NUMBER.fullmatch(key) for key in value)
    return keys and all(map(sound, value.values()))


def _is_track(value: Any) -> bool:
    if not _by_frame(value, lambda box: box is None or is_box(box)):
        return False
    numbers, boxes = [int(key) for key in value], list(value.values())
    return numbers == sorted(set(numbers)) and None not in (boxes[0], boxes[-1])


def _are_tracks(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_track, value))


def _are_masks(value: Any) -> bool:
    return _by_frame(value, is_path)


def _are_rles(value: Any) -> bool:
    return _by_frame(value, lambda rles: are_rles([r for r in rles if r is not None] if type(rles) is list else rles))


# Field of the target: (its check, the expected value for messages).
FORMS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "tracks": (_are_tracks, "a list of {frame number: [x1, y1, x2, y2] or null}, ascending, with boxes at both ends"),
    "masks": (_are_masks, "an object of frame numbers and paths"),
    "rles": (_are_rles, "an object of frame numbers and RLEs with size and counts, or lists of such RLEs"),
    "answers": (are_answers, ANSWERS),
}


def track_boxes(tracks_: list[dict]) -> list[Sequence[float]]:
    """The boxes of all keyframes of checked tracks."""
    return [box for track in tracks_ for box in track.values() if box is not None]


def parse_target(form: str, value: Any, path: Callable[[str], Path]) -> Any:
    """The checked value of a target's field, as `video_example` takes it in Line.target.

    Args:
      form: the field, a key of FORMS.
      value: its value.
      path: finds the file that a name in the line stands for.

    Returns a tuple of answers; a tuple of Keyframes; or a dict of frame number -> path or RLEs.
    """
    if form == "answers":
        return tuple(value)
    if form == "tracks":
        return tuple(_keyframes(track) for track in value)
    return {int(key): path(item) if form == "masks" else item for key, item in value.items()}


def _keyframes(value: dict) -> Keyframes:
    return tuple((int(key), box) for key, box in value.items())


def video_example(line: Line, max_objects: int, frames: int = FRAMES, by_truth: bool = True) -> Example:
    """Reads the video of a line and makes its example.

    Args:
      line: the line.
      max_objects: most objects of its scene.
      frames: most frames to show if the line does not name them.
      by_truth: whether the objects of target and answer stay first where there are too many, or only the largest.

    Raises ImageError: the video cannot be read, a mask or box does not fit it, or parts of the line contradict another.
    """
    video = _load_frames(line, frames)
    t, h, w = video.frames.shape[:3]
    numbers = video.index.tolist()
    try:
        if line.form in ("tracks", "answers"):
            tracked = line.target if line.form == "tracks" else ()
            _check_time(tracked, video.total)
            check_outside(line.location, [box for track in tracked for _, box in track if box], h, w)
            objects, labelled = [_fill_track(track, numbers, h, w) for track in tracked], None
        else:
            objects, labelled = _load_masks(line, numbers, h, w)
        target_boxes = [boxes for boxes, _ in objects] if line.form == "tracks" else []
        first = np.array(target_boxes, np.float32) if by_truth else None
        scene, kept, hidden = _scene(line, first, numbers, h, w, max_objects)
    except ValueError as error:
        raise image_files.ImageError(f"{line.location}: {error}") from None
    if line.form == "answers":
        no_mask, no_boxes = np.zeros((h, w), bool), np.zeros((0, 4), np.float32)
        target = Target(no_mask, no_boxes, references=line.target, choices=line.choices)
        example = Example(
            line.uid, video.frames[0], line.query, line.task, target, scene, visuals=(video,), hidden_objects=hidden
        )
        return jsonl_scene.completed(example, line, kept)
    objects = [(boxes, mask_thw) for boxes, mask_thw in objects if mask_thw.any()]
    boxes = np.array([boxes for boxes, _ in objects], np.float32).reshape(-1, t, 4)
    union = np.zeros((t, h, w), bool)
    for _, mask_thw in objects:
        union |= mask_thw
    first = boxes[:, 0]
    target = Target(union[0], first[first[:, 2] > first[:, 0]], masks=union, tracks=boxes, labelled=labelled)
    ids = answer_ids(boxes, scene) if line.form == "tracks" else None
    example = Example(
        line.uid, video.frames[0], line.query, line.task, target, scene, ids, visuals=(video,), hidden_objects=hidden
    )
    try:
        return jsonl_scene.completed(example, line, kept)
    except ValueError as error:
        raise image_files.ImageError(f"{line.location}: {error}") from None


def _load_frames(line: Line, frames: int) -> Video:
    if line.frames:
        return video_files.load_numbered(line.video, line.frames)
    if line.form in ("tracks", "answers"):
        return video_files.load_evenly(line.video, frames)
    numbers = sorted(line.target)
    return video_files.load_numbered(line.video, [numbers[i] for i in video_files.even_indices(len(numbers), frames)])


def _check_time(tracked: Sequence[Keyframes], total: int) -> None:
    """Raises ValueError if a track begins after the video's end: its target would be empty, which means "no object"."""
    for i, track in enumerate(tracked):
        if track[0][0] >= total:
            raise ValueError(
                f"tracks[{i}]: begins at frame {track[0][0]}, but the video's last is {total - 1}; count frames from 0"
            )


def _fill_track(track: Keyframes, numbers: Sequence[int], h: int, w: int) -> Track:
    """A track as a box and a mask (the filled box) for each frame; 0 and False in frames where it is not visible.

    Raises ValueError if all keyframes are outside the picture.
    """
    inside = [box for _, box in track if box is not None and _overlaps(box, h, w)]
    if not inside:
        raise ValueError(f"expected tracks in the picture of {w} x {h} pixels, got {dict(track)}"[:300])
    boxes, mask_thw = np.zeros((len(numbers), 4)), np.zeros((len(numbers), h, w), bool)
    for k, number in enumerate(numbers):
        box = tracks.interpolate(track, number)
        if box is not None and _overlaps(box, h, w):
            boxes[k], mask_thw[k] = unit_box(box, h, w), fill_box(box, h, w)
    return boxes, mask_thw


def _overlaps(box: Sequence[float], h: int, w: int) -> bool:
    return box[0] < w and box[1] < h and box[2] > 0 and box[3] > 0


def _load_masks(line: Line, numbers: Sequence[int], h: int, w: int) -> tuple[list[Track], np.ndarray]:
    """(boxes and masks of each object, bool[T] frames that have a mask). Raises ValueError."""
    labelled = np.array([number in line.target for number in numbers])
    if not labelled.any():
        raise ValueError(
            f"frames: expected a frame that has {line.form}, got none of them; add one of "
            f"{sorted(line.target)[:10]}, or remove the field"
        )
    by_frame = {}  # index of a frame -> mask of each object, or None
    for k in np.flatnonzero(labelled):
        value = line.target[numbers[k]]
        if line.form == "masks":
            by_frame[k] = [mask_files.load_mask(value)]
        else:
            by_frame[k] = [
                rle and masks.decode(whole_rle(rle)) for rle in (value if isinstance(value, list) else [value])
            ]
    objects = []
    for i in range(max(map(len, by_frame.values()))):
        boxes, mask_thw = np.zeros((len(numbers), 4)), np.zeros((len(numbers), h, w), bool)
        for k, frame_masks in by_frame.items():
            if i < len(frame_masks) and frame_masks[i] is not None:
                if frame_masks[i].shape != (h, w):
                    size = f"{frame_masks[i].shape[1]} x {frame_masks[i].shape[0]}"
                    raise ValueError(
                        f"{line.form}.{numbers[k]}: expected the size of the frames, {w} x {h} pixels, got {size}; "
                        "take the mask of this frame"
                    )
                mask_thw[k] = frame_masks[i]
                boxes[k] = masks.bbox(frame_masks[i]) or 0
        objects.append((boxes, mask_thw))
    return objects, labelled


def _scene(
    line: Line, target_boxes: np.ndarray | None, numbers: Sequence[int], h: int, w: int, max_objects: int
) -> tuple[tuple[Instance, ...], list[int], int]:
    """(the objects that are visible in some frame, in the order of the line; their places there; the number of visible
    ones that were left out). If there are too many, those of the target and the answer and then the largest stay; only
    the largest where `target_boxes` is None. Raises ValueError.
    """
    visible = []
    for place, item in enumerate(line.objects):
        if "track" in item:
            track = _keyframes(item["track"])
        else:
            track = ((numbers[0], item["box"]), (numbers[-1] + 1, item["box"]))
        boxes, mask_thw = _fill_track(track, numbers, h, w)
        if boxes.any():
            area = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).max()
            visible.append((area, boxes, mask_thw, item, place))
    places = [place for *_, place in visible]
    first = [places.index(number - 1) for number in line.oracle.get("answer", ()) if number - 1 in places]
    areas = [area for area, *_ in visible]
    if target_boxes is None:
        indices = keep_largest(areas, max_objects)
    else:
        indices = keep_objects(areas, [boxes for _, boxes, *_ in visible], target_boxes, max_objects, first)
    scene = []
    for i, (_, boxes, mask_thw, item, place) in enumerate((visible[k] for k in indices), 1):
        words = tuple(item.get("attributes", ()))
        instance = Instance(
            i, item["label"], tuple(boxes[0].tolist()), mask_thw[0], attributes=words, boxes=boxes, masks=mask_thw
        )
        scene.append(jsonl_scene.video_object(instance, place, item, numbers))
    return tuple(scene), [places[k] for k in indices], len(visible) - len(indices)
