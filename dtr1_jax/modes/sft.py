"""`--mode=sft`: makes a policy that can write twins by imitating TwinWorld's oracle transcripts.

From nothing, or, where config.policy.path is set, from the weights there.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from pathlib import Path

import jax

from dtr1_jax import config, mesh
from dtr1_jax.data import mixture, patches, pipeline, sources
from dtr1_jax.data.twinworld import patch_targets
from dtr1_jax.models import policy
from dtr1_jax.models.weights import native
from dtr1_jax.policies import pretrained
from dtr1_jax.rl import imitation
from dtr1_jax.run import checkpoint, interrupt, run_log
from dtr1_jax.types import Demonstration

log = logging.getLogger(__name__)


def objects(c: config.Config, video: bool = False) -> Callable[[int, int], int]:
    """(step, turn) -> number of objects in all of its scenes, so that its transcripts are about equally long.

    It takes turns from data.min_objects to a most that grows to data.max_objects over sft.curriculum; in videos to
    data.max_video_objects.
    """
    most = c.data.max_video_objects if video else c.data.max_objects
    fewest = min(c.data.min_objects, most)
    ramp = max(1, round(c.sft.curriculum * c.sft.steps))

    def at(step: int, turn: int) -> int:
        now = min(most, fewest + 1 + max(0, most - fewest - 1) * step // ramp)
        return fewest + turn % (now - fewest + 1)

    return at


def tower_steps(c: config.Config) -> int:
    """Steps at the start that train the tower alone: none without the dense loss, as no other reaches it there."""
    return round(c.sft.tower * c.sft.steps) if c.sft.dense else 0


class Data:
    """The batches of a step, with a position that a checkpoint can hold: pictures, and from then on practice too.

    Each step is about pictures or about videos, in the proportion of data.video, and summaries have steps of their own:
    a batch of all would have every prompt padded to a video's, and every transcript to a summary's.
    """

    def __init__(self, c: config.Config, pretrained_policy: pretrained.PretrainedPolicy):
        cells = sources.cells(c.data)
        kinds: dict[tuple[bool, bool], dict[str, float]] = {}
        for task, video, weight in cells:
            kinds.setdefault((video, task == "summary"), {})[task] = weight
        self._steps = mixture.interleave(tuple(sum(tasks.values()) for tasks in kinds.values()))
        self._step = 0
        self._streams = [
            _streams(c, pretrained_policy, tasks, video, functools.partial(self._steps.place, part))
            for part, ((video, _), tasks) in enumerate(kinds.items())
        ]

    def next(self, text: bool) -> tuple[Demonstration, Demonstration | None]:
        """(demonstrations, practice or None); the tower alone needs no practice."""
        shown, practice = self._streams[self._steps.at(self._step)[0]]
        self._step += 1
        return next(shown), next(practice) if text and practice is not None else None

    def get_state(self) -> dict:
        """What `set_state` takes, for JSON."""
        found = [
            {"pictures": shown.get_state(), "practice": practice and practice.get_state()}
            for shown, practice in self._streams
        ]
        return found[0] if len(found) == 1 else {"streams": found, "step": self._step}

    def set_state(self, state: dict) -> None:
        """Goes on from there."""
        self._step = state.get("step", 0)
        for (shown, practice), position in zip(self._streams, state.get("streams", [state])):
            shown.set_state(position["pictures"])
            if practice is not None:
                practice.set_state(position["practice"])


def _streams(
    c: config.Config, pretrained_policy: pretrained.PretrainedPolicy, tasks: dict[str, float], video: bool, step_of
) -> tuple:
    """(demonstrations, practice or None) of pictures or of videos; `step_of` their k-th batch is which step."""
    count, shard = objects(c, video), (jax.process_index(), jax.process_count())
    common = {
        "seed": c.data.seed, "workers": c.data.workers, "shard": shard, "tasks": tasks,
        "frames": sources.frames(c.data) if video else 0,
    }  # fmt: skip

    def at(batch: int) -> int:
        return count(step_of(batch), batch)

    shown = pipeline.demonstrations(
        pretrained_policy.style, c.sft.batch // shard[1], length=c.rollout.new_tokens, size=c.data.image_size,
        objects=lambda index: at(index // c.sft.batch), direct=c.sft.direct, **common,
    )  # fmt: skip
    if not c.sft.practice:
        return iter(shown), None
    first = sum(step_of(batch) < tower_steps(c) for batch in range(tower_steps(c)))  # batches without practice
    practised = pipeline.practice(
        pretrained_policy.style, c.sft.practice // shard[1], queries=c.sft.practice_queries,
        drills=c.sft.practice_drills, objects=lambda index: at(first + index // c.sft.practice), **common,
    )  # fmt: skip
    return iter(shown), iter(practised)


def check(c: config.Config, pretrained_policy: pretrained.PretrainedPolicy) -> None:
    """Raises ConfigError or DataError where the cold start can not be made with these settings."""
    if c.data.source != "twinworld":
        raise config.ConfigError(
            f"config.data.source: expected twinworld, whose scenes have oracle transcripts, got {c.data.source!r}; "
            "make the cold start without it, then train on it with --mode=train"
        )
    size, geometry = (c.data.image_size, c.data.image_size), pretrained_policy.style.geometry
    seen = patches.resized(*size, geometry)
    if c.data.video and seen == size:
        seen = patches.resized_video(sources.frames(c.data), *size, geometry)
    if seen != size:
        raise config.ConfigError(
            "config.data.image_size: expected pictures that the policy sees as drawn, but config.policy.max_pixels = "
            f"{c.policy.max_pixels} turns {size[0]} x {size[1]} into {seen[0]} x {seen[1]} pixels"
        )
    sources.make(c.data, "train")


def run(c: config.Config, workdir: Path) -> Path:
    """Trains for sft.steps and writes `workdir/policy.safetensors` (bfloat16); goes on from the last checkpoint.

    The first sft.tower of the steps train the vision tower alone on the dense loss, which is cheap; the rest train all.

    Raises ConfigError or DataError where the settings do not fit TwinWorld; interrupt.Interrupted after saving, where
    asked to stop; and the errors of the parts.
    """
    pretrained_policy = pretrained.load_policy(c)
    check(c, pretrained_policy)
    device_mesh = mesh.make(c.mesh)
    mesh.check_batch(device_mesh, "sft.batch", c.sft.batch)
    mesh.check_batch(device_mesh, "sft.practice", c.sft.practice)
    tx = imitation.optimizer(c.sft)
    start = pretrained.read_weights(c, pretrained_policy, device_mesh) if c.policy.path else None

    def begin(start):
        k_policy, k_head = jax.random.split(jax.random.key(c.seed))
        trainable = {
            "policy": policy.init(k_policy, pretrained_policy.spec) if start is None else start,
            "head": imitation.init_head(k_head, pretrained_policy.spec, patch_targets.COUNTS),
        }
        return {"trainable": trainable, "opt": tx.init(trainable)}

    shapes = jax.eval_shape(begin, start)
    placed = mesh.shardings(device_mesh, shapes)
    data = Data(c, pretrained_policy)
    with (
        checkpoint.Checkpoints(workdir, config.to_dict(c), keep=c.checkpoint.keep) as saved,
        run_log.open_run_log(workdir, active=jax.process_index() == 0) as writer,
        interrupt.Flag() as stop,
    ):
        template = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, placed)
        restored = saved.restore(template)
        step = 0
        if restored is None:
            state = jax.jit(begin, out_shardings=placed)(start)
        else:
            state, position, step = restored
            data.set_state(position)
            log.info("going on from step %d of %s", step, workdir)
        writer.truncate(step)
        progress = run_log.Progress(c.sft.steps, step)
        since, clock = step, time.monotonic()
        while step < c.sft.steps:
            text = step >= tower_steps(c)
            batch, practice = data.next(text)
            trainable, opt, values = imitation.update(
                state["trainable"], state["opt"], mesh.put_batch(device_mesh, batch),
                mesh.put_batch(device_mesh, practice), tx=tx, spec=pretrained_policy.spec, reasoning=c.sft.reasoning,
                dense=c.sft.dense, counts=patch_targets.COUNTS, text=text,
            )  # fmt: skip
            state = {"trainable": trainable, "opt": opt}
            step += 1
            if step % c.sft.log_every == 0 or step == c.sft.steps:
                values = {f"sft/{k}": float(v) for k, v in jax.device_get(values).items()}
                now = time.monotonic()
                values["sft/examples_per_s"] = (step - since) * c.sft.batch / (now - clock)
                since, clock = step, now
                writer.write(step, values)
                progress.line(
                    step, {k: values[k] for k in ("sft/loss", "sft/dense_box_l1", "sft/nll_practice") if k in values}
                )
            if stop.is_set or step == c.sft.steps or (c.checkpoint.every and step % c.checkpoint.every == 0):
                saved.save(step, state, data.get_state(), wait=stop.is_set)
            if stop.is_set:
                log.warning("asked to stop: saved step %d; the same command goes on from here", step)
                raise interrupt.Interrupted(step)
        path = Path(workdir) / "policy.safetensors"
        whole = mesh.whole(device_mesh, state["trainable"]["policy"])
        if jax.process_index() == 0:
            native.save_native(path, whole)
    return path
