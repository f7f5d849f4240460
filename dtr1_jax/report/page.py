"""One self-contained page about a run: numbers before and after, curves, and what the policy sees and answers.

Everything that came from a model, a data set or a file is text here and never markup: it goes through `_text`, pictures
go in as checked PNG bytes, and the page itself forbids scripts and outside resources.
"""

from __future__ import annotations

import base64
import html
import json
import math
import pathlib
import re
from typing import Any

from dtr1_jax import types
from dtr1_jax.evaluation import table
from dtr1_jax.report import charts
from dtr1_jax.run import atomic, run_log

SIDES = ("before", "after")
PICTURES = ("image", "twin", "target", "answer")
HEADLINES = {"eval/giou": "gIoU", "eval/ciou": "cIoU", "eval/structure": "structure", "eval/reward": "reward"}
# The main metrics of what is not segmentation on pictures, whose are above.
OTHERS = {
    f"eval/{task}/{modality}/{table.main_metric(task, modality)}": f"{task}, {modality}"
    for task, modality in table.FIGURES
    if (task, modality) != ("segmentation", "picture")
}
MAX_PICTURE = 4 << 20  # bytes of one picture
MAX_PAGE = 64 << 20  # bytes of all pictures together: a browser has to hold the page
MAX_QUERIES = 200


def build(workdir) -> pathlib.Path:
    """Writes `workdir/report.html` from what is there of metrics.jsonl, config.json and gallery/{before,after}.

    Missing or broken pieces are named in the page. Raises OSError if the page can not be written.
    """
    workdir = pathlib.Path(workdir)
    rows, config = run_log.read_run_log(workdir), _config(workdir / "config.json")
    sides = {side: _predictions(workdir / "gallery" / side / "predictions.jsonl") for side in SIDES}
    page = "\n".join(
        [
            _HEAD,
            _title(config, rows),
            _headlines(rows),
            _curves(rows, config),
            _gallery(workdir / "gallery", sides),
            _settings(config),
            "</main></body></html>\n",
        ]
    )
    path = workdir / "report.html"
    with atomic.replacing(path) as partial:
        partial.write_bytes(page.encode("utf-8", "replace"))  # a completion may hold lone surrogates
    return path


def _title(config: dict, rows: list[dict]) -> str:
    facts = {
        "policy": _get(config, "policy", "name"),
        "data": _get(config, "data", "source"),
        "task": _get(config, "data", "task"),
        "variant": _get(config, "grpo", "variant"),
        "LoRA rank": _get(config, "lora", "rank"),
        "queries a step": _get(config, "rollout", "queries"),
        "completions a query": _get(config, "rollout", "group"),
        "learning rate": _get(config, "optim", "lr"),
        "segmenter": _get(config, "reward", "segmenter"),
        "seed": _get(config, "seed"),
        "last step": rows[-1]["step"] if rows else None,
    }
    chips = "".join(f"<span><b>{name}</b> {_text(v)}</span>" for name, v in facts.items() if v is not None)
    return (
        f'<header><h1>DT-R1: a policy learns to build a digital twin</h1><p class="chips">'
        f"{chips or 'no config.json in this folder'}</p></header>"
    )


def _headlines(rows: list[dict]) -> str:
    """Tiles with the first and the last held-out value; the reward of training where held-out has none."""
    tiles, there = [], {name for row in rows for name in row}
    others = {name: f"{label}: {name.rpartition('/')[2]}" for name, label in OTHERS.items() if name in there}
    headlines = HEADLINES
    if others:
        kept = {name: label for name, label in HEADLINES.items() if "iou" not in name or name in there}
        headlines = {"eval/mean": "mean of the tasks", **others, **kept}
    for name, label in headlines.items():
        values = [y for _, y in _series(rows, name) if y is not None]
        note = "held-out"
        if name == "eval/reward" and not values:
            train = [y for _, y in _series(rows, "train/reward") if y is not None]
            n = min(5, len(train) // 2) or 1
            note = f"training, mean of {n} step{'s' if n > 1 else ''}"
            values = [sum(train[:n]) / n, sum(train[-n:]) / n] if len(train) > 1 else train
        if not values:
            body = '<p class="none">not measured</p>'
        elif len(values) == 1:
            body = f'<p class="big">{values[0]:.3f}</p><p class="note">measured once</p>'
        else:
            gain = values[-1] - values[0]
            body = (
                f'<p class="big">{values[0]:.3f} <i>→</i> {values[-1]:.3f}</p>'
                f'<p class="{"up" if gain >= 0 else "down"}">{gain:+.3f}</p>'
            )
        tiles.append(f'<div class="tile"><h3>{label} <small>{note}</small></h3>{body}</div>')
    return f'<section><h2>Before and after</h2><div class="tiles">{"".join(tiles)}</div></section>'


def _curves(rows: list[dict], config: dict) -> str:
    """The panels a person looks at first, and every other number behind a click."""
    weights = _get(config, "reward", "weights")
    of_tasks = [w for w in weights.values() if isinstance(w, dict)] if isinstance(weights, dict) else []
    named = dict.fromkeys(name for of_task in of_tasks for name in of_task if isinstance(name, str))
    columns = "|".join(re.escape(name) for name in ("reward", *named) if name != "length")  # that is the completions'
    panels = {
        "Reward": rf"train/(reward/.*|reward_length|(reward_)?({columns})([/_]mean)?)",
        "Held-out IoU": r"eval/(giou|ciou)",
        "Structure": r"(eval|train)/structure",
        "Completions that reason (share with a thought)": r"(eval|train)/reasoned",
        "KL to the reference": r"train/.*\bkl.*|train/kl.*",
        "Entropy (nats a token)": r"train/.*entropy.*",
        "Completion length (tokens)": r"train/.*length.*",
        "Clip share": r"train/.*clip.*",
        "Tokens per second": r".*(tokens_per_s|tokens/s).*",
    }
    names = list(dict.fromkeys(n for row in rows for n in row if n != "step"))
    tasks = _by_task(names)
    names = [n for n in names if not any(n in of.values() for of in tasks.values())]
    shown: set[str] = set()

    def panel(title: str, wanted: list[str]) -> str:
        chart = charts.chart({n: _series(rows, n) for n in wanted}, label=title)
        return f'<figure class="panel"><figcaption>{_text(title)}</figcaption>{chart}</figure>'

    out = []
    for title, pattern in panels.items():
        wanted = [n for n in names if re.fullmatch(pattern, n)]
        shown.update(wanted)
        out.append(panel(title, wanted))
    for title, of in tasks.items():  # a task has one colour in all of them
        chart = charts.chart(
            {t: _series(rows, n) for t, n in of.items()}, label=title, colours={t: i for i, t in enumerate(types.TASKS)}
        )
        out.append(f'<figure class="panel"><figcaption>{_text(title)}</figcaption>{chart}</figure>')
    rest = [panel(n, [n]) for n in names if n not in shown]
    more = f'<details><summary>{len(rest)} other numbers</summary><div class="grid2">{"".join(rest)}</div></details>'
    note = "" if rows else '<p class="none">No metrics.jsonl in this folder yet, or no line in it.</p>'
    return (
        f'<section><h2>Curves <small>over steps</small></h2>{note}<div class="grid2">{"".join(out)}</div>'
        f"{more if rest else ''}</section>"
    )


def _by_task(names: list[str]) -> dict[str, dict[str, str]]:
    """Title of a panel -> task -> number, of those that are there for tasks, as train/vqa/reward or train/ema_std/vqa.

    The reward comes first.
    """
    panels: dict[str, dict[str, str]] = {}
    for task in types.TASKS:
        for name in names:
            path = name.split("/")
            if task in path[1:]:
                title = f"{'/'.join(p for p in path if p != task)} by task"
                panels.setdefault(title, {}).setdefault(task, name)
    return dict(sorted(panels.items(), key=lambda item: item[0] not in ("train/reward by task", "eval/reward by task")))


def _gallery(folder: pathlib.Path, sides: dict[str, list[dict]]) -> str:
    """A card for each held-out query, its predictions before and after side by side."""
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
    cards = []
    for uid, pair in list(by_uid.items())[:MAX_QUERIES]:
        first = next(iter(pair.values()))
        tags = [first.get("category"), f"level {_text(first['level'])}" if first.get("level") else None, uid]
        chips = "".join(f"<span>{_text(t)}</span>" for t in tags if t)
        views = "".join(
            _view(side, pair[side], folder / side, budget)
            if side in pair
            else f'<div><h4>{side}</h4><p class="none">no prediction</p></div>'
            for side in present
        )
        cards.append(
            f'<article><h3>{_text(first.get("query", ""))}</h3><p class="chips">{chips}</p>'
            f'<div class="sides">{views}</div></article>'
        )
    note = f'<p class="note">{" ".join(notes)}</p>' if notes else ""
    return f"<section><h2>Gallery <small>held-out queries</small></h2>{note}{''.join(cards)}</section>"


def _view(side: str, record: dict, folder: pathlib.Path, budget: list[int]) -> str:
    """One prediction: pictures, the reward's columns, and the transcript behind a click."""
    iou = _number(record.get("giou", record.get("iou")))
    sound = record.get("sound")
    badges = "" if iou is None else f"<span>IoU {iou:.2f}</span>"
    worth = _number(record.get("value"))
    if iou is None and worth is not None:
        badges = f"<span>{_text(record.get('metric', 'value'))} {worth:.2f}</span>"
    if isinstance(sound, bool):
        badges += f'<span class="{"up" if sound else "down"}">{"sound" if sound else "not sound"}</span>'
    names = record.get("pictures")
    names = names if isinstance(names, dict) else {}
    pictures = "".join(
        f"<figure>{_picture(folder, names.get(p), p, budget)}<figcaption>{p}</figcaption></figure>" for p in PICTURES
    )
    columns = record.get("columns")
    bars = ""
    for name, value in list(columns.items())[:50] if isinstance(columns, dict) else ():
        number = _number(value)
        width = 0 if number is None else 100 * min(max(number, 0), 1)
        shown = "none" if number is None else f"{number:.2f}"
        bars += f'<dt>{_text(name)}</dt><dd><i style="width:{width:.0f}%"></i></dd><dd>{shown}</dd>'
    faults = record.get("faults")
    lines = "".join(
        f"<li><code>{_text(f.get('where'))}</code> {_text(f.get('message'))}</li>"
        for f in (faults if isinstance(faults, list) else ())[:50]
        if isinstance(f, dict)
    )
    answer = record.get("answer")
    said = "" if answer is None else f'<p class="note">answer <code>{_text(answer)}</code></p>'
    references = record.get("references")
    for reference in (references if isinstance(references, list) else ())[:10]:
        said += f'<p class="note">reference <code>{_text(reference)}</code></p>'
    listed = f"<ul>{lines}</ul>" if lines else ""
    return (
        f'<div><h4>{side} <span class="chips">{badges}</span></h4><div class="pictures">{pictures}</div>'
        f"<dl>{bars}</dl><details><summary>transcript</summary>{said}"
        f"<pre>{_text(record.get('transcript', ''))}</pre>{listed}</details></div>"
    )


def _picture(folder: pathlib.Path, name: Any, what: str, budget: list[int]) -> str:
    """`<img>` with the PNG inside, or a word on why there is none. Only plain files of `folder` itself are read."""

    def none(why: str) -> str:
        return f'<div class="blank">{why}</div>'

    if not isinstance(name, str) or not name:
        return none("none")
    if name != pathlib.PurePath(name).name or "\\" in name or "\0" in name:
        return none("refused: outside its folder")
    path = folder / name
    try:
        if path.resolve().parent != folder.resolve():
            return none("refused: outside its folder")
        if not path.is_file():
            return none("missing")
        if path.stat().st_size > min(MAX_PICTURE, budget[0]):
            return none("left out: too large")
        data = path.read_bytes()
    except OSError:
        return none("missing")
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        return none("refused: not a PNG")
    budget[0] -= len(data)
    return f'<img alt="{what}" src="data:image/png;base64,{base64.b64encode(data).decode()}">'


def _settings(config: dict) -> str:
    def nested(values: dict, depth: int = 3) -> str:
        cells = {k: nested(v, depth - 1) if isinstance(v, dict) and depth else _text(v) for k, v in values.items()}
        return f"<table>{''.join(f'<tr><th>{_text(k)}</th><td>{cell}</td></tr>' for k, cell in cells.items())}</table>"

    if not config:
        return ""
    return f"<section><h2>Settings</h2><details><summary>all settings</summary>{nested(config)}</details></section>"


def _config(path: pathlib.Path) -> dict:
    try:
        value = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _predictions(path: pathlib.Path) -> list[dict]:
    """The records of a predictions file; [] where there is none. Lines that are no records are left out."""
    try:
        lines = path.read_text("utf-8", "replace").split("\n")
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


def _get(tree: Any, *path: str) -> Any:
    for key in path:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _series(rows: list[dict], name: str) -> list[charts.Point]:
    return [(row["step"], _number(row[name])) for row in rows if name in row]


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _text(value: Any) -> str:
    """Any value as harmless text, at most 20,000 characters of it."""
    try:
        text = value if isinstance(value, str) else json.dumps(value)
    except RecursionError:  # JSON that was just shallow enough to read
        text = "(too deep)"
    return html.escape(text[:20_000] + (" [cut]" if len(text) > 20_000 else ""))


_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>DT-R1 report</title><style>
:root { color-scheme: light dark; --bg: #f7f7f5; --card: #fff; --ink: #1d1f23; --soft: #676c76; --line: #e3e4e6;
  --up: #14804a; --down: #b3362c; --c0: #2f6fde; --c1: #d9732b; --c2: #2a9d6a; --c3: #a44bc2; --c4: #b08a12;
  --c5: #4d97a8; }
@media (prefers-color-scheme: dark) { :root { --bg: #14161a; --card: #1d2026; --ink: #e8e9ec; --soft: #9aa0ab;
  --line: #31353d; --up: #4cc38a; --down: #f0776c; --c0: #6ea2ff; --c1: #f29a5c; --c2: #53c793; --c3: #cf8ae6;
  --c4: #d8b64a; --c5: #7cc4d4; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 32px 20px 64px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 12px; } h2 { font-size: 19px; margin: 40px 0 12px; }
h3 { font-size: 15px; margin: 0; overflow-wrap: anywhere; } h4 { font-size: 13px; margin: 0 0 8px; color: var(--soft); }
small, .note, .none, figcaption { color: var(--soft); font-size: 13px; font-weight: 400; } p { margin: 0; }
.none { font-style: italic; } .up { color: var(--up); } .down { color: var(--down); }
.chips { display: flex; flex-wrap: wrap; gap: 6px; font-size: 12px; color: var(--soft); }
.chips span { border: 1px solid var(--line); border-radius: 99px; padding: 1px 9px; overflow-wrap: anywhere; }
.chips b { font-weight: 500; color: var(--ink); } h4 .chips { display: inline-flex; margin-left: 6px; }
.chips .up { color: var(--up); } .chips .down { color: var(--down); }
.tiles, .grid2, .sides { display: grid; gap: 14px; }
.tiles { grid-template-columns: repeat(auto-fit, minmax(220px, 1fr)); }
.grid2 { grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr)); }
.sides { grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); margin-top: 12px; }
.sides > div { min-width: 0; }
.tile, .panel, article { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 14px 16px; }
article { margin: 0 0 14px; } article > .chips { margin-top: 6px; }
.big { font-size: 25px; font-weight: 600; font-variant-numeric: tabular-nums; }
.big i { color: var(--soft); font-weight: 400; }
figure { margin: 0; min-width: 0; }
.panel figcaption { margin-bottom: 6px; color: var(--ink); overflow-wrap: anywhere; }
svg { width: 100%; height: auto; display: block; } svg text { fill: var(--soft); font-size: 10.5px; }
svg .grid { stroke: var(--line); } polyline { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
polyline.faint { opacity: .3; stroke-width: 1; }
.c0 { stroke: var(--c0); background: var(--c0); } .c1 { stroke: var(--c1); background: var(--c1); }
.c2 { stroke: var(--c2); background: var(--c2); } .c3 { stroke: var(--c3); background: var(--c3); }
.c4 { stroke: var(--c4); background: var(--c4); } .c5 { stroke: var(--c5); background: var(--c5); }
circle { fill: var(--card); stroke-width: 1.6; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 14px; font-size: 12px; color: var(--soft); margin-top: 6px; }
.legend i { display: inline-block; width: 12px; height: 3px; border-radius: 2px; margin-right: 6px;
  vertical-align: middle; }
.pictures { display: grid; grid-template-columns: repeat(4, 1fr); gap: 8px; text-align: center; }
img, .blank { width: 100%; border-radius: 6px; border: 1px solid var(--line); display: block; }
.blank { aspect-ratio: 1; display: grid; place-items: center; font-size: 11px; color: var(--soft); padding: 4px; }
dl { display: grid; grid-template-columns: max-content 1fr 3em; gap: 3px 10px; align-items: center; margin: 8px 0;
  font-size: 12px; }
dt { overflow-wrap: anywhere; max-width: 14em; } dd { margin: 0; color: var(--soft); text-align: right; }
dd:has(i) { height: 6px; border-radius: 3px; background: var(--line); overflow: hidden; }
dd i { display: block; height: 100%; background: var(--c0); }
details { margin-top: 10px; font-size: 13px; } summary { cursor: pointer; color: var(--soft); }
details > .grid2 { margin-top: 12px; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--bg); border-radius: 6px; padding: 10px;
  font-size: 12px; max-height: 340px; overflow: auto; } code { font-size: 12px; overflow-wrap: anywhere; }
ul { margin: 0; padding-left: 18px; color: var(--down); }
table { border-collapse: collapse; font-size: 12.5px; } th { text-align: left; vertical-align: top; font-weight: 500;
  padding: 2px 18px 2px 0; color: var(--soft); } td { padding: 2px 0; overflow-wrap: anywhere; }
</style></head><body><main>"""
