"""Signals that ask once, and end the process the second time. They are real ones, sent to this process."""

import signal
import threading

import pytest

from dtr1_jax.run import interrupt


@pytest.fixture
def heard():
    """Signals that reached the handlers of before, which stand for the usual effect."""
    heard = []
    before = {s: signal.signal(s, lambda number, frame: heard.append(number)) for s in interrupt.Flag.SIGNALS}
    yield heard
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("first", interrupt.Flag.SIGNALS)
@pytest.mark.parametrize("second", interrupt.Flag.SIGNALS)
def test_the_first_asks_and_the_second_has_its_usual_effect(heard, capfd, first, second):
    with interrupt.Flag() as stop:
        assert not stop.is_set
        signal.raise_signal(first)
        assert stop.is_set
        assert heard == []
        assert "saved first; once more to leave at once" in capfd.readouterr().err
        signal.raise_signal(second)
        assert heard == [second]
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
def test_handlers_are_restored(heard, number):
    before = [signal.getsignal(s) for s in interrupt.Flag.SIGNALS]
    with interrupt.Flag():
        assert [signal.getsignal(s) for s in interrupt.Flag.SIGNALS] != before
    assert [signal.getsignal(s) for s in interrupt.Flag.SIGNALS] == before
    with pytest.raises(ValueError, match="inside"), interrupt.Flag():
        raise ValueError("inside")
    assert [signal.getsignal(s) for s in interrupt.Flag.SIGNALS] == before
    signal.raise_signal(number)
    assert heard == [number]


def test_a_handler_that_is_not_of_python():
    """`signal.signal` returns None for one that another library set, and does not take None back."""
    flag = interrupt.Flag()
    before = signal.getsignal(signal.SIGTERM)
    try:
        with flag:
            flag._before[signal.SIGTERM] = None
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_off_the_main_thread_it_does_nothing():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with interrupt.Flag() as stop:
            seen.append((stop.is_set, signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, before)]


def test_interrupted_names_the_step():
    error = interrupt.Interrupted(7)
    assert (error.step, str(error)) == (7, "stopped after step 7")
