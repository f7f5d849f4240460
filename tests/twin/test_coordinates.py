"""Boxes change their coordinate frame without loss, and stay inside it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.twin.coordinates import Canvas, Frame, from_unit, to_unit

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
def test_from_unit_refuses_an_unsound_box(box):
    with pytest.raises(ValueError, match="unit-frame box"):
        from_unit(box, NORM)


@pytest.mark.parametrize(("frame", "size"), [("norm1000", (1, 1)), (Frame.PIXEL, (0, 5)), (Frame.PIXEL, (5,))])
def test_canvas_refuses_bad_values(frame, size):
    with pytest.raises(ValueError, match="Canvas"):
        Canvas(frame, size)
