"""Which steps are traced, and that a profiler that fails costs no run."""

import pathlib

import buckets
import jax
import pytest

from dtr1_jax import places
from dtr1_jax.run import step_trace
from dtr1_jax.run.step_trace import StepTrace, phase


@pytest.fixture
def calls(monkeypatch):
    """What the profiler was asked to do: "start" and "stop"."""
    done = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda *_, **__: done.append("start"))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: done.append("stop"))
    return done


def steps(trace, count, calls):
    """The number of profiler calls before, and inside, each step."""
    seen = []
    for number in range(1, count + 1):
        with trace.step(number):
            seen.append(list(calls))
    return seen


def test_the_second_step_and_those_that_follow(tmp_path, calls):
    assert steps(StepTrace(tmp_path, 2), 4, calls) == [[], ["start"], ["start"], ["start", "stop"]]


def test_no_steps_start_nothing(tmp_path, calls):
    assert steps(StepTrace(tmp_path, 0), 3, calls) == [[], [], []] and calls == []


def test_a_run_that_ends_early_keeps_its_trace(tmp_path, calls):
    trace = StepTrace(tmp_path, 5)
    steps(trace, 2, calls)
    trace.close(), trace.close()
    assert calls == ["start", "stop"]


def test_an_exception_ends_the_trace(tmp_path, calls):
    trace = StepTrace(tmp_path, 5)
    steps(trace, 1, calls)
    with pytest.raises(KeyboardInterrupt), trace.step(2):
        raise KeyboardInterrupt
    assert calls == ["start", "stop"] and steps(trace, 1, calls) == [["start", "stop"]]


def test_a_trace_goes_into_a_bucket_and_leaves_nothing_here(monkeypatch):
    scratch = []

    def start(folder, **_):
        scratch.append(pathlib.Path(folder))
        (scratch[0] / "plugins").mkdir()
        (scratch[0] / "plugins" / "host.xplane.pb").write_bytes(b"events")

    monkeypatch.setattr(jax.profiler, "start_trace", start)
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: None)
    with buckets.installed():
        steps(StepTrace(places.path("gs://bucket/run") / "profile", 1), 3, [])
        assert buckets.objects["bucket/run/profile/plugins/host.xplane.pb"][0] == b"events"
    assert not scratch[0].exists()


@pytest.mark.parametrize("broken", ["start_trace", "stop_trace"])
def test_a_profiler_that_fails_is_a_warning(tmp_path, calls, monkeypatch, caplog, broken):
    def fail(*_, **__):
        raise RuntimeError("Only one profile may be run at a time.")

    monkeypatch.setattr(jax.profiler, broken, fail)
    assert len(steps(StepTrace(tmp_path, 1), 4, calls)) == 4
    assert sum("Only one profile" in r.message for r in caplog.records) == 1


def test_phases_add_up_and_count_what_fails(monkeypatch):
    clock = iter([1.0, 3.0, 10.0, 10.5])
    monkeypatch.setattr(step_trace.time, "monotonic", lambda: next(clock))
    seconds = {}
    with phase("data", seconds):
        pass
    with pytest.raises(OSError), phase("data", seconds):
        raise OSError
    assert seconds == {"data": 2.5}
