"""SIGTERM to one of two processes: both end, and what is done is kept.

As a program it is main.py with the small policy of tests/tiny.py and slow specialists that find two objects; the
process that the variable STOPPED names sends SIGTERM to itself in its second batch or step.
"""

import json
import os
import runpy
import signal
import subprocess
import sys
import time

import fake_specialists as fakes
import pytest
import real_processes
import tiny
from PIL import Image

from dtr1_jax.run import interrupt

SECONDS = 900
PICTURES = 40


def start(arguments: list[str], stopped: int) -> list[subprocess.Popen]:
    """main.py in two processes with one device each."""
    return real_processes.launch(__file__, ["--config=configs/seg.py", *arguments], 2, 1, STOPPED=str(stopped))


def ends(running: list[subprocess.Popen]) -> list[tuple[int, str]]:
    try:
        said = [process.communicate(timeout=SECONDS)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    return [(process.returncode, words) for process, words in zip(running, said)]


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [0, 1])
def test_perceive_stops_in_both_and_goes_on(tmp_path, stopped):
    (tmp_path / "in").mkdir()
    for i in range(PICTURES):
        Image.fromarray(fakes.picture(("person", 10 + i % 20, 10, 40, 60))).save(tmp_path / "in" / f"{i}.png")
    out = tmp_path / "out"
    arguments = [
        "--mode=perceive", f"--images={tmp_path / 'in'}", f"--out={out}", "--config.specialists.detector=fake",
        "--config.specialists.batch=1",
    ]  # fmt: skip
    got = ends(start(arguments, stopped))
    assert [status for status, _ in got] == [interrupt.STATUS] * 2, got
    assert "stopping, as another process of this run" in got[1 - stopped][1]
    done = len((out / "twins.jsonl").read_text().splitlines())
    assert 0 < done < PICTURES
    got = ends(start(arguments, -1))
    assert [status for status, _ in got] == [0, 0], got
    rows = [json.loads(line) for line in (out / "twins.jsonl").read_text().splitlines()]
    assert len({row["id"] for row in rows}) == len(rows) == PICTURES


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [0, 1])
def test_eval_stops_in_both(tmp_path, stopped):
    arguments = ["--mode=eval", f"--workdir={tmp_path / 'run'}"]
    arguments += tiny.arguments(tiny.weights_file(tmp_path), train__eval_examples=400, mesh__data=-1, mesh__fsdp=1)
    began = time.monotonic()
    got = ends(start(arguments, stopped))
    assert [status for status, _ in got] == [interrupt.STATUS] * 2, got
    assert "stopped at once" in got[stopped][1] and "was stopped by a signal" in got[1 - stopped][1]
    assert not list((tmp_path / "run").glob("evaluations/*/eval.json")) and time.monotonic() - began < SECONDS


@pytest.mark.slow
def test_train_saves_the_same_step_in_both(tmp_path):
    arguments = [f"--workdir={tmp_path / 'run'}"]
    changes = {"train__steps": 3, "train__eval_examples": 0, "checkpoint__every": 0, "mesh__data": -1, "mesh__fsdp": 1}
    arguments += tiny.arguments(tiny.weights_file(tmp_path), **changes)
    got = ends(start(arguments, 1))
    assert [status for status, _ in got] == [interrupt.STATUS] * 2, got
    assert all("stopped after step 2 and saved" in words for _, words in got)
    assert [p.name for p in (tmp_path / "run" / "checkpoints").iterdir() if p.name.isdigit()] == ["2"]
    got = ends(start(arguments, -1))
    assert [status for status, _ in got] == [0, 0], got
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3]


if __name__ == "__main__":
    from dtr1_jax.evaluation import predict
    from dtr1_jax.modes import perceive, train_step
    from dtr1_jax.specialists import perceiver
    from dtr1_jax.specialists.toolbox import Toolbox

    def act(call: int) -> None:
        time.sleep(0.3)
        if call == 2 and os.environ["STOPPED"] == os.environ["JAX_PROCESS_ID"]:
            os.kill(os.getpid(), signal.SIGTERM)

    patch = pytest.MonkeyPatch()
    tiny.install(patch, devices=None)
    tools = Toolbox(fakes.Detector(), fakes.Segmenter(), None, None, fakes.link, {"detector": "boxes"})
    patch.setattr(perceiver, "open_perceiver", lambda c: perceiver.SpecialistPerceiver(tools, c.specialists))
    tiny.after(patch, perceive, "_records", act)
    tiny.after(patch, predict, "predictions_of", act)
    tiny.after(patch, train_step, "learn", act)
    sys.argv[0] = str(tiny.ROOT / "main.py")
    runpy.run_path(sys.argv[0], run_name="__main__")
