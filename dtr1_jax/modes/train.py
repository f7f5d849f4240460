"""`--mode=train`: GRPO from a policy that can already write twins; a run can stop at any moment and go on exactly.

train_step.py has the step; here is what surrounds it: resuming, evaluations, checkpoints, the log.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import logging
import math
from pathlib import Path

import jax

from dtr1_jax import config, mesh, places
from dtr1_jax.data import pipeline, sources
from dtr1_jax.evaluation import answered, metrics, predict, predictions_file, wrong_pictures
from dtr1_jax.modes import check, diagnosis, experience, mesh_choice, results, train_step
from dtr1_jax.modes.train_step import Position, Run
from dtr1_jax.policies import pretrained, state
from dtr1_jax.policies.runtime import Runtime, host_tools
from dtr1_jax.report import page
from dtr1_jax.rewards import score
from dtr1_jax.rl import accumulate, optim, update
from dtr1_jax.run import checkpoint, interrupt, run_log, step_trace

PATIENCE = 3  # updates skipped in a row that end a run

log = logging.getLogger(__name__)


class DivergedError(RuntimeError):
    """The loss or the gradient was not finite several times in a row."""


def run(c: config.Config, workdir: Path) -> Path:
    """Trains up to step train.steps, evaluates before and after, and writes the report; returns the report's path.

    A run that was stopped goes on from its newest checkpoint in `workdir`.

    Before the first step it raises ConfigError for bad settings, and the errors of reading the policy, the data and the
    checkpoints. If a signal asks the run to stop, it saves a checkpoint and raises interrupt.Interrupted. It raises
    DivergedError if the loss or a gradient was not finite in PATIENCE updates in a row, and LockError if another run
    writes to `workdir`.
    """
    workdir = places.path(workdir)
    # The flag is first, so that a signal during the start is kept until a save is possible.
    with interrupt.Flag() as stop, results.locked(workdir, "train"):
        _train(c, workdir, stop)
        return page.build(workdir) if jax.process_index() == 0 else workdir / "report.html"


def _train(c: config.Config, workdir: Path, stop: interrupt.Flag) -> None:
    score.check_weights(c.reward.weights)
    pretrained_policy = pretrained.load_policy(c)
    device_mesh = mesh_choice.make(c, pretrained_policy.spec)
    part = ("rollout.queries / rollout.parts", c.rollout.queries // c.rollout.parts)
    for name, size in (("rollout.queries", c.rollout.queries), part, ("train.eval_batch", c.train.eval_batch)):
        mesh.check_batch(device_mesh, name, size)
    accumulate.micro_batch(c.rollout, c.grpo, device_mesh)  # Checked here, so that its error comes before any work.
    source, heldout = (sources.open_source(c.data, split) for split in (c.data.train_split, c.data.eval_split))
    if jax.process_index() == 0:
        check.describe(c, source, heldout, pretrained_policy.style)
    skipped, share = pipeline.SkipCounter(), mesh.share_of_rows(device_mesh)
    batches = pipeline.query_batches(
        source, pretrained_policy.style, c.rollout.queries // share[1], seed=c.data.seed + c.seed,
        workers=c.data.workers, shard=share, skips=skipped,
        budget=c.data.prefetch_mb << 20, shuffle_objects=c.data.shuffle_objects,
    )  # fmt: skip
    tx = optim.optimizer(c.optim, train_step.schedule_updates(c), train_step.updates_per_step(c))
    trainable, frozen = state.initial_weights(c, pretrained_policy, device_mesh)
    with (
        # Opened first: where a model of theirs is missing, the workdir does not belong to these settings yet.
        host_tools(c) as (segmenter, text_scorers, perceiver),
        checkpoint.Checkpoints(workdir, config.to_dict(c), keep=c.checkpoint.keep) as checkpoints,
        run_log.open_run_log(workdir, active=jax.process_index() == 0) as log_writer,
        contextlib.closing(step_trace.StepTrace(workdir / "profile", c.train.profile)) as trace,
    ):
        log.info("masks by %s", segmenter.description)
        if perceiver is not None:
            log.info("twins by %s", perceiver.description)
        runtime = Runtime(
            c, pretrained_policy, device_mesh, segmenter=segmenter, text_scorers=text_scorers, perceiver=perceiver
        )
        ema = c.grpo.advantage == state.EMA
        heads = pretrained_policy.spec.head_counts
        behind = bool(c.rollout.ahead)
        position = Position(state.initial_state(tx, trainable, device_mesh, ema, heads, behind))
        watch = diagnosis.Watch(workdir, active=jax.process_index() == 0)
        this = Run(
            runtime, workdir, frozen, tx, iter(batches), skipped, heldout, checkpoints, log_writer, watch, trace, stop
        )
        position = _resumed(this, position)
        del trainable  # If a checkpoint was restored, nothing else may hold the initial weights and moments.
        _steps(this, position)


def _resumed(this: Run, position: Position) -> Position:
    """Sets data and run log back to the newest checkpoint; returns its position, or `position` if there is none."""
    restored = this.checkpoints.restore(state.state_template(position.state))
    if restored is None:
        this.run_log.truncate(-1)
        this.watch.forget(-1)
        return position
    restored_state, document, step = restored
    counts = document["counts"]
    this.batches.set_state(document["data"])
    if jax.process_index() == 0:  # It counts for all processes, however many there were.
        this.skipped.count = counts["examples"]
    this.run_log.truncate(step)
    this.watch.forget(step)
    c = this.config
    updates = train_step.updates_per_step(c)
    earlier = counts.get("schedule", this.checkpoints.settings.get("train.steps", c.train.steps) * updates)
    rate, update_count = functools.partial(optim.lr_at, c.optim, updates=updates), step * updates
    setting = "train.steps or optim.decay_steps"
    this.watch.give(step, diagnosis.of_schedule(rate, earlier, train_step.schedule_updates(c), update_count, setting))
    log.info("going on from step %d of %s", step, this.workdir)
    return Position(restored_state, step, step, counts["skipped"], counts["in_a_row"])


def _steps(this: Run, position: Position) -> None:
    """All steps from `position` on, with their evaluations, checkpoints and log lines."""
    c, progress = this.config, run_log.Progress(this.config.train.steps, position.step)
    while True:
        last, saving = position.step >= c.train.steps, {"checkpoint": 0.0}
        if evaluation_due(c, position.step):
            metric = _logged_metric(this.workdir, position.step)
            if metric is None:
                metric = _evaluate(this, position)
            with step_trace.phase("checkpoint", saving):
                position = _save(this, position, metric, wait=last)
        elif last or (c.checkpoint.every and position.step and position.step % c.checkpoint.every == 0):
            with step_trace.phase("checkpoint", saving):
                position = _save(this, position, wait=last)
        if last:
            return
        position = _saved_if_asked(this, position)
        earlier = position.skipped_updates
        with this.trace.step(position.step + 1):
            position, numbers, collected = train_step.step_once(this, position)
        numbers["train/checkpoint_s"] = saving["checkpoint"]
        _log_step(this, position.step, numbers, collected, progress)
        own = {"train/skipped": position.skipped_updates - earlier}  # The log has the sum so far.
        this.watch.note_step(position.step, numbers | own, c)
        _leave_if_diverged(this, position)


def _log_step(
    this: Run, step: int, numbers: dict[str, float], collected: experience.Experience, progress: run_log.Progress
) -> None:
    """Writes what is due after a step: the numbers, the progress line, a table of sampled completions."""
    c = this.config.train
    if step % c.log_every == 0 or step == c.steps:
        this.run_log.write(step, numbers)
        names = (
            "train/reward",
            "train/structure",
            "train/mask_iou",
            "train/requested",
            "train/work",
            "train/perceive_s",
        )
        if jax.process_index() == 0:
            progress.line(step, {name.removeprefix("train/"): numbers[name] for name in names if name in numbers})
    if c.samples_every and step % c.samples_every == 0:
        this.run_log.write_text(step, "samples", experience.samples(collected))


def _save(this: Run, position: Position, metric: float | None = None, wait: bool = False) -> Position:
    """Saves a checkpoint, if this step has none yet. `metric` is the step's held-out figure, higher is better.

    A step that was saved before its evaluation, because a signal came, gets its metric afterwards.
    """
    this.run_log.flush()
    if position.step != position.saved:
        ahead = position.ahead  # its experience is not saved, so its queries are drawn again
        examples = this.skipped.count if ahead is None else ahead.skipped
        counts = {
            "skipped": position.skipped_updates, "in_a_row": position.skipped_in_a_row,
            "examples": this.total(examples), "schedule": train_step.schedule_updates(this.config),
        }  # fmt: skip
        document = {"data": this.batches.get_state() if ahead is None else ahead.data, "counts": counts}
        this.checkpoints.save(position.step, position.state, document, metric)
    elif metric is not None:
        this.checkpoints.add_metric(position.step, metric)
    if wait:
        this.checkpoints.wait()
    return dataclasses.replace(position, saved=position.step)


def _leave_if_asked(this: Run, position: Position) -> int:
    """Saves and raises interrupt.Interrupted on all processes, where any of them was asked to stop.

    Returns what was asked for otherwise, interrupt.NOTHING or SAVE.
    """
    asked = mesh.most(this.stop.asked)
    if asked == interrupt.STOP:
        _save(this, position, wait=True)
        raise interrupt.Interrupted(position.step)
    return asked


def _saved_if_asked(this: Run, position: Position) -> Position:
    """`_leave_if_asked`, which also saves where any process was asked to save; returns the position."""
    if _leave_if_asked(this, position) == interrupt.NOTHING:
        return position
    this.stop.is_save_asked = False
    return _save(this, position, wait=True)


def _leave_if_diverged(this: Run, position: Position) -> None:
    """Saves and raises DivergedError, if the last PATIENCE updates or more were all skipped."""
    if position.skipped_in_a_row >= PATIENCE:
        _save(this, position, wait=True)
        raise DivergedError(
            f"the loss or gradient was not finite in {position.skipped_in_a_row} updates in a row (step"
            f" {position.step}); the weights before them are saved in {this.workdir}. Look at train/grad_norm and"
            " train/ratio_max in metrics.jsonl, lower config.optim.lr, and begin a new --workdir"
        )


def _evaluate(this: Run, position: Position) -> float:
    """Evaluates on held-out queries and writes the numbers and the gallery; returns the mean of the main metrics."""
    c, step = this.config, position.step
    name = "before" if step == 0 else "after" if step >= c.train.steps else "latest"
    log.info("evaluating on %d held-out queries", min(c.train.eval_examples, len(this.heldout)))
    skipped = pipeline.SkipCounter()
    runtime = this.runtime.with_weights(*update.weights(position.state.trainable, this.frozen)).for_rollout()
    predictions = predict.evaluate(
        runtime, this.heldout, check=functools.partial(_leave_if_asked, this, position), skipped=skipped
    )
    queries = answered.of_all(runtime.mesh, predictions, c.train.gallery)
    numbers = metrics.compute_metrics(queries, mesh.total_of_shares(runtime.mesh, skipped.count))
    if name != "latest":
        same, compared = wrong_pictures.same_answers(runtime, this.heldout, predictions)
        numbers |= {"eval/same_with_wrong_pictures": same} if compared else {}
        this.watch.give(step, diagnosis.of_pictures(same, compared))
    if step and jax.process_index() == 0:
        rows = [query.row for query in queries]
        this.watch.give(step, diagnosis.of_evaluation(diagnosis.rows_before(this.workdir), rows))
    if jax.process_index() == 0:
        predictions_file.write_predictions(this.workdir / "gallery" / name, queries)
    mean = numbers["eval/mean"]  # With one task and modality this is its main metric, such as gIoU.
    this.run_log.write(step, numbers)  # Last, because from here on the evaluation counts as done.
    names = {query.row["metric"] for query in queries}
    metric = names.pop() if len(names) == 1 else "mean of the main metrics"
    log.info("held-out %s: %s %.3f, %d queries", name, metric, mean, len(queries))
    return mean


def evaluation_due(c: config.Config, step: int) -> bool:
    """Whether a run evaluates after `step` steps: before the first, after the last, and every train.eval_every."""
    ends = step == 0 or step >= c.train.steps
    return c.train.eval_examples > 0 and (ends or bool(c.train.eval_every and step % c.train.eval_every == 0))


def _logged_metric(workdir: Path, step: int) -> float | None:
    """What `_evaluate` returned for this step before the run was stopped, from the run log; None if it did not.

    The first process writes the log and may be ahead of the others, so all of them must find the evaluation there.
    """
    logged = [row for row in run_log.read_run_log(workdir) if row["step"] == step and "eval/examples" in row]
    if mesh.least(bool(logged)) == 0:
        return None
    metric = logged[-1].get("eval/mean")
    return float(metric) if isinstance(metric, (int, float)) else math.nan
