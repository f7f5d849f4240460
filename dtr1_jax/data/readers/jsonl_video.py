"""Lines of a JSON lines file that are about a video.

    {"video": "clips/1.mp4", "query": "what rolls away", "tracks": [{"0": [4, 6, 18, 22], "40": [90, 6, 104, 22]}]}

Fields of a line, beside those that jsonl.py says:
    video     path of a video file or a folder of frames, relative to the file or absolute
    and what is wanted, in pixels of the upright frames by frame number, from 0 on, as exactly one of
    tracks    [{"0": [x1, y1, x2, y2], "7": null, ...}, ...], one for each thing: boxes at keyframes, linear between
              (twin/tracks.py), null = out of sight from there on; the wanted masks are the filled boxes
    masks     {"0": path of a PNG, ...}; what is not 0 is wanted, and is one thing
    rles      {"0": RLE of COCO, or a list of RLEs and nulls of which the k-th is thing k, ...}
    answers   as of a picture
    optional
    frames    numbers of the frames that are shown; else, of masks and rles, those that have one, else frames
              evenly from the first to the last, and always at most data.frames of them
    objects   as of a picture, with a "track" in place of the "box" of what moves

No tracks, or empty masks: nothing in the video fits. Frames without a mask are not annotated and count neither way.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtr1_jax.data import image_files, video_files
from dtr1_jax.data.readers.jsonl_fields import (  # fmt: skip
    ANSWERS,
    Line,
    answer_ids,
    are_answers,
    are_rles,
    filled,
    is_box,
    is_named,
    largest,
    unit,
)
from dtr1_jax.data.readers.jsonl_fields import is_text as is_path
from dtr1_jax.twin import masks, tracks
from dtr1_jax.types import Example, Instance, Target, Video

FRAMES = 8  # shown of a video, where neither the line nor the settings say how many
MOST_FRAMES = 256  # that a line may name
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")


def are_frames(value: Any) -> bool:
    """Whether it is a list of ascending frame numbers."""
    numbers = isinstance(value, list) and len(value) <= MOST_FRAMES and all(type(v) is int for v in value)
    return numbers and all(0 <= v < 10**9 for v in value) and sorted(set(value)) == value


def is_object(value: Any) -> bool:
    """Whether it is an object of a video: a label, a box or a track and, if any, attributes."""
    return is_named(value) and ("box" in value) != ("track" in value) and (
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


# form: (check at opening, what it expects)
FORMS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "tracks": (_are_tracks, "a list of {frame number: [x1, y1, x2, y2] or null}, ascending, with boxes at both ends"),
    "masks": (_are_masks, "an object of frame numbers and paths"),
    "rles": (_are_rles, "an object of frame numbers and RLEs with size and counts, or lists of such"),
    "answers": (are_answers, ANSWERS),
}


def located(form: str, wanted: Any, folder: Path) -> Any:
    """What is wanted, by frame number, with paths below `folder`."""
    if form == "answers":
        return tuple(wanted)
    if form == "tracks":
        return tuple(_track(track) for track in wanted)
    return {int(key): folder / value if form == "masks" else value for key, value in wanted.items()}


def _track(value: dict) -> tuple:
    return tuple((int(key), box) for key, box in value.items())


def example(line: Line, max_objects: int, frames: int = FRAMES) -> Example:
    """The example of a line. Raises ImageError where the video, a mask or a box do not fit the line."""
    clip = _clip(line, frames)
    t, h, w = clip.frames.shape[:3]
    numbers = clip.index.tolist()
    try:
        if line.form in ("tracks", "answers"):
            tracked = line.wanted if line.form == "tracks" else ()
            _check_time(tracked, clip.total)
            found, labelled = [_filled(track, numbers, h, w) for track in tracked], None
        else:
            found, labelled = _masks(line, numbers, h, w)
        wanted = [boxes for boxes, _ in found] if line.form == "tracks" else []
        scene = _scene(line.objects, np.array(wanted, np.float32), numbers, h, w, max_objects)
    except ValueError as error:
        raise image_files.ImageError(f"{line.where}: {error}") from None
    if line.form == "answers":
        empty = np.zeros((h, w), bool), np.zeros((0, 4), np.float32)
        nothing = Target(*empty, references=line.wanted, choices=line.choices)
        return Example(line.uid, clip.frames[0], line.query, line.task, nothing, scene, visuals=(clip,))
    found = [(boxes, part) for boxes, part in found if part.any()]
    boxes = np.array([boxes for boxes, _ in found], np.float32).reshape(-1, t, 4)
    union = np.zeros((t, h, w), bool)
    for _, part in found:
        union |= part
    first = boxes[:, 0]
    target = Target(union[0], first[first[:, 2] > first[:, 0]], masks=union, tracks=boxes, labelled=labelled)
    answer = answer_ids(boxes, scene) if line.form == "tracks" else None
    return Example(line.uid, clip.frames[0], line.query, line.task, target, scene, answer, visuals=(clip,))


def _clip(line: Line, frames: int) -> Video:
    if line.frames:
        return video_files.load_numbered(line.video, line.frames)
    if line.form in ("tracks", "answers"):
        return video_files.load_evenly(line.video, frames)
    numbers = sorted(line.wanted)
    return video_files.load_numbered(line.video, [numbers[i] for i in video_files.even_indices(len(numbers), frames)])


def _check_time(found: Sequence[Sequence], total: int) -> None:
    """Raises ValueError where a track begins behind the end: that nothing is wanted would then be the right answer."""
    for i, track in enumerate(found):
        if track[0][0] >= total:
            raise ValueError(f"tracks[{i}]: begins at frame {track[0][0]}, but the video's last is {total - 1}")


def _filled(track: Sequence, numbers: Sequence[int], h: int, w: int) -> tuple[np.ndarray, np.ndarray]:
    """(float64[T, 4] boxes in the unit frame, bool[T, h, w] filled); 0 and False where it is not in the picture.

    Raises ValueError where none of the keyframes is in the picture.
    """
    inside = [box for _, box in track if box is not None and _overlaps(box, h, w)]
    if not inside:
        raise ValueError(f"expected tracks in the picture of {w} x {h} pixels, got {dict(track)}"[:300])
    boxes, parts = np.zeros((len(numbers), 4)), np.zeros((len(numbers), h, w), bool)
    for k, number in enumerate(numbers):
        box = tracks.interpolate(track, number)
        if box is not None and _overlaps(box, h, w):
            boxes[k], parts[k] = unit(box, h, w), filled(box, h, w)
    return boxes, parts


def _overlaps(box: Sequence[float], h: int, w: int) -> bool:
    return box[0] < w and box[1] < h and box[2] > 0 and box[3] > 0


def _masks(
    line: Line, numbers: Sequence[int], h: int, w: int
) -> tuple[list[tuple[np.ndarray, np.ndarray]], np.ndarray]:
    """([(boxes, masks) of each thing, as of `_filled`], bool[T] frames that have a mask). Raises ValueError."""
    labelled = np.array([number in line.wanted for number in numbers])
    if not labelled.any():
        raise ValueError(f"frames: expected one of those that {line.form} has, got none of them")
    read = {}
    for k in np.flatnonzero(labelled):
        value = line.wanted[numbers[k]]
        if line.form == "masks":
            read[k] = [image_files.load_bitmap(value) != 0]
        else:
            read[k] = [rle and masks.decode(rle) for rle in (value if isinstance(value, list) else [value])]
    found = []
    for i in range(max(map(len, read.values()))):
        boxes, parts = np.zeros((len(numbers), 4)), np.zeros((len(numbers), h, w), bool)
        for k, things in read.items():
            if i < len(things) and things[i] is not None:
                if things[i].shape != (h, w):
                    got = f"{things[i].shape[1]} x {things[i].shape[0]}"
                    raise ValueError(
                        f"{line.form}.{numbers[k]}: expected the size of the frames, {w} x {h} pixels, got {got}"
                    )
                parts[k] = things[i]
                boxes[k] = masks.bbox(things[i]) or 0
        found.append((boxes, parts))
    return found, labelled


def _scene(
    objects: Sequence[dict], wanted: np.ndarray, numbers: Sequence[int], h: int, w: int, most: int
) -> tuple[Instance, ...]:
    """The objects that are seen, in the order of the line; of too many, the wanted ones and then those with the largest
    boxes."""
    rows = []
    for item in objects:
        track = (
            _track(item["track"]) if "track" in item else ((numbers[0], item["box"]), (numbers[-1] + 1, item["box"]))
        )
        boxes, parts = _filled(track, numbers, h, w)
        if boxes.any():
            rows.append((((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).max(), boxes, parts, item))
    kept = largest([area for area, *_ in rows], [boxes for _, boxes, *_ in rows], wanted, most)
    return tuple(
        Instance(
            i, item["label"], tuple(boxes[0].tolist()), parts[0], attributes=tuple(item.get("attributes", ())),
            boxes=boxes, masks=parts,
        )
        for i, (_, boxes, parts, item) in enumerate((rows[k] for k in kept), 1)
    )  # fmt: skip
