"""The `train/...` numbers of a step's completions, over the rows of all processes.

One exchange brings a few numbers of each query to every process, in the order of the whole batch. All figures are then
computed from these, so they are the same on any number of processes.
"""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from dtr1_jax import mesh
from dtr1_jax.asking import requested_work
from dtr1_jax.modes.experience import Experience, owners
from dtr1_jax.rewards import score
from dtr1_jax.rl import advantages
from dtr1_jax.types import TASKS

# Before a column's name: whether the query's task has it, its mean over the group, and its deviation in the group.
OWN, MEAN, STD = "own ", "mean ", "std "


@dataclasses.dataclass(frozen=True)
class StepRows:
    """Numbers of the B queries of all processes, and sums over the processes.

    Attributes:
      rows: name -> float64[B].
      sums: name -> sum over the processes.
      seconds: name -> mean over the processes.
    """

    rows: dict[str, np.ndarray]
    sums: dict[str, float]
    seconds: dict[str, float]


def gather(e: Experience, device_mesh: jax.sharding.Mesh | None = None) -> StepRows:
    """The numbers of an experience whose rows the processes share. All processes must call it.

    `device_mesh` may be None in a run of one process.
    """
    rows, sums, seconds = _rows(e), _sums(e), e.seconds
    numbers = np.array([*sums.values(), *seconds.values()], np.float64)
    message = np.stack(list(rows.values())).tobytes() + numbers.tobytes()
    parts, share_numbers = [], []
    for part in mesh.of_shares(device_mesh, message):
        values = np.frombuffer(part, np.float64)
        parts.append(values[: -len(numbers)].reshape(len(rows), -1))
        share_numbers.append(values[-len(numbers) :])
    whole, total = np.concatenate(parts, 1), np.sum(share_numbers, 0)
    means = total[len(sums) :] / len(share_numbers)
    return StepRows(
        dict(zip(rows, whole)), dict(zip(sums, total.tolist())), dict(zip(seconds, means.tolist()))
    )  # fmt: skip


def _rows(e: Experience) -> dict[str, np.ndarray]:
    """name -> float64[b], the same names in the same order in all processes, whatever tasks their queries have."""
    mask_bgs, total_bg = e.rollout.mask_bgs, np.asarray(e.rewards.total_bg, np.float64)
    length_bg = mask_bgs.sum(-1)
    inserted_bgs = mask_bgs[..., :0] if e.rollout.inserted_bgs is None else e.rollout.inserted_bgs
    rows = {
        "task": [TASKS.index(query.task) for query in e.asked],
        "reward": total_bg.mean(1), "reward_std": total_bg.std(1),
        "flat": ~np.asarray(advantages.informative_b(e.rewards.total_bg)),
        "length": length_bg.mean(1), "length_max": length_bg.max(1), "tokens": length_bg.sum(1),
        "truncated": 1 - e.rollout.stopped_bg.mean(1),
        "sound": [np.mean(query.sound) for query in e.asked],
        "reasoned": [np.mean(query.reasoned) for query in e.asked],
        "logp": np.where(mask_bgs, e.rollout.logp_bgs, 0).sum((1, 2), dtype=np.float64),
        "inserted": inserted_bgs.sum(-1).mean(1),
    }  # fmt: skip
    own = owners(e.rewards)
    for name in score.COLUMNS:
        column_bg = np.asarray(e.rewards.columns.get(name, np.zeros_like(total_bg)), np.float64)
        rows[OWN + name] = own.get(name, np.zeros(len(e.asked), bool))
        rows[MEAN + name], rows[STD + name] = column_bg.mean(1), column_bg.std(1)
    return {name: np.asarray(row, np.float64) for name, row in rows.items()}


def _sums(e: Experience) -> dict[str, float]:
    sums = {"tokens": e.tokens, "segmenter_failed": e.segmenter_failures, "unread": e.text_failures}
    return sums | ({} if e.work is None else requested_work.to_counts(e.work))


def describe(step: StepRows) -> dict[str, float]:
    """The numbers of all tasks together: reward columns, groups without spread, length, entropy, speed.

    The mean of a column is over the queries whose task has it. The column "length" is `train/reward_length`, because
    `train/length` is the number of tokens.
    """
    rows, seconds = step.rows, step.seconds
    out = {
        "train/reward": rows["reward"].mean(), "train/reward_std": rows["reward_std"].mean(),
        "train/groups_without_spread": rows["flat"].mean(),
        "train/length": rows["length"].mean(), "train/length_max": rows["length_max"].max(),
        "train/truncated": rows["truncated"].mean(), "train/sound": rows["sound"].mean(),
        "train/reasoned": rows["reasoned"].mean(),
        # The mean of -log p over sampled tokens estimates the entropy without bias and costs nothing.
        "train/entropy": -rows["logp"].sum() / max(1, rows["tokens"].sum()),
        "train/segmenter_failed": step.sums["segmenter_failed"], "train/unread": step.sums["unread"],
        **{f"train/{name}_s": seconds[name] for name in ("data", "rollout", "score")},
        "train/rollout_tokens_per_s": step.sums["tokens"] / seconds["rollout"],
    }  # fmt: skip
    for name in score.COLUMNS:
        has = rows[OWN + name] > 0
        key = f"train/reward_{name}" if f"train/{name}" in out else f"train/{name}"
        if has.any():
            out |= {key: rows[MEAN + name][has].mean(), f"{key}_std": rows[STD + name][has].mean()}
    return {name: float(value) for name, value in out.items()}


def by_task(step: StepRows) -> dict[str, float]:
    """The `train/<task>/...` numbers: rewards, groups without spread, length, soundness of each task.

    A mean leaves out queries whose number is not finite, and queries whose task lacks the column. The column
    "length" is `reward_length`. The dict is empty if all queries are of one task, because `describe` has the same
    numbers.
    """
    rows, out = step.rows, {}
    if len(set(rows["task"])) == 1:
        return {}
    named = {"groups_without_spread": "flat"} | {name: name for name in ("reward", "reward_std", "length", "sound")}
    for number, task in enumerate(TASKS):
        of_task = rows["task"] == number
        values = {name: rows[row][of_task] for name, row in named.items()}
        for name in score.COLUMNS:
            key = f"reward_{name}" if name in values else name
            values[key] = rows[MEAN + name][of_task & (rows[OWN + name] > 0)]
        finite = {name: value[np.isfinite(value)] for name, value in values.items()}
        out |= {f"train/{task}/{name}": float(value.mean()) for name, value in finite.items() if len(value)}
    return out


def requests(step: StepRows) -> dict[str, float]:
    """The numbers of the requests to specialists (asking/requested_work.py); empty where the constructor is another."""
    names = requested_work.to_counts(requested_work.Work())
    if not names.keys() <= step.sums.keys():
        return {}
    work = requested_work.of_counts({name: step.sums[name] for name in names})
    numbers = requested_work.figures(work, step.seconds) | {"twin_tokens": float(step.rows["inserted"].mean())}
    return {f"train/{name}": float(number) for name, number in numbers.items()}


def numbers(e: Experience, device_mesh: jax.sharding.Mesh | None = None) -> dict[str, float]:
    """All of the above. All processes must call it."""
    step = gather(e, device_mesh)
    return describe(step) | by_task(step) | requests(step)
