"""Detections of each frame become tracks: which detections are one object.

Each track is moved on by the camera's motion and by its own constant velocity, and then matched with the detections of
its label by the largest sum of IoUs (the Hungarian algorithm), in three rounds: first the detections with a high score,
then those with a low score (Zhang et al. 2022, ByteTrack, arXiv 2110.06864), and last what is left with enlarged boxes.
A track without a match waits for a number of frames and then ends.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from dtr1_jax.specialists.box_suppression import pairwise_iou
from dtr1_jax.specialists.findings import Detections, Track
from dtr1_jax.specialists.trackers import frame_motion

_GAIN = 0.4  # share of a new velocity in the velocity of a track
_SIZE_GAIN = 0.1  # the same for the change of its size, which detectors measure badly
_LARGER = 0.4  # by which boxes are enlarged on each side in the last round, as a share of their sides


@dataclasses.dataclass(eq=False)
class _Tracklet:
    """A track while it is made: its last box and velocity (per frame) as centre and size, and its boxes so far."""

    label: str
    state: np.ndarray  # float64[4]: cx, cy, w, h
    velocity: np.ndarray  # float64[4]
    last: int  # the frame in which it was last seen
    seen: dict[int, tuple[np.ndarray, float]]
    start: np.ndarray  # `state` when it was last seen, moved with the camera since


def link(
    frames: Sequence[np.ndarray] | None,
    detections: Sequence[Detections],
    *,
    gap: int = 15,
    high: float = 0.5,
    low: float = 0.1,
    overlap: float = 0.2,
    shortest: int = 1,
) -> list[Track]:
    """Links the detections of a video to tracks. The result does not depend on chance.

    Args:
      frames: T pictures uint8[h, w, 3], in which the camera's motion is measured; None = the camera stands still.
      detections: those of each frame, unit frame.
      gap: the largest number of frames without a detection that a track survives.
      high: score from which a detection starts a track, and is matched first.
      low: score from which a detection continues a track.
      overlap: the least IoU of a track's expected box and a detection.
      shortest: tracks with fewer detections are left out.

    Returns the tracks in the order of their first frames. Boxes without area are in no track.

    Raises ValueError: not as many frames as detections, a bound out of its range, or boxes that are not finite.
    """
    _check(frames, detections, gap, high, low, overlap, shortest)
    boxes = [d.boxes for d in detections]
    motions = np.tile(np.eye(3), (len(detections), 1, 1))
    if frames is not None:
        motions = frame_motion.homographies(frames, boxes)
    done: list[_Tracklet] = []
    active: list[_Tracklet] = []
    for t, found in enumerate(detections):
        for track in active:
            _move(track, motions[t])
        scores = np.where((found.boxes[:, 2:] > found.boxes[:, :2]).all(1), found.scores, -1)
        strong, weak = (
            np.flatnonzero(scores >= high).tolist(),
            np.flatnonzero((scores >= low) & (scores < high)).tolist(),
        )
        waiting = list(active)
        for rows, larger in ((strong, 0.0), (weak, 0.0), (strong, _LARGER)):
            for track, row in _matches(waiting, found, rows, overlap, larger):
                _see(track, t, found.boxes[row], float(scores[row]))
                waiting.remove(track)
                rows.remove(row)
        for row in strong:
            state = _state(found.boxes[row])
            new = _Tracklet(found.labels[row], state, np.zeros(4), t, {}, state)
            new.seen[t] = found.boxes[row], float(scores[row])
            active.append(new)
        done += [track for track in active if t - track.last > gap]
        active = [track for track in active if t - track.last <= gap]
    tracks = sorted(
        (track for track in done + active if len(track.seen) >= shortest), key=lambda track: min(track.seen)
    )
    return [_result(track, len(detections)) for track in tracks]


def _matches(
    tracks: list[_Tracklet], found: Detections, rows: list[int], overlap: float, larger: float
) -> list[tuple[_Tracklet, int]]:
    """The pairs of a track and a detection, of `rows`, with the largest sum of IoUs."""
    if not tracks or not rows:
        return []
    expected = _enlarged(np.stack([_box(track.state) for track in tracks]), larger)
    iou = pairwise_iou(expected, _enlarged(np.asarray(found.boxes, np.float64)[rows], larger))
    same = np.array([[track.label == found.labels[row] for row in rows] for track in tracks])
    # The track that was seen last comes first among equals, and a longer one before a shorter one.
    bonus = np.array([[1e-4 / (1 + found_ago) + 1e-6 * min(length, 50)] for found_ago, length in
                      ((max(t.last for t in tracks) - track.last, len(track.seen)) for track in tracks)])  # fmt: skip
    value = np.where(same & (iou >= overlap), iou + bonus, 0.0)
    pairs = zip(*linear_sum_assignment(-value))
    return [(tracks[i], rows[j]) for i, j in pairs if value[i, j] > 0]


def _move(track: _Tracklet, motion: np.ndarray) -> None:
    """Moves the expected place of a track on to the next frame."""
    track.start = _state(frame_motion.moved_box(_box(track.start), motion))
    moved = _state(frame_motion.moved_box(_box(track.state), motion)) + track.velocity
    moved[2:] = np.maximum(moved[2:], 0.25 * track.start[2:])
    track.state = moved


def _see(track: _Tracklet, t: int, box: np.ndarray, score: float) -> None:
    """Notes a detection: the velocity is the motion since the last one, beyond that of the camera."""
    state = _state(box)
    speed = (state - track.start) / (t - track.last)
    gain = np.array([_GAIN, _GAIN, _SIZE_GAIN, _SIZE_GAIN]) if len(track.seen) > 1 else np.array([1, 1, 0, 0])
    track.velocity = track.velocity + gain * (speed - track.velocity)
    track.state = track.start = state
    track.last = t
    track.seen[t] = box, score


def _state(box: np.ndarray) -> np.ndarray:
    x1, y1, x2, y2 = (float(v) for v in box)
    return np.array([(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1])


def _box(state: np.ndarray) -> np.ndarray:
    return np.concatenate([state[:2] - state[2:] / 2, state[:2] + state[2:] / 2])


def _enlarged(boxes: np.ndarray, share: float) -> np.ndarray:
    margin = share * (boxes[:, 2:] - boxes[:, :2])
    return np.concatenate([boxes[:, :2] - margin, boxes[:, 2:] + margin], 1)


def _result(track: _Tracklet, count: int) -> Track:
    boxes, scores = np.zeros((count, 4), np.float32), np.zeros(count, np.float32)
    for t, (box, score) in track.seen.items():
        boxes[t], scores[t] = box, score
    return Track(track.label, boxes, scores)


def _check(frames, detections, gap: int, high: float, low: float, overlap: float, shortest: int) -> None:
    if frames is not None and len(frames) != len(detections):
        raise ValueError(
            f"expected detections for each frame, got {len(frames)} frames and {len(detections)} detections"
        )
    if gap < 0 or shortest < 1 or not 0 <= low <= high <= 1 or not 0 < overlap <= 1:
        raise ValueError(
            "expected gap >= 0, shortest >= 1, 0 <= low <= high <= 1 and overlap in (0, 1], got "
            f"gap={gap}, shortest={shortest}, low={low}, high={high}, overlap={overlap}"
        )
    for t, found in enumerate(detections):
        count = len(found.labels)
        if np.shape(found.boxes) != (count, 4) or len(found.scores) != count or not np.isfinite(found.boxes).all():
            raise ValueError(f"frame {t}: expected finite boxes [n, 4] with n scores and labels, got {found}")
