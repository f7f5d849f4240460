"""The names of the reward's columns, which task has which, and the check of their weights.

Every column is in [0, 1]. One set of names serves all tasks:

    structure   is the transcript sound (rewards/structure.py)
    mask_iou    IoU of the answer's masks with the target; of a video its mean over all frames that are labelled, also
                those in which nothing is wanted
    box_iou     IoU of the answer's boxes with the target's, best one-to-one matching (geometry.matched_box_iou); of a
                video that of its tracks (geometry.matched_track_iou)
    twin_iou    the same for all boxes or tracks of the twin and all objects that the data set annotates
    points      centres of the answer's boxes that lie in wanted boxes, likewise; of a video in its first frame
    answer      is the answer in words right, by the kind of the question (rewards/answer_matching.py)
    token_f1    words shared with the best reference
    rouge_l, bleu, cider, similarity    of rewards/text_metrics.py
    judge       a language model's grade (rewards/judge.py)
    length      is the completion short; repetition: does it say things once (rewards/style.py)

All but the first are 0 where the transcript is unsound. `twin_iou` is ours, not the paper's: an answer alone does not
need the objects that it does not name, and a policy that is paid for answers alone learns to leave them out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from dtr1_jax import config
from dtr1_jax.types import TASKS, Example

COLUMNS = (
    "structure", "mask_iou", "box_iou", "twin_iou", "points", "answer", "token_f1", "rouge_l", "bleu", "cider",
    "similarity", "judge", "length", "repetition",
)  # fmt: skip
WORDS = ("token_f1", "rouge_l", "bleu", "cider", "similarity", "judge")
_ALL = ("structure", "twin_iou", "length", "repetition")
OF = {  # the columns that a task can have
    "segmentation": (*_ALL, "mask_iou", "box_iou", "points"),
    "grounding": (*_ALL, "mask_iou", "box_iou", "points"),
    "vqa": (*_ALL, "answer", *WORDS),
    "summary": (*_ALL, *WORDS),
}


def check_weights(weights: Mapping[str, Mapping[str, float]]) -> None:
    """Refuses weights that can not make a reward; call it at start-up. Raises ConfigError, which names every fault.

    Args:
      weights: task -> column -> weight; each task must be there.
    """
    where = "config.reward.weights"
    faults = [f"{where}.{task}: unknown task{config.nearest(task, TASKS)}" for task in weights if task not in TASKS]
    for task in TASKS:
        found = weights.get(task, {})
        faults += [f"{where}.{task}.{name}: unknown column{config.nearest(name, OF[task])}" for name in found
                   if name not in OF[task]]  # fmt: skip
        faults += [f"{where}.{task}.{name}: expected a finite number, got {weight!r}" for name, weight in found.items()
                   if not math.isfinite(weight)]  # fmt: skip
        if not any(found.values()):
            faults.append(f"{where}.{task}: expected a weight other than 0, got none: every reward would be 0")
    if faults:
        raise config.ConfigError("bad reward:\n  " + "\n  ".join(faults))


def used(weights: Mapping[str, Mapping[str, float]]) -> set[str]:
    """The columns that weigh something in some task."""
    return {name for of_task in weights.values() for name, weight in of_task.items() if weight}


def of_batch(weights: Mapping[str, Mapping[str, float]], examples: Sequence[Example]) -> dict[str, np.ndarray]:
    """name -> float32[B], the weight of each column in the reward of each query; those that weigh nothing are left out.

    0 where the query's task does not have the column.
    """
    found = {name: np.array([weights.get(e.task, {}).get(name, 0.0) for e in examples], np.float32) for name in COLUMNS}
    return {name: weight_b for name, weight_b in found.items() if weight_b.any()}
