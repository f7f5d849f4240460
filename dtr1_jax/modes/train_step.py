"""One step of GRPO, and the parts of a training run that it works with.

A step reads: batches -> rollout -> transcripts -> rewards (experience.py) -> advantages -> update (learn.py). With
rollout.ahead, the experience of the next step is collected during the update, with the weights from before it.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax

from dtr1_jax import config, mesh
from dtr1_jax.data import pipeline, sources
from dtr1_jax.modes import diagnosis, experience, step_numbers
from dtr1_jax.modes.learn import learn
from dtr1_jax.policies.runtime import Runtime
from dtr1_jax.rl import optim, update
from dtr1_jax.run import checkpoint, interrupt, run_log, step_trace

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Run:
    """The parts of a training run that stay the same from its first step to its last.

    Attributes:
      runtime: settings, policy, mesh and host tools, without weights.
      workdir: the folder of the run.
      frozen: the weights that are not trained.
      tx: the optimizer.
      batches: an iterator over batches of queries, with get_state and set_state.
      skipped: counts training examples that could not be used.
      heldout: the examples of the evaluations.
      checkpoints, run_log: where the run is saved and logged.
      watch: warns where the run goes nowhere.
      trace: profiles train.profile steps.
      stop: is set where somebody asked the run to stop.
    """

    runtime: Runtime
    workdir: Path
    frozen: dict
    tx: optax.GradientTransformation
    batches: Any
    skipped: pipeline.SkipCounter
    heldout: sources.Source
    checkpoints: checkpoint.Checkpoints
    run_log: Any
    watch: diagnosis.Watch
    trace: step_trace.StepTrace
    stop: interrupt.Flag

    @property
    def config(self) -> config.Config:
        """All settings."""
        return self.runtime.config

    def total(self, count: int) -> int:
        """The sum of the processes' numbers of examples. All processes must call it."""
        return mesh.total_of_shares(self.runtime.mesh, count)


@dataclasses.dataclass(frozen=True)
class Ahead:
    """What the next step learns from, collected one step ahead.

    Attributes:
      collected: the experience.
      data: where the data stood before its queries were drawn, as a checkpoint holds it.
      skipped: examples left out until then, by this process.
    """

    collected: experience.Experience
    data: dict
    skipped: int


@dataclasses.dataclass(frozen=True)
class Position:
    """How far a run has come.

    Attributes:
      state: trainable weights and optimizer.
      step: GRPO steps made.
      saved: the step of the newest checkpoint; None = there is none.
      skipped_updates: updates left out since the start because loss or gradient was not finite.
      skipped_in_a_row: the same, of the latest steps whose updates were all left out.
      ahead: with rollout.ahead, what the next step learns from; None = it is not collected yet.
    """

    state: update.State
    step: int = 0
    saved: int | None = None
    skipped_updates: int = 0
    skipped_in_a_row: int = 0
    ahead: Ahead | None = None


def step_once(this: Run, position: Position) -> tuple[Position, dict[str, float], experience.Experience]:
    """The next position, the numbers of the step, and the experience that it learned from."""
    c, step, start = this.config, position.step, time.monotonic()
    if position.ahead is None:
        newest = position.state.trainable
        collected = _begin_collecting(this, newest if position.state.behind is None else position.state.behind, step)()
    else:
        collected = position.ahead.collected
    seconds: dict[str, float] = {}
    new_state, numbers, ahead = _learn(this, position, collected, seconds)
    step, end = step + 1, time.monotonic()
    updates, skipped = updates_per_step(c), int(numbers["train/skipped"])
    if skipped:
        log.warning("step %d: %d of %d updates skipped, loss or gradient not finite", step, skipped, updates)
    in_a_row = position.skipped_in_a_row + skipped if skipped == updates else 0
    position = Position(new_state, step, position.saved, position.skipped_updates + skipped, in_a_row, ahead)
    completed = step_numbers.gather(collected, this.runtime.mesh)
    numbers |= step_numbers.describe(completed) | step_numbers.by_task(completed) | step_numbers.requests(completed) | {
        "train/update_s": seconds["update"], "train/step_s": end - start,
        "train/lr": float(optim.lr_at(c.optim, schedule_updates(c), step * updates - 1, updates)),
        "train/skipped": position.skipped_updates, "train/examples_skipped": this.total(this.skipped.count),
        **run_log.peak_memory(jax.local_devices()[0].memory_stats()),
    }  # fmt: skip
    if not c.rollout.ahead:  # else the host waits for a part of the update only
        tokens = c.grpo.epochs * completed.rows["tokens"].sum()
        numbers["train/update_tokens_per_s"] = float(tokens / seconds["update"])
    return position, numbers, collected


def _learn(
    this: Run, position: Position, collected: experience.Experience, seconds: dict[str, float]
) -> tuple[update.State, dict[str, float], Ahead | None]:
    """The state after a step, its `train/...` numbers, and with rollout.ahead the experience of the step after it.

    Adds to `seconds["update"]` the time in which the host has nothing else to do.
    """
    c, step, behind, finish = this.config, position.step, None, None
    if c.rollout.ahead:
        behind = _copied(position.state.trainable, position.state.behind)  # because the update takes the weights
        data, skipped = this.batches.get_state(), this.skipped.count
        if step + 1 < c.train.steps:
            finish = _begin_collecting(this, behind, step + 1)
    with step_trace.phase("update", seconds):
        state_alone = dataclasses.replace(position.state, behind=None)
        new_state, numbers = learn(this.runtime, state_alone, this.frozen, this.tx, collected, _key(this, step))
    ahead = Ahead(finish(), data, skipped) if finish else None  # while the device updates
    with step_trace.phase("update", seconds):
        values = numbers()
    return dataclasses.replace(new_state, behind=behind), values, ahead


@functools.partial(jax.jit, donate_argnames="memory")
def _copied(tree: dict, memory: dict) -> dict:
    """A copy of the arrays of `tree`, in the memory of those of `memory`."""
    return jax.tree.map(jnp.copy, tree)


def _begin_collecting(this: Run, trainable: dict, step: int) -> Callable[[], experience.Experience]:
    """experience.begin_collecting for the step after `step` steps, sampled with these weights."""
    runtime = this.runtime.with_weights(*update.weights(trainable, this.frozen))
    return experience.begin_collecting(runtime.for_rollout(), this.batches, _key(this, step))


def _key(this: Run, step: int) -> jax.Array:
    """The random key of the step after `step` steps."""
    return jax.random.fold_in(jax.random.key(this.config.seed), step)


def updates_per_step(c: config.Config) -> int:
    """Optimizer steps in one GRPO step."""
    return c.grpo.epochs * c.grpo.minibatches


def schedule_updates(c: config.Config) -> int:
    """Length of the learning rate's schedule in optimizer steps."""
    return (c.optim.decay_steps or c.train.steps) * updates_per_step(c)
