"""Optional fields of a JSON line that say more of its scene and its query, as `--mode=perceive` writes them.

    {"image": "1.jpg", "query": "what keeps tea hot", "rle": {"size": [240, 320], "counts": ...},
     "oracle": {"answer": [1], "program": ["label", "thermos"], "category": "semantic", "level": 1},
     "objects": [{"label": "thermos", "box": [40, 60, 180, 220], "depth": 2, "rle": {"size": [240, 320], ...}}]}

Fields of "oracle", what is known of the right answer:
    answer    numbers of the `objects`, from 1 on, that are the answer; [] = none of them. It serves the cold start, and
              is left out where no objects are the target. An answer that contradicts the target is refused
              (jsonl_agreement.py)
    ignore    RLE of pixels that count neither for nor against an answer; pictures only
    program   operations of twin/programs.py as nested lists, which give the answer from the objects
    category, level   as in types.Example
Fields of an object:
    depth     rank, 1 = nearest
    rle       its mask, of the picture's size or smaller with the same proportions; videos have "rles" by frame number.
              It has pixels, not nearly all of them outside the box
    velocity  [dx, dy], mean motion of its centre from one shown frame to the next, pixels; videos only
The field "relations" of the line has lists [number, words, number] of objects, such as [1, "on", 2].
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from dtr1_jax.data import json_files
from dtr1_jax.data.readers import jsonl_agreement
from dtr1_jax.data.readers.jsonl_fields import Line, fill_box, is_rle, whole_rle
from dtr1_jax.twin import masks, programs
from dtr1_jax.twin.schema import MAX_INT, MAX_RELATIONS, show
from dtr1_jax.types import CATEGORIES, LEVELS, Example, Instance

FIELD, RELATIONS = "oracle", "relations"
_FIELDS = ("answer", "ignore", "program", "category", "level")


def line_faults(row: Mapping[str, Any]) -> Iterator[str]:
    """Yields the faults of the fields "oracle" and "relations" of a line."""
    value, objects = row.get(FIELD, {}), row.get("objects")
    count = len(objects) if isinstance(objects, list) else 0
    yield from _relation_faults(row.get(RELATIONS, []), count)
    if not isinstance(value, dict) or set(value) - set(_FIELDS):
        yield f"{FIELD}: expected an object with some of {', '.join(_FIELDS)}, got {show(value)}"
        return
    answer = value.get("answer", [])
    if not isinstance(answer, list) or not all(type(i) is int and 1 <= i <= count for i in answer):
        yield f"{FIELD}.answer: expected a list of numbers of objects, 1 to {count}, got {show(answer)}"
    if "ignore" in value and ("video" in row or not is_rle(value["ignore"])):
        yield f"{FIELD}.ignore: expected an RLE with size and counts, for a picture, got {show(value['ignore'])}"
    if "program" in value and not programs.is_program(_as_tuple(value["program"])):
        yield f"{FIELD}.program: expected operations of twin/programs.py as lists, got {show(value['program'])}"
    if value.get("category", CATEGORIES[0]) not in CATEGORIES:
        yield f"{FIELD}.category: expected one of {', '.join(CATEGORIES)}, got {show(value['category'])}"
    if type(value.get("level", 1)) is not int or value.get("level", 1) not in LEVELS:
        yield f"{FIELD}.level: expected one of {', '.join(map(str, LEVELS))}, got {show(value['level'])}"


def _relation_faults(value: Any, count: int) -> Iterator[str]:
    """Yields the first fault of "relations", of a line with `count` objects."""
    expected = f'expected [number, words, number] of two of the {count} objects, such as [1, "on", 2]'
    if not isinstance(value, list) or len(value) > MAX_RELATIONS:
        yield f"{RELATIONS}: expected a list of at most {MAX_RELATIONS} relations, got {show(value)}"
        return
    for i, relation in enumerate(value):
        if not (
            isinstance(relation, list)
            and len(relation) == 3
            and all(type(relation[k]) is int and 1 <= relation[k] <= count for k in (0, 2))
            and relation[0] != relation[2]
            and json_files.is_name(relation[1])
        ):
            yield f"{RELATIONS}[{i}]: {expected}, got {show(relation)}"
            return


def object_faults(name: str, item: Mapping[str, Any], is_video: bool) -> Iterator[str]:
    """Yields the faults of the fields of an object; `name` is its place in the line, such as "objects[0]"."""
    depth = item.get("depth", 1)
    if type(depth) is not int or not 1 <= depth <= MAX_INT:
        yield f"{name}.depth: expected a rank from 1 to {MAX_INT}, got {show(depth)}"
    if "rle" in item and (is_video or not is_rle(item["rle"])):
        yield f"{name}.rle: expected an RLE with size and counts, for a picture, got {show(item['rle'])}"
    rles = item.get("rles", {})
    if "rles" in item and not (is_video and isinstance(rles, dict) and all(map(is_rle, rles.values()))):
        yield f"{name}.rles: expected an object of frame numbers and RLEs, for a video, got {show(rles)}"
    if "velocity" in item and not (is_video and _is_pair(item["velocity"])):
        yield f"{name}.velocity: expected [dx, dy] in pixels, for a video, got {show(item['velocity'])}"


def picture_object(number: int, place: int, boxed: tuple[tuple, Mapping[str, Any]], h: int, w: int) -> Instance:
    """An object of a picture; the filled box is its mask if it has none.

    Args:
      number: its id.
      place: its index in the line, for messages.
      boxed: (its box in the unit frame, its fields).
      h, w: size of the picture, pixels.

    Raises ValueError: the mask has another shape, no pixels, or nearly all of them outside the box.
    """
    box, item = boxed
    if "rle" in item:
        name = f"objects[{place}].rle"
        mask, margin = _mask(name, item["rle"], h, w)
        jsonl_agreement.check_mask(name, mask[None], [box], margin)
    else:
        mask = fill_box(item["box"], h, w)
    return Instance(
        number, item["label"], box, mask, item.get("depth", 0), tuple(item.get("attributes", ())),
        outlined="rle" in item,
    )  # fmt: skip


def video_object(instance: Instance, place: int, item: Mapping[str, Any], numbers: Sequence[int]) -> Instance:
    """The object of a video with its depth, masks and velocity. `place` is its index in the line.

    It is outlined if it has a mask in each shown frame in which it has a box. Raises ValueError as `picture_object`,
    for the masks of all frames together.
    """
    stack, name, margins = instance.masks, f"objects[{place}].rles", [1.0]
    h, w = stack.shape[1:]
    rles = item.get("rles", {})
    for t, number in enumerate(numbers):
        if str(number) in rles:
            stack[t], margin = _mask(f"{name}.{number}", rles[str(number)], h, w)
            margins.append(margin)
    seen = [t for t, box in enumerate(instance.boxes) if box[2] > box[0]]
    masked = [t for t in seen if str(numbers[t]) in rles]
    if masked:
        jsonl_agreement.check_mask(name, stack[masked], instance.boxes[masked], max(margins))
    velocity = None if "velocity" not in item else (item["velocity"][0] / w, item["velocity"][1] / h)
    return dataclasses.replace(instance, depth=item.get("depth", 0), mask=stack[0], masks=stack, velocity=velocity,
        outlined=bool(seen) and masked == seen,
    )  # fmt: skip


def completed(example: Example, line: Line, kept: Sequence[int]) -> Example:
    """The example with what its line says in the fields "oracle" and "relations", and whether it has no object.

    Args:
      example: without it.
      line: the line.
      kept: for each object of the scene its place in the line, from 0 on.

    Raises ValueError: `ignore` is no mask of the picture, or the answer contradicts the target.
    """
    fields, id_of = line.oracle, {place + 1: i for i, place in enumerate(kept, 1)}
    changes: dict[str, Any] = {name: fields[name] for name in ("category", "level") if name in fields}
    if line.relations:
        there = ((id_of.get(a), words, id_of.get(b)) for a, words, b in line.relations)
        changes["relations"] = tuple(r for r in there if r[0] is not None and r[2] is not None)
    if line.described and not line.objects:
        changes["empty_scene"] = True
    if "program" in fields:
        changes["program"] = _as_tuple(fields["program"])
    if "ignore" in fields:
        ignore = _mask(f"{FIELD}.ignore", fields["ignore"], *example.target.mask.shape)[0] & ~example.target.mask
        changes["target"] = dataclasses.replace(example.target, ignore=ignore)
    if "answer" in fields and (example.scene or "empty_scene" in changes):
        ids = {id_of.get(number) for number in fields["answer"]}
        changes["answer_ids"] = None if None in ids else tuple(sorted(ids))
        if None not in ids and line.form != "answers":
            chosen = [one for one in example.scene if one.id in ids]
            jsonl_agreement.check_answer(line, changes.get("target", example.target), chosen)
    return dataclasses.replace(example, **changes) if changes else example


def _mask(name: str, rle: dict, h: int, w: int) -> tuple[np.ndarray, float]:
    """(bool[h, w] of an RLE of this size or of a smaller one with the same proportions, the side of its pixels there).

    Raises ValueError; `name` is the field, for messages.
    """
    mask = masks.decode(whole_rle(rle))
    if mask.shape == (h, w):
        return mask, 1.0
    jsonl_agreement.check_size(name, mask.shape, h, w)
    scale = w / mask.shape[1]
    return cv2.resize(mask.astype(np.uint8), (w, h), interpolation=cv2.INTER_NEAREST) > 0, scale


def _as_tuple(value: Any, depth: int = 0) -> Any:
    """Nested lists as nested tuples; deeper ones than a program can have stay lists, which are none."""
    if isinstance(value, list) and depth <= programs.DEEPEST + 1:
        return tuple(_as_tuple(item, depth + 1) for item in value)
    return value


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(json_files.is_number, value))
