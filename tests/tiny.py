"""Whole runs in seconds: a policy of 50 thousand random weights, on the shipped tokenizer and a handful of queries.

As a program it is main.py with that policy, and it can send itself a signal: TINY_SIGNALS="KILL@gather:3" does so when
`gather` is called for the third time (also `predict` and `learn`); several are separated by commas.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
import runpy
import signal
import subprocess
import sys
import time
import zlib

import jax
import numpy as np

from configs import default
from dtr1_jax import config, mesh
from dtr1_jax.evaluation import predict
from dtr1_jax.models import policy, spec
from dtr1_jax.models.weights import native
from dtr1_jax.modes import experience, train, train_step
from dtr1_jax.policies import pretrained
from dtr1_jax.policies import state as states
from dtr1_jax.rewards import score
from dtr1_jax.rl import optim, rollout
from dtr1_jax.run import run_log
from dtr1_jax.types import Rollout

ROOT = pathlib.Path(__file__).parents[1]
SPEC = spec.Spec(
    vocab=1664, width=16, layers=1, heads=2, kv_heads=1, head_dim=8, hidden=32, theta=1e4, sections=(2, 1, 1),
    remat=False, frame="pixel",
    vision=spec.VisionSpec(width=16, layers=1, heads=2, hidden=32, patch=16, temporal_patch=1, merge=2, side=6),
)  # fmt: skip
SMALL = {
    "data.max_objects": 3, "policy.max_pixels": 64 * 64, "policy.prompt_tokens": 64,
    "rollout.queries": 4, "rollout.group": 2, "rollout.new_tokens": 8, "reward.segmenter": "box",
    "reward.mask_size": 32, "grpo.beta": 0.0,
    "grpo.mask_truncated": False, "grpo.micro_queries": 0, "grpo.micro_group": 0,
    # a large eps: with a small one Adam's first step is the sign of the gradient, where rounding can be everything
    "optim.lr": 0.01, "optim.warmup": 0, "optim.eps": 1e-3,
    "train.steps": 4, "train.eval_examples": 4, "train.eval_batch": 2, "train.gallery": 1, "train.samples_every": 2,
    "checkpoint.every": 2,
}  # fmt: skip


def weights_file(folder: pathlib.Path) -> str:
    """Random weights of SPEC in a file that config.policy.path can name."""
    path = folder / "policy.safetensors"
    if not path.exists():
        native.save_native(path, policy.init(jax.random.key(1), SPEC))
    return str(path)


def values(path: str, **changes):
    """The ConfigDict of a small run on the weights in `path`; changes are dotted names with dots as __."""
    c = default.get_config()
    c.update_from_flattened_dict(SMALL | {"policy.path": path})
    c.update_from_flattened_dict({name.replace("__", "."): value for name, value in changes.items()})
    return c


def settings(path: str, **changes) -> config.Config:
    """`values`, checked."""
    return config.from_configdict(values(path, **changes))


def arguments(path: str, **changes) -> list[str]:
    """The same settings as command line flags."""
    flat = SMALL | {"policy.path": path} | {name.replace("__", "."): value for name, value in changes.items()}
    return [f"--config.{name}={value}" for name, value in flat.items()]


def environment(**more: str) -> dict[str, str]:
    """The environment in which a test starts a program of this repository."""
    return os.environ | {"PYTHONPATH": str(ROOT)} | more


def install(patch, devices: int | None = 1) -> None:
    """Puts the small policy in the place of `tiny`, limits the mesh to `devices` (None: all), and gives all completions
    a reward that differs, since random weights write nothing that earns one."""
    patch.setitem(spec.SPECS, "tiny", SPEC)
    patch.setenv("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    patch.setenv("TRANSFORMERS_VERBOSITY", "error")
    make = mesh.make
    patch.setattr(mesh, "make", lambda sizes: make(sizes, jax.devices()[:devices]))
    patch.setattr(experience.score, "score", _spread)
    patch.setattr(optim, "optimizer", _make_optimizer)


_score = score.score
_make_optimizer = functools.cache(optim.optimizer)  # the same object again needs no new compilation


def _spread(transcripts, *args):
    rewards, outcomes = _score(transcripts, *args)
    noise = [[zlib.crc32(t.text.encode("utf-8", "replace")) % 97 / 96 for t in group] for group in transcripts]
    columns = rewards.columns | {"structure": np.array(noise, np.float32)}
    return dataclasses.replace(rewards, columns=columns, total_bg=rewards.total_bg + columns["structure"]), outcomes


def unrewarded(transcripts, *args):
    """rewards.score.score, where nothing earns a reward."""
    rewards, outcomes = _score(transcripts, *args)
    return dataclasses.replace(rewards, total_bg=np.zeros_like(rewards.total_bg)), outcomes


def after(patch, module, name: str, action) -> None:
    """Calls `action(n)` when `module.name` is called for the n-th time, before it works."""
    real, calls = getattr(module, name), []

    def counted(*args, **kwargs):
        calls.append(None)
        action(len(calls))
        return real(*args, **kwargs)

    patch.setattr(module, name, counted)


def speak(patch, c: config.Config, texts: list[str]) -> None:
    """Whatever is asked, the policy says these texts, one a query in the order of the queries, then nothing."""
    tokenizer = pretrained.load_policy(c).style.tokenizer
    queue = iter(texts)

    def sample(params, lora, prompt, key, banned_v, *, group, pad, end, **_):
        rows = [[*tokenizer.encode(next(queue, "")), end[0]] for _ in range(len(prompt.token_bp))]
        longest = max(map(len, rows))
        token_bs = np.array([row + [pad] * (longest - len(row)) for row in rows], np.int32)
        mask_bs = np.arange(longest) < np.array([len(row) for row in rows])[:, None]
        token_bgs, mask_bgs = (np.repeat(x[:, None], group, 1) for x in (token_bs, mask_bs))
        return Rollout(token_bgs, mask_bgs, np.zeros(mask_bgs.shape, np.float32), np.ones(mask_bgs.shape[:2], bool))

    patch.setattr(rollout, "sample", sample)


PLACES = {
    "gather": (experience, "begin_gathering"),
    "predict": (predict, "predictions_of"),
    "learn": (train_step, "learn"),
}


def signals(patch, plan: str) -> None:
    """Installs a plan as TINY_SIGNALS gives it."""
    for entry in filter(None, plan.split(",")):
        number, place, count = entry.replace("@", ":").split(":")

        def send(n, number=number, count=int(count)):
            if n == count:
                os.kill(os.getpid(), getattr(signal, f"SIG{number}"))

        after(patch, *PLACES[place], send)


def settled(workdir: pathlib.Path, step: int) -> None:
    """Waits until the checkpoint of `step` is on disk."""
    for _ in range(600):
        if (workdir / "checkpoints" / str(step)).exists():
            return
        time.sleep(0.1)
    raise TimeoutError(f"no checkpoint {step} in {workdir}")


def state(workdir: pathlib.Path, c: config.Config, step: int) -> dict[str, np.ndarray]:
    """All arrays of a checkpoint by name, read on one device."""
    ready = pretrained.load_policy(c)
    one = mesh.make(config.Mesh(-1, 1, 1))
    tx = optim.optimizer(c.optim, c.train.steps)
    trainable, _ = states.initial_weights(c, ready, one)
    ema, behind = c.grpo.advantage == states.EMA, bool(c.rollout.ahead)
    template = states.state_template(states.initial_state(tx, trainable, one, ema, behind=behind))
    with train.checkpoint.Checkpoints(workdir, config.to_dict(c), keep=9, fields=()) as saved:
        restored, position, _ = saved.restore(template, step)
    named = {jax.tree_util.keystr(path): np.asarray(x) for path, x in jax.tree_util.tree_leaves_with_path(restored)}
    return named | {"position": np.array(str(position))}


def assert_same_run(workdir: pathlib.Path, wanted: pathlib.Path, c: config.Config, rows_too: bool = True) -> None:
    """Both runs end with the same arrays and the same place in the data, and logged the same numbers."""
    a, b = state(workdir, c, c.train.steps), state(wanted, c, c.train.steps)
    assert [k for k in b if a[k].tobytes() != b[k].tobytes()] == []
    if rows_too:
        assert timeless(run_log.read_run_log(workdir)) == timeless(run_log.read_run_log(wanted))


def finish(running: list[subprocess.Popen], seconds: float) -> list[str]:
    """What each process said; all must succeed within this time."""
    try:
        said = [process.communicate(timeout=seconds)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    for process, words in zip(running, said):
        assert process.returncode == 0, words[-4000:]
    return said


def timeless(rows: list[dict]) -> list[dict]:
    """Rows of metrics without what differs between two equal runs."""
    moving = ("_s", "memory/host_peak_mb")
    return [{k: v for k, v in row.items() if not k.endswith(moving)} for row in rows]


if __name__ == "__main__":
    import pytest

    patch = pytest.MonkeyPatch()
    install(patch)
    plan = os.environ.get("TINY_SIGNALS", "")
    if plan.startswith("KILL"):  # not before the checkpoint of step 2 is whole
        folder = pathlib.Path(next(a for a in sys.argv if a.startswith("--workdir=")).partition("=")[2])
        after(patch, train_step, "learn", lambda n: n == 3 and settled(folder, 2))
    signals(patch, plan)
    sys.argv[0] = str(ROOT / "main.py")
    runpy.run_path(sys.argv[0], run_name="__main__")
