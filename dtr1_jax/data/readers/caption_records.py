"""Captions of pictures or videos, several of each, as COCO and MSR-VTT list them: {owner's id, caption's id, text}."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any

from dtr1_jax.data.readers import benchmark, coco_records
from dtr1_jax.data.readers.benchmark import Photo, Query
from dtr1_jax.data.readers.jsonl_fields import is_text

REQUESTS = {"picture": "describe the picture in one sentence.", "video": "describe the video in one sentence."}
LONGEST = 2000  # characters of a caption; a longer one is no caption


def captions_of(
    records: Iterable[Any], keys: tuple[str, str], owner_of: Callable[[Any], Hashable | None],
    known: Mapping[Hashable, Any], kind: str, faults: coco_records.Faults,
) -> dict[Hashable, list[str]]:  # fmt: skip
    """The captions of each picture or video, in the order of the file.

    Args:
      records: the captions as the file lists them.
      keys: the names of the owner's id and of the caption's own id.
      owner_of: brings an owner's id into the form of the keys of `known`; None = it is no id.
      known: the listed pictures or videos by id.
      kind: "picture" or "video", for messages.
      faults: counts the captions that are left out.
    """
    found: dict[Hashable, list[str]] = {}
    seen: set[Hashable] = set()
    for record in records:
        owner = owner_of(record.get(keys[0])) if isinstance(record, dict) else None
        if owner is None:
            faults.add(f"captions without {keys[0]}")
            continue
        text, number = record.get("caption"), coco_records.parse_id(record.get(keys[1]))
        if owner not in known:
            faults.add(f"captions of a {kind} that is not listed", str(owner))
        elif not is_text(text) or len(text) > LONGEST:
            faults.add("captions that are no text", f"{keys[1]} {number}")
        elif number is not None and number in seen:
            faults.add(f"captions whose {keys[1]} stands twice", str(number))
        else:
            seen.add(number)
            found.setdefault(owner, []).append(" ".join(text.split()))
    return found


def queries_of(
    name: str, split: str, owners: Mapping[Hashable, Photo], captions: Mapping[Hashable, list[str]], kind: str,
    faults: coco_records.Faults,
) -> list[Query]:  # fmt: skip
    """A query for each picture or video that has captions, in the order of `owners`; the others are counted."""
    found = []
    for owner, photo in owners.items():
        if owner in captions:
            references = tuple(captions[owner])
            found.append(Query(f"{name}/{split}/{owner}", REQUESTS[kind], photo, references=references))
        else:
            faults.add(f"{kind}s without captions", str(owner))
    return found


def check_captions(place: str, queries: Iterable[Query], known: int | None) -> None:
    """Warns if there are not as many captions as published; `known` is their number, None = not known."""
    benchmark.check_count(place, sum(len(query.references) for query in queries), known, "captions")
