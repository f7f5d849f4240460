"""Sam.segment: prompts of every kind, pictures of every kind, the cache, and each weight."""

import re

import jax
import numpy as np
import pytest

from dtr1_jax.specialists import batching, tensors
from dtr1_jax.specialists.sam import model, object_prompts, predictor, square, weights
from dtr1_jax.specialists.sam.predictor import Sam
from dtr1_jax.specialists.sam.spec import SamSpec, VitSpec

SPEC = SamSpec(
    VitSpec(16, 2, 2, 24, 8, 3, (1,)), image=48, grid=6, width=16, mask_channels=16, heads=2, mlp=16, iou_width=8
)  # fmt: skip
RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (31, 47, 3), np.uint8)
BOX = np.array([[0.1, 0.2, 0.7, 0.9]])


@pytest.fixture(scope="module")
def sam():
    one = batching.single_device_mesh()
    params = tensors.random_params(weights.shapes(SPEC), jax.random.key(0), 0.3)
    return Sam(SPEC, params, one, "float32")


def test_each_weight_moves_an_output(sam):
    """One call has all kinds of prompts; a click alone has the token for "not a point", and no mask."""
    square_image, size = square.squared(PHOTO, SPEC.image)
    noise = RNG.normal(size=(1, SPEC.low, SPEC.low)).astype(np.float32)
    asked = {"boxes": BOX[None], "points": [[[[0.3, 0.3], [0.5, 0.6]]]], "labels": [[[1, 0]]], "masks": [noise]}
    click = {"points": [[[[0.3, 0.3]]]]}

    @jax.jit
    def outputs(w):
        out = []
        for given in (asked, click):
            p = object_prompts.checked(SPEC, 0, PHOTO.shape[:2], *(given[n][0] if n in given else None for n in
                                ("boxes", "points", "labels", "masks")))  # fmt: skip
            for multimask in (False, True):
                cells = model.embed(w, SPEC, square_image[None], size[None], np.dtype("float32"))
                parts = [None if x is None else x[None] for x in (p.points, p.labels, p.boxes, p.masks)]
                out.append(model.segment(w, SPEC, cells, *parts, multimask))
        return jax.tree.leaves(out)

    plain = outputs(sam.params)
    for name, value in sam.params.items():
        if name.endswith("k_proj.bias"):
            continue  # it adds the same number to the scores of all keys, which a softmax takes out again
        shift = RNG.normal(0, 0.5, value.shape).astype(np.float32)
        moved = outputs(sam.params | {name: value + shift})
        assert max(np.abs(np.asarray(a) - np.asarray(b)).max() for a, b in zip(plain, moved)) > 1e-4, name


def test_many_prompts_equal_single_ones(sam):
    """500 boxes: a few shapes are compiled, and each answer is that of its box alone."""
    low = RNG.uniform(0, 0.6, (500, 2))
    boxes = np.concatenate([low, low + RNG.uniform(0.1, 0.4, (500, 2))], 1)
    before = sam._segment._cache_size()
    whole = sam.segment([PHOTO], boxes=[boxes])[0]
    assert whole.masks.shape == (500, 31, 47) and sam._segment._cache_size() - before <= 4
    for i in (0, 17, 499):
        single = sam.segment([PHOTO], boxes=[boxes[i : i + 1]])[0]
        np.testing.assert_allclose(whole.logits[i], single.logits[0], atol=1e-4)
        np.testing.assert_allclose(whole.scores[i], single.scores[0], atol=1e-5)


def test_points_that_fill_rows_change_nothing(sam):
    plain = sam.segment([PHOTO], points=[[[[0.2, 0.3], [0.6, 0.6]]]], labels=[[[1, 0]]])[0]
    filled = sam.segment([PHOTO], points=[[[[0.2, 0.3], [9, 9], [0.6, 0.6], [0, 0], [0, 0]]]],
                         labels=[[[1, -1, 0, -1, -1]]])[0]  # fmt: skip
    np.testing.assert_allclose(plain.logits, filled.logits, atol=1e-4)


def test_boxes_outside_and_without_area(sam):
    boxes = [[-1, -1, 0.5, 0.5], [0, 0, 0.5, 0.5], [1.2, 0, 1.5, 1], [0.5, 0.5, 0.5, 0.9], [0.9, 0.1, 0.2, 0.8]]
    found = sam.segment([PHOTO], boxes=[boxes])[0]
    np.testing.assert_array_equal(found.logits[0], found.logits[1])
    assert not found.masks[2:].any() and not found.scores[2:].any() and (found.logits[2:] < 0).all()


def test_nothing_to_do(sam):
    assert sam.segment([], boxes=[]) == []
    for kind, empty in (("boxes", np.zeros((0, 4))), ("points", np.zeros((0, 1, 2))), ("boxes", [])):
        (found,) = sam.segment([PHOTO], **{kind: [empty]})
        assert found.masks.shape == (0, 31, 47) and found.scores.shape == (0,)


def test_pictures_of_all_sizes_and_kinds(sam):
    wide = np.tile(PHOTO[:1], (1, 213, 1))
    images = [np.full((1, 1, 3), 7, np.uint8), wide, PHOTO[..., 0], PHOTO / 255.0, np.zeros((3, 2, 4), np.uint8)]
    found = sam.segment(images, boxes=[BOX] * 5)
    assert [f.masks.shape[1:] for f in found] == [image.shape[:2] for image in images]
    assert wide.shape[1] > 10_000
    np.testing.assert_allclose(found[3].logits, sam.segment(PHOTO, boxes=[BOX])[0].logits, atol=1e-4)


def test_ambiguous_means_one_point_alone(sam):
    click = {"points": [[[[0.4, 0.5]]]]}
    default, best, single = (sam.segment([PHOTO], multimask=m, **click)[0].logits for m in (None, True, False))
    assert (default == best).all() and (default != single).any()
    both = {"points": [[[[0.4, 0.5], [0.5, 0.5]]]]}
    default, single = (sam.segment([PHOTO], multimask=m, **both)[0].logits for m in (None, False))
    assert (default == single).all()


def test_a_mask_refines(sam):
    """A mask of the user's picture is taken at its own size, and logits of an earlier call as they are."""
    first = sam.segment([PHOTO], boxes=[BOX])[0]
    again = sam.segment([PHOTO], boxes=[BOX], masks=[first.logits])[0]
    own = sam.segment([PHOTO], masks=[first.masks])[0]
    assert np.abs(again.logits - first.logits).max() > 1e-3 and own.masks.shape == first.masks.shape
    mask = np.zeros((1, 31, 47), bool)
    mask[0, :10, :20] = True
    np.testing.assert_array_equal(square.to_masks(square.to_logits(mask, 48, 24), 31, 47, 48)[0, :8, :18], True)
    assert not square.to_masks(square.to_logits(mask, 48, 24), 31, 47, 48)[0, 12:].any()


def test_each_picture_is_encoded_once_and_memory_is_bounded(sam):
    one = batching.single_device_mesh()
    cells = SPEC.grid**2 * SPEC.width * 4
    small = Sam(SPEC, sam.params, one, "float32", cache_bytes=2 * cells)
    others = [RNG.integers(0, 256, (9, 9, 3), np.uint8) for _ in range(3)]
    first = small.segment([PHOTO, PHOTO.copy()], boxes=[BOX, BOX])
    assert (small.cache.misses, small.cache.hits) == (1, 0)
    small.segment([PHOTO], boxes=[BOX])
    assert (small.cache.misses, small.cache.hits) == (1, 1)
    small.segment(others, boxes=[BOX] * 3)
    small.segment([PHOTO], boxes=[BOX])
    assert small.cache.misses == 5
    np.testing.assert_array_equal(first[0].logits, first[1].logits)


def test_more_pictures_than_are_held_at_once(sam, monkeypatch):
    images = [RNG.integers(0, 256, (9, 9, 3), np.uint8) for _ in range(5)]
    whole = sam.segment(images, boxes=[BOX] * 5)
    monkeypatch.setattr(predictor, "_PICTURES", 2)
    for a, b in zip(whole, sam.segment(images, boxes=[BOX] * 5), strict=True):
        np.testing.assert_allclose(a.logits, b.logits, atol=1e-5)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "expected boxes, points or masks"),
        ({"boxes": [BOX, BOX]}, "boxes: expected one set for each of the 1 pictures, got 2"),
        ({"boxes": [[[0, 0, 1]]]}, "picture 0: expected boxes [n, 4], got shape [1, 3]"),
        ({"boxes": [[[0, 0, np.nan, 1]]]}, "picture 0: expected finite boxes"),
        ({"boxes": [BOX], "points": [[[[0, 0]], [[1, 1]]]]}, "picture 0: expected one prompt of each kind"),
        ({"points": [[[[0.5, 1.5]]]]}, "picture 0: expected points in the unit frame"),
        ({"points": [[[[0.5, np.inf]]]]}, "picture 0: expected points in the unit frame"),
        ({"points": [[[0.5, 0.5]]]}, "picture 0: expected points [n, k, 2]"),
        ({"points": [[[[0.5, 0.5]]]], "labels": [[[2]]]}, "picture 0: expected labels [1, 1]"),
        ({"points": [[[[0.5, 0.5]]]], "labels": [[[1, 1]]]}, "picture 0: expected labels [1, 1]"),
        ({"points": [[[[0.5, 0.5]]]], "labels": [[[-1]]]}, "object 0 has neither a point nor a box"),
        ({"boxes": [BOX], "labels": [[[1]]]}, "picture 0: labels without points"),
        ({"masks": [np.zeros((1, 5, 5), bool)]}, "picture 0: expected masks as bool[1, 31, 47], or as finite logits"),
        ({"masks": [np.full((1, 24, 24), np.nan, np.float32)]}, "picture 0: expected masks as bool"),
    ],
)
def test_bad_prompts(sam, asked, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        sam.segment([PHOTO], **asked)


def test_bad_pictures(sam):
    with pytest.raises(ValueError, match="picture 1: expected an array"):
        sam.segment([PHOTO, np.zeros((4, 4, 2), np.uint8)], boxes=[BOX, BOX])
