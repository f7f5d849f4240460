"""Batches made ahead: the same in the same order, within a budget of bytes; the position ignores those waiting."""

import dataclasses
import gc
import itertools
import json
import threading
import time

import numpy as np
import pytest

from dtr1_jax import types
from dtr1_jax.data import prefetch

KILO = 1000


class Numbers:
    """Iterator over batches of `size` bytes; counts how many were made. Batch `broken` raises."""

    def __init__(self, size=KILO, broken=None):
        self.size, self.broken, self.made = size, broken, 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.made == self.broken:
            raise KeyError("a bug")
        self.made += 1
        return {"number": self.made - 1, "array": np.zeros(self.size, np.uint8)}

    def get_state(self):
        return {"next": self.made}

    def set_state(self, state):
        self.made = state["next"]


def numbers(data, count):
    return [batch["number"] for batch in itertools.islice(data, count)]


def settled(value):
    """The value of a function once it stays the same for a while."""
    last, since = value(), time.monotonic()
    while time.monotonic() - since < 0.3:
        time.sleep(0.01)
        if value() != last:
            last, since = value(), time.monotonic()
    return last


@pytest.mark.parametrize("budget", [1, 3 * KILO, 100 * KILO])
def test_order_and_position_do_not_depend_on_the_budget(budget):
    data = iter(prefetch.Prefetch(Numbers(), budget))
    assert data.get_state() == {"next": 0}
    for k in range(10):
        assert next(data)["number"] == k
        assert data.get_state() == {"next": k + 1}


@pytest.mark.parametrize(
    "budget, ahead", [(1, 1), (KILO, 1), (2 * KILO, 2), (3 * KILO, 3), (100 * KILO, prefetch.AHEAD)]
)
def test_the_budget_bounds_the_bytes_in_flight(budget, ahead):
    below = Numbers()
    data = iter(prefetch.Prefetch(below, budget))
    for k in range(1, 5):
        assert next(data)["number"] == k - 1
        assert settled(lambda: below.made) - k == ahead
        assert data._shelf.waiting == ahead * KILO <= max(budget, KILO)


def test_a_larger_batch_stops_the_thread():
    below = Numbers()
    data = iter(prefetch.Prefetch(below, 3 * KILO))
    next(data)
    settled(lambda: below.made)
    below.size = 10 * KILO
    assert numbers(data, 3) == [1, 2, 3]
    assert settled(lambda: below.made) == 5, "one large batch waits alone"


def test_resume_ignores_what_was_made_ahead():
    below = Numbers()
    data = iter(prefetch.Prefetch(below, 100 * KILO))
    numbers(data, 3)
    settled(lambda: below.made)
    state = json.loads(json.dumps(data.get_state()))
    assert state == {"next": 3} and numbers(data, 4) == [3, 4, 5, 6]
    data.set_state(state)
    assert data.get_state() == state and numbers(data, 4) == [3, 4, 5, 6]


def test_an_error_comes_where_its_batch_would_and_again_after_it():
    data = iter(prefetch.Prefetch(Numbers(broken=2), 100 * KILO))
    assert numbers(data, 2) == [0, 1]
    for _ in range(2):
        with pytest.raises(KeyError, match="a bug"):
            next(data)


def test_the_thread_ends_with_its_iterator():
    before = threading.active_count()
    data = iter(prefetch.Prefetch(Numbers(), KILO))
    next(data)
    thread = data._thread
    del data
    gc.collect()
    thread.join(10)
    assert not thread.is_alive() and threading.active_count() == before


def test_bytes_count_each_array_once_and_views_as_their_whole():
    frames = np.zeros((4, 10, 20, 3), np.uint8)
    video = types.Video(frames, np.arange(4), 24.0, 4)
    target = types.Target(np.zeros((10, 20), bool), np.zeros((0, 4), np.float32))
    example = types.Example("1", frames[0], "x", "segmentation", target, visuals=(video,))
    assert prefetch.held_bytes([example, example]) == frames.nbytes + 200 + 4 * 8
    assert prefetch.held_bytes(dataclasses.replace(example, visuals=())) == frames.nbytes + 200
    assert prefetch.held_bytes({"a": (np.zeros(3, np.int32), None, "text", 7)}) == 12
