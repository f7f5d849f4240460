"""The report's gallery: each held-out query with its predictions before and after training, side by side."""

from __future__ import annotations

import base64
import json
import pathlib
from typing import Any

from dtr1_jax import places
from dtr1_jax.report.markup import to_number, to_text

SIDES = ("before", "after")
PICTURES = ("image", "twin", "target", "answer")
MAX_PICTURE = 4 << 20  # bytes of one picture
MAX_PAGE = 64 << 20  # bytes of all pictures together: a browser has to hold the page
MAX_QUERIES = 200


def gallery_section(folder: pathlib.Path) -> str:
    """A card for each held-out query of `folder`/{before,after}/predictions.jsonl, at most MAX_QUERIES."""
    sides = {side: read_predictions(folder / side / "predictions.jsonl") for side in SIDES}
    by_uid: dict[str, dict[str, dict]] = {}
    for side, records in sides.items():
        for record in records:
            by_uid.setdefault(record["uid"], {}).setdefault(side, record)
    if not by_uid:
        return '<section><h2>Gallery</h2><p class="none">No predictions yet: none were evaluated.</p></section>'
    present = [side for side in SIDES if sides[side]]
    notes = [f"No predictions from {side} training." for side in SIDES if side not in present]
    if len(by_uid) > MAX_QUERIES:
        notes.append(f"The first {MAX_QUERIES} of {len(by_uid)} queries.")
    budget = [MAX_PAGE]
    cards = [_card(uid, pair, present, folder, budget) for uid, pair in list(by_uid.items())[:MAX_QUERIES]]
    note = f'<p class="note">{" ".join(notes)}</p>' if notes else ""
    return f"<section><h2>Gallery <small>held-out queries</small></h2>{note}{''.join(cards)}</section>"


def read_predictions(path: pathlib.Path) -> list[dict]:
    """The records of a predictions.jsonl, each with a string as "uid"; [] where the file cannot be read.

    Lines that are not JSON objects are skipped.
    """
    try:
        lines = places.read_text(path, "replace").split("\n")
    except OSError:
        return []
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            uid = record.get("uid")
            records.append({**record, "uid": uid if isinstance(uid, str) else f"line {number}"})
    return records


def _card(uid: str, pair: dict[str, dict], present: list[str], folder: pathlib.Path, budget: list[int]) -> str:
    """One query with its predictions by side. `budget` holds the bytes that pictures may still take."""
    first = next(iter(pair.values()))
    tags = [first.get("category"), f"level {to_text(first['level'])}" if first.get("level") else None, uid]
    chips = "".join(f"<span>{to_text(t)}</span>" for t in tags if t)
    predictions = "".join(
        _prediction(side, pair[side], folder / side, budget)
        if side in pair
        else f'<div><h4>{side}</h4><p class="none">no prediction</p></div>'
        for side in present
    )
    return (
        f'<article><h3>{to_text(first.get("query", ""))}</h3><p class="chips">{chips}</p>'
        f'<div class="sides">{predictions}</div></article>'
    )


def _prediction(side: str, record: dict, folder: pathlib.Path, budget: list[int]) -> str:
    """One prediction: pictures, the reward's columns, and the transcript behind a click."""
    names = record.get("pictures")
    names = names if isinstance(names, dict) else {}
    pictures = "".join(
        f"<figure>{_picture(folder, names.get(kind), kind, budget)}<figcaption>{kind}</figcaption></figure>"
        for kind in PICTURES
    )
    return (
        f'<div><h4>{side} <span class="chips">{_badges(record)}</span></h4><div class="pictures">{pictures}</div>'
        f"<dl>{_column_bars(record.get('columns'))}</dl><details><summary>transcript</summary>{_answer(record)}"
        f"<pre>{to_text(record.get('transcript', ''))}</pre>{_fault_list(record.get('faults'))}</details></div>"
    )


def _badges(record: dict) -> str:
    """The IoU, or else the task's main metric; and whether the transcript is sound."""
    iou = to_number(record.get("giou", record.get("iou")))
    value = to_number(record.get("value"))
    badges = "" if iou is None else f"<span>IoU {iou:.2f}</span>"
    if iou is None and value is not None:
        badges = f"<span>{to_text(record.get('metric', 'value'))} {value:.2f}</span>"
    sound = record.get("sound")
    if isinstance(sound, bool):
        badges += f'<span class="{"up" if sound else "down"}">{"sound" if sound else "not sound"}</span>'
    return badges


def _column_bars(columns: Any) -> str:
    bars = ""
    for name, value in list(columns.items())[:50] if isinstance(columns, dict) else ():
        number = to_number(value)
        width = 0 if number is None else 100 * min(max(number, 0), 1)
        label = "none" if number is None else f"{number:.2f}"
        bars += f'<dt>{to_text(name)}</dt><dd><i style="width:{width:.0f}%"></i></dd><dd>{label}</dd>'
    return bars


def _answer(record: dict) -> str:
    """The answer, and up to 10 reference answers."""
    answer, references = record.get("answer"), record.get("references")
    notes = "" if answer is None else f'<p class="note">answer <code>{to_text(answer)}</code></p>'
    for reference in (references if isinstance(references, list) else ())[:10]:
        notes += f'<p class="note">reference <code>{to_text(reference)}</code></p>'
    return notes


def _fault_list(faults: Any) -> str:
    items = "".join(
        f"<li><code>{to_text(fault.get('where'))}</code> {to_text(fault.get('message'))}</li>"
        for fault in (faults if isinstance(faults, list) else ())[:50]
        if isinstance(fault, dict)
    )
    return f"<ul>{items}</ul>" if items else ""


def _picture(folder: pathlib.Path, name: Any, kind: str, budget: list[int]) -> str:
    """`<img>` with the PNG inside, or the reason why there is none. Only plain files of `folder` itself are read."""

    def blank(reason: str) -> str:
        return f'<div class="blank">{reason}</div>'

    if not isinstance(name, str) or not name:
        return blank("none")
    if name != pathlib.PurePath(name).name or "\\" in name or "\0" in name:
        return blank("refused: outside its folder")
    path = folder / name
    try:
        if not places.is_bucket(path) and path.resolve().parent != folder.resolve():
            return blank("refused: outside its folder")
        if not places.is_file(path):
            return blank("missing")
        if places.size(path) > min(MAX_PICTURE, budget[0]):
            return blank("left out: too large")
        data = places.read_bytes(path)
    except OSError:
        return blank("missing")
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return blank("refused: not a PNG")
    budget[0] -= len(data)
    return f'<img alt="{kind}" src="data:image/png;base64,{base64.b64encode(data).decode()}">'
