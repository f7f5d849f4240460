"""The log says which large programs were compiled, and how many there are."""

import ctypes
import logging
import os
import pathlib
import sys

import jax
import jax.numpy as jnp
import pytest

from dtr1_jax.run import compile_log


@pytest.fixture
def events():
    """The listener, registered with JAX for one test."""
    listener = compile_log.CompileLog()
    jax.monitoring.register_event_duration_secs_listener(listener)
    yield listener
    jax.monitoring.unregister_event_duration_listener(listener)


def test_a_program_that_jax_compiles_is_logged_with_its_name(events, monkeypatch, caplog):
    monkeypatch.setattr(compile_log, "LEAST_S", 0.0)
    x, seed = jnp.arange(7.0), jax.random.key(0)
    jax.block_until_ready((x, seed))
    events.programs, events.seconds = 0, 0.0

    @jax.jit
    def unheard_of(x):
        return jnp.cos(x) @ x

    with caplog.at_level(logging.INFO, "dtr1_jax"):
        unheard_of(x)
        unheard_of(x)
    assert events.programs == 1 and events.seconds > 0
    (line,) = [r.getMessage() for r in caplog.records]
    assert line.startswith("compiled unheard_of in ") and "so far 1 large program in" in line


def test_small_programs_and_other_events_are_not(caplog):
    listener = compile_log.CompileLog()
    with caplog.at_level(logging.INFO, "dtr1_jax"):
        listener(compile_log._EVENT, 4.9, fun_name="jit_small")
        listener("/jax/core/compile/jaxpr_trace_duration", 60.0, fun_name="jit_update")
        listener(compile_log._EVENT, 20.2, fun_name="jit_update")
        listener(compile_log._EVENT, 40.4)
    assert [r.getMessage() for r in caplog.records] == [
        "compiled update in 20 s; so far 1 large program in 20 s",
        "compiled a program in 40 s; so far 2 large programs in 61 s",
    ]


def test_it_is_registered_once():
    calls = []
    compile_log.set_up.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax.monitoring, "register_event_duration_secs_listener", calls.append)
        compile_log.set_up()
        compile_log.set_up()
    compile_log.set_up.cache_clear()
    assert len(calls) == 1


def test_memory_is_released_after_some_compilation(monkeypatch):
    released = []
    monkeypatch.setattr(compile_log, "release_freed_memory", lambda: released.append(True))
    listener = compile_log.CompileLog()
    for duration, times in ((0.2, 0), (0.2, 0), (0.2, 1), (0.49, 1), (0.02, 2), (30.0, 3)):
        listener(compile_log._EVENT, duration, fun_name="jit_f")
        assert len(released) == times
    listener("/jax/core/compile/jaxpr_trace_duration", 60.0)
    assert len(released) == 3


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc, and needs glibc")
def test_freed_memory_goes_back_to_the_system():
    """Small blocks below one that is kept: the C library keeps them for later, until it is asked."""

    def resident_mb():
        return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    library = ctypes.CDLL(None)
    if not hasattr(library, "malloc_trim"):
        pytest.skip("the C library is not glibc")
    library.malloc.restype, library.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    library.memset.argtypes, library.free.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t], [ctypes.c_void_p]
    blocks = [library.malloc(100_000) for _ in range(3000)]
    kept = library.malloc(100_000)
    for block in blocks:
        library.memset(block, 1, 100_000)
        library.free(block)
    before = resident_mb()
    compile_log.release_freed_memory()
    after = resident_mb()
    library.free(kept)
    assert after < before - 200
