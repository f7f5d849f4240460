"""Signs that a run goes nowhere, each with the next step for the user.

The functions are pure: numbers of steps and evaluations go in, findings come out. `Watch` gives each finding once, on
the terminal and in `warnings.jsonl`, from which the report shows it. docs/troubleshooting.md lists them by name.
"""

from __future__ import annotations

import collections
import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtr1_jax import config, places
from dtr1_jax.evaluation import table
from dtr1_jax.evaluation.benchmarks import segmentation
from dtr1_jax.rl import importance
from dtr1_jax.run import warnings_file

STEPS = 5  # steps in a row that must show a sign
SKIPPED_STEPS = 10  # the latest steps, of whose updates at most half may be skipped
MISMATCH = 0.01  # mean difference of the log-probabilities of sampler and scorer, in nats
FLOAT32_MISMATCH = 1e-4  # the same in float32, where only rounding is left
SAME_ANSWERS = 0.9  # share of answers that do not change with another picture
MIN_QUERIES = 8  # queries from which a share or an interval is taken
RATE_CHANGE = 0.01  # relative change of the learning rate that counts as a jump

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Finding:
    """A sign that something is wrong.

    Attributes:
      name: a short name, one for each kind; a run gives each name once.
      message: the cause and the next step.
    """

    name: str
    message: str


class Watch:
    """Gives each finding of a run once: as a warning on the terminal, and as a line of `workdir/warnings.jsonl`.

    A run that goes on from a checkpoint does not repeat the findings up to the checkpoint's step.
    """

    def __init__(self, workdir: Path, *, active: bool):
        """Has given nothing so far.

        Args:
          workdir: folder of the run.
          active: False for all processes but the first, which find the same and say nothing.
        """
        self._workdir, self._active = workdir, active
        self._given: set[str] = set()
        self._rows: collections.deque[Mapping[str, float]] = collections.deque(maxlen=max(STEPS, SKIPPED_STEPS))

    def forget(self, step: int) -> None:
        """Removes the findings after `step` from the file, and does not repeat those up to it; -1 removes all."""
        if self._active:
            warnings_file.truncate_warnings(self._workdir, step)
            self._given = {row["name"] for row in warnings_file.read_warnings(self._workdir)}

    def give(self, step: int, findings: Iterable[Finding]) -> None:
        """Gives the findings that the run has not given yet."""
        for finding in findings:
            if self._active and finding.name not in self._given:
                self._given.add(finding.name)
                log.warning("step %d: %s", step, finding.message)
                warnings_file.append_warning(self._workdir, step, finding.name, finding.message)

    def note_step(self, step: int, numbers: Mapping[str, float], c: config.Config) -> None:
        """Looks at the latest steps; `numbers` are the `train/...` numbers of this step, with its own `skipped`."""
        self._rows.append(numbers)
        self.give(step, of_steps(list(self._rows), c))


def of_steps(rows: Sequence[Mapping[str, float]], c: config.Config) -> list[Finding]:
    """Findings about the latest steps.

    Args:
      rows: the `train/...` numbers of the latest steps in order, at least one; `train/skipped` is that of the step
        alone.
      c: all settings.
    """
    findings = [_mismatch(rows[-1], c), _skipped(rows[-SKIPPED_STEPS:], c)]
    if len(rows) >= STEPS:
        latest = rows[-STEPS:]
        findings += [_truncated(latest, c), _without_reward(latest) or _without_spread(latest)]
    return [finding for finding in findings if finding is not None]


def _always(rows, name, value):
    return all(row.get(name) == value for row in rows)


def _without_reward(rows):
    if not (_always(rows, "train/reward", 0) and _always(rows, "train/reward_std", 0)):
        return None
    sound = max(row.get("train/sound", 0.0) for row in rows)
    cause = (
        "few transcripts are well-formed, so the policy does not know the format: set policy.prompt=full (or example"
        " for a small text policy), or make a cold start with --mode=sft"
        if sound < 0.5
        else "the transcripts are well-formed, so look at the answers in samples/ and at reward.weights of the task"
    )
    return Finding(
        "no_reward",
        f"every reward of the last {len(rows)} steps is 0, so nothing is learned (train/sound is at most {sound:.2f});"
        f" {cause}",
    )


def _without_spread(rows):
    if not _always(rows, "train/groups_without_spread", 1):
        return None
    return Finding(
        "no_spread",
        f"in the last {len(rows)} steps all completions of each query had equal rewards, so nothing is learned: take"
        " easier or harder queries, raise rollout.temperature or rollout.group, or set grpo.resample; samples/ shows"
        " whether the completions are all right or all wrong",
    )


def _truncated(rows, c):
    if not _always(rows, "train/truncated", 1):
        return None
    effect = "none of them carries loss (grpo.mask_truncated)" if c.grpo.mask_truncated else "none of them has an end"
    return Finding(
        "all_truncated",
        f"every completion of the last {len(rows)} steps was cut off at rollout.new_tokens = {c.rollout.new_tokens},"
        f" and {effect}: raise rollout.new_tokens; if completions in samples/ repeat themselves or never close a part,"
        " set policy.prompt=full or make a cold start with --mode=sft",
    )


def _skipped(rows, c):
    skipped = sum(row.get("train/skipped", 0) for row in rows)
    updates = len(rows) * c.grpo.epochs * c.grpo.minibatches
    if skipped < 2 or 2 * skipped < updates:
        return None
    return Finding(
        "updates_skipped",
        f"{skipped:.0f} of the last {updates} updates were skipped, because loss or gradient was not finite: look at"
        " train/grad_norm and train/ratio_max, and begin a new workdir with a lower optim.lr",
    )


def _mismatch(row, c):
    mismatch = row.get("train/mismatch")
    if mismatch is None or not mismatch > MISMATCH or c.grpo.importance != importance.OFF:
        return None
    start = f"train/mismatch is {mismatch:.3f}, above {MISMATCH}: sampler and scorer give a token different"
    start += " log-probabilities, which biases the gradient; set grpo.importance=token_truncate in a new workdir"
    if c.lora.dropout:
        start += f", or lower lora.dropout = {c.lora.dropout:g}, which the sampler does not have"
    elif c.policy.dtype == "float32" and c.policy.weights_dtype == "float32":
        start += (
            f". In float32 it should be below {FLOAT32_MISMATCH:g}, so this is a fault of dtr1_jax: please report it"
        )
    return Finding("mismatch", start)


def of_evaluation(before: Sequence[table.Row], rows: Sequence[table.Row]) -> list[Finding]:
    """Findings where the main metric of a task and modality is worse than before training by more than chance.

    The same queries are compared: the finding needs MIN_QUERIES of them, and a 95 % bootstrap interval of the mean
    difference that lies below 0.

    Args:
      before, rows: rows of predictions.jsonl, of the evaluation before the first step and of this evaluation.
    """
    first = {(row["task"], row["modality"], row["uid"]): table.value(row) for row in before}
    differences, earlier = collections.defaultdict(list), collections.defaultdict(list)
    for row in rows:
        key = row["task"], row["modality"], row["uid"]
        if key in first:
            differences[key[:2]].append(table.value(row) - first[key])
            earlier[key[:2]].append(first[key])
    findings = []
    for (task, modality), changes in differences.items():
        low, high = segmentation.bootstrap(changes, np.mean)
        if len(changes) < MIN_QUERIES or high >= 0:
            continue
        start, change = float(np.mean(earlier[task, modality])), float(np.mean(changes))
        findings.append(Finding(
            f"worse_{task}_{modality}",
            f"held-out {table.main_metric(task, modality)} of {task} ({modality}) fell from {start:.3f} before training"
            f" to {start + change:.3f} (change {change:.3f}, 95 % interval {low:.3f} to {high:.3f}, {len(changes)}"
            " queries): look at train/reward and its columns. If the reward rises, it rewards something else than the"
            " metric: look at samples/ and reward.weights. If it falls, lower optim.lr or raise grpo.beta",
        ))  # fmt: skip
    return findings


def of_pictures(same: float, queries: int) -> list[Finding]:
    """A finding if the answers do not depend on the pictures.

    Args:
      same: share of the queries that are answered in the same words with the pixels of another query.
      queries: their number.
    """
    if queries < MIN_QUERIES or same < SAME_ANSWERS:
        return []
    message = (
        f"the pictures do not matter: with the pixels of another query, {100 * same:.0f} % of {queries} held-out"
        " queries get the same answer, word for word. Look at the pictures and twins in gallery/. If all twins are"
        " alike, the policy has not learned to see: check that policy.path holds the weights of the vision tower, or"
        " make a cold start with --mode=sft"
    )
    return [Finding("pictures_ignored", message)]


def of_schedule(
    rate: Callable[[int, int], Any], old_updates: int, new_updates: int, update: int, setting: str
) -> list[Finding]:
    """A finding if the learning rate jumps because the length of the schedule was changed on resume.

    Args:
      rate: (length of the schedule, number of an update, the first is 0) -> its learning rate.
      old_updates, new_updates: length of the schedule in updates, of the saved run and of this one.
      update: updates made so far, which is the number of the next one.
      setting: the setting of the length.
    """
    old, new = (float(rate(total, update)) for total in (old_updates, new_updates))
    if abs(new - old) <= RATE_CHANGE * max(new, old):
        return []
    last = float(rate(old_updates, max(update - 1, 0)))
    return [Finding(
        f"schedule_jump_{old_updates}_{new_updates}",
        f"the learning rate jumps: the last update had {last:.2g}, and the next has {new:.2g} instead of {old:.2g},"
        f" because {setting} was changed: the schedule is now {new_updates} updates long and was {old_updates}. To keep"
        f" the rate, set {setting} back. For GRPO: to train on later without a jump, begin a run with optim.decay_steps"
        " at its final length",
    )]  # fmt: skip


def rows_before(workdir: Path) -> list[table.Row]:
    """The rows of the evaluation before the first step; [] if they cannot be read."""
    try:
        return table.read_predictions(places.path(workdir) / "gallery" / "before" / "predictions.jsonl")
    except table.DataError as error:
        log.debug("no evaluation before training to compare with: %s", error)
        return []
