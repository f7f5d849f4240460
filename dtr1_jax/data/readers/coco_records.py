"""The records of a file in COCO's format: ids are matched, records that stand twice are found, faults are counted.

Tools write the same thing in several ways: an id as 1, 1.0 or "1"; a region of a crowd and a brush mask of one object
both as an RLE with iscrowd 1.
"""

from __future__ import annotations

import collections
import logging
import re
import urllib.parse
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dtr1_jax.data import image_files, json_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.queries.coco_uses import SINGLES, STUFF
from dtr1_jax.data.readers import file_names
from dtr1_jax.twin.schema import encodable, show
from dtr1_jax.twin.things import plain

SHOWN = 3  # examples of a fault in a warning
log = logging.getLogger(__name__)

TOOL_CROWDS, TOOL_SHARE = 3, 0.25  # see `crowds_are_objects`
NO_LABELS = {"none", "null", "nan", "n/a", "background", "unlabeled", "unlabelled", "unknown", "void", "ignore"}


class Faults:
    """Counts faults by kind, and keeps the first SHOWN examples of each."""

    def __init__(self) -> None:
        self._counts: collections.Counter[str] = collections.Counter()
        self._examples: dict[str, list[str]] = {}

    def add(self, kind: str, example: Any = "", count: int = 1) -> None:
        """Counts `count` faults of a kind, a text that fits after a number; `example` is an id or a name."""
        self._counts[kind] += count
        examples = self._examples.setdefault(kind, [])
        text = str(example)[:60] if isinstance(example, (str, int)) else ""
        if text and text.isprintable() and text not in examples and len(examples) < SHOWN:
            examples.append(text)

    def counts(self) -> dict[str, int]:
        """Number of faults by kind."""
        return dict(self._counts)

    def __str__(self) -> str:
        parts = []
        for kind, count in self._counts.items():
            examples = ", ".join(self._examples[kind])
            parts.append(f"{count} {kind}" + (f" (such as {examples})" if examples else ""))
        return ", ".join(parts)


def find_id(table: Mapping, value: Any) -> Any:
    """The key of `table` that an id stands for, or None: the id itself, or the same number written as text or float."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    number = json_files.whole_number(value)
    keys = (value,) if number is None else (value, number, str(number))
    return next((key for key in keys if key in table), None)


def parse_id(value: Any) -> int | str | None:
    """The id of a record: an integer, or text that can stand in UTF-8; None for anything else."""
    if isinstance(value, str):
        return value if value and encodable(value) else None
    return json_files.whole_number(value)


def categories(records: list, faults: Faults, remarks: Faults | None = None) -> dict[int | str, dict]:
    """The sound categories by id. Names that differ in case or blanks alone are one label, as its first is written.

    Args:
      records: the records.
      faults: counts what is left out.
      remarks: counts names that are written like another one.

    Raises DataError if an id stands for two names.
    """
    table: dict[int | str, dict] = {}
    clashes, written = [], {}
    for record in records:
        number = parse_id(record.get("id")) if isinstance(record, dict) else None
        if number is None or not json_files.is_name(record.get("name")):
            faults.add("categories without an id or a usable name", record.get("name") if number is not None else "")
            continue
        name = " ".join(record["name"].split())
        first, exact = written.setdefault(plain(name), (name, record["name"]))
        if exact != record["name"] and remarks is not None:
            kind = "categories whose name differs from another one in case or blanks, as one label with it"
            remarks.add(kind, record["name"])
        record = record if first == record["name"] else record | {"name": first}
        if table.setdefault(number, record)["name"] != record["name"]:
            clashes.append(f"{number} ({table[number]['name']} and {record['name']})")
    if clashes:
        raise DataError(
            f"category ids that stand for two names: {', '.join(clashes[:SHOWN])}; give each category an id of its "
            "own in the annotations too (were two exports merged?)"
        )
    return table


def pictures(records: list, faults: Faults, remarks: Faults | None = None) -> dict[int | str, dict]:
    """The sound records of pictures by id, with "width" and "height" as integers, and "file_name" a safe path.

    A picture whose id stands for another file too is left out: nobody knows which of them its annotations describe.

    Args:
      records: the records.
      faults: counts what is left out.
      remarks: counts paths that lead out of the folder, as Label Studio writes them, of which the last part is taken
        instead. None = such pictures are left out.
    """
    table: dict[int | str, dict] = {}
    clashes: dict[int | str, str] = {}
    last = {} if remarks is None else _last_parts(records)
    for record in records:
        if _is_usual(record):
            kept = table.setdefault(record["id"], record)
            if kept["file_name"] != record["file_name"]:
                clashes[record["id"]] = f"{record['id']}: {kept['file_name']} and {record['file_name']}"
            continue
        name = record.get("file_name") if isinstance(record, dict) else None
        if isinstance(name, str) and name in last and remarks is not None:
            record = record | {"file_name": last[name]}
            remarks.add("pictures whose path leads out of the folder, by the last part of the path", name)
        fault = _picture_fault(record)
        if fault:
            faults.add(fault, record.get("file_name") if isinstance(record, dict) else "")
            continue
        number = parse_id(record["id"])
        sides = {side: json_files.whole_number(record[side]) for side in ("width", "height")}
        kept = table.setdefault(number, record | sides | {"id": number})
        if kept["file_name"] != record["file_name"]:
            clashes[number] = f"{number}: {kept['file_name']} and {record['file_name']}"
    for number, text in clashes.items():
        faults.add("picture ids that stand for two files, with their annotations", text)
        table[number] = {}  # falsy, so that its annotations are recognised
    return table


def _is_usual(record: Any) -> bool:
    """Whether the record of a picture is as COCO has them: sound, and nothing of it has to be rewritten.

    It saves the other checks, which take seconds for the 118,000 pictures of COCO.
    """
    if type(record) is not dict:
        return False
    number, w, h, name = map(record.get, ("id", "width", "height", "file_name"))
    if not type(number) is type(w) is type(h) is int or type(name) is not str:
        return False
    return 0 < w <= image_files.MAX_PIXELS and 0 < h <= image_files.MAX_PIXELS and file_names.is_plain(name)


def _last_parts(records: list) -> dict[str, str]:
    """Path that leads out of its folder -> its last part, where no other picture's path ends in the same part."""
    names = {r["file_name"] for r in records if isinstance(r, dict) and isinstance(r.get("file_name"), str)}
    names_out = [n for n in names if n and not file_names.stays_inside(n)]
    outside = [n for n in names_out if n.isprintable() and not file_names.is_url(n)]
    if not outside:
        return {}
    count = collections.Counter(map(_last_part, names))
    parts = {name: _last_part(name) for name in outside}
    return {name: part for name, part in parts.items() if count[part] == 1 and file_names.stays_inside(part)}


def _last_part(name: str) -> str:
    return re.split(r"[/\\]", urllib.parse.unquote(name))[-1]


def _picture_fault(record: Any) -> str:
    if not isinstance(record, dict) or parse_id(record.get("id")) is None:
        return "pictures without id, file_name, width or height"
    name = record.get("file_name")
    if not isinstance(name, str) or not name:
        return "pictures without id, file_name, width or height"
    if file_names.is_url(name):
        return "pictures with an address for a file name (download them)"
    if not file_names.stays_inside(name):
        return "pictures whose file name leaves the folder of the data (write it relative to the folder)"
    sides = [json_files.whole_number(record.get(side)) for side in ("width", "height")]
    if any(side is None or not 0 < side <= image_files.MAX_PIXELS for side in sides):
        return "pictures without id, file_name, width or height"
    return ""


def boxed_notes(notes: Sequence, records: Mapping) -> Iterator[tuple[dict, tuple[int, int]]]:
    """The annotations that have only a box, each with the size of its picture."""
    for note in notes:
        if isinstance(note, dict) and note.get("bbox") and not note.get("segmentation"):
            record = records.get(find_id(records, note.get("image_id")))
            if record:
                yield note, (record["width"], record["height"])


def same_file(table: Mapping[int | str, dict], remarks: Faults) -> dict[int | str, int | str]:
    """Maps the id of each picture to the first id with the same file, whose annotations it shares."""
    first: dict[str, int | str] = {}
    ids = {}
    for number, record in table.items():
        if record:
            ids[number] = first.setdefault(record["file_name"], number)
            if ids[number] != number:
                remarks.add("pictures that stand under several ids, as one picture each", record["file_name"])
    return ids


def crowds_are_objects(rows: Iterable[tuple[Any, str, bool]]) -> set[str]:
    """The labels whose regions with iscrowd 1 are single objects.

    COCO has at most one crowd region of a label in a picture, beside far more single objects: 1 of 80 annotations.
    Tools such as CVAT set iscrowd to 1 in every brush mask. So all labels are returned if nothing in the file is a
    single object, if a picture has two crowd regions of one label, or if TOOL_SHARE of at least TOOL_CROWDS annotations
    are crowds; else the labels with at least TOOL_CROWDS crowds and no more single objects than crowds.

    Args:
      rows: (id of the picture, label, whether iscrowd is 1) of each annotation.
    """
    crowds: collections.Counter[str] = collections.Counter()
    singles: collections.Counter[str] = collections.Counter()
    regions: collections.Counter[tuple[Any, str]] = collections.Counter()
    for picture, label, crowd in rows:
        (crowds if crowd else singles)[label] += 1
        if crowd:
            regions[picture, label] += 1
    return labels_of_objects(crowds, singles, max(regions.values(), default=0) > 1)


def labels_of_objects(crowds: Counter[str], singles: Counter[str], twice: bool) -> set[str]:
    """The labels by the rule of `crowds_are_objects`.

    Args:
      crowds, singles: number of annotations with iscrowd 1, and with 0, by label.
      twice: whether a picture has two crowd regions of one label.
    """
    total, all_rows = crowds.total(), crowds.total() + singles.total()
    if total and (total == all_rows or twice or (total >= TOOL_CROWDS and total >= TOOL_SHARE * all_rows)):
        return set(crowds)
    return {label for label, n in crowds.items() if n >= TOOL_CROWDS and n >= singles[label]}


def labels_to_ask(table: Mapping[int | str, dict], used: Collection[str], faults: Faults) -> frozenset[str]:
    """The labels that queries may ask for.

    Left out are labels that name nothing (digits, "background"), labels above others (Roboflow's root category), and
    labels of the user's own without a single annotation, which nobody may have looked for. In a file that has COCO's
    labels only, a label without annotations is absent from its pictures.

    Args:
      table: the categories by id.
      used: the labels that some annotation has.
      faults: counts the labels that are left out.
    """
    labels = {label_of(record) for record in table.values()}
    coco = labels <= set(SINGLES) | set(STUFF.values())
    above = set(children(table))
    kinds = {
        "labels that name nothing": {v for v in labels if v.casefold() in NO_LABELS or not any(map(str.isalpha, v))},
        "labels above others, their supercategory": above & labels,
        "labels without an annotation": set() if coco else labels - set(used),
    }
    for kind, names in kinds.items():
        names &= labels
        for name in sorted(names):
            faults.add(f"{kind} (not asked about)", name)
        labels -= names
    return frozenset(labels)


# Labels of COCO that have another usual meaning -> their ids in COCO.
_AMBIGUOUS = {"mouse": 74, "orange": 55, "tie": 32, "kite": 38, "remote": 75}
_MANY_LABELS = 10


def are_of_coco(table: Mapping[int | str, dict]) -> bool:
    """Whether the categories are COCO's, so that phrases about COCO's labels are true of them.

    All labels must be COCO's. In a set of fewer than _MANY_LABELS, a label with another usual meaning must also have
    COCO's id: a set of "mouse" alone may be about animals.
    """
    labels = {label_of(record) for record in table.values()}
    if not labels <= set(SINGLES) | set(STUFF.values()):
        return False
    unsure = [number for number, record in table.items() if _AMBIGUOUS.get(record["name"], number) != number]
    return len(labels) >= _MANY_LABELS or not unsure


def read_phrases(path: Path, labels: Collection[str]) -> dict[str, tuple[str, ...]]:
    """Phrases for labels from a file of the user's: {"label": ["phrase", ...]}, each a noun phrase in the singular.

    Raises DataError: the file has another form, or names no label of `labels`.
    """
    value = json_files.read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object of labels and phrases, got {show(value)}")
    found: dict[str, tuple[str, ...]] = {}
    for label, texts in value.items():
        texts = [texts] if isinstance(texts, str) else texts
        if not isinstance(texts, list) or not texts or not all(_is_phrase(text) for text in texts):
            raise DataError(
                f'{path}: {label[:64]}: expected phrases of 1 to 100 printable characters such as "what keeps tea '
                f'hot", got {show(texts)}'
            )
        found[label] = tuple(" ".join(text.split()) for text in texts)
    unknown = sorted(set(found) - set(labels))
    if len(unknown) == len(found):
        raise DataError(f"{path}: expected labels of the data set, such as {', '.join(sorted(labels)[:5])}, got none")
    if unknown:
        log.warning("%s: %d labels are not in the data set, such as %s", path, len(unknown), ", ".join(unknown[:5]))
    return found


def _is_phrase(text: Any) -> bool:
    return isinstance(text, str) and 1 <= len(text.strip()) <= 100 and text.isprintable() and "<" not in text


def children(table: Mapping[int | str, dict]) -> dict[str, set[str]]:
    """Label -> the labels whose supercategory it is, itself left out."""
    below: dict[str, set[str]] = {}
    names = {plain(record["name"]): record["name"] for record in table.values()}
    for record in table.values():
        parent = record.get("supercategory")
        parent = names.get(plain(parent)) if isinstance(parent, str) else None
        if parent is not None and parent != record["name"]:
            below.setdefault(STUFF.get(parent, parent), set()).add(label_of(record))
    return below


def label_of(category: dict) -> str:
    """The label of a category in a twin."""
    return STUFF.get(category["name"], category["name"])
