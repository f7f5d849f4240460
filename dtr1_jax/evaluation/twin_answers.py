"""Perception x reasoning: where the errors of a policy come from, for queries with a program.

The program of the query (twin/programs.py) is executed on the policy's own twin, which gives the implied answer.

    perception is right   the implied answer is right: the boxes or tracks of the implied objects pair off one to one
                          with the target's at an IoU of at least 0.5, or the implied words are the answer
    reasoning is right    the stated answer is the implied one: the same ids, or boxes that pair off in the same way, or
                          the same answer in words

A twin with faults, or one on which the program cannot be executed, implies no answer; then both are wrong. An unsound
transcript states no answer, so that its reasoning is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from dtr1_jax.evaluation.benchmarks import boxes
from dtr1_jax.evaluation.query_metrics import MODALITIES
from dtr1_jax.rewards import answer_matching, answer_regions, video_overlap
from dtr1_jax.rewards.follows import Implied, implied
from dtr1_jax.twin.coordinates import Canvas
from dtr1_jax.twin.transcript import Transcript
from dtr1_jax.types import POINTING, TASKS, Example

MATCH = 0.5  # lowest IoU of two boxes or tracks of the same object
# name of a cell -> (perception is right, reasoning is right)
CELLS = {
    "both_right": (1, 1), "only_perception_right": (1, 0), "only_reasoning_right": (0, 1), "both_wrong": (0, 0),
}  # fmt: skip
_PREFIX = "eval/program"


def judge(example: Example, transcript: Transcript, canvas: Canvas, tolerance: float = 0.0) -> dict[str, float]:
    """`perception` and `reasoning` of one completion, 1 if right, else 0.

    {} for a query without a program and for a summary.

    Args:
      example: the query.
      transcript: the parsed completion.
      canvas: the frame of its integers.
      tolerance: largest error of a number that counts as right, as a share of the right number.
    """
    if not example.program or example.task == "summary":
        return {}
    own = implied(transcript, example, canvas)
    if not own.result.executable:
        return {"perception": 0.0, "reasoning": 0.0}
    if example.task in POINTING:
        perception, reasoning = _finds_target(own, example, canvas), _states(transcript, own, canvas)
    else:
        texts, target = own.result.texts, example.target
        stated = transcript.answer.text if transcript.sound else None
        perception = _is_same(texts[0], target.references, target.choices, tolerance)
        reasoning = _is_same(stated, texts, target.choices, tolerance)
    return {"perception": float(perception), "reasoning": float(reasoning)}


def figures(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """`eval/program/<task>/<modality>/<cell>`, the share of the queries in each cell of CELLS, and `.../examples`.

    Args:
      rows: of predictions.jsonl; those without `perception` have no program and do not count.
    """
    numbers: dict[str, float] = {}
    for task in TASKS:
        for modality in MODALITIES:
            pairs = [(row["perception"], row["reasoning"]) for row in rows
                     if (row["task"], row["modality"]) == (task, modality) and "perception" in row]  # fmt: skip
            if pairs:
                name = f"{_PREFIX}/{task}/{modality}"
                numbers |= {f"{name}/{cell}": pairs.count(pair) / len(pairs) for cell, pair in CELLS.items()}
                numbers[f"{name}/examples"] = len(pairs)
    return numbers


def lines(numbers: dict[str, Any]) -> list[list[str]]:
    """The table of the figures: a header, and a line for each task and modality, such as
    ["vqa", "video", "62.5 % (5)", ..., "8"]; empty if there are no figures.
    """
    table = []
    for task in TASKS:
        for modality in MODALITIES:
            name = f"{_PREFIX}/{task}/{modality}"
            values = [numbers.get(f"{name}/{key}") for key in (*CELLS, "examples")]
            if all(isinstance(x, int | float) and np.isfinite(x) for x in values):
                *shares, count = values
                table.append([task, modality, *(f"{100 * x:.1f} % ({round(x * count)})" for x in shares), f"{count:g}"])
    header = ["task", "modality", *(cell.replace("_", " ") for cell in CELLS), "queries"]
    return [header, *table] if table else []


def format_figures(numbers: dict[str, float]) -> str:
    """The table of the figures as text; "" if there are none."""
    table = lines(numbers)
    if not table:
        return ""
    widths = [max(len(line[i]) for line in table) for i in range(len(table[0]))]
    title = "perception (the twin implies the right answer) x reasoning (the answer follows from the twin)"
    rows = ("  ".join(word.ljust(width) for word, width in zip(line, widths)).rstrip() for line in table)
    return "\n".join([title, *rows])


def _finds_target(own: Implied, example: Example, canvas: Canvas) -> bool:
    """Whether the implied objects are the target's, in the labelled frames of a video."""
    if not canvas.frames:
        return _pair_off(own.tracks, example.target.boxes[:, None])
    truth = video_overlap.truth(example.target, len(canvas.frames))
    return _pair_off(own.tracks[:, truth.labelled], truth.tracks[:, truth.labelled])


def _states(transcript: Transcript, own: Implied, canvas: Canvas) -> bool:
    """Whether the answer in ids or boxes is the implied one."""
    if not transcript.sound:
        return False
    if transcript.answer.boxes is not None:
        return _pair_off(answer_regions.boxes_of(transcript, canvas)[:, None], own.boxes[:, None])
    return set(transcript.answer.objects) == set(own.result.ids)


def _pair_off(a_mt4: np.ndarray, b_nt4: np.ndarray) -> bool:
    """Whether tracks pair off one to one with an IoU of at least MATCH; those without any box do not count."""
    a_mt4, b_nt4 = (x[(x[..., 2] > x[..., 0]).any(1)] for x in (a_mt4, b_nt4))
    if len(a_mt4) != len(b_nt4):
        return False
    matched_mn = boxes.track_iou_matrix(a_mt4, b_nt4) >= MATCH
    return bool(matched_mn[linear_sum_assignment(~matched_mn)].all())


def _is_same(
    answer: str | None, references: Sequence[str], choices: Sequence[str], tolerance: float
) -> bool:  # fmt: skip
    return bool(answer_matching.answer_scores([[answer]], [references], [choices], tolerance)[0, 0] == 1)
