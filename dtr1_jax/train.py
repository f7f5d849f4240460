"""`--mode=train`: GRPO from a policy that can already write twins; resumable at every moment."""

from __future__ import annotations

import functools
import logging
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax import bundle as bundles
from dtr1_jax import checkpoint, config, evaluate, experience, interrupt, mesh, metrics, report
from dtr1_jax.data import pipeline, sources
from dtr1_jax.models import policy
from dtr1_jax.rewards import score
from dtr1_jax.rl import advantages, optim, update
from dtr1_jax.specialists.segment import Segmenter

PATIENCE = 3  # updates in a row that may be skipped

log = logging.getLogger(__name__)


class DivergedError(RuntimeError):
    """The loss or the gradient was not finite several times in a row."""


def initial(c: config.Config, bundle: bundles.Bundle, device_mesh) -> tuple[dict, dict]:
    """(trainable, frozen) weights on the mesh; see rl/update.py for what they hold. Raises WeightsError."""
    base = bundles.read_weights(c, bundle)
    if c.lora.rank:
        lora = policy.init_lora(jax.random.key(c.seed), base, c.lora.rank, c.lora.targets)
        trainable, frozen = {"lora": lora}, {"base": base}
    else:
        trainable, frozen = {"base": base}, {"reference": base} if c.grpo.beta else {}
    return tuple(mesh.put(tree, mesh.shardings(device_mesh, tree)) for tree in (trainable, frozen))


def run(c: config.Config, workdir: Path) -> Path:
    """Trains for train.steps, evaluates before and after, and writes the report; returns its path.

    Raises interrupt.Interrupted after saving, where asked to stop; DivergedError; and the errors of the parts at the start.
    """
    score.check_weights(c.reward.weights)
    bundle, device_mesh = bundles.load(c), mesh.make(c.mesh)
    for name, size in (("rollout.queries", c.rollout.queries), ("train.eval_batch", c.train.eval_batch)):
        mesh.check_batch(device_mesh, name, size)
    micro_batch(c, device_mesh)
    train_source, eval_source = (sources.make(c.data, s) for s in (c.data.train_split, c.data.eval_split))
    skipped = pipeline.Skipped()
    data = iter(
        pipeline.queries(
            train_source,
            bundle.style,
            c.rollout.queries // jax.process_count(),
            seed=c.data.seed + c.seed,
            workers=c.data.workers,
            shard=(jax.process_index(), jax.process_count()),
            skipped=skipped,
        )  # fmt: skip
    )
    tx = optim.make(c.optim, c.train.steps * c.grpo.epochs * c.grpo.minibatches)
    trainable, frozen = initial(c, bundle, device_mesh)
    root = jax.random.key(c.seed)

    with (
        checkpoint.Checkpoints(workdir, config.to_dict(c), keep=c.checkpoint.keep) as saved,
        metrics.writer(workdir, active=jax.process_index() == 0) as writer,
        Segmenter(c.reward.segmenter, c.reward.workers, c.reward.deadline) as segmenter,
        interrupt.Flag() as stop,
    ):
        log.info("masks by %s", segmenter.description)
        opt_shapes = jax.eval_shape(tx.init, trainable)
        opt = jax.jit(tx.init, out_shardings=mesh.shardings(device_mesh, {"opt": opt_shapes})["opt"])(trainable)
        state, step, in_a_row = update.State(trainable, opt), 0, 0
        restored = saved.restore(
            jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
        )
        if restored is not None:
            state, position, step = restored
            data.set_state(position["data"])
            in_a_row = position["skipped_in_a_row"]
            log.info("going on from step %d of %s", step, workdir)
        writer.truncate(step if restored else -1)

        def save(metric=None, wait=False):
            position = {"data": data.get_state(), "skipped_in_a_row": in_a_row}
            saved.save(step, state, position, metric, wait=wait)

        def leave_if_asked():
            if stop.is_set:
                save(wait=True)
                log.warning("asked to stop: saved step %d; the same command goes on from here", step)
                raise interrupt.Interrupted(step)

        def held_out(name: str) -> float:
            weights = update.weights(state.trainable, frozen)
            predictions = evaluate.evaluate(
                *weights, bundle, c, device_mesh, eval_source, segmenter, check=leave_if_asked
            )
            numbers = evaluate.figures(predictions)
            writer.write(step, numbers)
            if jax.process_index() == 0:
                evaluate.write(Path(workdir) / "gallery" / name, predictions, c.train.gallery)
            log.info("held-out %s: gIoU %.3f, %d queries", name, numbers.get("eval/giou", 0.0), len(predictions))
            return numbers.get("eval/giou", 0.0)

        if not _evaluated(workdir, 0):
            held_out("before")
        progress = metrics.Progress(c.train.steps, step)
        while step < c.train.steps:
            leave_if_asked()
            started = time.monotonic()
            key = jax.random.fold_in(root, step)
            gained = experience.collect(
                *update.weights(state.trainable, frozen), bundle, c, device_mesh, data, key, segmenter
            )
            updating = time.monotonic()
            state, numbers = learn(state, frozen, bundle, c, device_mesh, tx, gained)
            in_a_row = in_a_row + 1 if numbers["train/skipped"] else 0
            step += 1
            numbers |= mesh.mean(experience.describe(gained))
            now = time.monotonic()
            numbers |= {
                "train/update_s": now - updating, "train/step_s": now - started,
                "train/update_tokens_per_s": gained.rollout.mask_bgs.sum() / (now - updating),
                "train/lr": float(optim.lr_at(c.optim, c.train.steps, step - 1)), "train/examples_skipped": skipped.count,
                **metrics.memory(jax.local_devices()[0].memory_stats()),
            }  # fmt: skip
            if step % c.train.log_every == 0 or step == c.train.steps:
                writer.write(step, numbers)
                shown = ("train/reward", "train/structure", "train/mask_iou")
                progress.line(step, {name[6:]: numbers[name] for name in shown if name in numbers})
            if c.train.samples_every and step % c.train.samples_every == 0:
                writer.text(step, "samples", experience.table(gained))
            if in_a_row >= PATIENCE:
                save(wait=True)
                raise DivergedError(
                    f"the loss or gradient was not finite {in_a_row} times in a row (step {step}); the weights before that "
                    f"are saved in {workdir}. Lower config.optim.lr or look at train/grad_norm and train/ratio_max"
                )
            due = c.checkpoint.every and step % c.checkpoint.every == 0
            metric = None
            if c.train.eval_every and step % c.train.eval_every == 0 and step < c.train.steps:
                metric, due = held_out("latest"), True
            if due and step < c.train.steps:
                save(metric)
        if not _evaluated(workdir, c.train.steps) or c.train.steps == 0:
            save(held_out("after"), wait=True)
    return report.build(workdir)


def micro_batch(c: config.Config, device_mesh) -> int:
    """Queries of a gradient accumulation step over all devices. Raises ConfigError where the mesh does not allow it."""
    size = c.rollout.queries // c.grpo.minibatches
    mesh.check_batch(device_mesh, "rollout.queries / grpo.minibatches", size)
    micro = min(size, c.grpo.micro_queries * mesh.shares(device_mesh))
    if micro and size % micro:
        raise config.ConfigError(
            f"config.grpo.micro_queries = {c.grpo.micro_queries} on each of {mesh.shares(device_mesh)} shares of the mesh "
            f"makes {micro} queries a step, which does not divide the {size} queries of a minibatch"
        )
    return micro


def learn(state, frozen, bundle, c, device_mesh, tx, gained) -> tuple[update.State, dict[str, float]]:
    """The optimizer steps of one batch of experience: (state, `train/...` numbers, means over the steps)."""
    reward = mesh.put_batch(device_mesh, gained.rewards.total_bg)
    advantage_bg = jax.jit(functools.partial(advantages.advantages, scale=c.grpo.advantage))(reward)
    whole = update.Minibatch(gained.prompt, update.trim(gained.rollout), mesh.local(advantage_bg))
    size = len(gained.examples) // c.grpo.minibatches
    every = []
    for _ in range(c.grpo.epochs):
        for i in range(c.grpo.minibatches):
            part = jax.tree.map(lambda x: x[i * size : (i + 1) * size], whole)  # noqa: B023
            state, numbers = update.update(
                state, frozen, mesh.put_batch(device_mesh, part), jnp.asarray(bundle.banned_v), spec=bundle.spec, tx=tx,
                knobs=c.grpo, temperature=c.rollout.temperature, micro=micro_batch(c, device_mesh), mesh=device_mesh,
                dtype=bundle.dtype,
            )  # fmt: skip
            every.append(numbers)
    every = jax.device_get(every)
    out = {f"train/{name}": float(np.mean([m[name] for m in every])) for name in every[0]}
    # sampler and scorer are compared before the first step changed anything
    return state, out | {f"train/{name}": float(every[0][name]) for name in ("mismatch", "mismatch_max")}


def trained(c: config.Config, bundle: bundles.Bundle, device_mesh, workdir: Path) -> tuple[dict, dict | None]:
    """(weights, adapters) of the newest checkpoint in `workdir`, or of config.policy.path where there is none."""
    trainable, frozen = initial(c, bundle, device_mesh)
    if (Path(workdir) / "checkpoints").is_dir():
        with checkpoint.Checkpoints(workdir, config.to_dict(c), keep=c.checkpoint.keep) as saved:
            tx = optim.make(c.optim, c.train.steps * c.grpo.epochs * c.grpo.minibatches)
            state = update.State(trainable, jax.jit(tx.init)(trainable))
            shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)
            restored = saved.restore(shapes)
            if restored is not None:
                log.info("weights of step %d in %s", restored[2], workdir)
                return update.weights(restored[0].trainable, frozen)
    log.info("weights of %s", bundles.weights_path(c))
    return update.weights(trainable, frozen)


def _evaluated(workdir, step: int) -> bool:
    """Whether the metrics have an evaluation at this step already (a run that was stopped after it)."""
    return any(row["step"] == step and "eval/giou" in row for row in metrics.read(workdir))
