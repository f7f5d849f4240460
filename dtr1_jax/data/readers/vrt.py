"""VRT-Eval (Visual Reasoning Tracer, arXiv 2512.05091): questions, the objects of a photo, and which are the answer.

    ROOT/vrt_eval.tfrecord (or ROOT is the file)    each record a tf.train.Example:
        key, image (JPEG), question                 bytes
        objects_info_json                           {"ID": {"mask": RLE, "caption": text, ...}}
        human_labeled_a_objs, human_labeled_r_objs  ids of the objects of the answer and of the evidence
        class_ids                                   #visf, #loc, #comp, #func

The objects of a photo are its scene; the label of an object is its caption, cut to what a label can hold. The only
split is "eval". The target is the objects of the answer; those of the evidence are not scored here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dtr1_jax.data import image_files, json_files
from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import benchmark, coco_records, file_names, tfrecord
from dtr1_jax.data.readers.benchmark import NO_LABEL, Benchmark, Photo, Query
from dtr1_jax.data.readers.jsonl_fields import is_text
from dtr1_jax.types import Example

NAME = "vrt"
COUNTS = {"eval": 304}
FILE = "vrt_eval.tfrecord"
_LONGEST = 64  # characters of a label
_NEEDED = ("image", "question", "objects_info_json", "human_labeled_a_objs")

log = logging.getLogger(__name__)


def open_vrt_source(root: str, split: str, task: str, *, max_objects: int) -> Benchmark:
    """Reads the questions, in the order of the file; photos and masks are read when an example is indexed.

    Args:
      root: the folder or the file.
      split: "eval"; "heldout" is the same.
      task: segmentation or grounding.
      max_objects: most objects of a scene; those of the answer are always in it.

    Raises DataError: no such file, broken framing, or no question that can be used.
    """
    folder = Path(root).expanduser()
    split = benchmark.choose_split(folder, split, COUNTS, "eval")
    file = folder if file_names.is_file(folder) else folder / FILE
    if not file_names.is_file(file):
        got = ", ".join(p.name for p in sorted(folder.glob("*"))[:8]) if file_names.is_folder(folder) else "no folder"
        raise DataError(f"{folder}: expected {FILE}, got {got or 'no file'}; set data.root to its folder")
    faults = coco_records.Faults()
    queries = []
    for number, (place, length) in enumerate(tfrecord.record_places(file)):
        try:
            fields = tfrecord.parse_example(tfrecord.read_record(file, place, length, check=False))
        except tfrecord.RecordError as error:
            faults.add(f"records: {error}", number)
            continue
        query = _query(fields, number, Photo((f"{file}#{number}",), (), place=(str(file), place, length)), faults)
        queries += [query] if query else []
    name = f"{file}: {NAME} {split}"
    if str(faults):
        log.warning("%s: left out %s", name, faults)
    benchmark.check_count(name, len(queries), COUNTS[split], "questions")
    if not queries:
        raise DataError(f"{name}: expected questions, got none to use; fetch the file again")
    return Benchmark(NAME, folder, split, task, tuple(queries), load, max_objects)


def load(source: Benchmark, query: Query) -> Example:
    """The example of a question with its photo and objects. Raises ImageError."""
    file, place, length = query.photo.place
    try:
        fields = tfrecord.parse_example(tfrecord.read_record(Path(file), place, length))
        objects = json_files.parse_json(_bytes(fields, "objects_info_json"))
    except ValueError as error:
        raise ImageError(f"{query.uid}: the record is damaged ({error}); fetch {file} again") from None
    name = query.photo.names[0]
    image, (h, w) = image_files.load_shrunk(name, source.max_pixels, raw=_bytes(fields, "image"))
    ids = {coco_records.parse_id(key): value for key, value in objects.items()} if isinstance(objects, dict) else {}
    things, places = [], {}
    for key, value in ids.items():
        value = value if isinstance(value, dict) else {}
        thing, _ = benchmark.thing_of({"segmentation": value.get("mask")}, (w, h), label_of(value.get("caption")))
        if thing is not None:
            places[key] = len(things)
            things.append(thing)
    found = [coco_records.find_id(places, key) for key in query.more]
    if None in found:
        raise ImageError(f"{query.uid}: object {query.more[found.index(None)]} of the answer is missing or has no mask")
    photo = Photo(query.photo.names, (), (w, h), tuple(things), complete=True)
    target = tuple(places[key] for key in found)
    return benchmark.pointing_example(source, Query(query.uid, query.text, photo, target), image)


def label_of(caption: Any) -> str:
    """A caption as the label of an object: one line of at most 64 characters, cut after a word."""
    text = " ".join(caption.replace("<", " ").split()) if is_text(caption) else ""
    if len(text) > _LONGEST:
        text = text[: _LONGEST + 1].rpartition(" ")[0] or text[:_LONGEST]
    return text if json_files.is_name(text) else NO_LABEL


def _query(fields: Mapping[str, Any], number: int, photo: Photo, faults: coco_records.Faults) -> Query | None:
    key = _bytes(fields, "key").decode("utf-8", "replace").strip() or str(number)
    question = _bytes(fields, "question").decode("utf-8", "replace")
    ids = [i for i in fields.get("human_labeled_a_objs") or () if isinstance(i, int)]
    missing = [name for name in _NEEDED if not fields.get(name)]
    if missing or not is_text(question) or not ids:
        faults.add("records without " + ", ".join(missing or ["a question"]), key)
        return None
    tags = [raw.decode("utf-8", "replace") for raw in fields.get("class_ids") or () if isinstance(raw, bytes)]
    tags = tuple(dict.fromkeys(tag.strip().lstrip("#") for tag in tags if is_text(tag.lstrip("#")) and len(tag) <= 40))
    return Query(f"{NAME}/{key[:60]}", question.strip(), photo, tags=tags, more=tuple(dict.fromkeys(ids)))


def _bytes(fields: Mapping[str, Any], name: str) -> bytes:
    value = fields.get(name) or [b""]
    return value[0] if isinstance(value[0], bytes) else b""
