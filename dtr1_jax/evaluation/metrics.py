"""The `eval/...` numbers of an evaluation, and the rows of predictions.jsonl from which they can be made again."""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from dtr1_jax.asking import requested_work
from dtr1_jax.evaluation import benchmark_rows, query_metrics, table
from dtr1_jax.evaluation.benchmarks import segmentation, twin_fidelity
from dtr1_jax.evaluation.predict import Prediction
from dtr1_jax.rewards import score
from dtr1_jax.twin import text


def compute_metrics(predictions: Sequence[Prediction], skipped: int = 0) -> dict[str, float]:
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

    Without predictions only the last two are there.

    Args:
      skipped: number of examples that could not be used; they count in no other metric.
    """
    if not predictions:
        return {"eval/examples": 0, "eval/examples_skipped": skipped}
    rows = [row(p) for p in predictions]
    numbers = _segmentation_of_pictures([r for r in rows if (r["task"], r["modality"]) == ("segmentation", "picture")])
    numbers |= {
        "eval/examples": len(predictions),
        "eval/examples_skipped": skipped,
        "eval/sound": float(np.mean([p.transcript.sound for p in predictions])),
        "eval/reasoned": float(np.mean([p.transcript.reasoned for p in predictions])),
        "eval/segmenter_failed": sum(p.outcome.failed for p in predictions),
    }
    for name in (*score.COLUMNS, "reward"):
        values = [p.columns[name] for p in predictions if name in p.columns]
        numbers |= {f"eval/{name}": float(np.mean(values))} if values else {}
    fidelity = twin_fidelity.figures([p.fidelity for p in predictions if p.fidelity is not None])
    numbers |= {f"eval/{name}": float(value) for name, value in _requests(predictions).items()}
    numbers |= table.cell_metrics(rows) | benchmark_rows.of_all(rows, skipped)
    return numbers | {f"eval/twin/{name}": value for name, value in fidelity.items()}


def _requests(predictions: Sequence[Prediction]) -> dict[str, float]:
    """The figures of what specialists were asked for; empty where the constructor is another."""
    work = [p.work for p in predictions if p.work is not None]
    if not work:
        return {}
    seconds: collections.Counter[str] = collections.Counter()
    for p in predictions:
        seconds.update(p.seconds)
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


def row(prediction: Prediction) -> dict[str, Any]:
    """The line of predictions.jsonl for one query: the query, the transcript and its parts, and the measures from which
    evaluation/table.py makes the table.
    """
    example, transcript = prediction.example, prediction.transcript
    modality = query_metrics.modality(prediction.outcome)
    line = {
        "uid": example.uid, "query": example.query, "task": example.task, "modality": modality,
        "category": example.category, "level": example.level, "transcript": transcript.text,
        "sound": transcript.sound, "faults": [dataclasses.asdict(f) for f in transcript.faults],
        "thought": transcript.thought, "columns": prediction.columns, **prediction.measures,
        "answer": json.loads(text.dumps_answer(transcript.answer, transcript.twin)) if transcript.answer else None,
        "twin": json.loads(text.dumps_twin(transcript.twin)) if transcript.twin else None,
        "references": list(example.target.references),
    }  # fmt: skip
    line |= {"benchmark": prediction.benchmark} if prediction.benchmark else {}
    return line | {"metric": table.main_metric(example.task, modality), "value": table.value(line)}
