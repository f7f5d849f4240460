"""Folders of videos with masks: splits, queries, sizes, labels and faulty files."""

import json
import pathlib
import re

import assets
import cv2
import numpy as np
import pytest
from PIL import Image

from dtr1_jax.data import image_files, json_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.queries import motion
from dtr1_jax.data.queries.phrases import SENTENCES
from dtr1_jax.data.readers import davis
from dtr1_jax.twin import programs, things
from dtr1_jax.types import Example

W, H = 40, 30


def write_picture(file, values):
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(file)


def write_video(root, name, *tracks, frames=12, every=1, folders=("JPEGImages", "Annotations"), values=None):
    """Writes a video of squares of 8 pixels, each in its own row of height 10; `tracks` are their left edges by frame,
    None where a square is absent."""
    for t in range(frames):
        mask = np.zeros((H, W), np.uint8)
        for k, xs in enumerate(tracks):
            if xs[t] is not None:
                mask[10 * k : 10 * k + 8, xs[t] : xs[t] + 8] = values[k] if values else k + 1
        write_picture(root / folders[0] / name / f"{t:05}.jpg", np.repeat(mask[..., None] * 60, 3, -1))
        if t % every == 0:
            write_picture(root / folders[1] / name / f"{t:05}.png", mask)


RIGHT = list(range(2, 26, 2))
GONE = [0] * 6 + [None] * 6  # at the left edge, and then gone
STILL = [30] * 12


def write_held_out(root, folders=("JPEGImages", "Annotations")):
    """Writes a second video, the last by name, which is held out, so that the first is not cut in time."""
    write_video(root, "zebra", STILL, folders=folders)


def open_source(root, split="train", **more):
    """The examples of a split, for segmentation."""
    return davis.open_davis_source(str(root), split, "segmentation", **({"seed": 0, "max_objects": 7} | more))


@pytest.fixture
def several(tmp_path):
    for k in range(6):
        write_video(tmp_path, f"camel-{k}", RIGHT, GONE, STILL)
    return tmp_path


def test_a_part_of_the_videos_is_held_out_by_name(several):
    train, heldout = open_source(several), open_source(several, "heldout")
    held = json_files.held_out_part(f"camel-{k}" for k in range(6))
    assert len(train) + len(heldout) == 6 * davis.QUERIES and len(heldout) == davis.QUERIES * len(held)
    assert {heldout[i].uid for i in range(len(heldout))} == {f"davis/{n}/{i}" for n in held for i in range(10)}
    assert repr(train) == repr(open_source(several)) != repr(heldout) and len(repr(train)) < 500
    with pytest.raises(IndexError):
        heldout[len(heldout)]
    with pytest.raises(DataError, match="got 'test'"):
        open_source(several, "test")


def test_examples_fit_the_masks_and_are_the_same_on_every_call(several):
    data, levels = open_source(several), set()
    for i in range(0, len(data), 3):
        example = data[i]
        assert isinstance(example, Example) and example.query == data[i].query
        (video,) = example.visuals
        t = len(video.index)
        assert t == davis.FRAMES and video.total == 12 and (np.diff(video.index) > 0).all()
        np.testing.assert_array_equal(example.image, video.frames[0])
        answer = [thing for thing in example.scene if thing.id in example.answer_ids]
        assert example.target.masks.shape == (t, H, W) and example.target.tracks.shape == (len(answer), t, 4)
        union = np.any([thing.masks for thing in answer], 0) if answer else np.zeros((t, H, W), bool)
        np.testing.assert_array_equal(example.target.masks, union)
        np.testing.assert_array_equal(example.target.mask, union[0])
        for k, number in enumerate(video.index):
            np.testing.assert_allclose(
                example.scene[0].boxes[k], [RIGHT[number] / W, 0, (RIGHT[number] + 8) / W, 8 / H]
            )
        assert all(thing.label == "object" for thing in example.scene)
        levels.add(example.level)
    assert {1, 2} <= levels


def test_thoughts_about_time_are_true(several):
    checked = 0
    for split in ("train", "heldout"):
        data = open_source(several, split)
        for i in range(len(data)):
            example = data[i]
            moves = {thing.id: motion.measure_motion(thing) for thing in example.scene}
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
                    "grows": lambda m, t: False, "shrinks": lambda m, t: False, "nearer": lambda m, t: False,
                }[how]  # fmt: skip
                assert ids == [n for n, m in moves.items() if right(m, davis.FRAMES)]
                checked += 1
    assert checked > 10


def test_nobody_asks_for_what_leaves_from_the_middle_of_the_picture(tmp_path):
    """It may be behind something; what leaves at the edge is asked for, and so is what grows."""
    for name, gone in (("a", [20] * 6 + [None] * 6), ("b", GONE)):
        write_video(tmp_path, name, RIGHT, gone, STILL)
    for t in range(12):  # a square that grows from 8 to 19 pixels
        mask = np.zeros((H, W), np.uint8)
        mask[8 : 16 + t, 12 : 20 + t] = 1
        write_picture(tmp_path / "JPEGImages" / "c" / f"{t:05}.jpg", np.repeat(mask[..., None] * 60, 3, -1))
        write_picture(tmp_path / "Annotations" / "c" / f"{t:05}.png", mask)
    write_held_out(tmp_path)
    asked: dict[str, set[str]] = {"a": set(), "b": set(), "c": set()}
    for seed in range(4):
        data = open_source(tmp_path, seed=seed)
        for i in range(len(data)):
            example = data[i]
            steps = [re.sub(r"( [0-9]|none)*$", "", step).strip() for step in example.thought.split(".")]
            asked[example.uid.split("/")[1]] |= {step for step in steps if step}
    presence = {"leaves", "stays", "first to leave", "last to leave"}
    assert not asked["a"] & presence and asked["a"] & {"moves", "still", "moves right"}
    assert {"leaves", "stays"} <= asked["b"] and asked["c"] & {"grows", "nearer"}


def test_the_name_of_a_video_is_no_label(tmp_path):
    write_video(tmp_path, "breakdance", RIGHT, values=[255])
    write_held_out(tmp_path)
    train, heldout = open_source(tmp_path), open_source(tmp_path, "heldout")
    assert (len(train), len(heldout)) == (10, 10)
    assert {train[i].scene[0].label for i in range(10)} == {"object"}
    assert not any("breakdance" in train[i].query for i in range(10))
    assert train[0].visuals[0].index.tolist() == [0, 2, 3, 5, 6, 8, 9, 11], "query 0 is about the whole video"


def test_sparse_masks_ask_by_label_and_count_frames_that_have_the_objects(tmp_path):
    write_video(tmp_path, "judo", RIGHT, [5] * 3 + [None] * 9, every=5, folders=("images", "masks"))
    write_held_out(tmp_path, ("images", "masks"))
    (tmp_path / "labels.json").write_text(json.dumps({"judo": {"1": "dog", "2": "ball"}}))
    data = open_source(tmp_path)
    for i in range(len(data)):
        example = data[i]
        numbers = example.visuals[0].index
        assert {0, 5, 10} <= set(numbers.tolist()) and len(numbers) == davis.FRAMES
        (number,) = example.answer_ids
        assert f"the {('dog', 'ball')[number - 1]}" in example.query
        expected = np.isin(numbers, [0, 5, 10] if number == 1 else [0])
        np.testing.assert_array_equal(example.target.labelled, expected)
        assert (example.target.masks.any((1, 2)) == expected).all()


def test_objects_without_labels_are_the_main_objects(tmp_path):
    write_video(tmp_path, "judo", RIGHT, [5] * 3 + [None] * 9, every=5, folders=("images", "masks"))
    write_held_out(tmp_path, ("images", "masks"))
    data = open_source(tmp_path)
    for i in range(len(data)):
        assert "every main object or group" in data[i].query and data[i].answer_ids == (1, 2) and not data[i].program
        np.testing.assert_array_equal(data[i].target.labelled, data[i].visuals[0].index == 0)
    heldout = open_source(tmp_path, "heldout")
    assert all("the main object or group" in heldout[i].query for i in range(10) if heldout[i].category == "semantic")


def test_masks_drawn_for_different_objects_give_those_of_one_mask(tmp_path):
    """The objects of another mask may be in this frame too, outside of its mask: "every" would be wrong in both."""
    write_video(tmp_path, "judo", RIGHT, [5] * 3 + [None] * 9, every=5, folders=("images", "masks"))
    write_held_out(tmp_path, ("images", "masks"))
    later = np.zeros_like(np.asarray(Image.open(tmp_path / "masks" / "judo" / "00005.png")))
    later[:4, :4] = 3
    Image.fromarray(later).save(tmp_path / "masks" / "judo" / "00005.png")
    data = open_source(tmp_path)
    for i in range(len(data)):
        example = data[i]
        assert len(example.scene) == 2 and example.answer_ids == (1, 2)
        np.testing.assert_array_equal(example.target.labelled, example.visuals[0].index == 0)


def test_sentences_ask_for_objects(several):
    for split in ("train", "heldout"):
        data = open_source(several, split)
        for i in range(len(data)):
            assert any(re.fullmatch(text.replace("{}", ".+"), data[i].query) for text in getattr(SENTENCES, split))
            assert "main object" in data[i].query and not re.search(r"thing|(?<!main )object", data[i].query)


PAN = [
    10 - t for t in range(12)
]  # left edge in the picture of an object that stands still, while the camera pans right


def write_pan(root, name, xs, texture=True):
    """A video of a square of 8 pixels before a world that moves left by a pixel a frame."""
    world = np.random.default_rng(0).integers(0, 256, (30, 60), np.uint8) if texture else np.zeros((30, 60), np.uint8)
    world = cv2.resize(cv2.resize(world, (20, 10)), (600, 300), interpolation=cv2.INTER_CUBIC)
    for t in range(12):
        picture, mask = world[:, 10 * t : 10 * t + 400].copy(), np.zeros((300, 400), np.uint8)
        mask[100:180, 10 * xs[t] : 10 * xs[t] + 80] = 1
        picture[mask > 0] = 255
        write_picture(root / "JPEGImages" / name / f"{t:05}.jpg", np.repeat(picture[..., None], 3, -1))
        write_picture(root / "Annotations" / name / f"{t:05}.png", mask)


def test_motion_is_judged_against_the_background(tmp_path):
    write_pan(tmp_path, "stands", PAN)
    write_pan(tmp_path, "followed", [16] * 12)
    (tmp_path / "labels.json").write_text(json.dumps({"stands": {"1": "tree"}, "followed": {"1": "dog"}}))
    for folder, moves in (("stands", False), ("followed", True)):
        checked = 0
        for split in ("train", "heldout"):
            data = open_source(tmp_path, split)
            for i in range(len(data)):
                if f"/{folder}/" not in data[i].uid or data[i].category != "temporal":
                    continue
                how = data[i].thought.partition(".")[0]
                if data[i].program:  # one of motion would measure it in the picture
                    assert data[i].program[0] == "stays" and data[i].thought.endswith("stays 1.")
                if how in ("still 1", "still none", "moves 1", "moves none", "moves right 1", "moves right none"):
                    assert (how.split()[0] == "moves") == (how.endswith("1") == moves), (folder, data[i].thought)
                    checked += 1
        assert checked, folder


def test_a_camera_that_cannot_be_followed_allows_no_queries_about_time(tmp_path):
    write_video(tmp_path, "camel", RIGHT)
    for t in range(12):  # another background in each frame
        file = tmp_path / f"JPEGImages/camel/{t:05}.jpg"
        write_picture(file, np.random.default_rng(t).integers(0, 256, (H, W, 3), np.uint8))
    write_held_out(tmp_path)
    data = open_source(tmp_path)
    assert {data[i].category for i in range(len(data))} == {"semantic"}


def test_labels_and_the_480p_folders(tmp_path):
    for k in range(2):
        write_video(tmp_path, f"480p/x{k}", RIGHT, STILL)
    write_held_out(tmp_path, ("JPEGImages/480p", "Annotations/480p"))
    (tmp_path / "labels.json").write_text(json.dumps({"x0": {"1": "dog", "2": "ball"}, "x1": {"1": "cat"}}))
    names = {tuple(thing.label for thing in e.scene) for e in map(open_source(tmp_path).__getitem__, (0, 12))}
    assert names == {("dog", "ball"), ("cat", "object")}


def test_max_objects_keeps_the_largest_and_asks_for_it(tmp_path):
    write_video(tmp_path, "x", RIGHT, GONE)
    example = open_source(tmp_path, max_objects=1)[0]
    assert len(example.scene) == 1 and example.category == "semantic" and example.answer_ids == (1,)
    assert "the largest main object" in example.query
    write_video(tmp_path, "y", RIGHT, [20] * 12, [30] * 12)  # three of one size, all with one label
    (tmp_path / "labels.json").write_text(json.dumps({"y": {"1": "dog", "2": "dog", "3": "dog"}}))
    with pytest.raises(image_files.ImageError, match=r"more objects of each label than data\.max_objects = 2"):
        list(open_source(tmp_path, "heldout", max_objects=2))


def test_masks_that_nearly_fit_are_fitted_and_others_refused(tmp_path):
    write_video(tmp_path, "a", RIGHT, frames=4)
    write_held_out(tmp_path)
    write_picture(tmp_path / "Annotations" / "a" / "00000.png", np.ones((H, W - 1), np.uint8))
    data = open_source(tmp_path)
    assert data[0].target.masks.shape == (4, H, W)
    write_picture(tmp_path / "Annotations" / "a" / "00000.png", np.ones((H, W - 9), np.uint8))
    with pytest.raises(
        image_files.ImageError, match=r"00000\.png: expected a mask of the frame's size, 40 x 30 pixels, got 31"
    ):
        data[0]
    (tmp_path / "JPEGImages" / "a" / "00001.jpg").write_bytes(b"no picture")
    with pytest.raises(image_files.ImageError, match=r"00001\.jpg"):
        data[0]


def test_frames_of_different_sizes_are_brought_to_the_first_with_their_masks(tmp_path):
    write_video(tmp_path, "a", RIGHT, frames=4)
    write_held_out(tmp_path)
    data = open_source(tmp_path)
    before = data[0]
    owner = np.asarray(Image.open(tmp_path / "Annotations" / "a" / "00001.png"))
    write_picture(tmp_path / "Annotations" / "a" / "00001.png", owner.repeat(3, 0).repeat(2, 1))
    write_picture(tmp_path / "JPEGImages" / "a" / "00001.jpg", np.zeros((3 * H, 2 * W, 3), np.uint8))
    after = data[0]
    assert after.visuals[0].frames.shape == (4, H, W, 3)
    np.testing.assert_array_equal(after.target.masks, before.target.masks)
    np.testing.assert_array_equal(after.target.tracks, before.target.tracks)
    write_picture(tmp_path / "Annotations" / "a" / "00001.png", owner)  # the mask of the frame as it was
    with pytest.raises(
        image_files.ImageError, match=r"00001\.png: expected a mask of the frame's size, 80 x 90 pixels"
    ):
        data[0]


def test_empty_masks_and_one_frame(tmp_path):
    write_video(tmp_path, "none", [None] * 4, frames=4)
    write_held_out(tmp_path)
    with pytest.raises(
        image_files.ImageError, match=r"none: expected an object in the mask of a frame among .* got only empty"
    ):
        open_source(tmp_path)[2]
    write_video(tmp_path / "one", "goat", RIGHT, frames=1)
    example = open_source(tmp_path / "one")[0]
    assert example.target.masks.shape == (1, H, W) and example.query and example.answer_ids == (1,)


@pytest.mark.parametrize("value", ["[]", '{"a": ["dog"]}', '{"a": {"one": "dog"}}', '{"a": {"1": "<twin>"}}', "{"])
def test_bad_labels_are_refused(tmp_path, value):
    write_video(tmp_path, "a", RIGHT)
    (tmp_path / "labels.json").write_text(value)
    with pytest.raises(DataError, match=r"labels\.json"):
        open_source(tmp_path)


def test_folders_without_videos_are_refused(tmp_path):
    with pytest.raises(
        DataError, match=r"expected folders JPEGImages and Annotations or images and masks.*their parent"
    ):
        open_source(tmp_path)
    for name in ("images", "masks"):
        (tmp_path / "examples" / name).mkdir(parents=True)
    with pytest.raises(DataError, match=r"set data\.root to \S*/examples, which has them"):
        open_source(tmp_path)
    (tmp_path / "JPEGImages" / "a").mkdir(parents=True)
    (tmp_path / "Annotations").mkdir()
    with pytest.raises(DataError, match="expected a video with a mask"):
        open_source(tmp_path)


def test_masks_of_colours_are_the_objects_of_a_palette(tmp_path):
    """The same videos with numbers and with colours have the same objects, queries and answers."""
    colours = np.array([[0, 0, 0], [0, 128, 0], [128, 0, 0]], np.uint8)
    for k in range(2):
        write_video(tmp_path / "numbers", f"x{k}", RIGHT, STILL, frames=6)
        for file in sorted((tmp_path / "numbers" / "Annotations" / f"x{k}").iterdir()):
            write_picture(
                tmp_path / "colours" / "Annotations" / f"x{k}" / file.name, colours[np.asarray(Image.open(file))]
            )
        (tmp_path / "colours" / "JPEGImages").mkdir(exist_ok=True)
        (tmp_path / "numbers" / "JPEGImages" / f"x{k}").rename(tmp_path / "colours" / "JPEGImages" / f"x{k}")
    (tmp_path / "numbers" / "JPEGImages").rmdir()
    (tmp_path / "numbers" / "JPEGImages").symlink_to(tmp_path / "colours" / "JPEGImages")
    examples = [open_source(tmp_path / kind) for kind in ("numbers", "colours")]
    for i in range(len(examples[0])):
        one, other = examples[0][i], examples[1][i]
        assert (one.query, one.answer_ids, len(one.scene)) == (other.query, other.answer_ids, 2)
        np.testing.assert_array_equal(one.target.masks, other.target.masks)


@pytest.mark.parametrize(
    "frame, mask", [("f_{}.jpg", "f_{}.png"), ("{}.jpg", "{:05}.png"), ("frame_{:03}.jpg", "mask_{:03}.PNG")]
)
def test_frames_are_in_the_order_of_their_numbers_with_their_masks(tmp_path, frame, mask):
    write_video(tmp_path, "x", RIGHT)
    expected = open_source(tmp_path)[0]
    for folder, name in (("JPEGImages", frame), ("Annotations", mask)):
        files = sorted((tmp_path / folder / "x").iterdir())
        for t in range(len(files))[::-1]:
            files[t].rename(files[t].parent / name.format(t + 1))
    (tmp_path / "Annotations" / "x" / "._1.png").touch()
    example = open_source(tmp_path)[0]
    np.testing.assert_array_equal(example.target.masks, expected.target.masks)
    np.testing.assert_array_equal(example.visuals[0].frames, expected.visuals[0].frames)


def test_videos_without_masks_are_counted_and_jpeg_masks_are_named(tmp_path, caplog):
    for k in range(3):
        write_video(tmp_path, f"x{k}", RIGHT, frames=3)
    for file in sorted((tmp_path / "Annotations" / "x1").iterdir()):
        file.rename(file.with_suffix(".jpg"))
    assert len(open_source(tmp_path)) + len(open_source(tmp_path, "heldout")) == 2 * davis.QUERIES
    assert "left out 1 videos without frames or masks, such as x1: its masks are JPEG" in caplog.text
    for k in (0, 2):
        for file in (tmp_path / "Annotations" / f"x{k}").iterdir():
            file.unlink()
    with pytest.raises(DataError, match=r"got none \(x0: no mask with the name of a frame, but no file\)"):
        open_source(tmp_path)


def test_a_folder_that_cannot_be_read_costs_its_video(tmp_path, monkeypatch, caplog):
    for k in range(3):
        write_video(tmp_path, f"x{k}", RIGHT, frames=3)
    listing = pathlib.Path.iterdir

    def fail(folder):
        if folder.name == "x1":
            raise OSError(116, "Stale file handle")
        return listing(folder)

    monkeypatch.setattr(pathlib.Path, "iterdir", fail)
    assert len(open_source(tmp_path)) == len(open_source(tmp_path, "heldout")) == davis.QUERIES
    assert "left out 1 videos" in caplog.text and "Stale file handle" in caplog.text


@pytest.mark.parametrize(("name", "videos"), [("davis2016_subset", 5), ("cutie_judo/examples", 1)])
def test_real_videos(name, videos):
    root = assets.path(name)
    train, heldout = open_source(root), open_source(root, "heldout")
    assert len(train) + len(heldout) == max(videos, 2) * davis.QUERIES
    for data in (train, heldout):
        example = data[len(data) - 1]
        h, w = example.image.shape[:2]
        assert (w, h) == (854, 480) or videos == 5
        frames = min(davis.FRAMES, len(data.items[0][0].frames))
        assert example.target.masks.shape == (frames, h, w) and example.scene
        assert all(thing.boxes.any() for thing in example.scene)


def test_programs_give_the_answers(several):
    """All queries but those about an object named by its number."""
    source, checked = open_source(several), 0
    for i in range(len(source)):
        example = source[i]
        if example.program:
            assert set(programs.execute(example.program, things.things_of_scene(example.scene)).ids) == set(
                example.answer_ids
            )
            checked += example.category == "temporal"
    assert checked > 10


def frames_of(source):
    """(name of the video, name of the frame) of all frames that the examples of a source may show."""
    return {(folder.name, file.name) for folder, _ in source.items for file in folder.frames}


@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_last_of_a_few_videos_is_held_out(tmp_path, count):
    for k in range(count):
        write_video(tmp_path, f"camel-{k}", RIGHT)
    train, heldout = (frames_of(open_source(tmp_path, split)) for split in ("train", "heldout"))
    assert {name for name, _ in heldout} == {f"camel-{count - 1}"} and not train & heldout
    assert len(train | heldout) == 12 * count


@pytest.mark.parametrize("every, last", [(1, 3), (6, 6), (11, 3)])
def test_a_single_video_is_cut_in_time(tmp_path, every, last):
    write_video(tmp_path, "camel", RIGHT, every=every)
    train, heldout = open_source(tmp_path), open_source(tmp_path, "heldout")
    assert not frames_of(train) & frames_of(heldout) and len(frames_of(heldout)) == last
    assert len(frames_of(train)) == 12 - last
    for source in (train, heldout):
        assert all(isinstance(source[i], Example) for i in range(len(source)))


def test_a_single_mask_cannot_be_in_both_parts(tmp_path):
    write_video(tmp_path, "camel", RIGHT, every=12)
    assert len(frames_of(open_source(tmp_path))) == 12
    with pytest.raises(DataError, match="expected 2 frames with a mask or more, to hold one out"):
        open_source(tmp_path, "heldout")
