"""The work of `--mode=perceive` on disk: each finished input is one line, so that a killed run goes on where it was.

OUT/parts/0.jsonl, 1.jsonl, ...   what each process finished: {"index": 3, "lines": [...], "provenance": {...}},
                                  for a picture or video of its own with "files", the digests of its files
OUT/twins.jsonl                   the lines of all inputs in their order, for data.source=jsonl
OUT/provenance.jsonl              where their fields come from
OUT/header.json                   models, settings and counts
"""

from __future__ import annotations

import itertools
import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from dtr1_jax import config
from dtr1_jax.data import json_files
from dtr1_jax.run import atomic

PARTS, TWINS, PROVENANCE, HEADER = "parts", "twins.jsonl", "provenance.jsonl", "header.json"
FILES = "files"  # field of the header and of records: perceive_files.digests
TIMES = "times of change"  # the digest that also differs where files were only copied, so it is a reason to warn

log = logging.getLogger(__name__)


class Journal:
    """The part of one process; a context manager. Lines of a killed run that are not whole are cut off."""

    def __init__(self, out: Path, process: int):
        self._path = out / PARTS / f"{process}.jsonl"
        self._file: BinaryIO | None = None

    def __enter__(self) -> Journal:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self._path, "ab")
        size = self._path.stat().st_size
        whole = _whole_bytes(self._path)
        if whole < size:
            self._file.truncate(whole)
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, records: list[dict[str, Any]]) -> None:
        """Appends records with "index"; they are on the disk when it returns."""
        text = "".join(json.dumps(record, separators=(",", ":"), allow_nan=False) + "\n" for record in records)
        self._file.write(text.encode())
        self._file.flush()
        os.fsync(self._file.fileno())


def _whole_bytes(path: Path) -> int:
    """Bytes up to the end of the last whole line."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        end = size
        while end > 0:
            start = max(0, end - (1 << 16))
            file.seek(start)
            found = file.read(end - start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end = start
    return 0


def records(out: Path) -> Iterator[tuple[Path, int, dict[str, Any]]]:
    """(file, byte at which it begins, record) of all whole lines of all parts; broken ones are left out."""
    for path in sorted((out / PARTS).glob("*.jsonl")):
        with open(path, "rb") as file:
            start = 0
            for raw in file:
                if raw.endswith(b"\n"):
                    try:
                        record = json.loads(raw)
                    except ValueError:
                        record = None
                    if isinstance(record, dict) and type(record.get("index")) is int:
                        yield path, start, record
                start += len(raw)


def finished(out: Path, known: Callable[[int], tuple[str, dict[str, str]]] | None = None) -> set[int]:
    """The indices of the inputs that are done. Those that were skipped, or on which the detector failed, are not: the
    cause may have passed or the file be corrected, so the next run tries them again.

    Args:
      out: the folder. Records of earlier versions say nothing of the files, so only their names are compared.
      known: index -> (uid, perceive_files.digests of its files) of this run's inputs, where these are known.

    Raises ConfigError if an input that is done is none of this run's, or if its files have other names or sizes now.
    Files that were only written at another time, as copies are, are counted in a warning.
    """
    done: set[int] = set()
    rewritten: set[int] = set()
    for _, _, record in records(out):
        if not _is_done(record):
            continue
        index = record["index"]
        if known is not None and _check_record(out, record, *known(index)):
            rewritten.add(index)
        done.add(index)
    if rewritten:
        log.warning(
            "%d of %d inputs that are done in %s were written at another time than when they were perceived; if they "
            "were edited and not only copied, choose another --out", len(rewritten), len(done), out,
        )  # fmt: skip
    return done


def _check_record(out: Path, record: dict[str, Any], uid: str, files: dict[str, str]) -> bool:
    """Whether the files of an input were written at another time. Raises ConfigError if they are others."""
    had = record.get("provenance", {}).get("id", uid)
    if uid != had:
        raise config.ConfigError(
            f"{out} holds twins of other inputs: expected {uid} as number {record['index']}, got {had}; choose another"
            " --out"
        )
    kinds = _kinds(_different(FILES, files, record.get(FILES, files)))
    if set(kinds) - {TIMES}:
        raise config.ConfigError(
            f"{out} holds twins of other inputs: expected {uid} as it was then, got other {' and '.join(kinds)}; "
            "choose another --out"
        )
    return bool(kinds)


def _kinds(different: list[tuple[str, Any, Any]]) -> list[str]:
    return [place.removeprefix(f"{FILES}.") for place, _, _ in different]


def _is_done(record: dict[str, Any]) -> bool:
    return "skipped" not in record and record.get("provenance", {}).get("detected", True)


def publish(out: Path, header: dict[str, Any]) -> dict[str, Any]:
    """Writes twins.jsonl, provenance.jsonl and header.json from all parts; returns the header with the counts.

    Of several records about an input the last that is done counts, or else the last.
    """
    places: dict[int, tuple[Path, int]] = {}
    done: set[int] = set()
    for path, start, record in records(out):
        if _is_done(record) or record["index"] not in done:
            places[record["index"]] = path, start
        if _is_done(record):
            done.add(record["index"])
    counts = {"inputs": len(places), "lines": 0, "objects": 0, "skipped": 0, "with_failures": 0, "detection_failed": 0}
    with atomic.replacing(out / TWINS) as twins, atomic.replacing(out / PROVENANCE) as facts:
        with open(twins, "w", encoding="utf-8") as lines, open(facts, "w", encoding="utf-8") as sides:
            for index in sorted(places):
                record = _read(*places[index])
                counts["skipped"] += "skipped" in record
                for line in record.get("lines", ()):
                    lines.write(json.dumps(line, separators=(",", ":")) + "\n")
                counts["lines"] += len(record.get("lines", ()))
                if "provenance" in record:
                    sides.write(json.dumps(record["provenance"], separators=(",", ":")) + "\n")
                    counts["objects"] += len(record["provenance"]["objects"])
                    counts["with_failures"] += "failures" in record["provenance"]
                    counts["detection_failed"] += not record["provenance"].get("detected", True)
    header = header | {"counts": counts}
    write_header(out, header)
    return header


def unread(out: Path, counts: dict[str, int]) -> str:
    """Why no input could be read, in words with the first cause; "" where one could be. `counts` is `publish`'s."""
    if counts["skipped"] < counts["inputs"]:
        return ""
    causes = (record["skipped"] for _, _, record in records(out) if "skipped" in record)
    return (
        f"none of {counts['inputs']} inputs could be read: {next(causes, 'there are none')}; correct the files, and "
        "start the same command again"
    )


def _read(path: Path, start: int) -> dict[str, Any]:
    with open(path, "rb") as file:
        file.seek(start)
        return json.loads(file.readline())


def write_header(out: Path, header: dict[str, Any]) -> None:
    """Writes header.json."""
    with atomic.replacing(out / HEADER) as partial:
        partial.write_text(json.dumps(header, indent=2) + "\n", "utf-8")


def check_header(out: Path, header: dict[str, Any], names: tuple[str, ...], added: tuple[str, ...] = ()) -> None:
    """Compares the fields `names` with the header of an earlier run on the folder.

    A header of an earlier version lacks the fields `added`. They are not compared there, so that its run goes on.

    Raises ConfigError if they differ, DataError if the file cannot be read.
    """
    if not (out / HEADER).exists():
        return
    old = json_files.read_json(out / HEADER)
    if not isinstance(old, dict):
        raise json_files.DataError(f"{out / HEADER}: expected an object, got another value; choose another --out")
    new = json.loads(json.dumps(header))
    for name in names:
        if old.get(name) == new[name] or (name in added and name not in old):
            continue
        different = _different(name, new[name], old.get(name))
        if name == FILES and _kinds(different) == [TIMES]:
            log.warning(
                "files of %s were written at another time than when %s was begun; if they were edited and not only "
                "copied, choose another --out", new["inputs"][:200], out,
            )  # fmt: skip
            continue
        if name == FILES:
            raise config.ConfigError(
                f"{out} holds twins of other inputs: expected {new['inputs'][:200]} with the files of the earlier run, "
                f"got files with other {' and '.join(_kinds(different))}; choose another --out"
            )
        found = "; ".join(
            f"expected {place} = {json.dumps(one)[:400]}, got {json.dumps(other)[:400]}"
            for place, one, other in different[:4]
        )
        raise config.ConfigError(
            f"{out} holds twins of another run: {found}; choose another --out, or set the settings back"
        )


def _different(name: str, new: Any, old: Any) -> list[tuple[str, Any, Any]]:
    """(name, new, old) of what differs: of two objects or lists, the parts that do."""
    pairs = [(name, new, old)]
    if isinstance(new, dict) and isinstance(old, dict):
        pairs = [(f"{name}.{key}", new.get(key), old.get(key)) for key in dict.fromkeys((*new, *old))]
    elif isinstance(new, list) and isinstance(old, list):
        pairs = [(f"{name}[{i}]", *pair) for i, pair in enumerate(itertools.zip_longest(new, old))]
    return [pair for pair in pairs if pair[1] != pair[2]]
