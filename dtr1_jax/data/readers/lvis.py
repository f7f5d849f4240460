"""LVIS (arXiv 1908.03195): files in COCO's format in which each picture says for which labels somebody looked.

    images      coco_url in place of file_name; neg_category_ids, the labels of which the picture shows no object;
                not_exhaustive_category_ids, the labels of which more objects may be there than are annotated
    categories  name ("mouse_(computer_equipment)"), synonyms, synset, frequency "r", "c" or "f"

Nobody looked for the other labels of the file: they may be there. So queries ask for a label that is annotated in the
picture and is not in not_exhaustive_category_ids, or say of a label in neg_category_ids that it is absent.
Source: github.com/lvis-dataset/lvis-api; lvisdataset.org/dataset.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers.coco_records import Faults, find_id, label_of, parse_id
from dtr1_jax.twin.things import plain

NEGATIVE, INCOMPLETE = KEYS = ("neg_category_ids", "not_exhaustive_category_ids")
RULE = f"and told that those in {NEGATIVE} are absent; labels in {INCOMPLETE} are not asked for"
_URL = re.compile(r"https?://\S+?/(?P<name>[\w-][\w.-]*/[\w-][\w.-]*)", re.ASCII)
_FREQUENCIES = ("r", "c", "f")


def is_lvis(images: Sequence[Any], categories: Sequence[Any]) -> bool:
    """Whether the records are those of LVIS. Raises DataError if they are, but no picture says what was looked for."""
    if any(isinstance(record, dict) and any(key in record for key in KEYS) for record in images):
        return True
    marked = [c for c in categories if isinstance(c, dict) and c.get("frequency") in _FREQUENCIES and "synset" in c]
    if not marked or len(marked) < len(categories):
        return False
    raise DataError(
        f"its categories are those of LVIS (frequency, synset), but no picture has {NEGATIVE} and {INCOMPLETE}, so "
        "nobody can tell which labels were looked for; take the published lvis_v1_train.json or lvis_v1_val.json"
    )


def as_coco(images: Sequence[Any], categories: Sequence[Any], faults: Faults) -> tuple[list[Any], list[Any]]:
    """(pictures, categories) as records of COCO: file_name is the end of coco_url, and names are readable.

    Pictures that do not say for which labels somebody looked are left out, and counted in `faults`.
    """
    kept = []
    for record in images:
        if not isinstance(record, dict) or not all(isinstance(record.get(key), list) for key in KEYS):
            number = record.get("id") if isinstance(record, dict) else ""
            faults.add(f"pictures of LVIS without {NEGATIVE} or {INCOMPLETE}", number)
            continue
        match = _URL.fullmatch(record["coco_url"]) if isinstance(record.get("coco_url"), str) else None
        kept.append(record | {"file_name": match["name"]} if match else record)
    return kept, [
        c | {"name": _readable(c["name"])} if isinstance(c, dict) and isinstance(c.get("name"), str) else c
        for c in categories
    ]


def phrases(categories: Mapping[int | str, dict]) -> dict[str, tuple[str, ...]]:
    """Label -> the names by which queries may ask for it: those of its name and synonyms that mean no other label.

    A name with an addition in parentheses, "bow (weapon)", stands only where there is no other. A label without any
    such name is left out.
    """
    names: dict[str, list[str]] = {}
    owners: collections.Counter[str] = collections.Counter()
    for record in categories.values():
        synonyms = record.get("synonyms")
        texts = [label_of(record), *(synonyms if isinstance(synonyms, list) else [])]
        texts = [_readable(text) for text in texts if isinstance(text, str) and 0 < len(text) <= 64]
        texts = list({plain(text): text for text in texts if text.isprintable() and "<" not in text}.values())
        names[label_of(record)] = texts
        owners.update(map(plain, texts))
    found = {}
    for label, texts in names.items():
        own = [text for text in texts if owners[plain(text)] == 1 and text]
        short = [text for text in own if "(" not in text]
        if own:
            found[label] = tuple(short or own)
    return found


def searched(
    images: Sequence[Mapping], categories: Mapping[int | str, dict]
) -> dict[int | str, tuple[frozenset[int | str], frozenset[int | str]]]:
    """Id of a picture -> (ids of the categories that are absent, ids of those of which not all objects are annotated).

    Pictures with one file share their lists.
    """
    found: dict[Any, tuple[frozenset[int | str], frozenset[int | str]]] = {}
    for record in images:
        absent, incomplete = (
            frozenset(number for value in record[key] if (number := find_id(categories, value)) is not None)
            for key in KEYS
        )
        name = record.get("file_name")
        if isinstance(name, str):
            earlier = found.get(name, (frozenset(), frozenset()))
            found[name] = (earlier[0] | absent, earlier[1] | incomplete)
    named = [(parse_id(record.get("id")), record.get("file_name")) for record in images]
    return {number: found[name] for number, name in named if number is not None and isinstance(name, str)}


def labels_asked(own: set[str], absent: set[str], incomplete: set[str]) -> tuple[frozenset[str], frozenset[str]]:
    """(labels for which somebody looked in a picture, those of them that no query may ask for).

    Args:
      own: labels of the picture's annotations.
      absent, incomplete: labels of its two lists. A label that is annotated and called absent is not asked for.
    """
    return frozenset(own | absent), frozenset(incomplete | (own & absent))


def _readable(name: str) -> str:
    return " ".join(name.replace("_", " ").split())
