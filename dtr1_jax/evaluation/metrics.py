"""The `eval/...` numbers of an evaluation, computed from the queries that all processes have answered."""

from __future__ import annotations

import collections
from collections.abc import Sequence
from typing import Any

import numpy as np

from dtr1_jax.asking import requested_work
from dtr1_jax.evaluation import benchmark_rows, table
from dtr1_jax.evaluation.answered import Answered
from dtr1_jax.evaluation.benchmarks import segmentation, twin_fidelity
from dtr1_jax.rewards import score


def compute_metrics(queries: Sequence[Answered], skipped: int = 0) -> dict[str, float]:
    """The metrics of an evaluation over all tasks, by name:

    - `eval/<task>/<modality>/<metric>` for each metric of a task (such as giou, jf, acc, accuracy, rouge_l), and
      `eval/mean`, the mean of the tasks' main metrics;
    - `eval/giou`, `eval/giou_low`, `eval/giou_high`, `eval/ciou`, `eval/giou/category/...` and `eval/giou/level/...`:
      short names for segmentation on pictures, with the 95 % interval of gIoU;
    - `eval/<column>`: the mean of a reward column over the queries whose task has that column, and `eval/reward`;
    - `eval/program/<task>/<modality>/...`: perception x reasoning (twin_answers.py), for queries with a program;
    - `eval/<benchmark>/...`: the figures of a public benchmark by its own convention (benchmark_rows.py);
    - `eval/twin/...`: the fidelity of the twins (benchmarks/twin_fidelity.py);
    - `eval/requested`, `eval/work`, ...: what specialists were asked for (asking/requested_work.py), if they were;
    - `eval/sound`, `eval/reasoned`: shares of the transcripts; `eval/examples`, `eval/examples_skipped`: numbers.

    Without queries only the last two are there.

    Args:
      skipped: number of examples that could not be used; they count in no other metric.
    """
    if not queries:
        return {"eval/examples": 0, "eval/examples_skipped": skipped}
    rows = [query.row for query in queries]
    numbers = _segmentation_of_pictures([r for r in rows if (r["task"], r["modality"]) == ("segmentation", "picture")])
    numbers |= {
        "eval/examples": len(queries),
        "eval/examples_skipped": skipped,
        "eval/sound": float(np.mean([r["sound"] for r in rows])),
        "eval/reasoned": float(np.mean([query.reasoned for query in queries])),
        "eval/segmenter_failed": sum(query.failed for query in queries),
    }
    for name in (*score.COLUMNS, "reward"):
        values = [r["columns"][name] for r in rows if name in r["columns"]]
        numbers |= {f"eval/{name}": float(np.mean(values))} if values else {}
    fidelity = twin_fidelity.figures([query.fidelity for query in queries if query.fidelity is not None])
    numbers |= {f"eval/{name}": float(value) for name, value in _requests(queries).items()}
    numbers |= table.cell_metrics(rows) | benchmark_rows.of_all(rows, skipped)
    return numbers | {f"eval/twin/{name}": value for name, value in fidelity.items()}


def _requests(queries: Sequence[Answered]) -> dict[str, float]:
    """The figures of what specialists were asked for; empty where the constructor is another."""
    work = [query.work for query in queries if query.work is not None]
    if not work:
        return {}
    seconds: collections.Counter[str] = collections.Counter()
    for query in queries:
        seconds.update(query.seconds)
    return requested_work.figures(requested_work.added(work), seconds)


def _segmentation_of_pictures(rows: list[dict[str, Any]]) -> dict[str, float]:
    """gIoU with its interval, cIoU, and gIoU by category and level; empty without rows."""
    if not rows:
        return {}
    overlaps = table.overlaps(rows)
    low, high = segmentation.bootstrap(overlaps, segmentation.giou)
    groups = collections.defaultdict(list)
    for r, overlap in zip(rows, overlaps):
        groups[f"category/{r['category'] or 'unknown'}"].append(overlap)
        groups[f"level/{r['level']}"].append(overlap)
    return {
        "eval/giou": segmentation.giou(overlaps), "eval/giou_low": low, "eval/giou_high": high,
        "eval/ciou": segmentation.ciou(overlaps),
        **{f"eval/giou/{name}": segmentation.giou(group) for name, group in sorted(groups.items())},
    }  # fmt: skip
