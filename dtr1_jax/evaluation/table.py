"""The table of an evaluation by task, modality, category and level, computed from the rows of predictions.jsonl alone.

Each task and modality has one main metric in [0, 1], which is a mean over queries; its interval is the bootstrap
interval (Efron 1979) of that mean. Failed samples stay in every mean with the value of a wrong answer. The figures of a
whole set (cIoU, BLEU-4, CIDEr-D) are computed again from the pixels and texts in the rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtr1_jax import places
from dtr1_jax.data.json_files import DataError, parse_json
from dtr1_jax.evaluation import benchmark_rows, caption_figures, twin_answers
from dtr1_jax.evaluation.benchmarks import segmentation
from dtr1_jax.evaluation.query_metrics import MODALITIES
from dtr1_jax.types import CATEGORIES, LEVELS, TASKS

Row = dict[str, Any]
ALL = "all"
MAX_FAULTS = 5  # faults of a file that an error lists
_MAX_PIXELS = 1 << 53  # a larger count of pixels is refused as broken


@dataclasses.dataclass(frozen=True)
class Cell:
    """One figure of the table.

    Attributes:
      task, modality: one of TASKS and of MODALITIES.
      category: one of CATEGORIES, "unknown", or ALL for the mean over all categories.
      level: "L1" to "L4", "unknown", or ALL for the mean over all levels.
      count: number of queries.
      metric: name of the main metric.
      value: mean of the main metric, in [0, 1].
      low, high: its 95 % bootstrap interval.
    """

    task: str
    modality: str
    category: str
    level: str
    count: int
    metric: str
    value: float
    low: float
    high: float


def _mean(name: str) -> Callable[[Sequence[Row]], float]:
    return lambda rows: float(np.mean([row[name] for row in rows]))


def overlaps(rows: Sequence[Row]) -> list[segmentation.Overlap]:
    """The overlaps of answer and target in rows of segmentation on pictures."""
    return [segmentation.Overlap(row["intersection"], row["union"], row["iou"]) for row in rows]


_OF_TEXTS = {"rouge_l": _mean("rouge_l"), "bleu4": caption_figures.bleu4, "cider": caption_figures.cider}
# (task, modality) -> name of a figure -> function from rows to the figure; the first figure is the main metric. All are
# in [0, 1], except CIDEr-D, which is in [0, 10].
FIGURES: dict[tuple[str, str], dict[str, Callable[[Sequence[Row]], float]]] = {
    ("segmentation", "picture"): {"giou": _mean("iou"), "ciou": lambda rows: segmentation.ciou(overlaps(rows))},
    ("segmentation", "video"): {"jf": lambda rows: _mean("j")(rows) / 2 + _mean("f")(rows) / 2, "j": _mean("j"),
                                "f": _mean("f")},
    ("grounding", "picture"): {"acc": _mean("acc"), "iou": _mean("iou")},
    ("grounding", "video"): {"viou": _mean("iou")},
    **{("vqa", m): {"accuracy": _mean("accuracy")} for m in MODALITIES},
    **{("summary", m): _OF_TEXTS for m in MODALITIES},
}  # fmt: skip
MEASURES = {  # (task, modality) -> names of the numbers in a row, see query_metrics.measure
    ("segmentation", "picture"): ("iou", "intersection", "union"),
    ("segmentation", "video"): ("j", "f"),
    ("grounding", "picture"): ("acc", "iou"),
    ("grounding", "video"): ("iou",),
    **{("vqa", m): ("accuracy",) for m in MODALITIES},
    **{("summary", m): ("rouge_l",) for m in MODALITIES},
}


def main_metric(task: str, modality: str) -> str:
    """Name of the main metric of a task and modality, such as "giou"."""
    return next(iter(FIGURES[task, modality]))


def value(row: Row) -> float:
    """The main metric of one query, in [0, 1]."""
    return FIGURES[row["task"], row["modality"]][main_metric(row["task"], row["modality"])]([row])


def cell_metrics(rows: Sequence[Row]) -> dict[str, float]:
    """All figures by name: `eval/<task>/<modality>/<figure>`, the number of queries as `.../examples`, and `eval/mean`.

    `eval/mean` is the mean of the main metrics of all tasks and modalities. Those without rows are left out. Queries
    with a program add the figures of twin_answers.figures, and those of a public benchmark its own
    (benchmark_rows.figures).
    """
    numbers, mains = {}, []
    for (task, modality), part in _parts(rows).items():
        part_figures = {name: figure(part) for name, figure in FIGURES[task, modality].items()}
        mains.append(part_figures[main_metric(task, modality)])
        numbers |= {f"eval/{task}/{modality}/{name}": number for name, number in part_figures.items()}
        numbers[f"eval/{task}/{modality}/examples"] = len(part)
    mean = {"eval/mean": float(np.mean(mains))} if mains else {}
    return numbers | mean | twin_answers.figures(rows) | benchmark_rows.figures(rows)


def cells(rows: Sequence[Row]) -> list[Cell]:
    """The cells of the table that have queries.

    They are in the order of TASKS, MODALITIES, CATEGORIES and LEVELS; the cells for ALL come first.
    """
    table = []
    for (task, modality), part in _parts(rows).items():
        for category in (ALL, *CATEGORIES, "unknown"):
            for level in (ALL, *(f"L{i}" for i in LEVELS), "unknown"):
                group = [r for r in part if category in (ALL, _category(r)) and level in (ALL, _level(r))]
                if group:
                    values = [value(row) for row in group]
                    low, high = segmentation.bootstrap(values, np.mean)
                    metric = main_metric(task, modality)
                    mean = float(np.mean(values))
                    table.append(Cell(task, modality, category, level, len(group), metric, mean, low, high))
    return table


def format_table(table: Sequence[Cell]) -> str:
    """The table as text, with a line for each task, modality and category, and a column for each level."""
    levels = [level for level in (ALL, *(f"L{i}" for i in LEVELS), "unknown") if any(c.level == level for c in table)]
    lines = [["task", "modality", "category", "metric", *levels]]
    for first in (c for c in table if c.level == ALL):
        key = first.task, first.modality, first.category
        by_level = {c.level: c for c in table if (c.task, c.modality, c.category) == key}
        columns = [f"{c.value:.3f} [{c.low:.3f}, {c.high:.3f}] n={c.count}" if (c := by_level.get(level)) else ""
                   for level in levels]  # fmt: skip
        lines.append([*key, first.metric, *columns])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(word.ljust(width) for word, width in zip(line, widths)).rstrip() for line in lines)


def recompute(path: Path) -> tuple[list[Cell], dict[str, float]]:
    """The cells and the figures of an evaluation from its predictions.jsonl alone.

    `format_table(cells)` is the table that the evaluation printed. Raises DataError as `read_predictions` does.
    """
    rows = read_predictions(path)
    return cells(rows), cell_metrics(rows)


def read_predictions(path: Path) -> list[Row]:
    """Reads the rows of a predictions.jsonl and checks the fields that the table needs.

    Raises DataError if the file cannot be read, has no rows, or has bad lines (the first MAX_FAULTS are listed).
    """
    try:
        lines = places.read_bytes(places.path(path)).splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); expected a predictions.jsonl") from None
    rows, faults = [], []
    for number, line in enumerate(lines, 1):
        try:
            row = parse_json(line)
            fault = _fault(row)
        except ValueError as error:  # no JSON, or no UTF-8
            row, fault = None, f"expected JSON, got a malformed line: {str(error)[:200]}"
        if fault is None:
            rows.append(row)
        else:
            faults.append(f"line {number}: {fault}")
    if faults:
        more = f"\n  and {len(faults) - MAX_FAULTS} more" if len(faults) > MAX_FAULTS else ""
        raise DataError(f"{path}: bad lines:\n  " + "\n  ".join(faults[:MAX_FAULTS]) + more)
    if not rows:
        raise DataError(f"{path}: expected a line for each prediction, got none")
    return rows


def _fault(row: Any) -> str | None:
    """The first fault of a row, or None."""
    if not isinstance(row, dict):
        return f"expected an object, got {type(row).__name__}"
    for name, known in (("task", TASKS), ("modality", MODALITIES), ("category", ("", *CATEGORIES)),
                        ("level", (0, *LEVELS)), ("sound", (True, False))):  # fmt: skip
        field = row.get(name)
        if type(field) is not type(known[0]) or field not in known:
            return f"{name}: expected one of {', '.join(map(repr, known))}, got {_short(field)}"
    for name in MEASURES[row["task"], row["modality"]]:
        number, pixels = row.get(name), name in ("intersection", "union")
        valid = type(number) is int if pixels else type(number) in (int, float)
        if not valid or not 0 <= number <= (_MAX_PIXELS if pixels else 1):
            return f"{name}: expected {'a number of pixels' if pixels else 'a number in [0, 1]'}, got {_short(number)}"
    if row.get("union", 0) < row.get("intersection", 0) and row["task"] == "segmentation":
        return f"union: expected at least the intersection, {row['intersection']}, got {row['union']}"
    if ("perception" in row or "reasoning" in row) and row["task"] != "summary":
        for name in ("perception", "reasoning"):
            if row.get(name) not in (0, 1) or type(row[name]) is bool:
                return f"{name}: expected 0 or 1, got {_short(row.get(name))}"
    if (benchmark_fault := benchmark_rows.fault(row)) is not None:
        return benchmark_fault
    if row["task"] == "summary":
        references, answer = row.get("references"), row.get("answer", 0)
        if not isinstance(references, list) or not all(isinstance(r, str) for r in references):
            return f"references: expected a list of texts, got {_short(references)}"
        if answer is not None and not (isinstance(answer, dict) and isinstance(answer.get("text", ""), str)):
            return f"answer: expected null or an object with a text, got {_short(answer)}"
    return None


def _short(value: Any) -> str:
    is_plain = isinstance(value, str | float | bool | None)
    return repr(value)[:80] if is_plain else f"a value of type {type(value).__name__}"


def _category(row: Row) -> str:
    return row["category"] or "unknown"


def _level(row: Row) -> str:
    return f"L{row['level']}" if row["level"] else "unknown"


def _parts(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """The rows by task and modality, without the empty ones, in the order of FIGURES."""
    parts = {key: [r for r in rows if (r["task"], r["modality"]) == key] for key in FIGURES}
    return {key: part for key, part in parts.items() if part}
