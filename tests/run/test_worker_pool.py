"""The pool: right results in order, and an item that hangs or crashes costs only its own result."""

import math
import os
import signal
import time

import numpy as np
import pytest

from dtr1_jax.run.worker_pool import Failure, Pool, WorkerError

pytestmark = pytest.mark.usefixtures("hostile")


def test_results_in_order(pool):
    assert pool.map([("echo", i) for i in range(50)]) == list(range(50))
    assert pool.map([]) == []


def test_arrays_there_and_back(pool):
    image = np.arange(96 * 96 * 3, dtype=np.uint8).reshape(96, 96, 3)
    mask = image[..., 0] > 7
    for result, array in zip(pool.map([("echo", image), ("echo", mask)]), (image, mask)):
        assert result.dtype == array.dtype
        np.testing.assert_array_equal(result, array)


def test_two_failures_in_a_batch_cost_two_results(hostile):
    items = [("echo", i) for i in range(512)]
    items[100] = ("sleep", None)
    items[101] = ("segfault", None)
    with Pool("hostile:act", workers=2, deadline=1.0) as pool:
        results = pool.map(items)
        failures = {i: r for i, r in enumerate(results) if isinstance(r, Failure)}
        assert {i: r.kind for i, r in failures.items()} == {100: "timeout", 101: "crash"}
        assert "hostile:act" in failures[100].message and "1 s" in failures[100].message
        assert f"signal {signal.SIGSEGV:d}" in failures[101].message
        assert all(r == i for i, r in enumerate(results) if i not in failures)
        assert pool.failures == {"timeouts": 1, "crashes": 1, "errors": 0}


def test_two_failures_in_a_batch_cost_less_than_two_seconds(hostile):
    """The pool promises this time, so the test asserts it: a difference within one run, the best of three tries.

    On a machine so busy that a process starts slowly the time says nothing, and the test is skipped.
    """
    plain = [("echo", i) for i in range(512)]
    failing = [("sleep", None) if i == 40 else ("segfault", None) if i == 41 else item for i, item in enumerate(plain)]

    def seconds(call):
        start = time.monotonic()
        results = call()
        return time.monotonic() - start, sum(isinstance(result, Failure) for result in results)

    def start_one():
        Pool("hostile:act", workers=1, deadline=0.5).close()
        return []

    tries = []
    with Pool("hostile:act", workers=2, deadline=0.5) as pool:
        for _ in range(3):
            begin, _ = seconds(start_one)
            (without, none), (with_two, two) = seconds(lambda: pool.map(plain)), seconds(lambda: pool.map(failing))
            if none == 0 and two == 2 and with_two - without < 2.0:
                return
            tries.append((begin, without, none, with_two, two))
    if any(begin > 0.5 or none for begin, _, none, _, _ in tries):
        pytest.skip(f"this machine is too busy to tell: {tries}")
    pytest.fail(f"two failures cost too much (s to start a process; s and failures without, with): {tries}")


def test_timeout_while_the_interpreter_is_held(hostile):
    with Pool("hostile:act", workers=1, deadline=0.3) as pool:
        first, second = pool.map([("hold", None), ("echo", 1)])
        assert first.kind == "timeout" and second == 1


def test_errors_keep_the_process(pool):
    (before,) = pool.map([("pid", None)])
    count = pool.failures["errors"]
    one, two = pool.map([("raise", None), ("object", None)])
    assert one == Failure("error", "ValueError: bad \ud800 value")
    assert two.kind == "error" and "got object" in two.message
    assert pool.failures["errors"] == count + 2
    assert before in pool.map([("pid", None)] * 20)


def test_a_crash_names_the_exit_code(pool):
    (result,) = pool.map([("exit", None)])
    assert result.kind == "crash" and "exit code 3" in result.message


def test_a_worker_that_died_idle_is_replaced_at_no_cost(hostile):
    with Pool("hostile:act", workers=1, deadline=20.0) as pool:
        (pid,) = pool.map([("pid", None)])
        os.kill(pid, signal.SIGKILL)
        pool._children[0].process.wait()
        (new,) = pool.map([("pid", None)])
        assert new != pid and sum(pool.failures.values()) == 0


@pytest.mark.parametrize(
    "function, message",
    [
        ("hostile:nothing", "has no attribute 'nothing'"),
        ("no_such_module:f", "No module named 'no_such_module'"),
        ("not_importable:f", "no such library"),
        ("hostile:number", "not callable"),
        ("hostile", "module:function"),
    ],
)
def test_a_function_that_cannot_be_imported_is_an_error_at_once(function, message):
    with pytest.raises(WorkerError, match=message) as error:
        Pool(function, workers=2, deadline=1.0)
    assert function in str(error.value)


def test_failing_restarts_end(hostile, tmp_path):
    """A function that is imported once and not again: the pool gives up instead of trying for ever."""
    module = hostile / "vanishing.py"
    module.write_text("import os\ndef leave(item):\n    os._exit(1)\n")
    with Pool("vanishing:leave", workers=1, deadline=5.0) as pool:
        module.write_text("raise ImportError('gone')" + " " * 99)  # another size: its cached bytecode is not used
        with pytest.raises(WorkerError, match="gone"):
            pool.map([None] * 50)
        assert pool.failures["crashes"] == 3  # one exit, and two failed starts before the pool gave up


def test_an_item_that_a_message_cannot_hold(pool):
    with pytest.raises(TypeError, match="got set"):
        pool.map([("echo", {1})])
    assert pool.map([("echo", 1)]) == [1]


@pytest.mark.parametrize("settings_", [{"workers": 0}, {"deadline": 0.0}, {"deadline": math.nan}])
def test_bad_settings(settings_):
    with pytest.raises(ValueError, match="expected workers >= 1"):
        Pool("hostile:act", **settings_)


def test_close_twice_and_use_after():
    pool = Pool("hostile:act", workers=1, deadline=1.0)
    process = pool._children[0].process
    pool.close()
    pool.close()
    assert process.poll() is not None
    with pytest.raises(ValueError, match="closed"):
        pool.map([("echo", 1)])
