"""Objects over time: faults of tracks are named, keyframes agree with the boxes between them, text is compact."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.rewards import answer_regions
from dtr1_jax.twin import strict_json, tracks
from dtr1_jax.twin.coordinates import Canvas, Frame, to_unit
from dtr1_jax.twin.schema import MAX_KEYFRAMES, Answer, Object, Twin, read_twin
from dtr1_jax.twin.text import TOLERANCE, dumps_twin, from_scene
from dtr1_jax.twin.transcript import compose, parse
from dtr1_jax.types import Example, Instance, Target

SIZE, LIMIT, FRAMES = (64, 48), (1000, 1000), (0, 4, 8)
CANVAS = Canvas(Frame.NORM1000, SIZE, FRAMES)


def video_value():
    return {
        "size": [64, 48],
        "frames": [0, 4, 8],
        "objects": [
            {"id": 1, "label": "mug", "box": [0, 0, 1000, 1000], "depth": 3},
            {"id": 5, "label": "key", "track": {"0": [0, 0, 10, 10], "4": None, "8": [80, 0, 90, 10]},
             "velocity": [40, -1]},
        ],
    }  # fmt: skip


def places(value, frames=FRAMES):
    twin, faults = read_twin(value, size=SIZE, limit=LIMIT, frames=frames)
    assert (twin is None) == bool(faults)
    return [fault.where for fault in faults]


def test_sound_video_twin_and_its_text():
    twin, faults = read_twin(video_value(), size=SIZE, limit=LIMIT, frames=FRAMES)
    assert not faults
    key = Object(5, "key", None, track=((0, (0, 0, 10, 10)), (4, None), (8, (80, 0, 90, 10))), velocity=(40, -1))
    assert twin == Twin(SIZE, (Object(1, "mug", (0, 0, 1000, 1000), 3), key), frames=FRAMES)
    assert dumps_twin(twin) == (
        '{"size":[64,48],"frames":[0,4,8],"objects":[{"id":1,"label":"mug","box":[0,0,1000,1000],"depth":3},'
        '{"id":5,"label":"key","track":{"0":[0,0,10,10],"4":null,"8":[80,0,90,10]},"velocity":[40,-1]}]}'
    )
    text = compose(twin, "so", Answer(objects=(5,)))
    assert parse(text, task="segmentation", canvas=CANVAS).twin == twin
    assert "twin" in [f.where for f in parse(text, task="segmentation", canvas=Canvas(Frame.NORM1000, SIZE)).faults]


TRACK = "twin.objects[1].track"


@pytest.mark.parametrize(
    ("key", "value", "where"),
    [
        ("track", {}, TRACK),
        ("track", [], TRACK),
        ("track", None, TRACK),
        ("track", {"4": [0, 0, 10, 10], "0": [0, 0, 10, 10]}, f"{TRACK}.0"),  # ends before it begins
        ("track", {"0": [0, 0, 10, 10], "5": [0, 0, 10, 10]}, f"{TRACK}.5"),
        ("track", {"0": [0, 0, 10, 10], "-4": [0, 0, 10, 10]}, TRACK),
        ("track", {"00": [0, 0, 10, 10]}, TRACK),
        ("track", {"4.0": [0, 0, 10, 10]}, TRACK),
        ("track", {"\u0664": [0, 0, 10, 10]}, TRACK),  # a digit, but not one of ours
        ("track", {"9" * 5000: [0, 0, 10, 10]}, TRACK),
        ("track", {"0": None, "4": [0, 0, 10, 10]}, f"{TRACK}.0"),
        ("track", {"0": [0, 0, 10, 10], "4": None}, f"{TRACK}.4"),
        ("track", {"0": [0, 0, 10]}, f"{TRACK}.0"),
        ("track", {"0": [0, 0, 10, 1001]}, f"{TRACK}.0[3]"),
        ("track", {"0": [-1, 0, 10, 10]}, f"{TRACK}.0[0]"),
        ("track", {"0": [10, 0, 10, 10]}, f"{TRACK}.0"),
        ("track", {"0": strict_json.Refused("a key that occurs 2 times")}, f"{TRACK}.0"),
        ("velocity", [1], "twin.objects[1].velocity"),
        ("velocity", None, "twin.objects[1].velocity"),
        ("velocity", [1.0, 0], "twin.objects[1].velocity[0]"),
        ("velocity", [0, -1001], "twin.objects[1].velocity[1]"),
        ("velocity", [10**4000, 0], "twin.objects[1].velocity[0]"),
        ("box", [0, 0, 1, 1], "twin.objects[1]"),  # one or the other
    ],
)
def test_one_fault_of_a_track_and_its_place(key, value, where):
    twin = video_value()
    twin["objects"][1][key] = value
    assert places(twin) == [where]


def test_faults_of_frames():
    for value in ([0, 4], [0, 4, 8.0], [False, 4, 8], "0,4,8", None, [8, 4, 0]):
        assert places(video_value() | {"frames": value}) == ["twin.frames"]
    without = video_value()
    del without["frames"]
    assert places(without) == ["twin.frames"]
    assert places(video_value() | {"more": 0}) == places(video_value() | {"more": "2"}) == ["twin.more"]
    assert not places(video_value() | {"more": 2})
    neither = video_value()
    del neither["objects"][1]["track"], neither["objects"][1]["velocity"]
    assert places(neither) == ["twin.objects[1].box"]
    neither["objects"][0]["velocity"] = [0, 0]
    assert places(neither) == ["twin.objects[0].velocity", "twin.objects[1].box"]


def test_a_picture_has_no_tracks():
    assert places(video_value(), frames=()) == [
        "twin", "twin.objects[1]", "twin.objects[1]", "twin.objects[1].box"
    ]  # fmt: skip


def test_every_fault_of_a_track_is_found():
    twin = video_value()
    twin["objects"][1]["track"] = {"8": None, "4": [1], "x": 3, "5": [0, 0, 10, -1]}
    assert places(twin) == [
        f"{TRACK}.8", f"{TRACK}.4", f"{TRACK}.4", TRACK, f"{TRACK}.5", f"{TRACK}.5[3]",
    ]  # fmt: skip


def test_a_video_of_one_frame_and_too_many_keyframes():
    one = {"size": [64, 48], "frames": [3], "objects": [{"id": 1, "label": "a", "track": {"3": [0, 0, 1, 1]}}]}
    assert not places(one, frames=(3,))
    frames = tuple(range(MAX_KEYFRAMES + 1))
    many = {str(i): [0, 0, 1, 1] for i in frames}
    value = one | {"frames": list(frames), "objects": [{"id": 1, "label": "a", "track": many}]}
    assert places(value, frames=frames) == ["twin.objects[0].track"]


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
    | st.builds(lambda: 10**5000) | st.just(strict_json.Refused("NaN")) | st.just(object()),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(
        st.sampled_from(["id", "label", "box", "track", "velocity", "frames", "0", "4", "8", "-1", "00"])
        | st.integers() | st.none() | st.text(), inner, max_size=6),
    max_leaves=25,
)  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(ANYTHING, st.sampled_from([(), (0,), FRAMES]))
def test_no_value_raises(value, frames):
    places({"size": [64, 48], "frames": value, "objects": value, "more": value}, frames)
    item = {"id": 1, "label": "a", "track": value, "velocity": value}
    places({"size": [64, 48], "frames": list(frames), "objects": [item, {"track": {"0": value, "4": value}}]}, frames)


@pytest.mark.parametrize("frames", [[0, 4], (4, 0), (0, 0), (-1, 2), (0, 1.0), (True,)])
def test_canvas_refuses_frames(frames):
    with pytest.raises(ValueError, match=r"Canvas\.frames"):
        Canvas(Frame.PIXEL, (4, 4), frames)


def test_interpolation_by_hand():
    track = ((2, (0, 0, 10, 10)), (6, (8, 4, 18, 18)), (7, None), (9, (50, 0, 60, 10)))
    assert tracks.interpolate(track, 3) == (2, 1, 12, 12)
    assert tracks.interpolate(track, 2) == (0, 0, 10, 10) and tracks.interpolate(track, 6) == (8, 4, 18, 18)
    assert tracks.interpolate(track, 6.5) == (8, 4, 18, 18)  # holds until it is out of sight
    assert [tracks.interpolate(track, f) for f in (1, 7, 8, 8.9, 10)] == [None] * 5
    assert tracks.interpolate(track, 9) == (50, 0, 60, 10)
    item = Object(1, "a", None, track=track)
    visible = [frame for frame, box in enumerate(tracks.boxes(item, range(12))) if box is not None]
    assert visible == [2, 3, 4, 5, 6, 9] and tracks.boxes(item, [0, 7]) == [None, None]
    assert tracks.boxes(Object(1, "a", (1, 2, 3, 4)), [0, 5]) == [(1, 2, 3, 4)] * 2


def test_the_twin_of_one_frame():
    moving = Object(1, "a", None, 2, track=((0, (0, 0, 10, 10)), (8, (7, 0, 17, 10))), velocity=(3, 0))
    late = Object(2, "b", None, track=((8, (0, 0, 1, 1)),))
    twin = Twin(SIZE, (moving, late, Object(3, "c", (5, 5, 6, 6))), ((1, "near", 2), (1, "near", 3)), FRAMES, 4)
    assert tracks.at_frame(twin, 4) == Twin(
        SIZE, (Object(1, "a", (4, 0, 14, 10), 2), Object(3, "c", (5, 5, 6, 6))), ((1, "near", 3),), (), 4
    )
    picture = Twin(SIZE, (Object(3, "c", (5, 5, 6, 6)),))
    assert tracks.at_frame(picture, 4) is picture and tracks.first_frame(picture) is picture
    transcript = parse(compose(twin, "", Answer(objects=(2, 1))), task="segmentation", canvas=CANVAS)
    np.testing.assert_allclose(answer_regions.boxes_of(transcript, CANVAS), [[0, 0, 0.01, 0.01]])  # 2 is not there yet


def test_velocity_is_a_mean_over_the_frames_in_sight():
    assert tracks.velocity([None, (0, 0, 2, 2), None, (6, 2, 8, 4), None]) == (3, 1)
    assert tracks.velocity([None, (0, 0, 2, 2)]) == tracks.velocity([None]) == (0, 0)


def test_keyframes_by_hand():
    straight = [(k, 0, k + 10, 10) for k in range(8)]
    assert tracks.keyframes(straight, range(8), 0.1) == ((0, (0, 0, 10, 10)), (7, (7, 0, 17, 10)))
    bounce = [(min(k, 8 - k), 0, min(k, 8 - k) + 10, 10) for k in range(9)]
    assert [frame for frame, _ in tracks.keyframes(bounce, range(9), 0.1)] == [0, 4, 8]
    hidden = [None, *straight[:2], None, None, straight[4], None]
    assert [(f, box is None) for f, box in tracks.keyframes(hidden, range(7), 0.1)] == [
        (1, False), (2, False), (3, True), (5, False),
    ]  # fmt: skip
    assert tracks.keyframes([None, None], [0, 1], 0.1) == () == tracks.keyframes([], [], 0.1)


@st.composite
def paths(draw):
    numbers = draw(st.lists(st.integers(0, 400), min_size=1, max_size=12, unique=True).map(sorted))
    corner = st.integers(0, 900)
    path_boxes = [
        draw(st.none() | st.tuples(corner, corner).map(lambda p: (*p, p[0] + 9, p[1] + 9))) for _ in numbers
    ]  # fmt: skip
    return numbers, path_boxes, draw(st.sampled_from([0, 15, 300]))


@settings(deadline=None, max_examples=200)
@given(paths())
def test_keyframes_keep_presence_and_are_within_the_tolerance(case):
    numbers, path_boxes, tolerance = case
    track = tracks.keyframes(path_boxes, numbers, tolerance)
    assert [f for f, _ in track] == sorted({f for f, _ in track}) and {f for f, _ in track} <= set(numbers)
    if track:
        assert track[0][1] is not None and track[-1][1] is not None
    for frame, box in zip(numbers, path_boxes):
        actual = tracks.interpolate(track, frame)
        assert (actual is None) == (box is None)
        if box is not None:
            assert np.abs(np.subtract(actual, box)).max() <= tolerance + 1e-9


def moving(number, boxes, **more):
    boxes = np.array([(0, 0, 0, 0) if box is None else box for box in boxes], float)
    mask = np.zeros((len(boxes), 2, 2), bool)
    return Instance(number, "mug", tuple(boxes[0]), mask[0], boxes=boxes, masks=mask, **more)


def test_from_scene_of_a_video():
    row = [(0.1 + 0.1 * k, 0.2, 0.2 + 0.1 * k, 0.4) for k in range(3)]
    scene = (
        moving(1, row),
        moving(2, [row[0], row[0], (0.101, 0.2, 0.21, 0.4)], depth=2, attributes=("red",)),  # within the tolerance
        moving(3, [None, row[1], None]),
        moving(4, [None] * 3),
        moving(5, [row[0], None, row[2]], velocity=(-0.5, 9.0)),
        Instance(6, "key", row[0], np.zeros((2, 2), bool)),
    )
    twin = from_scene(scene, CANVAS)
    assert twin.objects == (
        Object(1, "mug", None, track=((0, (100, 200, 200, 400)), (8, (300, 200, 400, 400))), velocity=(100, 0)),
        Object(2, "mug", (100, 200, 200, 400), 2, ("red",)),
        Object(3, "mug", None, track=((4, (200, 200, 300, 400)),), velocity=(0, 0)),
        Object(5, "mug", None, track=((0, (100, 200, 200, 400)), (4, None), (8, (300, 200, 400, 400))),
               velocity=(-500, 1000)),
        Object(6, "key", (100, 200, 200, 400)),
    )  # fmt: skip
    assert twin.frames == FRAMES
    assert read_twin(json.loads(dumps_twin(twin)), size=SIZE, limit=LIMIT, frames=FRAMES) == (twin, ())
    with pytest.raises(ValueError, match="expected boxes for the 3 frames of the video, got 2"):
        from_scene([moving(1, row[:2])], CANVAS)


@settings(deadline=None, max_examples=60)
@given(paths())
def test_tracks_of_from_scene_are_sound_and_near_the_boxes(case):
    numbers, path_boxes, _ = case
    unit = [box and tuple(v / 1000 for v in box) for box in path_boxes]
    canvas = Canvas(Frame.PIXEL, (700, 300), tuple(numbers))
    twin = from_scene([moving(1, unit)], canvas)
    assert read_twin(json.loads(dumps_twin(twin)), size=canvas.size, limit=canvas.limit, frames=canvas.frames)[0]
    for item in twin.objects:
        for actual, box in zip(tracks.boxes(item, numbers), unit):
            assert (actual is None) == (box is None)
            if box is not None:
                assert np.abs(np.subtract(to_unit(actual, canvas), box)).max() <= TOLERANCE + 1 / 300


def test_a_long_and_restless_track_is_cut_off_soundly():
    frames = tuple(range(2 * MAX_KEYFRAMES))
    blinking = [(0, 0, 0.1, 0.1) if k % 2 else None for k in frames]
    canvas = Canvas(Frame.NORM1000, SIZE, frames)
    twin = from_scene([moving(1, blinking)], canvas)
    assert len(twin.objects[0].track) <= MAX_KEYFRAMES
    assert not read_twin(json.loads(dumps_twin(twin)), size=SIZE, limit=LIMIT, frames=frames)[1]


def test_an_answer_over_tracks_is_resolved_without_raising():
    nothing = Target(np.zeros((4, 4), bool), np.zeros((0, 4), np.float32))
    blank = Example("", np.zeros((4, 4, 3), np.uint8), "it", "segmentation", nothing)
    late = Twin(SIZE, (Object(2, "b", None, track=((8, (0, 0, 1, 1)),)),), frames=FRAMES)
    transcript = parse(compose(late, "", Answer(objects=(2,))), task="segmentation", canvas=CANVAS)
    (outcome,) = answer_regions.outcomes([[transcript]], [blank], [CANVAS], lambda *a: [])[0]
    assert not outcome.failed and not outcome.mask.any() and len(outcome.boxes) == 0
