"""Functions that answer twice, forge answers, start processes, or take all memory: each costs its own item at most."""

import os
import time

import pytest
from live_processes import has_ended

from dtr1_jax.run import worker_messages
from dtr1_jax.run.worker_pool import Failure, Pool

pytestmark = pytest.mark.usefixtures("hostile")


@pytest.fixture
def one():
    """A pool of one process, so that the next item meets what the one before left behind."""
    with Pool("hostile:act", workers=1, deadline=60.0) as pool:
        yield pool


def test_a_function_that_answers_twice_shifts_no_result(one):
    items = [("echo", 0), ("twice", 1), *(("echo", i) for i in range(2, 20))]
    results = one.map(items)
    assert [r for i, r in enumerate(results) if not isinstance(r, Failure) and r != i] == []
    assert sum(isinstance(r, Failure) for r in results) <= 1  # the second answer may come while the next item is away


@pytest.mark.parametrize("number", [0, 1, -1, None, "a"])
def test_a_forged_answer_is_never_a_result(one, number):
    first, *rest = one.map([("forge", number), *(("echo", i) for i in range(5))])
    assert isinstance(first, Failure) and first.kind == "crash"
    assert rest == list(range(5))


def test_a_frame_that_claims_a_huge_length_is_refused_at_once(hostile):
    start = time.monotonic()
    with Pool("hostile:act", workers=1, deadline=600.0) as pool:
        first, second = pool.map([("claim", None), ("echo", 1)])
    assert first.kind == "crash" and "expected a message of at most" in first.message and second == 1
    assert time.monotonic() - start < 500  # it does not wait for the bytes


def test_what_is_too_large_for_a_message_is_the_error_of_its_item(one, monkeypatch):
    sizes = worker_messages.MAX_BYTES >> 20, worker_messages.MAX_JSON
    first, second, third = one.map([("large", sizes[0]), ("text", sizes[1]), ("echo", 1)])
    assert first.kind == second.kind == "error" and "expected a message of at most" in first.message
    assert "MessageTooLongError" in second.message and third == 1
    monkeypatch.setattr(worker_messages, "MAX_BYTES", 1000)
    first, second = one.map([("echo", "a" * 1000), ("echo", 1)])
    assert first.kind == "error" and second == 1


def test_memory_is_limited(one):
    size = worker_messages.MAX_MEMORY >> 20
    before, small, large, after = one.map([("pid", None), ("memory", 64), ("memory", size), ("pid", None)])
    assert small == 64 << 20 and large.kind == "crash" and f"more than {size} MiB" in large.message
    assert isinstance(after, int) and after != before


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="reads /proc")
def test_processes_that_a_function_started_end_with_the_worker(hostile, tmp_path):
    with Pool("hostile:act", workers=1, deadline=1.0) as pool:
        hanging = tmp_path / "pid"
        (result,) = pool.map([("grandchild and hang", str(hanging))])
        assert result.kind == "timeout"
        (quiet,) = pool.map([("grandchild", None)])
        (crashed, after) = pool.map([("exit", None), ("grandchild", None)])
        assert crashed.kind == "crash"
    for pid in (int(hanging.read_text()), quiet, after):
        for _ in range(100):
            if has_ended(pid):
                break
            time.sleep(0.02)
        else:
            pytest.fail(f"process {pid} outlived its worker")
