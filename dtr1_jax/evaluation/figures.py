"""The `eval/...` numbers of an evaluation, and the rows of predictions.jsonl from which they can be made again."""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from dtr1_jax.evaluation import measures, table
from dtr1_jax.evaluation.benchmarks import segmentation, twin_fidelity
from dtr1_jax.evaluation.predict import Prediction
from dtr1_jax.rewards import score
from dtr1_jax.twin import text


def figures(predictions: Sequence[Prediction], skipped: int = 0) -> dict[str, float]:
    """The `eval/...` numbers over all tasks.

    They are `eval/<task>/<modality>/...` and `eval/mean` as table.figures gives them; the mean of each reward column
    over the queries whose task has it; and how true the twins are (`eval/twin/...`, by benchmarks/twin_fidelity.py).
    Segmentation on pictures has short names too: `eval/giou`, with its interval, by category and by level, and
    `eval/ciou`.

    Args:
      skipped: examples that could not be used; they are in no other number.
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
    return numbers | table.figures(rows) | {f"eval/twin/{name}": value for name, value in fidelity.items()}


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
    modality = measures.modality(prediction.outcome)
    line = {
        "uid": example.uid, "query": example.query, "task": example.task, "modality": modality,
        "category": example.category, "level": example.level, "transcript": transcript.text,
        "sound": transcript.sound, "faults": [dataclasses.asdict(f) for f in transcript.faults],
        "thought": transcript.thought, "columns": prediction.columns, **prediction.measures,
        "answer": json.loads(text.dumps_answer(transcript.answer)) if transcript.answer else None,
        "twin": json.loads(text.dumps_twin(transcript.twin)) if transcript.twin else None,
        "references": list(example.target.references),
    }  # fmt: skip
    return line | {"metric": table.main_metric(example.task, modality), "value": table.value(line)}
