"""The log says which large programs were compiled, and how many there are."""

import logging

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
