"""CLEVR (arXiv 1612.06890): questions about drawn scenes, whose objects are all known.

    ROOT/questions/CLEVR_val_questions.json    {"questions": [{image_filename, question, answer, program}]}
    ROOT/scenes/CLEVR_val_scenes.json          {"scenes": [{image_filename, objects, directions}]}; may be missing
    ROOT/images/val/CLEVR_val_000000.png

Splits are train and val; test has no answers. The scene of an example is all objects of the picture, from left to
right, with size, colour and material, and their depth by the distance from the camera. The release has no masks and no
boxes: a box is computed from the position, the size and the rotation of its object (`boxes_of`). A query is tagged with
the last function of its program, such as count.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtr1_jax.data import json_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import benchmark, coco_records, file_names, json_items
from dtr1_jax.data.readers.benchmark import Benchmark, Photo, Query
from dtr1_jax.data.readers.jsonl_fields import fill_box, is_text, unit_box
from dtr1_jax.types import Example, Instance, Target

NAME = "clevr"
COUNTS = {"train": 699_989, "val": 149_991}  # questions, by its page
LAYOUT = "questions/CLEVR_val_questions.json, scenes/CLEVR_val_scenes.json and images/val/"
FOCAL = 35 / 32  # of the release's camera: the focal length in widths of the picture (35 mm on a sensor of 32 mm)
ELEVATION = math.radians(28.5)  # of the camera above the ground, where a scene has too few objects to compute it
_WORDS = ("color", "size", "material", "shape")

log = logging.getLogger(__name__)


def open_clevr_source(root: str, split: str, task: str) -> Benchmark:
    """Reads the questions of a split with the scenes of their pictures, in the order of the file.

    Args:
      root: the folder.
      split: train or val; "heldout" is val.
      task: vqa.

    Raises DataError: no such files, or no question that can be used.
    """
    folder = Path(root).expanduser()
    folder = folder / "CLEVR_v1.0" if file_names.is_folder(folder / "CLEVR_v1.0") else folder
    if split == "test":
        raise DataError(f"{folder}: {NAME} test has no answers; set data.*_split to train or val")
    split = benchmark.choose_split(folder, split, COUNTS, "val")
    file = _find(folder, "questions", split)
    if file is None:
        raise DataError(f"{folder}: expected {LAYOUT}, got no questions of {split}; unpack CLEVR_v1.0.zip")
    faults = coco_records.Faults()
    photos = _photos(folder, split, faults)
    queries = []
    for number, row in enumerate(json_items.list_items(file, "questions")):
        query = _query(number, row, split, photos, folder, faults)
        queries += [query] if query else []
    source = Benchmark(NAME, folder, split, task, tuple(queries), load)
    return benchmark.checked_questions(source, faults, COUNTS[split], LAYOUT)


def load(source: Benchmark, query: Query) -> Example:
    """The example of a question with the whole scene. Raises ImageError."""
    image = benchmark.load_photo(query.photo, NAME, source.max_pixels)
    h, w = image.shape[:2]
    target = Target(np.zeros((h, w), bool), np.zeros((0, 4), np.float32), references=query.references)
    objects = query.photo.place or {"objects": ()}
    boxes = boxes_of(objects["objects"], objects.get("directions"), w, h)
    depths = np.argsort(np.argsort([item["pixel_coords"][2] for item in objects["objects"]], kind="stable")) + 1
    rows = sorted(zip(boxes, objects["objects"], depths.tolist()), key=lambda row: (row[0][0] + row[0][2], row[2]))
    scene = tuple(
        Instance(
            n, item["shape"], unit_box(box, h, w), fill_box(box, h, w), depth,
            (item["color"], item["size"], item["material"]), outlined=False,
        )
        for n, (box, item, depth) in enumerate(rows, 1)
    )  # fmt: skip
    return Example(query.uid, image, query.text, source.task, target, scene=scene)


def boxes_of(objects: Sequence[Mapping], directions: Any, w: int, h: int) -> list[tuple[float, float, float, float]]:
    """The boxes x1, y1, x2, y2 of objects in pixels of a picture of w x h, inside it.

    The half height of every object is its z coordinate s, since it stands on the ground; a sphere and a cylinder have
    that radius, a cube that half side. Around the projected centre, the box reaches
        sphere    s            to each side, s above and below
        cylinder  s            to each side, s (cos e + sin e) above and below
        cube      s c          to each side, s (cos e + c sin e) above and below
    times FOCAL w / depth, where e is the elevation of the camera, and c = |cos r| + |sin r| of the cube's rotation r
    against the camera's right. This is the box without the change of perspective inside an object: a few pixels.
    """
    right = _direction(directions, "right", (1.0, 0.0, 0.0))
    behind = _direction(directions, "behind", (0.0, 1.0, 0.0))
    e = _elevation(objects, behind)
    found = []
    for item in objects:
        x, y, depth = item["pixel_coords"]
        s = item["3d_coords"][2]
        turn = math.radians(item.get("rotation", 0)) - math.atan2(right[1], right[0])
        c = abs(math.cos(turn)) + abs(math.sin(turn))
        wide, high = {
            "sphere": (s, s),
            "cylinder": (s, s * (math.cos(e) + math.sin(e))),
            "cube": (s * c, s * (math.cos(e) + c * math.sin(e))),
        }.get(item["shape"], (s, s))
        scale = FOCAL * w / depth
        x1, x2 = (min(max(v, 0.0), w) for v in (x - wide * scale, x + wide * scale))
        y1, y2 = (min(max(v, 0.0), h) for v in (y - high * scale, y + high * scale))
        found.append((min(x1, w - 1), min(y1, h - 1), max(x2, 1), max(y2, 1)))
    return found


def _elevation(objects: Sequence[Mapping], behind: Sequence[float]) -> float:
    """The angle of the camera above the ground: depth grows by its cosine along the ground, away from the camera.

    It is the least squares fit over the objects; ELEVATION where they do not spread.
    """
    along = np.array([float(np.dot(item["3d_coords"][:2], behind[:2])) for item in objects])
    depth = np.array([item["pixel_coords"][2] for item in objects])
    height = np.array([item["3d_coords"][2] for item in objects])
    if len(along) < 2 or np.ptp(along) < 1:
        return ELEVATION
    # depth = cos e along - sin e height + constant; heights hardly differ, so sin e is taken from the usual camera.
    depth = depth + math.sin(ELEVATION) * height
    slope = float(np.polyfit(along, depth, 1)[0])
    return math.acos(slope) if math.cos(math.radians(60)) <= slope <= math.cos(math.radians(5)) else ELEVATION


def _direction(directions: Any, name: str, other: tuple[float, ...]) -> Sequence[float]:
    value = directions.get(name) if isinstance(directions, dict) else None
    sound = isinstance(value, list) and len(value) == 3 and all(map(json_files.is_number, value))
    return value if sound else other


def _photos(folder: Path, split: str, faults: coco_records.Faults) -> dict[str, Photo]:
    """The photos by name, each with its scene as its place."""
    file = _find(folder, "scenes", split)
    if file is None:
        log.warning(
            "%s: no scenes of %s: examples have no scene, so policy.constructor=given cannot use them", folder, split
        )
        return {}
    photos = {}
    for scene in json_items.list_items(file, "scenes"):
        name = scene.get("image_filename") if isinstance(scene, dict) else None
        objects = scene.get("objects") if isinstance(scene, dict) else None
        if not _is_name(name) or not isinstance(objects, list) or not all(map(_is_object, objects)):
            faults.add("scenes without image_filename, or with an object of another form", name or "")
            continue
        photos[name] = _photo(folder, split, name, {"objects": objects, "directions": scene.get("directions")})
    return photos


def _photo(folder: Path, split: str, name: str, scene: Mapping | None) -> Photo:
    return Photo((name,), (folder / "images" / split, folder / "images", folder / split), place=scene)


def _query(
    number: int, row: Any, split: str, photos: dict[str, Photo], folder: Path, faults: coco_records.Faults
) -> Query | None:
    row = row if isinstance(row, dict) else {}
    name, answer = row.get("image_filename", row.get("image")), row.get("answer")
    if isinstance(name, str) and not name.endswith(".png"):
        name += ".png"  # the generator writes the name without its suffix as "image"
    answer = {True: "yes", False: "no"}.get(answer) if isinstance(answer, bool) else answer
    answer = str(answer) if type(answer) is int else answer
    if not _is_name(name) or not is_text(row.get("question")) or not is_text(answer):
        faults.add("questions without image_filename, question or answer", number)
        return None
    if name not in photos:
        photos[name] = _photo(folder, split, name, None)
    program = row.get("program")
    last = program[-1] if isinstance(program, list) and program and isinstance(program[-1], dict) else {}
    kind = last.get("function", last.get("type"))
    tags = (kind,) if is_text(kind) and len(kind) <= 40 else ()
    key = json_files.whole_number(row.get("question_index"))
    uid = f"{NAME}/{split}/{number if key is None else key}"
    return Query(uid, row["question"].strip(), photos[name], references=(answer.strip(),), tags=tags)


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and file_names.stays_inside(name)


def _is_object(item: Any) -> bool:
    """Whether an object of a scene has its four words and sound coordinates."""
    if not isinstance(item, dict) or not all(json_files.is_name(item.get(k)) for k in _WORDS):
        return False
    rows = [item.get("pixel_coords"), item.get("3d_coords")]
    numbers = all(isinstance(r, list) and len(r) == 3 and all(map(json_files.is_number, r)) for r in rows)
    return numbers and json_files.is_number(item.get("rotation", 0)) and rows[0][2] > 0 and rows[1][2] > 0


def _find(folder: Path, kind: str, split: str) -> Path | None:
    name = f"CLEVR_{split}_{kind}.json"
    return next((place / name for place in (folder / kind, folder) if file_names.is_file(place / name)), None)
