"""`segment` from pictures of any size to masks of their size, against transformers; bad input, devices and bfloat16."""

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the reference model runs in torch")
import sam2_models  # noqa: E402

from dtr1_jax import config, specialists  # noqa: E402
from dtr1_jax import mesh as meshes  # noqa: E402
from dtr1_jax.models.weights.native import WeightsError  # noqa: E402
from dtr1_jax.specialists.sam2 import Prompt  # noqa: E402

SIZES = ((37, 53), (64, 64), (101, 30))  # height and width


def photos():
    """Noise at several scales."""
    random = np.random.default_rng(0)
    coarse = [random.integers(0, 256, (h // 4 + 1, w // 4 + 1, 3), np.uint8) for h, w in SIZES]
    return [np.kron(x, np.ones((4, 4, 1), np.uint8))[:h, :w] for x, (h, w) in zip(coarse, SIZES)]


def boxes_of(counts):
    random = np.random.default_rng(1)
    return [np.sort(random.uniform(0, 1, (n, 2, 2)), axis=1).reshape(n, 4).astype(np.float32) for n in counts]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("sam2")
    sam2_models.picture_model("a").save_pretrained(where)
    return where


@pytest.fixture(scope="module")
def sam(folder):
    return specialists.load(folder, objects=4)


def test_equals_the_reference_at_the_size_of_each_picture(sam, folder):
    """Boxes in the unit frame, several objects on pictures of odd sizes; masks as the processor resizes them."""
    images, boxes = photos(), boxes_of([3, 1, 6])
    got = sam.segment(images, boxes=boxes)
    reference = sam2_models.picture_model("a")
    for image, some, masks in zip(images, boxes, got):
        values = sam2_models.pixel_values(sam.preprocess([image]), sam._rules)
        with torch.no_grad():
            out = reference(
                pixel_values=values, input_boxes=torch.tensor(some * sam.spec.image_size)[None], multimask_output=False
            )
        np.testing.assert_allclose(masks.logits, out.pred_masks[0, :, 0], atol=1e-3, rtol=0)
        np.testing.assert_allclose(masks.scores, out.iou_scores[0, :, 0], atol=1e-4, rtol=0)
        large = torch.nn.functional.interpolate(out.pred_masks[0], image.shape[:2], mode="bilinear")[:, 0]
        assert masks.masks.shape == large.shape and (masks.masks == (large > 0).numpy()).mean() > 0.9999


def test_points_masks_and_the_choice_among_several(sam):
    image = photos()[0]
    point = [[[0.4, 0.6]]]
    single, best = (sam.segment([image], points=[point], multimask=flag)[0] for flag in (False, True))
    by_default = sam.segment([image], points=[point])[0]
    np.testing.assert_array_equal(by_default.logits, best.logits)
    two = sam.segment([image], points=[[[[0.4, 0.6], [0.1, 0.1]]]], labels=[[[1, 0]]])[0]
    filled = sam.segment([image], points=[[[[0.4, 0.6], [0.1, 0.1]]]], labels=[[[1, -1]]], multimask=True)[0]
    np.testing.assert_allclose(filled.logits, best.logits, atol=1e-4)
    assert np.abs(two.logits - single.logits).max() > 1e-2
    refined = sam.segment([image], points=[point], masks=[single.logits], multimask=False)[0]
    assert np.abs(refined.logits - single.logits).max() > 1e-2
    from_mask = sam.segment([image], masks=[single.masks])[0]
    assert from_mask.masks.shape == (1, *image.shape[:2])


def test_a_picture_is_encoded_once(sam, monkeypatch):
    calls = []
    encode = sam._encode
    monkeypatch.setattr(sam, "_encode", lambda images: calls.append(len(images)) or encode(images))
    image = np.full((20, 30, 3), 7, np.uint8)
    first = sam.segment([image, image], boxes=boxes_of([1, 1]))
    again = sam.segment([image], boxes=boxes_of([1, 1])[:1])
    assert calls[0] == 1 and sum(calls) == 1
    np.testing.assert_allclose(first[0].logits, again[0].logits, atol=1e-4)


def test_boxes_without_area_and_pictures_without_prompts(sam):
    """They get empty masks and no masks; the other objects of the picture do not change."""
    good = boxes_of([2])[0]
    bad = np.array([[0.5, 0.5, 0.5, 0.9], [0.9, 0.1, 0.2, 0.8], [np.nan, 0, 1, 1], [1.5, 1.5, 2, 2]], np.float32)
    images = photos()[:2]
    got = sam.segment(images, boxes=[np.concatenate([bad, good]), []])
    assert not got[0].masks[:4].any() and not got[0].scores[:4].any()
    np.testing.assert_allclose(got[0].logits[4:], sam.segment(images[:1], boxes=[good])[0].logits, atol=1e-4)
    assert got[1].masks.shape == (0, 64, 64) and got[1].boxes.shape == (0, 4)
    outside = np.array([[-0.5, 0.2, 0.5, 1.7]], np.float32)
    cut = sam.segment(images[:1], boxes=[np.clip(outside, 0, 1)])[0]
    np.testing.assert_array_equal(sam.segment(images[:1], boxes=[outside])[0].logits, cut.logits)


def test_five_hundred_boxes_and_a_picture_of_one_pixel(sam):
    boxes = boxes_of([500])[0]
    image = np.full((1, 1, 3), 9, np.uint8)
    got = sam.segment([image], boxes=[boxes])[0]
    assert got.masks.shape == (500, 1, 1) and np.isfinite(got.scores).all()
    np.testing.assert_allclose(got.logits[-2:], sam.segment([image], boxes=[boxes[-2:]])[0].logits, atol=1e-4)


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ({}, "expected boxes, points or masks"),
        ({"boxes": [[]] * 2}, "boxes: expected one entry for each of 1 pictures, got 2"),
        ({"boxes": [[[0, 0, 1]]]}, r"picture 0: expected boxes \[n, 4\]"),
        ({"points": [[[[0.5, 1.5]]]]}, "picture 0, object 0: expected points"),
        ({"points": [[[[0.5, 0.5]]]], "labels": [[[5]]]}, "expected 1 labels of 1, 0 and -1"),
        ({"points": [[[[0.5, 0.5]]]], "labels": [[[-1]]]}, "picture 0, object 0: expected at least one point"),
        ({"labels": [[[1]]]}, "expected boxes, points or masks"),
        ({"boxes": [[[0, 0, 1, 1]]], "labels": [[[1]]]}, "labels are given, but no points"),
        ({"boxes": [[[0, 0, 1, 1]]], "points": [[[[0.5, 0.5]]] * 2]}, "prompts of equally many objects"),
        ({"masks": [[np.full((4, 4), np.nan)]]}, "expected finite mask logits"),
        ({"masks": [[np.ones((4, 4), int)]]}, r"expected a mask \[h, w\] of floats or bool"),
    ],
)
def test_bad_prompts_are_refused(sam, prompts, message):
    with pytest.raises(ValueError, match=message):
        sam.segment(photos()[:1], **prompts)


def test_a_model_of_pictures_does_not_track(sam):
    with pytest.raises(ValueError, match=r"no video memory .* sam2_video"):
        sam.track(photos(), [Prompt(0, 1, box=[0, 0, 1, 1])])


def test_a_video_checkpoint_segments_pictures(tmp_path):
    """The published checkpoints are of this kind. Its picture parts are those of Sam2Model."""
    video = sam2_models.video_model("c")
    video.save_pretrained(tmp_path)
    sam = specialists.load(tmp_path, objects=4)
    image, boxes = photos()[0], boxes_of([1])
    got = sam.segment([image], boxes=boxes)[0]
    values = sam2_models.pixel_values(sam.preprocess([image]), sam._rules)
    with torch.no_grad():
        state = sam2_models.session(sam.preprocess([image]), sam._rules)
        features, _ = video._prepare_vision_features(state, 0, 1)
        maps = [x.permute(1, 2, 0).reshape(1, -1, *size) for x, size in zip(features, video.backbone_feature_sizes)]
        maps[-1] = maps[-1] + video.no_memory_embedding.reshape(1, -1, 1, 1)
        sparse, dense = video.prompt_encoder(None, None, torch.tensor(boxes[0] * sam.spec.image_size)[None], None)
        logits, ious, _, _ = video.mask_decoder(
            maps[-1], video.get_image_wide_positional_embeddings(), sparse, dense, False, maps[:-1]
        )
    assert values.shape[-1] == sam.spec.image_size
    np.testing.assert_allclose(got.logits, logits[0, :, 0], atol=1e-3, rtol=0)
    np.testing.assert_allclose(got.scores, ious[0, :, 0], atol=1e-4, rtol=0)


def test_sharded_equals_single_device(sam, folder):
    if len(jax.devices()) < 8:
        pytest.skip("needs eight devices")
    device_mesh = meshes.make(config.Mesh(data=4, fsdp=2, tensor=1))
    images, boxes = photos(), boxes_of([3, 1, 6])
    wanted = sam.segment(images, boxes=boxes)
    for a, b in zip(specialists.load(folder, mesh=device_mesh, objects=4).segment(images, boxes=boxes), wanted):
        np.testing.assert_allclose(a.logits, b.logits, atol=1e-3)
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-4)


def test_bfloat16_is_near_float32(sam, folder):
    """At most 5 % of the logits' deviation on average, and scores within 0.03."""
    images, boxes = photos(), boxes_of([3, 1, 6])
    half = specialists.load(folder, dtype="bfloat16", objects=4).segment(images, boxes=boxes)
    for a, b in zip(half, sam.segment(images, boxes=boxes)):
        assert np.abs(a.logits - b.logits).mean() < 0.05 * b.logits.std()
        assert np.abs(a.scores - b.scores).max() < 0.03


def test_a_config_of_another_model_is_refused(folder, tmp_path):
    (tmp_path / "config.json").write_text((folder / "config.json").read_text().replace('"sam2"', '"sam3"'))
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(WeightsError, match="'sam3' is no specialist"):
        specialists.load(tmp_path)
