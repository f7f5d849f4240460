"""Counts of requests, added and made into figures by hand."""

import pytest

from dtr1_jax.asking import requested_work
from dtr1_jax.asking.requested_work import Work, added, figures, of_look, of_request
from dtr1_jax.twin.construct import Request

PICTURE = Request(("mug", "kettle"), ("detect", "depth"))
VIDEO = Request(("dog",), ("detect", "segment", "track"), (0, 4, 8))


def test_a_look_is_operations_times_pictures():
    assert of_look(PICTURE, False).units == {"detect": 1, "depth": 1}
    assert of_look(VIDEO, True) == Work(looks=1, failures=1, units={"detect": 3, "segment": 3, "track": 3})
    one = of_request(VIDEO, 2, 5)
    assert (one.requests, one.ops, one.phrases, one.frames, one.needless, one.weighed) == (1, 3, 1, 3, 2, 5)


def test_figures_by_hand():
    parts = [
        Work(queries=1, completions=3, twins=3, objects=6, hits=3, lookups=4),
        of_request(PICTURE, 1, 3), of_request(PICTURE, 1, 3), of_look(PICTURE, False),
        Work(queries=1, completions=1, twins=1),
        of_request(VIDEO, 0, 3), of_look(VIDEO, True),
    ]  # fmt: skip
    seconds = {"write_request": 1.0, "perceive": 2.0, "insert": 3.0, "write_answer": 4.0, "rollout": 8.0}
    assert figures(added(parts), seconds) == pytest.approx({
        "requested": 3 / 4, "looks": 1.0, "looks_failed": 1, "work": 11 / 2, "work_detect": 2.0, "work_segment": 1.5,
        "work_depth": 0.5, "work_track": 1.5, "twin_objects": 6 / 4, "ops_asked": 7 / 3, "phrases_asked": 5 / 3,
        "frames_asked": 5 / 3, "needless": 2 / 9, "remembered": 3 / 4, "write_request_s": 1.0, "perceive_s": 2.0,
        "insert_s": 3.0, "write_answer_s": 4.0,
    })  # fmt: skip


def test_without_a_sound_request_nothing_is_needless_or_remembered():
    numbers = figures(Work(queries=2, completions=4, twins=4), {})
    assert numbers["requested"] == numbers["work"] == 0 and not {"needless", "remembered", "ops_asked"} & set(numbers)
    assert figures(added([]), {})["requested"] == 0
    assert requested_work.added([Work(units={"detect": 1})] * 2).units == {"detect": 2}


def test_counts_of_processes_are_added():
    one, other = of_look(PICTURE, False), added([of_look(VIDEO, True), of_request(VIDEO, 2, 5), Work(queries=1)])
    first, second = (requested_work.to_counts(work) for work in (one, other))
    assert list(first) == list(second)
    whole = {name: first[name] + second[name] for name in first}
    assert requested_work.of_counts(whole) == added([one, other])
