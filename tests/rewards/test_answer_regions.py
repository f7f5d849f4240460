"""Answers become boxes and tracks: ids and boxes, pictures and videos, and both frames of coordinates."""

import numpy as np
import pytest
from scored import CANVAS, TWIN, Segmenter, example, say, say_boxes
from scored_tasks import PATH, VIDEO, tell, video_query

from dtr1_jax.rewards import answer_regions
from dtr1_jax.twin.coordinates import Canvas, Frame
from dtr1_jax.twin.schema import Answer
from dtr1_jax.twin.transcript import compose, parse

ABSENT = (0, 0, 0, 0)
BROKEN = parse('<twin>{}</twin><think>x</think><answer>{"objects":[]}</answer>', task="segmentation", canvas=CANVAS)


def test_boxes_of_ids_are_unit_and_in_the_order_of_the_answer():
    np.testing.assert_array_equal(answer_regions.boxes_of(say(7, 1), CANVAS), [[0.5, 0, 1, 1], [0, 0, 0.5, 1]])


def test_boxes_of_a_box_answer_depend_on_the_frame():
    text = compose(TWIN, "x", Answer(boxes=((2, 1, 4, 2),)))
    thousandths = Canvas(Frame.NORM1000, (8, 4))
    np.testing.assert_allclose(answer_regions.boxes_of(say_boxes((2, 1, 4, 2)), CANVAS), [[0.25, 0.25, 0.5, 0.5]])
    got = answer_regions.boxes_of(parse(text, task="grounding", canvas=thousandths), thousandths)
    np.testing.assert_allclose(got, [[0.002, 0.001, 0.004, 0.002]], rtol=1e-6)


@pytest.mark.parametrize("transcript", [BROKEN, say(), say_boxes(), say(99)])
def test_no_boxes_where_there_is_nothing_to_point_at(transcript):
    boxes = answer_regions.boxes_of(transcript, CANVAS)
    assert boxes.shape == (0, 4) and boxes.dtype == np.float32


def test_tracks_of_ids_are_interpolated_and_boxes_stay_in_the_first_frame():
    np.testing.assert_allclose(answer_regions.tracks_of(tell(Answer(objects=(1,))), VIDEO), PATH)
    left = [0, 0, 0.5, 1]
    np.testing.assert_allclose(answer_regions.tracks_of(tell(Answer(objects=(2,))), VIDEO), [[left, left, ABSENT]])
    boxes = tell(Answer(boxes=((0, 0, 4, 4),)), task="grounding")
    np.testing.assert_allclose(answer_regions.tracks_of(boxes, VIDEO), [[left, ABSENT, ABSENT]])
    assert answer_regions.tracks_of(tell(Answer(objects=())), VIDEO).shape == (0, 3, 4)
    np.testing.assert_allclose(answer_regions.boxes_of(tell(Answer(objects=(1, 2))), VIDEO), [left, left])


LEFT_HALF = np.arange(8) < np.full((4, 1), 4)


class Real:
    """Masks as specialists give them."""

    def __init__(self, masks, looked=None):
        self.masks, self.looked = masks, looked


def test_answers_by_ids_have_real_masks_and_boxes_what_is_left():
    """Objects 1 and 7 fill the left and the right half; the real mask of 1 is one pixel."""
    pixel = np.zeros((4, 8), bool)
    pixel[1, 2] = True
    cases = {(1,): pixel, (7,): LEFT_HALF[:, ::-1], (1, 7): pixel | LEFT_HALF[:, ::-1], (): np.zeros((4, 8), bool)}
    segmenter = Segmenter()
    for ids, expected in cases.items():
        ((got,),) = answer_regions.outcomes(
            [[say(*ids)]], [example((0, 0, 0.5, 1))], [CANVAS], segmenter, None, [[Real({1: pixel})]]
        )  # fmt: skip
        assert (got.mask == expected).all() and not got.failed
    assert len(segmenter.calls) == 2  # never for object 1 alone
    ((boxes,),) = answer_regions.outcomes(
        [[say_boxes((0, 0, 4, 4))]], [example((0, 0, 0.5, 1))], [CANVAS], segmenter, None, [[Real({1: pixel})]]
    )  # fmt: skip
    assert (boxes.mask == LEFT_HALF).all()


def test_a_video_has_real_masks_in_the_frames_that_were_looked_at():
    answer, query = tell(Answer(objects=(1,))), video_query()
    real = np.zeros((3, 4, 8), bool)
    real[0, 0, 0] = True
    looked = np.arange(3) == 0
    ((plain,),) = answer_regions.outcomes([[answer]], [query], [VIDEO], Segmenter())
    ((got,),) = answer_regions.outcomes(
        [[answer]], [query], [VIDEO], Segmenter(), None, [[Real({1: real}, looked)]]
    )  # fmt: skip
    assert (got.masks[0] == real[0]).all() and (got.masks[1:] == plain.masks[1:]).all() and plain.masks[1:].any()
