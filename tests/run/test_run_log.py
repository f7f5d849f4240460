"""The run log: valid JSON lines, no doubled curve after a resume, an honest progress line."""

import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.run import run_log


def strict(line):
    """JSON as the standard has it: no NaN."""

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(line, parse_constant=refuse)


def test_lines_are_valid_json_and_flushed(tmp_path):
    with run_log.RunLog(tmp_path, tensorboard=False) as log:
        log.write(1, {"train/reward": 0.5, "train/kl": float("nan"), "x": float("-inf"), "n": np.float32(2)})
        lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
        assert [strict(x) for x in lines] == [{"step": 1, "train/reward": 0.5, "train/kl": None, "x": None, "n": 2.0}]
        with pytest.raises(ValueError, match="step"):
            log.write(2, {"step": 3})
    assert run_log.read_run_log(tmp_path) == [strict(lines[0])] and run_log.read_run_log(tmp_path / "none") == []


def test_resume_drops_later_lines_and_goes_on(tmp_path):
    with run_log.RunLog(tmp_path) as log:
        for s in range(6):
            log.write(s, {"a": s})
    with run_log.RunLog(tmp_path) as log:
        log.truncate(3)
        log.write(4, {"a": 40})
    assert [(r["step"], r["a"]) for r in run_log.read_run_log(tmp_path)] == [(0, 0), (1, 1), (2, 2), (3, 3), (4, 40)]
    assert list((tmp_path / "tb").glob("events*")) and not list(tmp_path.glob("*.partial"))
    with run_log.RunLog(tmp_path, tensorboard=False) as log:
        log.truncate(-1)
    assert run_log.read_run_log(tmp_path) == []


TAILS = ['{"step": 2, "a', "\x00\x00", "[" * 100_000, '"text"\n', '{"step": true}', '{"a": 1}']


@pytest.mark.parametrize("tail", TAILS, ids=["cut", "zeros", "deep", "text", "bool", "no-step"])
def test_broken_last_line_is_tolerated(tmp_path, tail):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "a": 1.0}\n' + tail)
    with run_log.RunLog(tmp_path, tensorboard=False) as log:
        log.write(2, {"a": 5})
        assert run_log.read_run_log(tmp_path) == [{"step": 1, "a": 1.0}, {"step": 2, "a": 5.0}]
        log.truncate(2)
    assert [strict(x) for x in path.read_text().splitlines()] == run_log.read_run_log(tmp_path)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.integers(0, 9),
            st.dictionaries(st.text(max_size=5).filter(lambda n: n != "step"), st.floats(), max_size=3),
        ),
        max_size=5,
    )
)
def test_any_name_and_number_survives(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("run")
    with run_log.RunLog(folder, tensorboard=False) as log:
        for step, values in rows:
            log.write(step, values)
    want = [{"step": s, **{k: x if np.isfinite(x) else None for k, x in v.items()}} for s, v in rows]
    assert run_log.read_run_log(folder) == want


def test_only_the_active_process_writes(tmp_path):
    for active in (True, False):
        with run_log.open_run_log(tmp_path / str(active), active=active) as log:
            log.write(1, {"a": 1.0})
            log.write_text(1, "samples", "text")
            log.truncate(1)
    assert run_log.read_run_log(tmp_path / "True") == [{"step": 1, "a": 1.0}] and not (tmp_path / "False").exists()


def test_text_lands_in_its_folder(tmp_path):
    with run_log.RunLog(tmp_path) as log:
        log.write_text(20, "samples", "| query |\n|---|\n| cup \ud800 |")
    assert (tmp_path / "samples" / "step_000020.md").read_text() == "| query |\n|---|\n| cup ? |"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_line():
    times = iter([0.0, 2.0, 4.0, 4.0])
    out = io.StringIO()
    progress = run_log.Progress(100, 10, stream=out, clock=lambda: next(times))
    assert progress.line(11, {"reward": 0.51234}) == "step 11/100  reward 0.5123  0.5 steps/s  2:58 left"
    assert progress.line(12, {}) == "step 12/100  0.5 steps/s  2:56 left"
    assert progress.line(12, {}) == "step 12/100  0.5 steps/s  2:56 left"  # no step made: the rate stays
    assert out.getvalue().count("\n") == 3 and "\r" not in out.getvalue()


def test_progress_smooths_and_overwrites_on_a_terminal():
    times = iter([0.0, 1.0, 12.0])
    out = Terminal()
    progress = run_log.Progress(2, stream=out, clock=lambda: next(times))
    progress.line(1, {})
    assert progress.line(2, {}).endswith("0.5 steps/s  0:00 left")  # 0.9 * 1 s + 0.1 * 11 s = 2 s
    assert out.getvalue().startswith("\rstep 1/2") and out.getvalue().count("\n") == 1 and out.getvalue().endswith("\n")


@pytest.mark.parametrize(
    "seconds, text", [(0, "0:00"), (-3, "0:00"), (61, "1:01"), (3599.6, "1:00:00"), (7325, "2:02:05")]
)
def test_time_left(seconds, text):
    assert run_log._clock_time(seconds) == text


def test_memory():
    host = run_log.peak_memory()["memory/host_peak_mb"]
    assert 10 < host < 1e6
    assert run_log.peak_memory(None).keys() == {"memory/host_peak_mb"}
    assert run_log.peak_memory({"peak_bytes_in_use": 3_000_000})["memory/device_peak_mb"] == 3
