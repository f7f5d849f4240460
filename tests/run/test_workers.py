"""The pool: right results in order, and each way to fall costs the fallen sample alone."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from dtr1_jax.run import workers
from dtr1_jax.run.workers import Failure, Pool, WorkerError

HOSTILE = '''
"""What a worker may be asked to do, by name."""
import ctypes, os, signal, sys, time
import numpy as np

def act(item):
    name, value = item
    if name == "sleep":
        time.sleep(3600)
    if name == "hold":  # a C call that keeps the interpreter lock
        ctypes.PyDLL(None).sleep(3600)
    if name == "segfault":
        ctypes.string_at(0)
    if name == "exit":
        os._exit(3)
    if name == "raise":
        raise ValueError("bad \\ud800 value")
    if name == "object":
        return object()
    if name == "noise":
        print("noise", flush=True)
        os.write(1, b"\\x00" * 4096)
        return sys.stdin.read()
    if name == "garbage":
        for fd in range(3, 64):
            try:
                os.write(fd, b"\\x10" + b"\\x00" * 7 + b"x" * 16)
            except OSError:
                pass
    if name == "pid":
        return os.getpid()
    if name == "modules":
        return sorted(m for m in ("jax", "flax", "main", "pytest") if m in sys.modules)
    if name == "interrupt":
        return signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    return value

number = 3

def made(folder):
    """A function that took longer to make than it has for an item, and says which of the makings it is."""
    time.sleep(1.5)
    open(os.path.join(folder, str(os.getpid())), "x").close()
    return lambda item: act(item) and len(os.listdir(folder))

def broken_import():
    raise RuntimeError
'''


@pytest.fixture(scope="module", autouse=True)
def hostile(tmp_path_factory):
    """A module that the children find because they search where the parent does."""
    folder = tmp_path_factory.mktemp("functions")
    (folder / "hostile.py").write_text(HOSTILE)
    (folder / "not_importable.py").write_text("raise ImportError('no such library')")
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


@pytest.fixture(scope="module")
def pool(hostile):
    with Pool("hostile:act", workers=2, deadline=20.0) as pool:
        yield pool


def test_results_in_order(pool):
    assert pool.map([("echo", i) for i in range(50)]) == list(range(50))
    assert pool.map([]) == []


def test_arrays_there_and_back(pool):
    image = np.arange(96 * 96 * 3, dtype=np.uint8).reshape(96, 96, 3)
    mask = image[..., 0] > 7
    for got, sent in zip(pool.map([("echo", image), ("echo", mask)]), (image, mask)):
        assert got.dtype == sent.dtype
        np.testing.assert_array_equal(got, sent)


def test_two_fallen_in_a_batch_cost_two(hostile):
    items = [("echo", i) for i in range(512)]
    items[100] = ("sleep", None)
    items[101] = ("segfault", None)
    with Pool("hostile:act", workers=2, deadline=1.0) as pool:
        results = pool.map(items)
        fallen = {i: r for i, r in enumerate(results) if isinstance(r, Failure)}
        assert {i: r.kind for i, r in fallen.items()} == {100: "timeout", 101: "crash"}
        assert "hostile:act" in fallen[100].message and "1 s" in fallen[100].message
        assert f"signal {signal.SIGSEGV:d}" in fallen[101].message
        assert all(r == i for i, r in enumerate(results) if i not in fallen)
        assert pool.failures == {"timeouts": 1, "crashes": 1, "errors": 0}


def test_two_fallen_in_a_batch_cost_less_than_two_seconds(hostile):
    """What the pool promises, so here a time is asserted: a difference within one run, the best of three tries.

    It says nothing on a machine so busy that a process needs long to start; there the test is skipped.
    """
    plain = [("echo", i) for i in range(512)]
    fallen = [("sleep", None) if i == 40 else ("segfault", None) if i == 41 else item for i, item in enumerate(plain)]

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
            (without, none), (with_two, two) = seconds(lambda: pool.map(plain)), seconds(lambda: pool.map(fallen))
            if none == 0 and two == 2 and with_two - without < 2.0:
                return
            tries.append((begin, without, none, with_two, two))
    if any(begin > 0.5 or none for begin, _, none, _, _ in tries):
        pytest.skip(f"this machine is too busy to tell: {tries}")
    pytest.fail(f"two fallen samples cost too much (s to start a process, s and fallen without, with): {tries}")


def test_timeout_while_the_interpreter_is_held(hostile):
    with Pool("hostile:act", workers=1, deadline=0.3) as pool:
        first, second = pool.map([("hold", None), ("echo", 1)])
        assert first.kind == "timeout" and second == 1


def test_errors_keep_the_process(pool):
    (before,) = pool.map([("pid", None)])
    counted = pool.failures["errors"]
    one, two = pool.map([("raise", None), ("object", None)])
    assert one == Failure("error", "ValueError: bad \ud800 value")
    assert two.kind == "error" and "got object" in two.message
    assert pool.failures["errors"] == counted + 2
    assert before in pool.map([("pid", None)] * 20)


def test_exit_code_is_told(pool):
    (result,) = pool.map([("exit", None)])
    assert result.kind == "crash" and "exit code 3" in result.message


def test_noise_does_not_reach_the_protocol(pool):
    assert pool.map([("noise", None), ("echo", "after")]) == ["", "after"]


def test_garbage_on_the_connection_is_a_crash(pool):
    result, after = pool.map([("garbage", None), ("echo", "after")])
    assert isinstance(result, Failure) and result.kind == "crash" and after == "after"


def test_a_worker_that_died_idle_is_replaced_at_no_cost(hostile):
    with Pool("hostile:act", workers=1, deadline=20.0) as pool:
        (pid,) = pool.map([("pid", None)])
        os.kill(pid, signal.SIGKILL)
        pool._children[0].process.wait()
        (new,) = pool.map([("pid", None)])
        assert new != pid and sum(pool.failures.values()) == 0


def test_children_are_light_and_deaf_to_ctrl_c(pool):
    modules, deaf = pool.map([("modules", None), ("interrupt", None)])
    assert modules == [] and deaf is True


@pytest.mark.parametrize(
    "function, told",
    [
        ("hostile:nothing", "has no attribute 'nothing'"),
        ("no_such_module:f", "No module named 'no_such_module'"),
        ("not_importable:f", "no such library"),
        ("hostile:number", "not callable"),
        ("hostile", "module:function"),
    ],
)
def test_a_function_that_is_not_there_is_told_at_once(function, told):
    with pytest.raises(WorkerError, match=told) as error:
        Pool(function, workers=2, deadline=1.0)
    assert function in str(error.value)


def test_failing_restarts_end(hostile, tmp_path):
    """A function that works once and can not be imported again: the pool gives up and does not try for ever."""
    module = hostile / "vanishing.py"
    module.write_text("import os\ndef leave(item):\n    os._exit(1)\n")
    with Pool("vanishing:leave", workers=1, deadline=5.0) as pool:
        module.write_text("raise ImportError('gone')" + " " * 99)  # another size: its cached bytecode is not used
        with pytest.raises(WorkerError, match="gone"):
            pool.map([None] * 50)
        assert pool.failures["crashes"] == 3  # the one that left, and two failed starts before the pool gave up


def test_item_that_can_not_be_sent(pool):
    with pytest.raises(TypeError, match="got set"):
        pool.map([("echo", {1})])
    assert pool.map([("echo", 1)]) == [1]


def test_a_function_is_made_once_by_each_process_outside_of_the_deadline(tmp_path):
    with Pool("hostile:made", workers=1, deadline=1.0, argument=str(tmp_path)) as pool:
        got = pool.map([["echo", 1], ["sleep", 0], ["echo", 1], ["echo", 1]])
    assert isinstance(got.pop(1), Failure) and got == [1, 2, 2]
    with pytest.raises(WorkerError, match="FileNotFoundError"):
        Pool("hostile:made", workers=1, argument=str(tmp_path / "nowhere"))


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


def gone(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="reads /proc")
@pytest.mark.parametrize("busy", [False, True])
def test_workers_end_with_a_killed_parent(hostile, busy):
    """Idle ones read the end of the connection; busy ones are ended by their own alarm."""
    timer = "threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()\npool.map([('hold', None)] * 2)"
    script = (
        "import json, os, signal, sys, threading, time\n"
        f"sys.path.insert(0, {str(hostile)!r})\n"
        "from dtr1_jax.run.workers import Pool\n"
        "pool = Pool('hostile:act', workers=2, deadline=1.0)\n"
        "print(json.dumps([c.process.pid for c in pool._children]), flush=True)\n"
        + (timer if busy else "os.kill(os.getpid(), signal.SIGKILL)")
    )
    parent = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, timeout=60)
    assert parent.returncode == -signal.SIGKILL
    pids = json.loads(parent.stdout)
    assert len(pids) == 2
    for _ in range(500):
        if all(gone(pid) for pid in pids):
            return
        time.sleep(0.02)
    pytest.fail(f"workers {pids} outlived their parent")


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(TREES)
def test_trees_round_trip(tree):
    assert workers.decode(workers.encode(tree)) == tree


DTYPES = [np.bool_, np.uint8, np.int64, np.float32]


@settings(max_examples=50, deadline=None)
@given(st.lists(npst.arrays(st.sampled_from(DTYPES), npst.array_shapes(min_side=0)), max_size=3))
def test_arrays_round_trip(arrays):
    back = workers.decode(workers.encode({"x": arrays, "y": [arrays[:1], 1]}))
    for got, sent in zip(back["x"] + back["y"][0], arrays + arrays[:1], strict=True):
        assert got.dtype == sent.dtype and got.shape == sent.shape
        np.testing.assert_array_equal(got, sent)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 40))
def test_foreign_bytes_are_refused(junk, cut):
    """Whatever a broken child sends is a value of ours or a ValueError."""
    sound = workers.encode({"x": np.zeros((2, 3), np.float32)})
    for body in (junk, sound[:cut] + junk, sound[:cut], sound + junk):
        try:
            workers.decode(body)
        except ValueError:
            pass


@pytest.mark.parametrize(
    "form",
    ['{"array":["O",[1]]}', '{"array":["<f4",[-1]]}', '{"array":["<f4",[9000000000]]}', '{"array":["<f4",[true]]}',
     '{"array":"<f4"}', '{"other":1}', '{"dict":[1]}', '{"array":["V8",[1]]}', "[" * 100_000, "nonsense"],
)  # fmt: skip
def test_hostile_forms_are_refused(form):
    text = form.encode()
    with pytest.raises(ValueError):
        workers.decode(len(text).to_bytes(8, "little") + text + bytes(8))


def test_numpy_scalars_and_tuples_become_plain():
    assert workers.decode(workers.encode((np.float32(0.5), np.int64(3), np.bool_(True)))) == [0.5, 3, True]
    assert math.isnan(workers.decode(workers.encode(math.nan)))
