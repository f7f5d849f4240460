"""Needless work of a request, counted by hand."""

import dataclasses

import pytest
from scored import CANVAS, TWIN, example

from dtr1_jax.rewards.economy import economy, units
from dtr1_jax.twin.construct import Request
from dtr1_jax.twin.schema import Answer
from dtr1_jax.twin.transcript import compose, parse

DEPTHS = ("nearest", ("all",))
SIZES = ("largest", ("all",))


def said(*phrases, ops=(), answer=(1,), inserted=TWIN):
    request = Request(phrases, ("detect", *ops))
    text = compose(TWIN, "hm", Answer(objects=answer), request)
    return parse(text, task="segmentation", canvas=CANVAS, constructor="specialists", given_twin=inserted)


def asked(query="which thing?", program=(), task="segmentation"):
    return dataclasses.replace(example((0, 0, 0.5, 1), task=task), query=query, program=program)


@pytest.mark.parametrize(
    ("request_", "query", "value"),
    [
        (said("mug", "key"), asked(), 1),
        (said("mug", "key", ops=("segment",)), asked(), 1),
        (said("mug", "cat"), asked(), 1 / 2),  # nobody found a cat, and the query does not speak of one
        (said("mug", "cat"), asked("is there any cat beside the mug?"), 1),
        (said("red mugs", "cats"), asked("where are my cats?"), 1),
        (said("mug", ops=("depth",)), asked(program=DEPTHS), 1),
        (said("mug", ops=("depth",)), asked(program=SIZES), 1 / 2),
        (said("mug", ops=("depth",)), asked(), 1),  # without a program nobody knows
        (said("mug", "key", ops=("segment",)), asked(program=SIZES, task="grounding"), 2 / 3),
        (said("dog", "cat", ops=("depth",)), asked(program=SIZES), 0),
        (said("mug", answer=(3,)), asked(), 0),  # unsound
        (said("mug", inserted=None), asked(), 0),
    ],
)
def test_by_hand(request_, query, value):
    assert economy(request_, query) == pytest.approx(value)


def test_units_by_hand():
    request = Request(("mug", "cat"), ("detect", "segment", "depth"))
    assert units(request, TWIN, asked(program=SIZES)) == (2, 4)  # the cat, and the depth
    assert units(request, None, asked(program=SIZES)) == (3, 4)
    assert units(request, None, asked("is the mug or the cat near?")) == (0, 4)
