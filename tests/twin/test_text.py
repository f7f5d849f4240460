"""Twins and answers as JSON text: compact, in order, without tags."""

import json

import numpy as np
import pytest

from dtr1_jax.twin.coordinates import Canvas, Frame
from dtr1_jax.twin.schema import Answer, Object, Twin
from dtr1_jax.twin.text import dumps_answer, dumps_twin, from_scene
from dtr1_jax.types import Instance

NORM = Canvas(Frame.NORM1000, (200, 50))


def test_dumps_twin_is_compact_and_in_order():
    twin = Twin(
        (640, 480),
        (Object(1, "mug", (1, 2, 3, 4), 3, ("red", "metal")), Object(2, "bottle", (5, 6, 7, 8))),
        ((1, "left of", 2),),
    )
    assert dumps_twin(twin) == (
        '{"size":[640,480],"objects":[{"id":1,"label":"mug","box":[1,2,3,4],"depth":3,"attributes":["red","metal"]},'
        '{"id":2,"label":"bottle","box":[5,6,7,8]}],"relations":[[1,"left of",2]]}'
    )
    assert dumps_twin(Twin((8, 9), ())) == '{"size":[8,9],"objects":[]}'


def test_dumps_answer():
    assert dumps_answer(Answer(objects=())) == '{"objects":[]}'
    assert dumps_answer(Answer(boxes=((1, 2, 3, 4),))) == '{"boxes":[[1,2,3,4]]}'
    assert dumps_answer(Answer(text="Zoë")) == '{"text":"Zoë"}'


@pytest.mark.parametrize("answer", [Answer(), Answer(objects=(), text="x")])
def test_dumps_answer_needs_one_form(answer):
    with pytest.raises(ValueError, match="exactly one"):
        dumps_answer(answer)


def test_json_holds_no_tag_and_means_the_same():
    text = dumps_answer(Answer(text="</answer>"))
    assert "<" not in text and json.loads(text) == {"text": "</answer>"}


def test_from_scene():
    mask = np.zeros((2, 2), bool)
    scene = (Instance(1, "mug", (0.1, 0.2, 0.5, 1.0), mask, 2, ("red",)), Instance(7, "key", (0, 0, 0, 0), mask))
    assert from_scene(scene, NORM) == Twin(
        (200, 50), (Object(1, "mug", (100, 200, 500, 1000), 2, ("red",)), Object(7, "key", (0, 0, 1, 1)))
    )
