"""Training with specialists in two processes that share a mesh: each looks at its own pictures, together at all.

As a program it is main.py with the small policy of tests/tiny.py. Its random weights ask for nothing in words, so the
host acts as if each completion had asked for all labels of its example; what it looks at goes into the file LOOKS.
"""

import json
import os
import pathlib
import runpy
import subprocess
import sys

import fake_perceivers
import pytest
import real_processes
import tiny
from fake_perceivers import ASKING, request

SECONDS = 1800  # that the processes of a test may take
STEPS = 2


def start(tmp_path, name: str, processes: int, devices: int, **more: int) -> list[subprocess.Popen]:
    """main.py in `processes` processes with `devices` virtual devices each."""
    changes = ASKING | {
        "train__steps": STEPS, "train__eval_examples": 0, "train__eval_batch": 4, "mesh__data": 1, "mesh__fsdp": -1,
        "checkpoint__every": 0, "lora__rank": 2,
    }  # fmt: skip
    command = ["--config=configs/seg.py", f"--workdir={tmp_path / name}"]
    command += tiny.arguments(tiny.weights_file(tmp_path), **changes, **more)
    looks = str(tmp_path / f"{name}_RANK.json")
    return real_processes.launch(__file__, command, processes, devices, LOOKS=looks)


def read(tmp_path, name: str, *ranks: int) -> tuple[list[dict], list[list[dict]]]:
    """(the rows of the run log with training steps; of each process, uid -> what was done for it, by step)."""
    rows = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
    looks = [json.loads((tmp_path / f"{name}_{rank}.json").read_text()) for rank in ranks]
    return [row for row in rows if "train/loss" in row], looks


@pytest.mark.slow
@pytest.mark.parametrize("devices, holders", [(2, 0), (1, 2)])
def test_two_processes_look_at_their_own_pictures(tmp_path, devices, holders):
    """Also where both hold one copy of the weights together, so that they sample each other's rows."""
    tiny.finish(start(tmp_path, "two", 2, devices, mesh__rollout=holders), SECONDS)
    tiny.finish(start(tmp_path, "one", 1, 2 * devices), SECONDS)
    (one, (whole,)), (two, parts) = read(tmp_path, "one", 0), read(tmp_path, "two", 0, 1)
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
