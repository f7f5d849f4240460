"""JSON lines about videos: tracks, masks and RLEs by frame, and faulty lines."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dtr1_jax.data import image_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import jsonl, jsonl_video
from dtr1_jax.twin import masks

W, H, FRAMES = 20, 10, 12


@pytest.fixture
def data(tmp_path):
    """Writes lines beside a folder of 12 frames of 20 x 10 pixels, and opens them as a source."""
    (tmp_path / "video").mkdir()
    for k in range(FRAMES):
        Image.new("RGB", (W, H), (20 * k, 0, 0)).save(tmp_path / "video" / f"{k:03}.png")

    def write(*rows, split="train", **more):
        file = tmp_path / "data.jsonl"
        file.write_text("\n".join(map(json.dumps, rows)))
        return jsonl.open_jsonl_source(str(file), split, "segmentation", **({"max_objects": 7} | more))

    write.folder = tmp_path
    return write


def line(**fields):
    return {"video": "video", "query": "what rolls"} | fields


MOVES = {"0": [0, 0, 4, 10], "11": [11, 0, 15, 10]}


def test_tracks_are_interpolated_at_frames_that_are_even(data):
    example = data(line(tracks=[MOVES], id="roll"))[0]
    (video,) = example.visuals
    assert video.index.tolist() == [0, 2, 3, 5, 6, 8, 9, 11] and video.total == FRAMES
    assert video.frames[:, 0, 0, 0].tolist() == [20 * k for k in video.index]
    target = example.target
    assert target.masks.shape == (8, H, W) and target.tracks.shape == (1, 8, 4) and target.labelled is None
    for k, number in enumerate(video.index):
        np.testing.assert_allclose(target.tracks[0, k], [number / W, 0, (number + 4) / W, 1], rtol=1e-6)
        assert np.flatnonzero(target.masks[k].any(0)).tolist() == list(range(number, number + 4))
    np.testing.assert_array_equal(target.mask, target.masks[0])
    np.testing.assert_allclose(target.boxes, target.tracks[:, 0])
    assert (example.uid, example.task, example.answer_ids) == ("roll", "segmentation", None)


def test_answers_in_words_and_fewer_frames(data):
    row = line(answers=["yes"], task="vqa", objects=[{"label": "ball", "track": MOVES}])
    example = data(row, frames=3)[0]
    assert example.visuals[0].index.tolist() == [0, 6, 11] and example.image.shape == (H, W, 3)
    assert example.target.references == ("yes",) and example.target.masks is None and example.target.tracks is None
    assert not example.target.mask.any() and example.answer_ids is None
    assert example.scene[0].boxes.shape == (3, 4)
    with pytest.raises(DataError, match="answers for vqa and summary, one of tracks, masks, rles for other"):
        data(line(tracks=[MOVES], task="summary"))


def test_hidden_and_outside_the_picture(data):
    track = {"0": [0, 0, 4, 4], "2": None, "4": [10, 0, 14, 4], "8": [26, 0, 30, 4]}
    example = data(line(tracks=[track], frames=[1, 2, 3, 4, 6, 7]))[0]
    visible = example.target.tracks[0, :, 2] > 0
    assert visible.tolist() == [True, False, False, True, True, False]  # at 7 it is at x = 22
    np.testing.assert_allclose(example.target.tracks[0, 4], [0.9, 0, 1, 0.4])  # cut at the edge
    assert (example.target.masks.any((1, 2)) == visible).all()


@pytest.mark.parametrize("target_field", [{"masks": {"3": "a.png", "9": "b.png"}}, {"rles": None}])
def test_masks_by_frame(data, target_field):
    left, right = np.zeros((2, H, W), bool)
    left[:, :5], right[:5, 10:] = True, True
    for name, mask in (("a", left), ("b", right)):
        Image.fromarray(mask.astype(np.uint8) * 255).save(data.folder / f"{name}.png")
    if "rles" in target_field:
        left_rle, right_rle = (
            {"size": [H, W], "counts": masks.encode(m)["counts"].decode()} for m in (left, right)
        )  # fmt: skip
        target_field = {"rles": {"3": left_rle, "9": [right_rle]}}
    example = data(line(**target_field))[0]
    assert example.visuals[0].index.tolist() == [3, 9] and example.target.labelled.tolist() == [True, True]
    np.testing.assert_array_equal(example.target.masks, [left, right])
    np.testing.assert_array_equal(example.target.tracks, [[[0, 0, 0.25, 1], [0.5, 0, 1, 0.5]]])
    between = data(line(**target_field, frames=[0, 3, 5, 9]))[0]
    assert between.target.labelled.tolist() == [False, True, False, True]
    np.testing.assert_array_equal(between.target.masks[[0, 2]], np.zeros((2, H, W), bool))


def test_objects_keep_their_place_in_lists_of_rles(data):
    one = {"size": [H, W], "counts": [0, 50, 150]}
    two = {"size": [H, W], "counts": [100, 100]}
    example = data(line(rles={"0": [one, two], "4": [None, two]}))[0]
    np.testing.assert_array_equal(example.target.tracks[:, :, 2] > 0, [[True, False], [True, True]])
    assert example.target.masks.sum((1, 2)).tolist() == [150, 100]
    nothing = data(line(rles={"0": []}))[0].target
    assert nothing.tracks.shape == (0, 1, 4) and not nothing.masks.any() and nothing.labelled.all()


def test_no_tracks_and_an_empty_mask(data):
    target = data(line(tracks=[]))[0].target
    assert target.tracks.shape == (0, 8, 4) and target.masks.shape == (8, H, W) and not target.masks.any()
    Image.new("L", (W, H)).save(data.folder / "empty.png")
    assert data(line(masks={"0": "empty.png"}))[0].target.tracks.shape == (0, 1, 4)


OBJECTS = [
    {"label": "ball", "track": MOVES, "attributes": ["red"]},
    {"label": "box", "box": [14, 4, 20, 10]},
    {"label": "fly", "track": {"1": [0, 0, 2, 2]}},  # in no sampled frame
]


def test_a_scene_and_its_answer(data):
    example = data(line(objects=OBJECTS, tracks=[MOVES]))[0]
    assert [(o.id, o.label, o.attributes) for o in example.scene] == [(1, "ball", ("red",)), (2, "box", ())]
    ball, box = example.scene
    assert ball.boxes.shape == (8, 4) and ball.masks.shape == (8, H, W)
    np.testing.assert_array_equal(ball.box, ball.boxes[0])
    np.testing.assert_allclose(box.boxes, [[0.7, 0.4, 1, 1]] * 8)
    assert example.answer_ids == (1,)
    assert data(line(objects=OBJECTS, tracks=[]))[0].answer_ids == ()
    other = {"0": [0, 0, 4, 10], "11": [11, 0, 15, 9]}
    assert data(line(objects=OBJECTS, tracks=[other]))[0].answer_ids is None
    assert [o.label for o in data(line(objects=OBJECTS, tracks=[]), max_objects=1)[0].scene] == ["ball"]


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (line(tracks=[MOVES], image="a.png"), "image, video: expected one of them, got both"),
        (line(tracks=[MOVES], video=" "), "video: expected a string that is not blank"),
        (line(), "target: expected exactly one of tracks, masks, rles, answers, got none of them"),
        (line(boxes=[[0, 0, 1, 1]]), "target: expected exactly one of tracks, masks, rles, answers, got none of them"),
        (line(tracks=[MOVES], masks={"0": "a"}), "target: expected exactly one of"),
        (line(tracks=[{}]), "tracks: expected a list of"),
        (line(tracks=[{"4": [0, 0, 1, 1], "0": [0, 0, 1, 1]}]), "tracks: expected"),  # ends before it begins
        (line(tracks=[{"0": None, "4": [0, 0, 1, 1]}]), "tracks: expected"),
        (line(tracks=[{"0": [0, 0, 0, 1]}]), "tracks: expected"),
        (line(tracks=[{"-1": [0, 0, 1, 1]}]), "tracks: expected"),
        (line(tracks=[{"9" * 99: [0, 0, 1, 1]}]), "tracks: expected"),
        (line(masks={"0": 3}), "masks: expected an object of frame numbers and paths"),
        (line(masks={}), "masks: expected"),
        (line(rles={"0": {"size": [1, 1]}}), "rles: expected"),
        (line(rles={"0": None}), "rles: expected"),
        (line(tracks=[], frames=[3, 1]), "frames: expected a list of ascending frame numbers"),
        (line(tracks=[], frames=[0.0]), "frames: expected"),
        (line(tracks=[], frames=[-1]), "frames: expected"),
        (line(tracks=[], frames=list(range(300))), "frames: expected"),
        (line(tracks=[], objects=[{"label": "a", "box": [0, 0, 1, 1], "track": MOVES}]), r"objects\[0\]: expected"),
        (line(tracks=[], objects=[{"label": "a"}]), r"objects\[0\]: expected a label, a box or track"),
        (line(tracks=[], objects=[{"track": MOVES}]), r"objects\[0\]: expected"),
    ],
)
def test_faults_of_lines_are_named(data, row, fault):
    with pytest.raises(DataError, match=rf"data\.jsonl:1: {fault}"):
        data(row)


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        (line(tracks=[], video="nothing.mp4"), "no such file"),
        (line(tracks=[], frames=[0, 12]), "expected a frame number 12, got a video of 12 frames"),
        (line(tracks=[{"0": [30, 0, 40, 10]}]), "data.jsonl:1: expected tracks in the picture of 20 x 10"),
        (
            line(tracks=[MOVES, {"12": [0, 0, 4, 4], "20": [0, 0, 4, 4]}]),
            "data.jsonl:1: tracks[1]: begins at frame 12, but the video's last is 11",
        ),
        (line(masks={"0": "small.png"}), "masks.0: expected the size of the frames, 20 x 10 pixels, got 3 x 4"),
        (line(masks={"0": "gone.png"}), "gone.png"),
        (line(rles={"2": {"size": [3, 4], "counts": [12]}}), "rles.2: expected the size of the frames"),
        (line(rles={"2": {"size": [H, W], "counts": "~~"}}), "data.jsonl:1"),
        (line(masks={"0": "small.png"}, frames=[1]), "frames: expected a frame that has masks, got none"),
    ],
)  # fmt: skip
def test_faults_of_files_cost_one_example(data, row, fault):
    Image.new("L", (3, 4)).save(data.folder / "small.png")
    with pytest.raises(image_files.ImageError) as error:
        data(row)[0]
    assert fault in str(error.value)


def test_frames_of_different_sizes_and_a_video_of_one_frame(data):
    before = data(line(tracks=[MOVES]))[0]
    Image.new("RGB", (W, H + 1)).save(data.folder / "video" / "005.png")
    example = data(line(tracks=[MOVES]))[0]
    assert example.visuals[0].frames.shape == before.visuals[0].frames.shape
    np.testing.assert_array_equal(example.target.tracks, before.target.tracks)
    (data.folder / "one").mkdir()
    Image.new("RGB", (W, H)).save(data.folder / "one" / "0.jpg")
    example = data(line(tracks=[MOVES], video="one"))[0]
    assert example.visuals[0].frames.shape == (1, H, W, 3) and example.target.tracks.shape == (1, 1, 4)


KEYS = st.sampled_from("0 4 11 a -1".split())
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@settings(deadline=None, max_examples=100)
@given(JSON)
def test_no_value_raises_at_opening(value):
    for form in jsonl_video.FORMS:
        assert jsonl_video.FORMS[form][0](value) in (True, False)
    assert jsonl_video.are_frames(value) in (True, False) and jsonl_video.is_object(value) in (True, False)
    assert jsonl_video.is_object({"label": "a", "track": value}) in (True, False)
