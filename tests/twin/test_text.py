import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.twin.schema import Answer, Object, Twin
from dtr1_jax.twin.text import Canvas, Frame, dumps_answer, dumps_twin, from_scene, from_unit, to_unit
from dtr1_jax.types import Instance

PIXEL = Canvas(Frame.PIXEL, (200, 50))
NORM = Canvas(Frame.NORM1000, (200, 50))


def test_frames_by_hand():
    assert to_unit((50, 10, 100, 50), PIXEL) == (0.25, 0.2, 0.5, 1.0)
    assert to_unit((250, 200, 500, 1000), NORM) == (0.25, 0.2, 0.5, 1.0)
    assert from_unit((0.25, 0.2, 0.5, 1.0), PIXEL) == (50, 10, 100, 50)
    assert from_unit((0.25, 0.2, 0.5, 1.0), NORM) == (250, 200, 500, 1000)


@st.composite
def canvas_and_box(draw):
    canvas = Canvas(draw(st.sampled_from(Frame)), (draw(st.integers(1, 5000)), draw(st.integers(1, 5000))))
    w, h = canvas.limit
    x1, y1 = draw(st.integers(0, w - 1)), draw(st.integers(0, h - 1))
    return canvas, (x1, y1, draw(st.integers(x1 + 1, w)), draw(st.integers(y1 + 1, h)))


@settings(deadline=None)
@given(canvas_and_box())
def test_from_unit_inverts_to_unit(case):
    canvas, box = case
    assert from_unit(to_unit(box, canvas), canvas) == box


@settings(deadline=None)
@given(st.sampled_from(Frame), st.tuples(*[st.floats(-2, 3)] * 4))
def test_from_unit_gives_a_box_inside_the_frame(frame, box):
    canvas = Canvas(frame, (64, 3))
    x1, y1, x2, y2 = min(box[0], box[2]), min(box[1], box[3]), max(box[0], box[2]), max(box[1], box[3])
    left, top, right, bottom = from_unit((x1, y1, x2, y2), canvas)
    assert 0 <= left < right <= canvas.limit[0] and 0 <= top < bottom <= canvas.limit[1]


@pytest.mark.parametrize("box", [(0, 0, float("nan"), 1), (0, 0, float("inf"), 1), (0.5, 0, 0.4, 1), (0, 0.5, 1, 0.4)])
def test_from_unit_refuses_what_is_no_box(box):
    with pytest.raises(ValueError, match="unit-frame box"):
        from_unit(box, NORM)


@pytest.mark.parametrize(("frame", "size"), [("norm1000", (1, 1)), (Frame.PIXEL, (0, 5)), (Frame.PIXEL, (5,))])
def test_canvas_refuses_bad_values(frame, size):
    with pytest.raises(ValueError, match="Canvas"):
        Canvas(frame, size)


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
