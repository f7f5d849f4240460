"""RefCOCO on Hugging Face, as parquet files whose names begin with the split: val-00000-of-00001.parquet.

    lmms-lab/RefCOCO                question_id, image, answer [sentences], bbox [x, y, w, h], segmentation [x, y, ...]
    jxu124/refcoco                  sentences, raw_anns and raw_image_info as JSON texts; the photos are those of COCO
    jxu124/refcoco-benchmark        ref_list [{ann_info, ref_info}], image_info; splits are named refcoco_unc_val
    Ricky06662/refcoco_testA        image, text, mask [[bool]], bbox; its only split is named test

The first has one polygon of each object, which is not the whole mask of an object in several parts; its "val" is that
of unc and google together. Photos have no other annotated objects, so examples have no scene.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dtr1_jax.data import image_files, json_files
from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import benchmark, coco_photos, coco_records, parquet_rows, ref_sentences
from dtr1_jax.data.readers.benchmark import Benchmark, Photo, Query
from dtr1_jax.data.readers.jsonl_fields import is_text
from dtr1_jax.twin import masks
from dtr1_jax.types import Example, Target

FORMS = {  # form -> columns that it alone has together
    "lmms": frozenset({"question_id", "answer", "bbox", "image"}),
    "jxu124": frozenset({"sentences", "raw_anns", "raw_image_info"}),
    "benchmark": frozenset({"ref_list", "image_info"}),
    "ricky": frozenset({"text", "mask", "image"}),
}
_SMALL = {  # form -> columns that are read for all rows
    "lmms": ("question_id", "answer", "bbox", "segmentation"),
    "jxu124": ("ref_id", "sentences", "raw_anns", "raw_image_info", "image_path", "split"),
    "benchmark": ("ref_list", "image_info"),
    "ricky": ("text", "bbox", "img_height", "img_width"),
}
LMMS = {  # rows of lmms-lab -> what they are
    8811: "lmms val has 8,811 = unc + google", 7573: "lmms RefCOCOg val has 7,573 = umd + google",
}  # fmt: skip
Folders = tuple[Path, ...]

log = logging.getLogger(__name__)


def files(root: Path) -> list[Path]:
    """The parquet files of a folder."""
    return parquet_rows.list_files(root)


def open_table(name: str, root: Path, by: str, split: str, task: str, counts: tuple[int, int | None]) -> Benchmark:
    """The examples of a split in one of FORMS. Raises DataError.

    Args:
      name: refcoco, refcoco+ or refcocog.
      root: the folder.
      by, split: division and split, such as unc and val.
      task: segmentation or grounding.
      counts: the published numbers of refs and of sentences; None = not known.
    """
    chosen = _of_split(files(root), by, split, name)
    form = form_of(chosen[0])
    faults, folders = coco_records.Faults(), coco_photos.photo_folders(root)
    refs, queries = 0, []
    for file in chosen:
        rows = parquet_rows.read_rows(file, _SMALL[form])
        refs += sum(len(row["ref_list"] or ()) for row in rows) if form == "benchmark" else len(rows)
        for number, row in enumerate(rows):
            cell = parquet_rows.Cell(str(file), number)
            queries += _READ[form](row, cell, f"{name}/{by}/{split}", folders, faults)
    place = f"{root}: {name} {by}/{split}"
    if task == "segmentation":
        if form == "lmms":
            log.warning("%s: each mask is one polygon, not the whole mask of an object in several parts", place)
        queries = [q for q in queries if q.photo.place or _outlined(q, faults)]
    if str(faults):
        log.warning("%s: left out %s", place, faults)
    benchmark.check_count(place, refs, counts[0], "refs", LMMS)
    if refs == counts[0]:
        benchmark.check_count(place, len(queries), counts[1], "sentences")
    stored = all(query.photo.place for query in queries)
    if not stored or not queries:
        benchmark.check_photos(place, queries, "COCO's train2014 beside the parquet files, such as ROOT/train2014")
    return Benchmark(name, root, f"{by}/{split}", task, tuple(queries), load)


def form_of(file: Path) -> str:
    """One of FORMS, by the columns of a file. Raises DataError."""
    columns = set(parquet_rows.columns_of(file))
    for form, own in FORMS.items():
        if columns >= own:
            return form
    raise DataError(
        f"{file}: expected the columns of one of {', '.join(FORMS)} (see refcoco_parquet.py), got "
        f"{', '.join(sorted(columns)[:12])}; take one of these mirrors"
    )


def load(source: Benchmark, query: Query) -> Example:
    """The example of a query whose picture is in the table, or is a photo of COCO. Raises ImageError."""
    cell = query.photo.place
    if cell is None:
        return benchmark.pointing_example(source, query)
    raw = parquet_rows.picture_bytes(cell)
    image = image_files.load_image(f"{cell.file}#{cell.row}", raw=raw)
    h, w = image.shape[:2]
    if query.more == "ricky":
        mask = np.asarray(parquet_rows.read_cell(cell, "mask") or [[]], bool)
        if mask.shape != (h, w) or not mask.any():
            raise ImageError(f"{query.uid}: expected a mask of {w} x {h} pixels, got shape {mask.shape} or no pixel")
        box = np.array([masks.bbox(mask)], np.float32)
        return Example(query.uid, image, query.text, source.task, Target(mask, box))
    thing, fault = benchmark.thing_of(query.more, (w, h), benchmark.NO_LABEL)
    if thing is None or (source.task == "segmentation" and not thing.outlined):
        raise ImageError(f"{query.uid}: expected a shape, got {fault or 'a box alone'}; leave it out")
    photo = Photo(query.photo.names, (), (w, h), (thing,))
    return benchmark.pointing_example(source, Query(query.uid, query.text, photo, (0,)), image)


def _of_split(found: list[Path], by: str, split: str, name: str) -> list[Path]:
    """The files of a split; jxu124 names val "validation" and, as Ricky06662, testA "test"."""
    others = {"val": ["validation"], "testA": ["test"]}.get(split, [])
    names = [f"{name.replace('+', '_plus')}_{by}_{split}", split, *others]
    for wanted in names:
        chosen = [path for path in found if re.match(rf"{re.escape(wanted)}(-\d|\.parquet|$)", path.name)]
        if chosen:
            return chosen
    if len(found) == 1 and found[0].name.startswith("test") and split.startswith("test"):
        return found
    listed = ", ".join(path.name for path in found[:8])
    raise DataError(f"{found[0].parent}: expected {split}-*.parquet, got {listed}; set data.*_split to one of these")


def _outlined(query: Query, faults: coco_records.Faults) -> bool:
    if query.photo.things[query.target[0]].outlined:
        return True
    faults.add("sentences about an object that has a box and no outline", query.uid)
    return False


def _lmms(row: Mapping, cell: parquet_rows.Cell, start: str, folders: Folders, faults: Any) -> Iterator[Query]:
    note = {"bbox": row.get("bbox"), "segmentation": [row["segmentation"]] if row.get("segmentation") else None}
    texts = row.get("answer") if isinstance(row.get("answer"), list) else [row.get("answer")]
    usable = [(k, " ".join(text.split())) for k, text in enumerate(texts) if is_text(text)]
    if not usable:
        faults.add("rows without a sentence", row.get("question_id"))
    for k, text in usable:
        photo = Photo((f"{cell.file}#{cell.row}",), (), place=cell)
        yield Query(f"{start}/{row.get('question_id') or cell.row}/{k}", text, photo, (0,), more=note)


def _jxu124(row: Mapping, cell: parquet_rows.Cell, start: str, folders: Folders, faults: Any) -> Iterator[Query]:
    try:
        note, info = (json_files.parse_json(row[name]) for name in ("raw_anns", "raw_image_info"))
    except (ValueError, TypeError, KeyError):
        note, info = None, None
    yield from _ref(row, note, info, start, folders, cell.row, faults)


def _benchmark(row: Mapping, cell: parquet_rows.Cell, start: str, folders: Folders, faults: Any) -> Iterator[Query]:
    for k, ref in enumerate(row.get("ref_list") or ()):
        ref = ref if isinstance(ref, dict) else {}
        yield from _ref(
            ref.get("ref_info"), ref.get("ann_info"), row.get("image_info"), start, folders, f"{cell.row}-{k}", faults
        )


def _ricky(row: Mapping, cell: parquet_rows.Cell, start: str, folders: Folders, faults: Any) -> Iterator[Query]:
    if not is_text(row.get("text")):
        faults.add("rows without a sentence", cell.row)
        return
    photo = Photo((f"{cell.file}#{cell.row}",), (), place=cell)
    yield Query(f"{start}/{cell.row}", " ".join(row["text"].split()), photo, (0,), more="ricky")


_READ = {"lmms": _lmms, "jxu124": _jxu124, "benchmark": _benchmark, "ricky": _ricky}


def _ref(ref: Any, note: Any, info: Any, start: str, folders: Folders, place: Any, faults: Any) -> Iterator[Query]:
    """The queries of a ref with its annotation and the record of its photo."""
    if not all(isinstance(value, dict) for value in (ref, note, info)):
        faults.add("rows without a ref, an annotation or the record of the photo", place)
        return
    sides = [json_files.whole_number(info.get(side)) for side in ("width", "height")]
    number = json_files.whole_number(info.get("id", ref.get("image_id")))
    if number is None or not all(side and 0 < side <= image_files.MAX_PIXELS for side in sides):
        faults.add("photos without id, width or height", place)
        return
    thing, fault = benchmark.thing_of(note, tuple(sides), benchmark.NO_LABEL)
    if thing is None:
        faults.add(fault, place)
        return
    photo = Photo(coco_photos.photo_names(number), folders, tuple(sides), (thing,))
    sentences = ref_sentences.sentences_of(ref)
    if not sentences:
        faults.add("refs without a sentence", place)
    for sentence, text in sentences:
        yield Query(f"{start}/{ref.get('ref_id', place)}/{sentence}", text, photo, (0,))
