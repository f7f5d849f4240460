"""The names of the reward's columns, the tasks that have each column, and the check of the columns' weights.

Every column is in [0, 1]. One set of names serves all tasks:

    structure   how sound the transcript is (rewards/structure.py)
    mask_iou    IoU of the answer's masks with the target; for a video its mean over all labelled frames, including
                frames where the target is absent
    box_iou     IoU of the answer's boxes with the target's, best one-to-one matching (geometry.matched_box_iou); for a
                video IoU of the tracks (geometry.matched_track_iou)
    twin_iou    the same for all boxes or tracks of the twin and all objects that the data set annotates
    twin_labels, twin_attributes, twin_depth, twin_relations, twin_tracks
                whether the twin says the truth about these objects (rewards/twin_truth.py); a query has a column if the
                data set annotates its facts
    follows     how well the answer equals the one that the query's program gives on the completion's own twin, times
                the share of the annotated scene that this twin has (rewards/follows.py)
    blind       accuracy of the answer that the policy gives from its own twin alone, without the picture
                (evaluation/blind.py): mask_iou, box_iou, answer or rouge_l, by the task
    points      share of the answer's box centres that lie in the target's boxes, best one-to-one matching
                (geometry.matched_points); for a video in its first frame
    answer      1 where the answer in words is right, compared by the kind of the question (rewards/answer_matching.py)
    facts       F1 of the facts that a summary states: objects, details, counts (rewards/facts.py)
    token_f1    F1 of the words that the answer shares with the best reference
    rouge_l, bleu, cider, similarity    see rewards/text_metrics.py
    judge       a language model's grade (rewards/judge.py)
    length      falls from 1 to 0 as the completion grows too long (rewards/style.py)
    repetition  1 where the completion says nothing twice (rewards/style.py)
    economy     share of the work of a request to specialists that is not needless (rewards/economy.py); only
                completions of the constructor "specialists" have it

All but the first are 0 if the transcript is unsound. The columns of the twin are ours, not the paper's: an answer alone
does not need the objects that it does not name, nor true labels, and a policy that is paid for answers alone learns to
leave them out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from dtr1_jax import config
from dtr1_jax.rewards import twin_truth
from dtr1_jax.types import TASKS, Example

COLUMNS = (
    "structure", "mask_iou", "box_iou", *twin_truth.COLUMNS, "follows", "blind", "points", "answer", "facts",
    "token_f1", "rouge_l", "bleu", "cider", "similarity", "judge", "length", "repetition",
    "economy",
)  # fmt: skip
TEXT_COLUMNS = ("token_f1", "rouge_l", "bleu", "cider", "similarity", "judge")  # computed by rewards/text_scorers.py
_EVERY_TASK = ("structure", *twin_truth.COLUMNS, "blind", "length", "repetition", "economy")
TASK_COLUMNS = {  # task -> columns that it can have
    "segmentation": (*_EVERY_TASK, "follows", "mask_iou", "box_iou", "points"),
    "grounding": (*_EVERY_TASK, "follows", "mask_iou", "box_iou", "points"),
    "vqa": (*_EVERY_TASK, "follows", "answer", *TEXT_COLUMNS),
    "summary": (*_EVERY_TASK, "facts", *TEXT_COLUMNS),
}


def check_weights(weights: Mapping[str, Mapping[str, float]]) -> None:
    """Checks the weights of the reward columns, before a run. Raises ConfigError, which lists every fault.

    Faults are: an unknown task or column, a weight that is not finite, and a task without any weight other than 0.

    Args:
      weights: task -> column -> weight; every task of types.TASKS needs an entry.
    """
    where = "config.reward.weights"
    faults = [f"{where}.{task}: unknown task{config.nearest(task, TASKS)}" for task in weights if task not in TASKS]
    for task in TASKS:
        of_task = weights.get(task, {})
        faults += [
            f"{where}.{task}.{name}: unknown column{config.nearest(name, TASK_COLUMNS[task])}"
            for name in of_task
            if name not in TASK_COLUMNS[task]
        ]
        faults += [
            f"{where}.{task}.{name}: expected a finite number, got {weight!r}"
            for name, weight in of_task.items()
            if not math.isfinite(weight)
        ]
        if not any(of_task.values()):
            faults.append(f"{where}.{task}: expected a weight other than 0, got none: every reward would be 0")
    if faults:
        raise config.ConfigError("bad reward:\n  " + "\n  ".join(faults))


def weighted_columns(weights: Mapping[str, Mapping[str, float]]) -> set[str]:
    """The columns whose weight is not 0 in some task."""
    return {name for of_task in weights.values() for name, weight in of_task.items() if weight}


def batch_weights(weights: Mapping[str, Mapping[str, float]], examples: Sequence[Example]) -> dict[str, np.ndarray]:
    """name -> float32[B]: the weight of each column in the reward of each query; 0 if its task lacks the column.

    Only queries with a program have the column `follows`. Columns with weight 0 for every query are left out.
    """
    columns = {
        name: np.array([weights.get(e.task, {}).get(name, 0.0) for e in examples], np.float32) for name in COLUMNS
    }
    columns["follows"] *= [bool(e.program) for e in examples]
    return {name: weight_b for name, weight_b in columns.items() if weight_b.any()}
