"""acc@0.5 and the IoU of matched boxes and tracks: by hand, and against the reward's own."""

import numpy as np
import pytest

from dtr1_jax.evaluation.benchmarks import boxes
from dtr1_jax.rewards import video_overlap

A, HALF, LESS, FAR = (0, 0, 10, 10), (0, 0, 10, 5), (0, 0, 10, 4.9), (20, 20, 30, 30)


@pytest.mark.parametrize(
    ("pred", "target", "want"),
    [
        ([A], [A], True),
        ([HALF], [A], True),
        ([LESS], [A], False),
        ([], [], True),
        ([A], [], False),
        ([], [A], False),
        ([A, FAR], [A], False),
        ([FAR, A], [A, FAR], True),
        ([A, A], [A, FAR], False),
        ([(3, 3, 3, 3)], [(3, 3, 3, 3)], False),
        ([(np.nan, 0, 1, 1)], [A], False),
    ],
)
def test_is_correct_by_hand(pred, target, want):
    assert boxes.is_correct(np.reshape(pred, (-1, 4)), np.reshape(target, (-1, 4))) is want


def test_a_failed_sample_is_never_correct():
    assert boxes.is_correct(None, np.zeros((0, 4))) is False


def test_matched_ious_are_those_of_the_reward():
    rng = np.random.default_rng(0)
    for _ in range(6):
        m, n, frames = rng.integers(0, 4, 2).tolist() + [5]
        answer, target = (np.sort(rng.random((k, frames, 2, 2)), 2).reshape(k, frames, 4) for k in (m, n))
        for tracks in (answer, target):
            tracks[rng.random(tracks.shape[:2]) < 0.3] = 0
        counted = rng.random(frames) < 0.7
        want = video_overlap.track_scores([answer.astype(np.float32)], target.astype(np.float32), counted)
        assert boxes.matched_track_iou(answer, target, counted) == pytest.approx(want[0], abs=1e-5)
        first = [x[:, :1].astype(np.float32) for x in (answer, target)]
        want = video_overlap.track_scores(first[:1], first[1], np.ones(1, bool))
        visible = [x[:, 0][x[:, 0].any(1)] for x in (answer, target)]
        assert boxes.matched_iou(*visible) == pytest.approx(want[0], abs=1e-5)
