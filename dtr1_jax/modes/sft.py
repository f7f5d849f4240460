"""`--mode=sft`: the cold start, which makes a policy that can write twins by imitating oracle transcripts.

The transcripts are those of TwinWorld, or of your own annotated pictures: of every source whose examples have a scene
and an answer in it. It begins with random weights or, where config.policy.path is set, with the weights there. With
config.lora.rank above 0 it trains adapters of these weights, which GRPO then begins from (config.policy.adapter).
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import time
from pathlib import Path
from typing import Any

import jax
import optax

from dtr1_jax import config, mesh, places
from dtr1_jax.data import image_files, json_files, patches, pipeline, prompts, sources
from dtr1_jax.data.batches import shape_of, with_lengths
from dtr1_jax.data.cold_start import ColdStartBatches, dense_weight, is_drawn_to_order, tower_steps
from dtr1_jax.data.twinworld import patch_targets
from dtr1_jax.models import policy
from dtr1_jax.models.weights import native
from dtr1_jax.modes import diagnosis, export, mesh_choice, results
from dtr1_jax.modes.check import describe as describe_data
from dtr1_jax.policies import pretrained
from dtr1_jax.policies import state as weights_state
from dtr1_jax.policies.pretrained import PretrainedPolicy
from dtr1_jax.rl import imitation
from dtr1_jax.run import atomic, checkpoint, interrupt, run_log
from dtr1_jax.types import Demonstration

TRIED = 64  # examples that are read at the start, to find one that can be imitated

log = logging.getLogger(__name__)


def run(c: config.Config, workdir: Path) -> Path:
    """Trains for sft.steps, writes the result into `workdir` and returns its path.

    The result is `adapter`, a folder for PEFT and config.policy.adapter, where adapters were trained; `policy`, a
    Hugging Face folder, for all weights of a published policy; `policy.safetensors` (bfloat16) for one of our own.

    A run that was stopped goes on from its newest checkpoint. The first sft.tower of the steps train the vision tower
    alone on the dense loss, which is cheap; the others train everything.

    Raises ConfigError or DataError if the settings or the data allow no cold start; interrupt.Interrupted after saving,
    where somebody asked the run to stop; LockError if another run writes to `workdir`; and the errors of reading the
    policy and the checkpoints.
    """
    with interrupt.Flag() as stop:  # The flag is first, so that a signal during the start is kept until a save.
        return _train(c, workdir, stop)


def _train(c: config.Config, workdir: Path, stop: interrupt.Flag) -> Path:
    pretrained_policy = pretrained.load_policy(c)
    check(c, pretrained_policy)
    device_mesh = mesh_choice.make(c, pretrained_policy.spec)
    mesh.check_batch(device_mesh, "sft.batch", c.sft.batch)
    mesh.check_batch(device_mesh, "sft.practice", c.sft.practice)
    if jax.process_index() == 0:
        train, heldout = (sources.open_source(c.data, part) for part in ("train", "heldout"))
        describe_data(c, train, heldout, pretrained_policy.style)
    tx = imitation.adapter_optimizer(c.sft) if c.lora.rank else imitation.optimizer(c.sft)
    start = pretrained.read_weights(c, pretrained_policy, device_mesh) if _has_start(c, pretrained_policy) else None
    begin = functools.partial(_initial_state, c, pretrained_policy, tx)
    shapes = jax.eval_shape(begin, start)
    shardings = mesh.shardings(device_mesh, shapes, pretrained_policy.spec.head_counts)
    frozen = {"policy": start} if c.lora.rank else None
    batches = ColdStartBatches(c, pretrained_policy.style, mesh.share_of_rows(device_mesh))
    with (
        results.locked(workdir, "sft"),
        checkpoint.Checkpoints(workdir, config.to_dict(c), keep=c.checkpoint.keep) as checkpoints,
        run_log.open_run_log(workdir, active=jax.process_index() == 0) as writer,
    ):
        template = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, shardings)
        restored, step = checkpoints.restore(template), 0
        if restored is None:
            state = jax.jit(begin, out_shardings=shardings)(start)
        else:
            state, position, step = restored
            batches.set_state(position)
            _warn_of_jump(c, checkpoints, step)
            log.info("going on from step %d of %s", step, workdir)
        writer.truncate(step)
        meter = _Meter(c, writer, step)
        while step < c.sft.steps:
            numbers = _step(c, pretrained_policy, device_mesh, tx, state, frozen, batches, step)
            step += 1
            meter.write(step, numbers)
            asked = mesh.most(stop.asked)  # Any process may have got the signal.
            if asked or step == c.sft.steps or (c.checkpoint.every and step % c.checkpoint.every == 0):
                writer.flush()
                checkpoints.save(step, state, batches.get_state(), wait=bool(asked))
                stop.is_save_asked = False
            if asked == interrupt.STOP:
                log.warning("asked to stop: saved step %d; the same command goes on from here", step)
                raise interrupt.Interrupted(step)
        return _write(c, pretrained_policy, device_mesh, places.path(workdir), state["trainable"])


def _has_start(c: config.Config, pretrained_policy: PretrainedPolicy) -> bool:
    """Whether the cold start begins with weights from files; else they are random."""
    return bool(c.policy.path) or c.lora.rank > 0 or pretrained_policy.checkpoint is not None


def _write(
    c: config.Config, pretrained_policy: PretrainedPolicy, device_mesh: jax.sharding.Mesh, workdir: Path,
    trainable: dict,
) -> Path:  # fmt: skip
    """Writes the trained weights as `run` says, by the first process; returns their path."""
    weights = mesh.whole(device_mesh, trainable["lora" if c.lora.rank else "policy"])
    own = pretrained_policy.checkpoint is None
    path = workdir / ("adapter" if c.lora.rank else "policy.safetensors" if own else "policy")
    if jax.process_index():
        return path
    if not c.lora.rank and own:
        native.save_native(path, weights)
        return path
    with atomic.replacing_folder(path) as folder:
        if c.lora.rank:
            export.write_adapter(c, pretrained_policy, folder, weights, path)
        else:
            export.write_merged(c, pretrained_policy, folder, weights, None)
    if c.lora.rank:
        log.info("the adapter is added to the policy by --config.policy.adapter=%s", path)
    return path


def _warn_of_jump(c: config.Config, checkpoints: checkpoint.Checkpoints, step: int) -> None:
    """Warns where the learning rate jumps because sft.steps is not what the run began with."""

    def rate(steps: int, update: int) -> Any:
        return imitation.schedule(dataclasses.replace(c.sft, steps=steps), c.sft.lr)(update)

    earlier = checkpoints.settings.get("sft.steps", c.sft.steps)
    for finding in diagnosis.of_schedule(rate, earlier, c.sft.steps, step, "sft.steps"):
        log.warning("step %d: %s", step, finding.message)


def check(c: config.Config, pretrained_policy: PretrainedPolicy) -> None:
    """Raises ConfigError or DataError if no cold start can be made with these settings."""
    if c.lora.rank:
        _check_adapters(c, pretrained_policy)
    if not is_drawn_to_order(c, pretrained_policy.style):
        _check_annotated(c, pretrained_policy)
        return
    size, geometry = (c.data.image_size, c.data.image_size), pretrained_policy.style.geometry
    resized = patches.picture_size(*size, geometry)
    if c.data.video and resized == size:
        resized = patches.video_size(sources.max_frames(c.data), *size, geometry)
    if resized != size:
        raise config.ConfigError(
            "config.data.image_size: expected pictures that the policy sees as drawn, but config.policy.max_pixels = "
            f"{c.policy.max_pixels} turns {size[0]} x {size[1]} into {resized[0]} x {resized[1]} pixels"
        )
    sources.open_source(c.data, "train")


def _check_adapters(c: config.Config, pretrained_policy: PretrainedPolicy) -> None:
    """Raises ConfigError if there are no weights that adapters could adapt, or PEFT has no form for the adapters."""
    if pretrained_policy.checkpoint is None:
        raise config.ConfigError(
            f"config.lora.rank: expected 0 for {c.policy.name}, whose cold start trains all weights, got "
            f"{c.lora.rank}; adapters are for the weights of a Hugging Face folder or a .gguf file"
        )
    export.check_adapter(c, pretrained_policy)


def _check_annotated(c: config.Config, pretrained_policy: PretrainedPolicy) -> None:
    """Raises DataError if none of the first TRIED examples of the source can be imitated."""
    style, fault = pretrained_policy.style, ValueError("there are no examples")
    source = pipeline.shown(sources.open_source(c.data, c.data.train_split), style)
    for index in range(min(TRIED, len(source))):
        try:
            pipeline.demonstration(source[index], style, c.rollout.new_tokens)
        except (image_files.ImageError, prompts.PromptError, OSError) as error:
            fault = error
        else:
            break
    else:
        raise json_files.DataError(
            "config.data: --mode=sft imitates annotated objects with an answer among them, but none of the first "
            f"{min(TRIED, len(source))} examples of {source!r} has them. In JSON lines, write `objects`, and give the "
            f"target as `boxes` that equal boxes of `objects`. The last: {fault}"
        )
    if pretrained_policy.checkpoint is None and (c.sft.dense or c.sft.practice):
        log.warning(
            "the dense loss and the practice are about TwinWorld: config.sft.dense, sft.tower and sft.practice are not "
            "used with config.data.source=%s",
            c.data.source,
        )


def _initial_state(
    c: config.Config, pretrained_policy: PretrainedPolicy, tx: optax.GradientTransformation, start: dict | None
) -> dict[str, Any]:
    """The state before the first step: {"trainable", "opt"}. `start`: weights from files; None = random ones.

    Trainable are {"lora"}, or {"policy", "head"}, without the dense head for a policy without a vision tower.
    """
    k_policy, k_head = jax.random.split(jax.random.key(c.seed))
    if c.lora.rank:
        trainable = {"lora": weights_state.initial_adapters(c, start)}
    else:
        trainable = {"policy": policy.init(k_policy, pretrained_policy.spec) if start is None else start}
        if pretrained_policy.spec.vision is not None:
            trainable["head"] = imitation.init_head(k_head, pretrained_policy.spec, patch_targets.COUNTS)
    return {"trainable": trainable, "opt": tx.init(trainable)}


def _step(
    c: config.Config, pretrained_policy: PretrainedPolicy, device_mesh: jax.sharding.Mesh,
    tx: optax.GradientTransformation, state: dict[str, Any], frozen: dict | None, batches: ColdStartBatches, step: int,
) -> dict[str, jax.Array]:  # fmt: skip
    """Optimizer step `step`, the first is 0: puts the new weights into `state`, returns its numbers on the device.

    The first steps train the tower alone.
    """
    text = step >= tower_steps(c, pretrained_policy.style)
    demonstrations, practice = map(_aligned, batches.next(text))
    key = jax.random.fold_in(jax.random.key(c.seed), step) if c.lora.dropout else None
    state["trainable"], state["opt"], numbers = imitation.update(
        state["trainable"], state["opt"], mesh.put_batch(device_mesh, demonstrations),
        mesh.put_batch(device_mesh, practice), frozen, tx=tx, spec=pretrained_policy.spec, reasoning=c.sft.reasoning,
        dense=dense_weight(c, pretrained_policy.style), counts=patch_targets.COUNTS, text=text,
        dtype=pretrained_policy.dtype, key=key, mesh=device_mesh,
    )  # fmt: skip
    return numbers


def _aligned(demonstrations: Demonstration | None) -> Demonstration | None:
    """Demonstrations padded to the lengths of the longest of any process. All processes must call it."""
    if demonstrations is None:
        return None
    sizes = (*shape_of(demonstrations.prompt), demonstrations.token_bgs.shape[2])
    return with_lengths(demonstrations, *mesh.largest(sizes))


class _Meter:
    """Writes the numbers of every sft.log_every-th step to the run log and the terminal, with examples per second."""

    def __init__(self, c: config.Config, writer: Any, step: int):
        self._c, self._writer = c, writer
        self._progress = run_log.Progress(c.sft.steps, step)
        self._step, self._clock = step, time.monotonic()

    def write(self, step: int, numbers: dict[str, jax.Array]) -> None:
        """Writes the numbers after `step`, if they are due."""
        if step % self._c.sft.log_every and step != self._c.sft.steps:
            return
        values = {f"sft/{name}": float(value) for name, value in jax.device_get(numbers).items()}
        now = time.monotonic()
        values["sft/examples_per_s"] = (step - self._step) * self._c.sft.batch / (now - self._clock)
        self._step, self._clock = step, now
        self._writer.write(step, values)
        names = ("sft/loss", "sft/dense_box_l1", "sft/nll_practice")
        self._progress.line(step, {name: values[name] for name in names if name in values})
