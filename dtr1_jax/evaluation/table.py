"""The table of an evaluation: task x modality x category x level, from the rows of predictions.jsonl and nothing else.

Each cell of task and modality has one main metric in [0, 1], a mean over its queries, so that its bootstrap interval
(Efron 1979) is that of a mean. Failed samples are in every mean as what they are worth. Figures of a whole set (cIoU,
BLEU-4, CIDEr-D) are recomputed from what the rows carry.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtr1_jax.data.json_files import DataError, parse_json
from dtr1_jax.evaluation.benchmarks import captions, segmentation
from dtr1_jax.evaluation.measures import MODALITIES, cut
from dtr1_jax.types import CATEGORIES, LEVELS, TASKS

Row = dict[str, Any]
ALL = "all"
SHOWN = 5  # faults of a file that are listed
_LARGEST = 1 << 53  # pixels: a larger integer is no number of them


@dataclasses.dataclass(frozen=True)
class Cell:
    """One figure of the table.

    Attributes:
      task, modality: one of TASKS and of MODALITIES.
      category: one of CATEGORIES, "unknown", or ALL for all of them.
      level: "L1" to "L4", "unknown", or ALL.
      count: queries.
      metric: name of the main metric.
      value: its mean; low and high: 95 % bootstrap interval.
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
    """What rows of segmentation on pictures say of their masks."""
    return [segmentation.Overlap(row["intersection"], row["union"], row["iou"]) for row in rows]


def _words(rows: Sequence[Row]) -> tuple[list[str | None], list[list[str]]]:
    """Answers and references of the samples that have references: the others can not be compared."""
    rows = [row for row in rows if row["references"]]
    return [said(row) for row in rows], [row["references"] for row in rows]


def _bleu4(rows: Sequence[Row]) -> float:
    answers, references = _words(rows)
    return captions.bleu(answers, references) if references else 0.0


def _cider(rows: Sequence[Row]) -> float:
    answers, references = _words(rows)
    if not references:
        return 0.0
    weights = captions.frequencies(references)
    return sum(captions.cider_d(a, r, weights) for a, r in zip(answers, references)) / len(rows)


def said(row: Row) -> str | None:
    """The part of the answer in words that counts; None where there is none, or it stands on an unsound transcript."""
    words = (row["answer"] or {}).get("text") if row["sound"] else None
    return None if words is None else cut(words)


# (task, modality) -> figure -> rows to number; the first is the main metric. In [0, 1], but CIDEr-D is in [0, 10].
FIGURES: dict[tuple[str, str], dict[str, Callable[[Sequence[Row]], float]]] = {
    ("segmentation", "picture"): {"giou": _mean("iou"), "ciou": lambda rows: segmentation.ciou(overlaps(rows))},
    ("segmentation", "video"): {"jf": lambda rows: _mean("j")(rows) / 2 + _mean("f")(rows) / 2, "j": _mean("j"),
                                "f": _mean("f")},
    ("grounding", "picture"): {"acc": _mean("acc"), "iou": _mean("iou")},
    ("grounding", "video"): {"viou": _mean("iou")},
    **{("vqa", m): {"accuracy": _mean("accuracy")} for m in MODALITIES},
    **{("summary", m): {"rouge_l": _mean("rouge_l"), "bleu4": _bleu4, "cider": _cider} for m in MODALITIES},
}  # fmt: skip
MEASURES = {  # the numbers that a row of the task carries
    ("segmentation", "picture"): ("iou", "intersection", "union"),
    ("segmentation", "video"): ("j", "f"),
    ("grounding", "picture"): ("acc", "iou"),
    ("grounding", "video"): ("iou",),
    **{("vqa", m): ("accuracy",) for m in MODALITIES},
    **{("summary", m): ("rouge_l",) for m in MODALITIES},
}


def main_metric(task: str, modality: str) -> str:
    """Name of the main metric."""
    return next(iter(FIGURES[task, modality]))


def value(row: Row) -> float:
    """The main metric's value of one query, in [0, 1]."""
    return FIGURES[row["task"], row["modality"]][main_metric(row["task"], row["modality"])]([row])


def figures(rows: Sequence[Row]) -> dict[str, float]:
    """`eval/<task>/<modality>/<figure>` of the cells that have queries, their number as `examples`, and `eval/mean`,
    the mean of the cells' main metrics; nothing where there are no rows."""
    out, mains = {}, []
    for (task, modality), part in _parts(rows).items():
        found = {name: figure(part) for name, figure in FIGURES[task, modality].items()}
        mains.append(found[main_metric(task, modality)])
        out |= {f"eval/{task}/{modality}/{name}": number for name, number in found.items()}
        out[f"eval/{task}/{modality}/examples"] = len(part)
    return out | ({"eval/mean": float(np.mean(mains))} if mains else {})


def cells(rows: Sequence[Row]) -> list[Cell]:
    """The table, in the order of TASKS, MODALITIES, CATEGORIES and LEVELS, each after the cells for all of them."""
    out = []
    for (task, modality), part in _parts(rows).items():
        for category in (ALL, *CATEGORIES, "unknown"):
            for level in (ALL, *(f"L{i}" for i in LEVELS), "unknown"):
                chosen = [r for r in part if category in (ALL, _category(r)) and level in (ALL, _level(r))]
                if chosen:
                    values = [value(row) for row in chosen]
                    low, high = segmentation.bootstrap(values, np.mean)
                    metric = main_metric(task, modality)
                    mean = float(np.mean(values))
                    out.append(Cell(task, modality, category, level, len(chosen), metric, mean, low, high))
    return out


def show(table: Sequence[Cell]) -> str:
    """The table as text: a line for each task, modality and category, a column for each level."""
    levels = [level for level in (ALL, *(f"L{i}" for i in LEVELS), "unknown") if any(c.level == level for c in table)]
    lines = [["task", "modality", "category", "metric", *levels]]
    for first in (c for c in table if c.level == ALL):
        place = first.task, first.modality, first.category
        of_line = {c.level: c for c in table if (c.task, c.modality, c.category) == place}
        told = [f"{c.value:.3f} [{c.low:.3f}, {c.high:.3f}] n={c.count}" if (c := of_line.get(level)) else ""
                for level in levels]  # fmt: skip
        lines.append([*place, first.metric, *told])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join("  ".join(word.ljust(width) for word, width in zip(line, widths)).rstrip() for line in lines)


def recompute(path: Path) -> tuple[list[Cell], dict[str, float]]:
    """The table and the figures of a predictions.jsonl. Raises DataError as `read` does."""
    rows = read(path)
    return cells(rows), figures(rows)


def read(path: Path) -> list[Row]:
    """The rows of a predictions.jsonl, checked as far as the table needs them; the file may hold anything.

    Raises DataError: it can not be read, has no rows, or lines that are no rows (the first SHOWN are listed).
    """
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"{path}: can not be read ({error.strerror}); expected a predictions.jsonl") from None
    rows, faults = [], []
    for number, line in enumerate(lines, 1):
        try:
            row = parse_json(line)
            fault = _fault(row)
        except ValueError as error:  # of JSON, or of bytes that are not UTF-8
            row, fault = None, f"expected JSON, got a malformed line: {str(error)[:200]}"
        if fault is None:
            rows.append(row)
        else:
            faults.append(f"line {number}: {fault}")
    if faults:
        more = f"\n  and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise DataError(f"{path}: bad lines:\n  " + "\n  ".join(faults[:SHOWN]) + more)
    if not rows:
        raise DataError(f"{path}: expected a line for each prediction, got none")
    return rows


def _fault(row: Any) -> str | None:
    """What is wrong with a row, or None."""
    if not isinstance(row, dict):
        return f"expected an object, got {type(row).__name__}"
    for name, known in (("task", TASKS), ("modality", MODALITIES), ("category", ("", *CATEGORIES)),
                        ("level", (0, *LEVELS)), ("sound", (True, False))):  # fmt: skip
        got = row.get(name)
        if type(got) is not type(known[0]) or got not in known:
            return f"{name}: expected one of {', '.join(map(repr, known))}, got {_short(got)}"
    for name in MEASURES[row["task"], row["modality"]]:
        got, pixels = row.get(name), name in ("intersection", "union")
        sound = type(got) is int if pixels else type(got) in (int, float)
        if not sound or not 0 <= got <= (_LARGEST if pixels else 1):
            return f"{name}: expected {'a number of pixels' if pixels else 'a number in [0, 1]'}, got {_short(got)}"
    if row.get("union", 0) < row.get("intersection", 0) and row["task"] == "segmentation":
        return f"union: expected at least the intersection, {row['intersection']}, got {row['union']}"
    if row["task"] == "summary":
        references, answer = row.get("references"), row.get("answer", 0)
        if not isinstance(references, list) or not all(isinstance(r, str) for r in references):
            return f"references: expected a list of texts, got {_short(references)}"
        if answer is not None and not (isinstance(answer, dict) and isinstance(answer.get("text", ""), str)):
            return f"answer: expected null or an object with a text, got {_short(answer)}"
    return None


def _short(got: Any) -> str:
    return repr(got)[:80] if isinstance(got, str | float | bool | None) else f"a value of type {type(got).__name__}"


def _category(row: Row) -> str:
    return row["category"] or "unknown"


def _level(row: Row) -> str:
    return f"L{row['level']}" if row["level"] else "unknown"


def _parts(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """The rows of each task and modality that has some, in the order of FIGURES."""
    parts = {key: [r for r in rows if (r["task"], r["modality"]) == key] for key in FIGURES}
    return {key: part for key, part in parts.items() if part}
