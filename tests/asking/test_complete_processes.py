"""Training with specialists in two processes that share a mesh: each looks at its own pictures, together at all.

As a program it is main.py with the small policy of tests/tiny.py. Its random weights ask for nothing in words, so the
host acts as if each completion had asked for all labels of its example; what it looks at goes into the file LOOKS.
"""

import json
import os
import pathlib
import runpy
import socket
import subprocess
import sys

import fake_perceivers
import pytest
import tiny
from fake_perceivers import ASKING, request

SECONDS = 1800  # that the processes of a test may take
STEPS = 2


def start(tmp_path, name: str, rank: int | None, port: int = 0) -> subprocess.Popen:
    """main.py on 4 virtual devices, or as process `rank` of two with 2 each."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("JAX_COORD")} | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={4 if rank is None else 2}", "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join((str(tiny.ROOT), str(tiny.ROOT / "tests"))),
        "LOOKS": str(tmp_path / f"{name}_{rank}.json"),
    }  # fmt: skip
    changes = ASKING | {
        "train__steps": STEPS, "train__eval_examples": 0, "train__eval_batch": 4, "mesh__data": 1, "mesh__fsdp": -1,
        "checkpoint__every": 0, "lora__rank": 2,
    }  # fmt: skip
    command = [sys.executable, __file__, "--config=configs/seg.py", f"--workdir={tmp_path / name}"]
    command += tiny.arguments(tiny.weights_file(tmp_path), **changes)
    if rank is not None:
        env |= {
            "JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(rank),
            "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
        }  # fmt: skip
        command.append("--distributed")
    return subprocess.Popen(
        command, env=env, cwd=tiny.ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def read(tmp_path, name: str, *ranks: int | None) -> tuple[list[dict], list[list[dict]]]:
    """(the rows of the run log with training steps; of each process, uid -> what was done for it, by step)."""
    rows = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
    looks = [json.loads((tmp_path / f"{name}_{rank}.json").read_text()) for rank in ranks]
    return [row for row in rows if "train/loss" in row], looks


@pytest.mark.slow
def test_two_processes_look_at_their_own_pictures(tmp_path):
    with socket.socket() as s:
        s.bind(("localhost", 0))
        port = s.getsockname()[1]
    tiny.finish([start(tmp_path, "two", rank, port) for rank in (0, 1)], SECONDS)
    tiny.finish([start(tmp_path, "one", None)], SECONDS)
    (one, (whole,)), (two, parts) = read(tmp_path, "one", None), read(tmp_path, "two", 0, 1)
    assert [len(part) for part in (whole, *parts)] == [STEPS] * 3 and len(one) == len(two) == STEPS
    for step in range(STEPS):
        first, second = (part[step] for part in parts)
        assert len(first) == len(second) == 2 and not set(first) & set(second)
        assert first | second == whole[step]  # the same queries, the same looks, the same twins
        assert all(seen["looks"] == 1 and seen["ids"] for seen in whole[step].values())
    for a, b in zip(one, two):
        for name in ("requested", "looks", "work", "work_segment", "needless", "twin_objects", "twin_tokens"):
            assert a[f"train/{name}"] == pytest.approx(b[f"train/{name}"], abs=1e-6), name
        assert a["train/requested"] == 1 and b["train/mismatch_max"] < 1e-4 and b["train/skipped"] == 0
        assert all(b[f"train/{name}_s"] > 0 for name in ("write_request", "insert", "write_answer"))


def acting(perceive, steps: list[dict]):
    """`perceived_twins.perceive` for completions that all asked for the labels of their example; notes what it does."""

    def act(texts, batch, style, perceiver, twin_tokens):
        everything = [
            [request(*sorted({x.label for x in e.scene}))] * len(of_query) for e, of_query in zip(batch.examples, texts)
        ]
        got = perceive(everything, batch, style, fake_perceivers.annotated(batch.examples), twin_tokens)
        rows = zip(batch.examples, got.work, got.insertions)
        steps.append({e.uid: {"looks": w.looks, "ids": one.ids, "group": len(more) + 1} for e, w, (one, *more) in rows})
        return got

    return act


if __name__ == "__main__":
    from dtr1_jax.asking import perceived_twins
    from dtr1_jax.specialists import perceiver

    patch, steps = pytest.MonkeyPatch(), []
    tiny.install(patch, devices=None)
    patch.setattr(perceiver, "open_perceiver", lambda c: fake_perceivers.FakePerceiver(fake_perceivers.nothing))
    patch.setattr(perceived_twins, "perceive", acting(perceived_twins.perceive, steps))
    sys.argv[0] = str(tiny.ROOT / "main.py")
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        pathlib.Path(os.environ["LOOKS"]).write_text(json.dumps(steps))
