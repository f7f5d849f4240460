"""`warnings.jsonl` of a workdir: the warnings that a run gave about itself, for the report and for a resumed run."""

from __future__ import annotations

import json
import pathlib

from dtr1_jax import places
from dtr1_jax.run import atomic

NAME = "warnings.jsonl"


def append_warning(workdir: str | pathlib.Path, step: int, name: str, message: str) -> None:
    """Appends a line `{"step": 5, "name": "no_spread", "message": "..."}`. Raises OSError if it cannot be written."""
    path = places.path(workdir) / NAME
    line = json.dumps({"step": step, "name": name, "message": message}) + "\n"
    if places.is_bucket(path):  # nothing can be appended to an object
        before = places.read_text(path, "replace") if places.exists(path) else ""
        places.write_text(path, before + "\n" * (before[-1:] not in ("", "\n")) + line)
        return
    cut_off = path.exists() and path.stat().st_size and path.read_bytes()[-1:] != b"\n"
    with open(path, "a", encoding="utf-8") as file:
        file.write("\n" * bool(cut_off) + line)


def read_warnings(workdir: str | pathlib.Path) -> list[dict]:
    """The lines with an int "step" and a "name" and a "message" that are texts, in order; [] if there is no file."""
    try:
        return _rows(places.read_text(places.path(workdir) / NAME, "replace"))
    except OSError:
        return []


def _rows(text: str) -> list[dict]:
    rows = []
    for line in text.split("\n"):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue  # a killed run can leave a last line that is cut off
        if isinstance(row, dict) and type(row.get("step")) is int and _has_texts(row):
            rows.append(row)
    return rows


def truncate_warnings(workdir: str | pathlib.Path, step: int) -> None:
    """Removes the lines after `step`, in one move; -1 removes all lines."""
    path = places.path(workdir) / NAME
    if places.exists(path):
        kept = [row for row in _rows(places.read_text(path, "replace")) if row["step"] <= step]
        with atomic.replacing(path) as partial:
            partial.write_text("".join(json.dumps(row) + "\n" for row in kept), "utf-8")


def _has_texts(row: dict) -> bool:
    return all(isinstance(row.get(name), str) for name in ("name", "message"))
