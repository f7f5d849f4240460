"""Photos at their working size: boxes stay, masks are true to their area, nothing vanishes, small ones stay."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
from coco_folders import note, rectangle
from PIL import Image

from dtr1_jax import types
from dtr1_jax.data import image_files, patches, pipeline, prompts, sources, tokenizer, working_size
from dtr1_jax.data.mixture import Mixture
from dtr1_jax.data.readers import coco, jsonl
from dtr1_jax.policies import policy_files
from dtr1_jax.twin import masks
from dtr1_jax.twin.coordinates import Frame

SQUARE = patches.Geometry(8, 1, 2, 12, 96 * 96)


def blob(h, w, seed, radius):
    """A mask of a rough disk."""
    rng = np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, 30, endpoint=False)
    centre, reach = rng.uniform([radius, radius], [w - radius, h - radius]), radius * rng.uniform(0.6, 1, 30)
    points = centre + reach[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    mask = np.zeros((h, w), np.uint8)
    cv2.fillPoly(mask, [points.round().astype(np.int32)], 1)
    return mask.astype(bool)


def photo(h, w, masks, **more):
    image = np.random.default_rng(0).integers(0, 255, (h, w, 3), np.uint8)
    scene = tuple(types.Instance(i, "dog", (0.1, 0.2, 0.3, 0.4), mask) for i, mask in enumerate(masks, 1))
    boxes = np.array([[0.1, 0.2, 0.3, 0.4]], np.float32)
    return types.Example("1", image, "x", "segmentation", types.Target(masks[0], boxes, **more), scene, (1,))


def iou(a, b):
    return (a & b).sum() / max((a | b).sum(), 1)


@pytest.mark.parametrize("seed", range(5))
def test_overlaps_are_those_of_the_full_size(seed):
    h, w, size = 1500, 2000, (443, 591)
    a = blob(h, w, seed, 120)
    b = np.roll(a, (25, -40), (0, 1))
    small = [working_size.shrink_mask(mask, size) for mask in (a, b)]
    assert all(mask.shape == size and mask.dtype == bool for mask in small)
    assert abs(iou(*small) - iou(a, b)) < 0.01
    assert abs(small[0].mean() / a.mean() - 1) < 0.02


@pytest.mark.parametrize(
    "rows, columns", [(slice(700, 701), slice(0, 2000)), (slice(10, 1400), slice(5, 6)), (slice(3, 4), slice(9, 10))]
)
def test_thin_and_tiny_masks_do_not_vanish(rows, columns):
    mask = np.zeros((1500, 2000), bool)
    mask[rows, columns] = True
    small = working_size.shrink_mask(mask, (443, 591))
    share = mask.sum() * (443 * 591) / mask.size
    assert small.sum() == max(1, round(share))
    found = np.argwhere(small) * 1500 / 443
    assert (np.abs(found - np.clip(found, np.argwhere(mask).min(0), np.argwhere(mask).max(0))) <= 4).all()


def test_empty_and_full_masks_stay_so():
    assert not working_size.shrink_mask(np.zeros((300, 400), bool), (30, 40)).any()
    assert working_size.shrink_mask(np.ones((301, 403), bool), (30, 40)).all()


def test_everything_of_an_example_gets_one_size():
    masks = [blob(900, 1200, seed, 90) for seed in range(3)]
    example = photo(900, 1200, masks, ignore=masks[2])
    small = working_size.fit(example, 60_000)
    assert small.image.shape == (212, 282, 3)
    assert {x.mask.shape for x in (*small.scene, small.target)} | {small.target.ignore.shape} == {(212, 282)}
    np.testing.assert_array_equal(small.target.boxes, example.target.boxes)
    assert [x.box for x in small.scene] == [x.box for x in example.scene] and small.answer_ids == (1,)
    assert abs(small.image.mean() - example.image.mean()) < 1
    assert working_size.fit(example, 900 * 1200) is example and working_size.fit(small, 60_000) is small


def test_evaluation_shrinks_the_scene_alone():
    example = photo(900, 1200, [blob(900, 1200, 1, 90)])
    kept = working_size.fit_scene(example, 60_000)
    assert kept.image is example.image and kept.target is example.target and kept.scene[0].mask.shape == (212, 282)
    assert (
        working_size.fit_scene(example) is not None
        and working_size.fit_scene(kept, 900 * 1200).target is example.target
    )


def test_videos_shrink_frame_by_frame():
    frames = np.random.default_rng(0).integers(0, 255, (3, 90, 120, 3), np.uint8)
    masks = np.stack([blob(90, 120, k, 20) for k in range(3)])
    tracks = np.zeros((1, 3, 4), np.float32)
    video = types.Video(frames, np.arange(3), 24.0, 3)
    target = types.Target(masks[0], np.zeros((0, 4), np.float32), masks=masks, tracks=tracks)
    thing = types.Instance(1, "dog", (0, 0, 1, 1), masks[0], boxes=tracks[0], masks=masks)
    example = types.Example("1", frames[0], "x", "segmentation", target, (thing,), (1,), visuals=(video,))
    small = working_size.fit(example, 1000)
    assert small.video.frames.shape == (3, 27, 36, 3) and small.target.masks.shape == (3, 27, 36)
    assert small.scene[0].masks.shape == (3, 27, 36) and small.scene[0].mask.shape == small.target.mask.shape == (
        27,
        36,
    )
    assert np.shares_memory(small.image, small.video.frames), "no second copy of the first frame"
    np.testing.assert_array_equal(small.target.tracks, tracks)


def test_the_working_size_is_twice_the_side_that_the_policy_sees():
    assert working_size.working_pixels(None) == working_size.working_pixels(SQUARE) == 1 << 20
    large = dataclasses.replace(SQUARE, max_pixels=512 * 28**2)
    assert working_size.working_pixels(large) == 4 * 512 * 28**2
    assert working_size.working_pixels(dataclasses.replace(SQUARE, max_pixels=12_845_056)) == 12_845_056


@pytest.mark.parametrize("orientation, upright", [(1, (1200, 1800)), (6, (1800, 1200)), (3, (1200, 1800))])
def test_a_shrunk_photo_reports_the_size_of_its_file(tmp_path, orientation, upright):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (1800, 1200), "red").save(tmp_path / "a.jpg", exif=exif)
    image, size = image_files.load_shrunk(tmp_path / "a.jpg", 90_000)
    assert size == upright and image.shape[0] * image.shape[1] <= 90_000
    assert abs(image.shape[0] / image.shape[1] - upright[0] / upright[1]) < 0.01
    assert image_files.load_shrunk(tmp_path / "a.jpg", 10**8)[1] == upright
    image, size = image_files.load_shrunk(tmp_path / "a.jpg", 90_000, upright=False)
    assert size == (1200, 1800) and image.shape[0] < image.shape[1] and image.shape[0] * image.shape[1] <= 90_000


@pytest.mark.parametrize("stored", [False, True])
def test_a_turned_photo_is_shrunk_in_the_direction_of_its_annotation(photos, stored):
    """The left half of the stored photo is black: the object lies there, in the frame of the annotation."""
    pixels = np.full((1200, 1600, 3), 255, np.uint8)
    pixels[:, :800] = 0
    exif = Image.Exif()
    exif[274] = 6  # a quarter turn clockwise: the stored left half is the upper half upright
    file, lines = photos / "annotations" / "instances_train.json", photos / "a.jsonl"
    w, h = (1600, 1200) if stored else (1200, 1600)
    x2, y2 = (800, 1200) if stored else (1200, 800)
    value = json.loads(file.read_text())
    value["images"] = [record | {"width": w, "height": h} for record in value["images"]]
    value["annotations"] = [note(rectangle(0, 0, x2, y2), image=i) for i in (1, 2)]
    file.write_text(json.dumps(value))
    mask = np.zeros((h, w), bool)
    mask[:y2, :x2] = True
    rle = masks.encode(mask) | {"counts": masks.encode(mask)["counts"].decode()}
    rows = []
    for i in (1, 2):
        Image.fromarray(pixels).save(photos / f"{i}.jpg", exif=exif)
        rows.append({"image": f"{i}.jpg", "query": "x", "rle": rle})
    lines.write_text("\n".join(map(json.dumps, rows)))
    sources_ = (
        coco.open_coco_source(str(photos), "train", "segmentation", seed=0, max_objects=7),
        jsonl.open_jsonl_source(str(lines), "train", "segmentation", max_objects=7),
    )
    for source in sources_:
        example = sources.shrunk(source, 50_000)[0]
        assert example.target.mask.shape == (h, w), "masks keep the size of the annotation"
        if example.target.mask.any():
            np.testing.assert_array_equal(example.target.mask, mask)
        small = working_size.fit(example, 50_000)
        assert small.image.shape[:2] == small.target.mask.shape and small.image[..., 0].size <= 50_000
        fitted = working_size.shrink_mask(mask, small.image.shape[:2])
        assert np.mean((small.image[..., 0] < 128) != fitted) < 0.02


@pytest.fixture
def photos(tmp_path):
    """A COCO folder and JSON lines about the same two photos of 1600 x 1200 pixels."""
    (tmp_path / "annotations").mkdir()
    rng, rows, notes = np.random.default_rng(0), [], []
    for i in (1, 2):
        noise = cv2.resize(rng.integers(0, 255, (12, 16, 3), np.uint8), (1600, 1200), interpolation=cv2.INTER_CUBIC)
        Image.fromarray(noise).save(tmp_path / f"{i}.jpg")
        boxes = [[100, 200, 500, 900], [700, 300, 1111, 777]]
        notes += [note(rectangle(*box), image=i, category=2 + k) for k, box in enumerate(boxes)]
        rows.append({"image": f"{i}.jpg", "query": "what barks", "boxes": boxes[:1]})
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 1600, "height": 1200} for i in (1, 2)]
    names = [{"id": 2, "name": "dog"}, {"id": 3, "name": "cat"}]
    value = {"images": images, "annotations": notes, "categories": names}
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(value))
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def test_readers_shrink_while_they_decode_and_boxes_are_those_of_the_file(photos):
    opened = (
        coco.open_coco_source(str(photos), "train", "segmentation", seed=0, max_objects=7),
        jsonl.open_jsonl_source(str(photos / "a.jsonl"), "train", "segmentation", max_objects=7),
    )
    for source in opened:
        small = sources.shrunk(source, 100_000)
        assert repr(small) == repr(source), "a resumed run knows its data"
        for i in range(len(source)):
            whole, shrunk = source[i], small[i]
            assert whole.image.shape == (1200, 1600, 3) and shrunk.image.shape == (273, 365, 3)
            np.testing.assert_array_equal(whole.target.boxes, shrunk.target.boxes)
            np.testing.assert_array_equal(whole.target.mask, shrunk.target.mask)
            assert (whole.query, whole.answer_ids) == (shrunk.query, shrunk.answer_ids)
            assert [x.box for x in whole.scene] == [x.box for x in shrunk.scene]
            reference = cv2.resize(whole.image, (365, 273), interpolation=cv2.INTER_AREA)
            assert np.abs(shrunk.image.astype(int) - reference).mean() < 2
            fitted = working_size.fit(shrunk, 100_000)
            assert fitted.target.mask.shape == (273, 365)
            assert abs(fitted.target.mask.mean() - whole.target.mask.mean()) < 0.005
    mixed = sources.shrunk(Mixture(opened, (1.0, 1.0)), 100_000)
    assert {part.max_pixels for part in mixed.parts} == {100_000}


def test_training_is_small_and_evaluation_has_the_size_of_the_file(photos, monkeypatch):
    monkeypatch.setattr(pipeline, "working_pixels", lambda geometry: 100_000)
    monkeypatch.setattr(pipeline, "fit_scene", lambda example: working_size.fit_scene(example, 100_000))
    source = coco.open_coco_source(str(photos), "train", "segmentation", seed=0, max_objects=7)
    style = prompts.Style(tokenizer.load_tokenizer(policy_files.ASSETS / "tiny"), SQUARE, Frame.NORM1000, "brief", 128)
    batch = next(iter(pipeline.query_batches(source, style, 2, seed=0)))
    assert {e.image.shape[:2] for e in batch.examples} == {e.target.mask.shape for e in batch.examples} == {(273, 365)}
    assert {x.mask.shape for e in batch.examples for x in e.scene} == {(273, 365)}
    (batch,) = pipeline.evaluation_batches(source, style, 2, 2)
    assert (
        {e.image.shape[:2] for e in batch.examples} == {e.target.mask.shape for e in batch.examples} == {(1200, 1600)}
    )
    assert {x.mask.shape for e in batch.examples for x in e.scene} == {(273, 365)}
