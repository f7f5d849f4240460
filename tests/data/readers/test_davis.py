"""Folders of videos with masks: what is found in them, what is asked, and what is wrong with them."""

import json
import re

import assets
import numpy as np
import pytest
from PIL import Image

from dtr1_jax.data import image_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.queries import motion
from dtr1_jax.data.readers import davis
from dtr1_jax.types import Example

W, H = 40, 30


def picture(file, values):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(file)


def clip(root, name, *tracks, frames=12, every=1, folders=("JPEGImages", "Annotations"), values=None):
    """A video of squares of 8 pixels whose left edges are `tracks`, one row of height 10 for each; None = not there."""
    for t in range(frames):
        mask = np.zeros((H, W), np.uint8)
        for k, xs in enumerate(tracks):
            if xs[t] is not None:
                mask[10 * k : 10 * k + 8, xs[t] : xs[t] + 8] = values[k] if values else k + 1
        picture(root / folders[0] / name / f"{t:05}.jpg", np.repeat(mask[..., None] * 60, 3, -1))
        if t % every == 0:
            picture(root / folders[1] / name / f"{t:05}.png", mask)


RIGHT = list(range(2, 26, 2))
GONE = [20] * 6 + [None] * 6
STILL = [30] * 12


def opened(root, split="train", **more):
    return davis.open_folder(str(root), split, "segmentation", **({"seed": 0, "max_objects": 7} | more))


@pytest.fixture
def several(tmp_path):
    for k in range(6):
        clip(tmp_path, f"camel-{k}", RIGHT, GONE, STILL)
    return tmp_path


def test_every_fifth_video_is_held_out(several):
    train, heldout = opened(several), opened(several, "heldout")
    assert len(train) == 5 * davis.QUERIES and len(heldout) == davis.QUERIES
    assert {heldout[i].uid for i in range(3)} == {f"davis/camel-4/{i}" for i in range(3)}
    assert repr(train) == repr(opened(several)) != repr(heldout) and len(repr(train)) < 500
    with pytest.raises(IndexError):
        heldout[len(heldout)]
    with pytest.raises(DataError, match="got 'test'"):
        opened(several, "test")


def test_examples_fit_the_masks_and_are_the_same_on_every_call(several):
    data, levels = opened(several), set()
    for i in range(0, len(data), 3):
        example = data[i]
        assert isinstance(example, Example) and example.query == data[i].query
        (shown,) = example.visuals
        t = len(shown.index)
        assert t == davis.FRAMES and shown.total == 12 and (np.diff(shown.index) > 0).all()
        np.testing.assert_array_equal(example.image, shown.frames[0])
        wanted = [thing for thing in example.scene if thing.id in example.answer_ids]
        assert example.target.masks.shape == (t, H, W) and example.target.tracks.shape == (len(wanted), t, 4)
        union = np.any([thing.masks for thing in wanted], 0) if wanted else np.zeros((t, H, W), bool)
        np.testing.assert_array_equal(example.target.masks, union)
        np.testing.assert_array_equal(example.target.mask, union[0])
        for k, number in enumerate(shown.index):
            np.testing.assert_allclose(
                example.scene[0].boxes[k], [RIGHT[number] / W, 0, (RIGHT[number] + 8) / W, 8 / H]
            )
        assert all(thing.label == "object" for thing in example.scene)
        levels.add(example.level)
    assert {1, 2} <= levels


def test_what_is_said_of_time_is_so(several):
    said = 0
    for split in ("train", "heldout"):
        data = opened(several, split)
        for i in range(len(data)):
            example = data[i]
            found = {thing.id: motion.measure_motion(thing) for thing in example.scene}
            how, ids = re.search(r"([a-z ]+?)((?: \d)+| none)\.$", example.thought).groups()
            how, ids = how.strip(), [int(n) for n in re.findall(r"\d", ids)]
            assert tuple(ids) == example.answer_ids
            if example.level == 1 and example.category == "temporal":
                right = {
                    "leaves": lambda m, t: m.last < t - 1, "enters": lambda m, t: m.first > 0,
                    "moves": lambda m, t: m.moves, "still": lambda m, t: not m.moves,
                    "stays": lambda m, t: m.visible.all(), "hidden": lambda m, t: m.hidden,
                    "turns": lambda m, t: m.turns, "moves right": lambda m, t: m.direction == "right",
                    "moves left": lambda m, t: False, "moves up": lambda m, t: False, "moves down": lambda m, t: False,
                }[how]  # fmt: skip
                assert ids == [n for n, m in found.items() if right(m, davis.FRAMES)]
                said += 1
    assert said > 10


def test_few_videos_share_their_queries(tmp_path):
    clip(tmp_path, "goat", RIGHT, values=[255])
    train, heldout = opened(tmp_path), opened(tmp_path, "heldout")
    assert (len(train), len(heldout)) == (8, 2)
    assert {train[i].scene[0].label for i in range(8)} == {"goat"}
    assert train[0].visuals[0].index.tolist() == [0, 2, 3, 5, 6, 8, 9, 11], "query 0 is about the whole video"


def test_sparse_masks_ask_for_one_object_and_count_frames_that_have_it(tmp_path):
    clip(tmp_path, "judo", RIGHT, [5] * 3 + [None] * 9, every=5, folders=("images", "masks"))
    data = opened(tmp_path)
    for i in range(len(data)):
        example = data[i]
        numbers = example.visuals[0].index
        assert {0, 5, 10} <= set(numbers.tolist()) and len(numbers) == davis.FRAMES
        (number,) = example.answer_ids
        assert example.query.find(f"object {number}") > 0
        expected = np.isin(numbers, [0, 5, 10] if number == 1 else [0])
        np.testing.assert_array_equal(example.target.labelled, expected)
        assert (example.target.masks.any((1, 2)) == expected).all()


def test_labels_and_the_480p_folders(tmp_path):
    for k in range(2):
        clip(tmp_path, f"480p/x{k}", RIGHT, STILL)
    (tmp_path / "labels.json").write_text(json.dumps({"x0": {"1": "dog", "2": "ball"}, "x1": {"1": "cat"}}))
    names = {tuple(thing.label for thing in e.scene) for e in map(opened(tmp_path).__getitem__, (0, 12))}
    assert names == {("dog", "ball"), ("cat", "object")}


def test_max_objects_keeps_the_largest_and_asks_by_name(tmp_path):
    clip(tmp_path, "x", RIGHT, GONE)
    example = opened(tmp_path, max_objects=1)[0]
    assert len(example.scene) == 1 and example.category == "semantic" and example.answer_ids == (1,)


def test_masks_that_nearly_fit_are_fitted_and_others_refused(tmp_path):
    clip(tmp_path, "a", RIGHT, frames=4)
    picture(tmp_path / "Annotations" / "a" / "00000.png", np.ones((H, W - 1), np.uint8))
    data = opened(tmp_path)
    assert data[0].target.masks.shape == (4, H, W)
    picture(tmp_path / "Annotations" / "a" / "00000.png", np.ones((H, W - 9), np.uint8))
    with pytest.raises(
        image_files.ImageError, match=r"00000\.png: expected a mask of the frame's size, 40 x 30 pixels, got 31"
    ):
        data[0]
    (tmp_path / "JPEGImages" / "a" / "00001.jpg").write_bytes(b"no picture")
    with pytest.raises(image_files.ImageError, match=r"00001\.jpg"):
        data[0]


def test_frames_of_different_sizes_are_brought_to_the_first_with_their_masks(tmp_path):
    clip(tmp_path, "a", RIGHT, frames=4)
    data = opened(tmp_path)
    before = data[0]
    owner = np.asarray(Image.open(tmp_path / "Annotations" / "a" / "00001.png"))
    picture(tmp_path / "Annotations" / "a" / "00001.png", owner.repeat(3, 0).repeat(2, 1))
    picture(tmp_path / "JPEGImages" / "a" / "00001.jpg", np.zeros((3 * H, 2 * W, 3), np.uint8))
    after = data[0]
    assert after.visuals[0].frames.shape == (4, H, W, 3)
    np.testing.assert_array_equal(after.target.masks, before.target.masks)
    np.testing.assert_array_equal(after.target.tracks, before.target.tracks)
    picture(tmp_path / "Annotations" / "a" / "00001.png", owner)  # the mask of the frame as it was
    with pytest.raises(
        image_files.ImageError, match=r"00001\.png: expected a mask of the frame's size, 80 x 90 pixels"
    ):
        data[0]


def test_empty_masks_and_one_frame(tmp_path):
    clip(tmp_path, "none", [None] * 4, frames=4)
    with pytest.raises(image_files.ImageError, match="expected an object in some mask"):
        opened(tmp_path)[2]
    clip(tmp_path / "one", "goat", RIGHT, frames=1)
    example = opened(tmp_path / "one")[0]
    assert example.target.masks.shape == (1, H, W) and example.query and example.answer_ids == (1,)


@pytest.mark.parametrize("value", ["[]", '{"a": ["dog"]}', '{"a": {"one": "dog"}}', '{"a": {"1": "<twin>"}}', "{"])
def test_bad_labels_are_refused(tmp_path, value):
    clip(tmp_path, "a", RIGHT)
    (tmp_path / "labels.json").write_text(value)
    with pytest.raises(DataError, match=r"labels\.json"):
        opened(tmp_path)


def test_folders_without_videos_are_refused(tmp_path):
    with pytest.raises(DataError, match="expected folders JPEGImages and Annotations or images and masks"):
        opened(tmp_path)
    (tmp_path / "JPEGImages" / "a").mkdir(parents=True)
    (tmp_path / "Annotations").mkdir()
    with pytest.raises(DataError, match="expected a video with a mask"):
        opened(tmp_path)


@pytest.mark.parametrize(("name", "clips"), [("davis2016_subset", 5), ("cutie_judo/examples", 1)])
def test_real_videos(name, clips):
    root = assets.path(name)
    train, heldout = opened(root), opened(root, "heldout")
    assert len(train) + len(heldout) == clips * davis.QUERIES
    for data in (train, heldout):
        example = data[len(data) - 1]
        h, w = example.image.shape[:2]
        assert (w, h) == (854, 480) or clips == 5
        assert example.target.masks.shape == (davis.FRAMES, h, w) and example.scene
        assert all(thing.boxes.any() for thing in example.scene)
