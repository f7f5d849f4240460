"""The first signal asks to stop, the second ends the process. The signals are real, sent to this process."""

import signal
import threading

import pytest

from dtr1_jax.run import interrupt


@pytest.fixture
def usual_effects():
    """The list of signals that reached the earlier handlers, which stand for the usual effect."""
    numbers = []
    before = {s: signal.signal(s, lambda number, frame: numbers.append(number)) for s in interrupt.Flag.SIGNALS}
    yield numbers
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("first", interrupt.Flag.SIGNALS)
@pytest.mark.parametrize("second", interrupt.Flag.SIGNALS)
def test_the_first_asks_and_the_second_has_its_usual_effect(usual_effects, capfd, first, second):
    with interrupt.Flag() as stop:
        assert not stop.is_set
        signal.raise_signal(first)
        assert stop.is_set
        assert usual_effects == []
        assert "a second signal stops the run at once" in capfd.readouterr().err
        signal.raise_signal(second)
        assert usual_effects == [second]
    assert stop.is_set


def test_ctrl_c_twice_is_a_keyboard_interrupt():
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts without it
    try:
        with interrupt.Flag() as stop:
            signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert stop.is_set


@pytest.mark.parametrize("number", interrupt.Flag.SIGNALS)
def test_handlers_are_restored(usual_effects, number):
    before = [signal.getsignal(s) for s in interrupt.Flag.SIGNALS]
    with interrupt.Flag():
        assert [signal.getsignal(s) for s in interrupt.Flag.SIGNALS] != before
    assert [signal.getsignal(s) for s in interrupt.Flag.SIGNALS] == before
    with pytest.raises(ValueError, match="inside"), interrupt.Flag():
        raise ValueError("inside")
    assert [signal.getsignal(s) for s in interrupt.Flag.SIGNALS] == before
    signal.raise_signal(number)
    assert usual_effects == [number]


def test_a_handler_that_python_did_not_set():
    """`signal.signal` returns None for a handler that a C library set, but does not accept None."""
    flag = interrupt.Flag()
    before = signal.getsignal(signal.SIGTERM)
    try:
        with flag:
            flag._before[signal.SIGTERM] = None
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_off_the_main_thread_it_does_nothing():
    before, states = signal.getsignal(signal.SIGTERM), []

    def work():
        with interrupt.Flag() as stop:
            states.append((stop.is_set, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert states == [(False, before)]


def test_interrupted_names_the_step():
    error = interrupt.Interrupted(7)
    assert (error.step, str(error)) == (7, "stopped after step 7")


def test_the_flag_of_the_work_under_way():
    assert interrupt.current() is None
    with interrupt.Flag() as stop:
        assert interrupt.current() is stop and stop.asked == interrupt.NOTHING
        stop.is_save_asked = True
        assert stop.asked == interrupt.SAVE
        stop.set_by_another()
        assert stop.is_set and stop.asked == interrupt.STOP
    assert interrupt.current() is None


def test_a_stop_of_another_process_is_no_signal(usual_effects):
    """A scheduler sends SIGTERM to all hosts, but not at the same time: none of them may take it for a second one."""
    with interrupt.Flag() as stop:
        stop.set_by_another()
        signal.raise_signal(signal.SIGTERM)
        assert usual_effects == []
        signal.raise_signal(signal.SIGTERM)
        assert usual_effects == [signal.SIGTERM]
