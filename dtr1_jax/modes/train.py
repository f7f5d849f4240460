"""`--mode=train`: GRPO from a policy that can already write twins; resumable at every moment."""

from __future__ import annotations

import functools
import logging
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from dtr1_jax import config, mesh, types
from dtr1_jax.data import pipeline, sources
from dtr1_jax.evaluation import measures, predict, table
from dtr1_jax.models import policy, sentence_encoder
from dtr1_jax.modes import experience
from dtr1_jax.policies import pretrained
from dtr1_jax.report import page
from dtr1_jax.rewards import score
from dtr1_jax.rewards.text_scorers import TextScorers
from dtr1_jax.rl import advantages, optim, update
from dtr1_jax.run import checkpoint, interrupt, run_log
from dtr1_jax.specialists.segmenter import Segmenter

PATIENCE = 3  # skipped updates in a row that end a run
# Settings that a checkpoint's weights depend on. Of the optimizer's, clipping changes what the checkpoint holds.
POLICY = ("policy.name", "policy.path", "lora.rank", "lora.alpha", "lora.rslora", "lora.targets", "optim.clip")
# What fold_in makes of a step's key for the dropout in its updates; the rounds of sampling have 0, 1, ...
DROPOUT = 2**31

_advantages = jax.jit(advantages.advantages, static_argnames=("scale",))
EMA = "ema"  # the grpo.advantage that needs the averages of update.State

log = logging.getLogger(__name__)


class DivergedError(RuntimeError):
    """The loss or the gradient was not finite several times in a row."""


def initial(c: config.Config, pretrained_policy: pretrained.PretrainedPolicy, device_mesh) -> tuple[dict, dict]:
    """(trainable, frozen) weights on the mesh, as rl/update.py describes them. Raises WeightsError, ConfigError."""
    base = pretrained.read_weights(c, pretrained_policy, device_mesh)
    if not c.lora.rank:
        # a copy, since the trained weights are donated to each update
        return {"base": base}, {"reference": jax.tree.map(jnp.copy, base)} if c.grpo.beta else {}
    trainable = {"lora": adapters(c, base)}
    return mesh.put(trainable, mesh.shardings(device_mesh, trainable)), {"base": base}


def adapters(c: config.Config, base: dict) -> dict:
    """New LoRA adapters of the weights. Raises ConfigError where lora.targets names none of them."""
    try:
        return policy.init_lora(jax.random.key(c.seed), base, c.lora.rank, c.lora.targets)
    except ValueError as error:
        raise config.ConfigError(f"config.lora.targets = {c.lora.targets!r}: {error}") from None


def run(c: config.Config, workdir: Path) -> Path:
    """Trains for train.steps, evaluates before and after, and writes the report; returns its path.

    Raises interrupt.Interrupted after saving, where asked to stop; DivergedError; and the errors of the parts at the
    start.
    """
    workdir = Path(workdir)
    with interrupt.Flag() as stop:  # first, so that a signal during the start waits for something to save
        _train(c, workdir, stop)
        return page.build(workdir) if jax.process_index() == 0 else workdir / "report.html"


def _train(c: config.Config, workdir: Path, stop: interrupt.Flag) -> None:
    score.check_weights(c.reward.weights)
    pretrained_policy, device_mesh = pretrained.load_policy(c), mesh.make(c.mesh)
    for name, size in (("rollout.queries", c.rollout.queries), ("train.eval_batch", c.train.eval_batch)):
        mesh.check_batch(device_mesh, name, size)
    micro_batch(c, device_mesh)
    train_source, eval_source = (sources.make(c.data, s) for s in (c.data.train_split, c.data.eval_split))
    skipped = pipeline.Skipped()
    data = iter(
        pipeline.queries(
            train_source, pretrained_policy.style, c.rollout.queries // jax.process_count(), seed=c.data.seed + c.seed,
            workers=c.data.workers, shard=(jax.process_index(), jax.process_count()), skipped=skipped,
        )
    )  # fmt: skip
    updates = c.grpo.epochs * c.grpo.minibatches  # of a step
    tx = optim.make(c.optim, c.train.steps * updates)
    trainable, frozen = initial(c, pretrained_policy, device_mesh)
    root, first = jax.random.key(c.seed), jax.process_index() == 0

    with (
        checkpoint.Checkpoints(workdir, config.to_dict(c), keep=c.checkpoint.keep) as saved,
        run_log.open_run_log(workdir, active=first) as writer,
        Segmenter(c.reward.segmenter, c.reward.workers, c.reward.deadline) as segmenter,
        TextScorers(c.reward, sentence_encoder.embedder) as text_scorers,
    ):
        log.info("masks by %s", segmenter.description)
        state, step = begin(tx, trainable, device_mesh, ema=c.grpo.advantage == EMA), 0
        counts = {"skipped": 0, "in_a_row": 0, "examples": 0}  # updates left out in all, and of late; broken examples
        kept = None  # step of the newest checkpoint
        restored = saved.restore(shapes(state))
        if restored is not None:
            state, position, step = restored
            data.set_state(position["data"])
            counts, kept = position["counts"], step
            skipped.count = counts["examples"]
            log.info("going on from step %d of %s", step, workdir)
        writer.truncate(-1 if restored is None else step)

        def save(metric: float | None = None, wait: bool = False) -> None:
            nonlocal kept
            if step != kept:
                position = {"data": data.get_state(), "counts": counts | {"examples": skipped.count}}
                saved.save(step, state, position, metric)
            kept = step
            if wait:
                saved.wait()

        def leave_if_asked() -> None:
            if mesh.least(not stop.is_set) == 0:  # all processes leave where one was asked to
                save(wait=True)
                raise interrupt.Interrupted(step)

        def held_out() -> float:
            name = "before" if step == 0 else "after" if step >= c.train.steps else "latest"
            log.info("evaluating on %d held-out queries", min(c.train.eval_examples, len(eval_source)))
            skipped = pipeline.Skipped()
            predictions = predict.evaluate(
                *update.weights(state.trainable, frozen), pretrained_policy, c, device_mesh, eval_source, segmenter,
                check=leave_if_asked, text_scorers=text_scorers, skipped=skipped,
            )  # fmt: skip
            numbers = predict.figures(predictions, skipped.count)
            if first:
                predict.write(workdir / "gallery" / name, predictions, c.train.gallery)
            mean = numbers["eval/mean"]  # of segmentation on pictures alone this is the gIoU
            writer.write(step, numbers)  # last: from here on the evaluation counts as done
            mains = {table.main_metric(p.example.task, measures.modality(p.outcome)) for p in predictions}
            what = mains.pop() if len(mains) == 1 else "mean of the main metrics"
            log.info("held-out %s: %s %.3f, %d queries", name, what, mean, len(predictions))
            return mean

        progress = run_log.Progress(c.train.steps, step)
        while True:
            last, due = step >= c.train.steps, c.checkpoint.every and step and step % c.checkpoint.every == 0
            if evaluation_due(c, step) and not _evaluated(workdir, step):
                save(held_out(), wait=last)
            elif last or due:
                save(wait=last)
            if last:
                return
            leave_if_asked()
            started, key = time.monotonic(), jax.random.fold_in(root, step)
            gained = experience.collect(
                *update.weights(state.trainable, frozen),
                pretrained_policy,
                c,
                device_mesh,
                data,
                key,
                segmenter,
                text_scorers,
            )
            updating = time.monotonic()
            state, numbers = learn(state, frozen, pretrained_policy, c, device_mesh, tx, gained, key)
            step, now = step + 1, time.monotonic()
            lost = int(numbers["train/skipped"])
            counts["skipped"] += lost
            counts["in_a_row"] = counts["in_a_row"] + lost if lost == updates else 0
            numbers |= mesh.mean(experience.describe(gained)) | experience.by_task(gained) | {
                "train/update_s": now - updating, "train/step_s": now - started,
                "train/update_tokens_per_s": c.grpo.epochs * gained.rollout.mask_bgs.sum() / (now - updating),
                "train/lr": float(optim.lr_at(c.optim, c.train.steps * updates, step * updates - 1)),
                "train/skipped": counts["skipped"], "train/examples_skipped": skipped.count,
                **run_log.peak_memory(jax.local_devices()[0].memory_stats()),
            }  # fmt: skip
            if step % c.train.log_every == 0 or step == c.train.steps:
                writer.write(step, numbers)
                shown = ("train/reward", "train/structure", "train/mask_iou")
                if first:
                    progress.line(step, {name[6:]: numbers[name] for name in shown if name in numbers})
            if c.train.samples_every and step % c.train.samples_every == 0:
                writer.write_text(step, "samples", experience.table(gained))
            if lost:
                log.warning("step %d: %d of %d updates skipped, loss or gradient not finite", step, lost, updates)
            if counts["in_a_row"] >= PATIENCE:
                save(wait=True)
                raise DivergedError(
                    f"the loss or gradient was not finite in {counts['in_a_row']} updates in a row (step {step}); the"
                    f" weights before them are saved in {workdir}. Look at train/grad_norm and train/ratio_max in"
                    " metrics.jsonl, lower config.optim.lr, and begin a new --workdir"
                )


def evaluation_due(c: config.Config, step: int) -> bool:
    """Whether the policy after `step` steps is evaluated: before the first, after the last, every train.eval_every."""
    ends = step == 0 or step >= c.train.steps
    return c.train.eval_examples > 0 and (ends or bool(c.train.eval_every and step % c.train.eval_every == 0))


def begin(tx: optax.GradientTransformation, trainable: dict, device_mesh, ema: bool = False) -> update.State:
    """The state before the first update, on the mesh as the weights are; with `ema` the averages of the rewards too."""
    placed = mesh.shardings(device_mesh, {"opt": jax.eval_shape(tx.init, trainable)})["opt"]
    averages = mesh.put(advantages.unseen(), mesh.replicated(device_mesh)) if ema else None
    return update.State(trainable, jax.jit(tx.init, out_shardings=placed)(trainable), averages)


def shapes(state: update.State) -> update.State:
    """What a checkpoint is restored into: shapes, dtypes and shardings of the state."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


def micro_batch(c: config.Config, device_mesh) -> int:
    """Queries of a gradient accumulation step over all devices. Raises ConfigError where the mesh does not allow it."""
    size = c.rollout.queries // c.grpo.minibatches
    mesh.check_batch(device_mesh, "rollout.queries / grpo.minibatches", size)
    micro = min(size, c.grpo.micro_queries * mesh.shares(device_mesh))
    if micro and size % micro:
        raise config.ConfigError(
            f"config.grpo.micro_queries = {c.grpo.micro_queries} on each of {mesh.shares(device_mesh)} shares of the"
            f" mesh makes {micro} queries a step, which does not divide the {size} queries of a minibatch"
        )
    return micro


def learn(state, frozen, pretrained_policy, c, device_mesh, tx, gained, key) -> tuple[update.State, dict[str, float]]:
    """The optimizer steps of one batch of experience; `key` is the step's, of which the dropout's are made.

    Returns (state, `train/...` numbers): means over the steps; of `skipped` the sum, of `..._max` the maximum.
    """
    reward = mesh.put_batch(device_mesh, gained.rewards.total_bg)
    averages = {}
    if c.grpo.advantage == EMA:
        task = mesh.put_batch(device_mesh, np.array([types.TASKS.index(e.task) for e in gained.examples], np.int32))
        place = mesh.replicated(device_mesh)
        advantage, ema = _ema_advantages(reward, task, state.ema, decay=c.grpo.ema_decay, place=place)
        state, averages = update.State(state.trainable, state.opt, ema), describe_ema(ema)
    else:
        advantage = _advantages(reward, scale=c.grpo.advantage)
    twin_bgs = None
    if c.grpo.beta and c.grpo.hold_twin != 1:
        twin_bgs = experience.twin_tokens(gained.rollout, pretrained_policy.style.tokenizer)
    whole = update.Minibatch(gained.prompt, gained.rollout, mesh.local(advantage), twin_bgs)
    size = len(gained.examples) // c.grpo.minibatches

    def rows(i: int) -> update.Minibatch:
        return jax.tree.map(lambda x: x[i * size : (i + 1) * size], whole)

    every, key = [], jax.random.fold_in(key, DROPOUT)
    for i, part in enumerate([rows(i) for i in range(c.grpo.minibatches)] * c.grpo.epochs):
        state, numbers = update.update(
            state, frozen, mesh.put_batch(device_mesh, part), jnp.asarray(pretrained_policy.banned_v),
            spec=pretrained_policy.spec, tx=tx, knobs=c.grpo, temperature=c.rollout.temperature, micro=micro_batch(c,
            device_mesh), mesh=device_mesh, dtype=pretrained_policy.dtype, max_tokens=c.rollout.new_tokens,
            key=jax.random.fold_in(key, i) if c.lora.dropout else None,
        )  # fmt: skip
        every.append(numbers)
    every = jax.device_get(every)
    out = {}
    for name in every[0]:
        reduce = np.sum if name == "skipped" else np.max if name.endswith("_max") else np.mean
        out[f"train/{name}"] = float(reduce([m[name] for m in every]))
    # sampler and scorer are compared before the first step changed anything
    return state, out | averages | {f"train/{name}": float(every[0][name]) for name in ("mismatch", "mismatch_max")}


@functools.partial(jax.jit, static_argnames=("decay", "place"))
def _ema_advantages(reward_bg, task_b, ema, *, decay, place):
    """Each device adds up the whole batch by itself, in one order: the averages are the same on every mesh."""
    reward_bg, task_b = jax.lax.with_sharding_constraint((reward_bg, task_b), place)
    made = advantages.ema_advantages(reward_bg, task_b, ema, decay=decay)
    return jax.lax.with_sharding_constraint(made, place)


def describe_ema(ema: advantages.Ema) -> dict[str, float]:
    """`train/ema_std/<task>`: what divides the advantages of each task that was seen."""
    weight_k, variance_k = np.asarray(ema.weight_k), np.asarray(ema.variance_k)
    return {f"train/ema_std/{task}": float(v) ** 0.5 for task, w, v in zip(types.TASKS, weight_k, variance_k) if w > 0}


def trained(
    c: config.Config, pretrained_policy: pretrained.PretrainedPolicy, device_mesh, workdir: Path
) -> tuple[dict, dict | None]:
    """(weights, adapters) of the newest checkpoint in `workdir`, or of config.policy.path where there is none.

    The data, rewards and sampling may be others than in training; raises CheckpointError where the policy is another.
    """
    trainable, frozen = initial(c, pretrained_policy, device_mesh)
    if (Path(workdir) / "checkpoints").is_dir():
        with checkpoint.Checkpoints(workdir, config.to_dict(c), keep=c.checkpoint.keep, fields=POLICY) as saved:
            tx = optim.make(c.optim, c.train.steps)
            ema = saved.settings.get("grpo.advantage") == EMA  # says what the checkpoint holds, whatever is set now
            restored = saved.restore(shapes(begin(tx, trainable, device_mesh, ema)))
            if restored is not None:
                log.info("weights of step %d in %s", restored[2], workdir)
                return update.weights(restored[0].trainable, frozen)
    log.info("weights of %s", pretrained.weights_path(c))
    return update.weights(trainable, frozen)


def _evaluated(workdir: Path, step: int) -> bool:
    """Whether the metrics have an evaluation at this step already (a run that was stopped after it)."""
    done = any(row["step"] == step and "eval/examples" in row for row in run_log.read_run_log(workdir))
    return mesh.least(done) == 1  # the first process may be ahead of the others in writing
