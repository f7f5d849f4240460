"""Linking: objects that cross, gaps, labels, low scores, a camera that moves; switches of identity are counted."""

import itertools

import cv2
import numpy as np
import pytest
import textured

from dtr1_jax.specialists.findings import Detections
from dtr1_jax.specialists.trackers import link


def frame(boxes, scores=None, labels=None):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    scores = np.full(len(boxes), 0.9, np.float32) if scores is None else np.array(scores, np.float32)
    return Detections(boxes, scores, tuple(labels or ["dog"] * len(boxes)))


def square(x, y, side=0.1):
    return [x - side / 2, y - side / 2, x + side / 2, y + side / 2]


def switches(tracks, paths):
    """How often the track that covers an object changes; `paths` are float[T, 4] of each object, 0 where unseen."""
    count = 0
    for path in paths:
        ids = []
        for t in np.flatnonzero(path.any(1)):
            (found,) = [i for i, track in enumerate(tracks) if np.allclose(track.boxes[t], path[t], atol=1e-6)]
            ids.append(found)
        count += sum(a != b for a, b in itertools.pairwise(ids))
    return count


def linked(paths, order=None, **settings):
    paths = np.array(paths, np.float32)
    rng = np.random.default_rng(0)
    detections = []
    for t in range(paths.shape[1]):
        boxes = paths[:, t][paths[:, t].any(1)]
        detections.append(frame(boxes[rng.permutation(len(boxes))]))
    return link(None, detections, **settings)


def test_two_objects_keep_their_tracks():
    paths = [[square(0.1 + 0.02 * t, 0.3) for t in range(20)], [square(0.5, 0.9 - 0.03 * t) for t in range(20)]]
    tracks = linked(paths)
    assert len(tracks) == 2 and switches(tracks, np.array(paths, np.float32)) == 0
    assert tracks[0].boxes.dtype == tracks[0].scores.dtype == np.float32 and tracks[0].visible.all()
    np.testing.assert_allclose(tracks[0].scores, 0.9)


@pytest.mark.parametrize("speed", [0.01, 0.02, 0.04])
def test_objects_that_cross(speed):
    """They meet in the middle with a large overlap; the velocity tells them apart."""
    paths = np.array([
        [square(0.5 + speed * (t - 10), 0.5 + 0.001 * t) for t in range(20)],
        [square(0.5 - speed * (t - 10), 0.52) for t in range(20)],
    ], np.float32)  # fmt: skip
    tracks = linked(paths)
    assert len(tracks) == 2 and switches(tracks, paths) == 0


def test_one_hides_the_other_while_they_cross():
    paths = np.array(
        [[square(0.1 + 0.03 * t, 0.5) for t in range(25)], [square(0.85 - 0.03 * t, 0.5) for t in range(25)]]
    )
    hidden = np.abs(paths[0, :, 0] - paths[1, :, 0]) < 0.08
    paths[1][hidden] = 0
    tracks = linked(paths.astype(np.float32))
    assert hidden.sum() >= 2 and len(tracks) == 2 and switches(tracks, paths.astype(np.float32)) == 0


@pytest.mark.parametrize(("gap", "count"), [(6, 1), (5, 1), (4, 2)])
def test_identity_is_kept_over_gaps_of_so_many_frames(gap, count):
    path = np.array([square(0.1 + 0.02 * t, 0.5) for t in range(20)], np.float32)
    path[8:13] = 0  # 5 frames
    tracks = linked([path], gap=gap)
    assert len(tracks) == count
    np.testing.assert_array_equal(sum(track.boxes for track in tracks), path)
    assert not any(track.visible[8:13].any() or track.scores[8:13].any() for track in tracks)


def test_labels_are_never_mixed():
    detections = [frame([square(0.5, 0.5)], labels=["dog" if t % 2 else "cat"]) for t in range(6)]
    tracks = link(None, detections, gap=3)
    assert [(t.label, int(t.visible.sum())) for t in tracks] == [("cat", 3), ("dog", 3)]


def test_low_scores_continue_a_track_and_start_none():
    scores = [0.9, 0.9, 0.2, 0.3, 0.9]
    detections = [frame([square(0.5, 0.5), square(0.1, 0.1)], [s, 0.3]) for s in scores]
    (track,) = link(None, detections)
    np.testing.assert_allclose(track.scores, scores, atol=1e-6)
    (track,) = link(None, detections, low=0.5)
    np.testing.assert_allclose(track.scores, [0.9, 0.9, 0, 0, 0.9], atol=1e-6)


def test_a_fast_object_is_followed_without_overlap():
    """It moves by 0.9 of its side a frame; the first step is found by enlarged boxes, the others by its velocity."""
    paths = np.array([[square(0.05 + 0.09 * t, 0.5) for t in range(10)]], np.float32)
    tracks = linked(paths)
    assert len(tracks) == 1 and switches(tracks, paths) == 0


def test_a_camera_that_pans():
    """Objects jump by their own size between frames, because the camera turns; its motion is taken out."""
    step = np.array([-14, 0, 12, -10, 13, 0, -12, 11, -13, 12])
    wide = textured.texture(120, 500, 0)
    offset = 150 + np.cumsum(step)
    frames = [wide[:, x : x + 200].copy() for x in offset]
    places = [(230, 40), (246, 40), (300, 90)]
    paths = np.zeros((3, len(step), 4), np.float32)
    for t, x in enumerate(offset):
        for i, (px, py) in enumerate(places):
            cv2.circle(frames[t], (int(px - x), py), 6, (255, 40 * i, 0), -1)
            paths[i, t] = np.array([px - x - 7, py - 7, px - x + 7, py + 7]) / [200, 120, 200, 120]
    detections = [frame(paths[:, t]) for t in range(len(step))]
    with_motion, without = link(frames, detections), link(None, detections)
    assert len(with_motion) == 3 and switches(with_motion, paths) == 0
    assert switches(without, paths) > 0


def test_the_result_does_not_depend_on_chance():
    rng = np.random.default_rng(3)
    detections = [frame([square(*rng.uniform(0.1, 0.9, 2), 0.3) for _ in range(6)]) for _ in range(12)]
    frames, _ = textured.video(12, (60, 80), (2, 1), [])
    one, other = link(frames, detections), link(frames, detections)
    assert len(one) == len(other) and all((a.boxes == b.boxes).all() for a, b in zip(one, other))
    assert sum(track.visible.sum() for track in one) == 72  # each detection is in one track


def test_short_tracks_and_empty_videos():
    detections = [frame([square(0.5, 0.5)]), frame([]), frame([square(0.5, 0.5), square(0.1, 0.9)])]
    assert len(link(None, detections)) == 2 and len(link(None, detections, shortest=2)) == 1
    assert link(None, []) == [] and link(None, [frame([])] * 3) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gap": -1}, "gap=-1"),
        ({"low": 0.7}, "low=0.7"),
        ({"overlap": 0.0}, "overlap=0.0"),
        ({"shortest": 0}, "shortest=0"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        link(None, [frame([])], **settings)


def test_bad_detections():
    with pytest.raises(ValueError, match="1 frames and 2 detections"):
        link([np.zeros((4, 4, 3), np.uint8)], [frame([]), frame([])])
    with pytest.raises(ValueError, match="frame 1: expected finite boxes"):
        link(None, [frame([]), frame([[0, 0, np.nan, 1]])])
    with pytest.raises(ValueError, match="frame 0"):
        link(None, [Detections(np.zeros((2, 4)), np.zeros(1), ("a", "b"))])


def test_many_detections_end_soon():
    rng = np.random.default_rng(0)
    detections = [frame(rng.uniform(0, 1, (300, 4))) for _ in range(4)]  # three quarters of the boxes have no area
    real = sum((d.boxes[:, 2:] > d.boxes[:, :2]).all(1).sum() for d in detections)
    assert sum(track.visible.sum() for track in link(None, detections)) == real > 200
