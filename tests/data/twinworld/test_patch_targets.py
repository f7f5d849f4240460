"""Dense targets against a loop over patches and objects."""

import dataclasses
import itertools

import numpy as np
import pytest

from dtr1_jax.data import patches
from dtr1_jax.data.queries import attributes
from dtr1_jax.data.twinworld import categories, patch_targets, picture_examples, tasks

GEOMETRY = patches.Geometry(8, 1, 2, 12, 96 * 96)


@pytest.mark.parametrize("index", range(4))
def test_against_a_loop(index):
    example = picture_examples.example(0, "train", index, min_objects=5, max_objects=7)
    classes, boxes = patch_targets.targets(example, GEOMETRY)
    places = patches.gather([patches.cut_picture(example.image, GEOMETRY)], GEOMETRY)[0]["position_bn2"]
    assert classes.shape == (144, 6)
    assert boxes.shape == (144, 4)
    for (row, column), got, box in zip(places, classes, boxes):
        covers = [i.mask[8 * row : 8 * row + 8, 8 * column : 8 * column + 8].sum() for i in example.scene]
        if max(covers) < 16:  # a quarter of 64 pixels
            assert not got.any()
            assert not box.any()
            continue
        thing = example.scene[covers.index(max(covers))]
        colour, size, material = thing.attributes
        assert categories.LABELS[got[0] - 1] == thing.label
        assert attributes.COLOURS[got[1] - 1] == colour
        assert attributes.SIZES[got[2] - 1] == size
        assert attributes.MATERIALS[got[3] - 1] == material
        assert tuple(got[4:]) == (thing.id, thing.depth)
        np.testing.assert_allclose(box, thing.box, atol=1e-6)
    assert (classes.min(0) >= 0).all()
    assert (classes.max(0) < patch_targets.COUNTS).all()
    assert len({*map(int, classes[:, 4])}) > 3  # most of the objects are large enough to be seen


def test_each_frame_of_a_video_has_targets_of_its_own():
    geometry = dataclasses.replace(GEOMETRY, video=patches.VideoRule(96 * 96, 96 * 96))
    example = tasks.example("vqa", 0, "train", 3, video=True, frames=4, min_objects=3, max_objects=3)
    classes, boxes = patch_targets.targets(example, geometry, 5)
    assert classes.shape == (5 * 144, 6) and boxes.shape == (5 * 144, 4)
    for frame in range(4):
        things = [
            dataclasses.replace(i, mask=i.masks[frame], box=tuple(i.boxes[frame].tolist())) for i in example.scene
        ]
        still = dataclasses.replace(example, image=example.visuals[0].frames[frame], scene=tuple(things), visuals=())
        for got, expected in zip((classes, boxes), patch_targets.targets(still, GEOMETRY)):
            np.testing.assert_array_equal(got[144 * frame : 144 * frame + 144], expected)
    assert not classes[4 * 144 :].any() and not boxes[4 * 144 :].any()
    order = patches.gather([patches.cut_video(example.visuals[0], geometry)], geometry)[0]["segment_bn"]
    assert (order == np.arange(4).repeat(144) + 1).all()
    with pytest.raises(ValueError, match="patches of 1 frame, got 2"):
        patch_targets.targets(example, dataclasses.replace(geometry, temporal_patch=2), 4)


def test_padding_is_no_object():
    example = picture_examples.example(0, "train", 0, size=96)
    wide = patches.Geometry(8, 1, 2, 12, 96 * 96 + 255)  # 36 tokens all the same, so nothing to pad
    np.testing.assert_array_equal(patch_targets.targets(example, wide)[0], patch_targets.targets(example, GEOMETRY)[0])
    roomy = patches.Geometry(8, 1, 2, 12, 96 * 112, rule="smart")
    assert patches.picture_size(96, 96, roomy) == (96, 96)
    classes, boxes = patch_targets.targets(example, roomy)
    assert classes.shape == (168, 6)
    np.testing.assert_array_equal(classes[:144], patch_targets.targets(example, GEOMETRY)[0])
    assert not classes[144:].any()
    assert not boxes[144:].any()


def test_pictures_that_would_be_resized_are_refused():
    example = picture_examples.example(0, "train", 0)
    with pytest.raises(ValueError, match=r"twinworld/train/0/0: the dense loss needs pictures .* got 96 x 96"):
        patch_targets.targets(example, patches.Geometry(8, 1, 2, 12, 64 * 64))


def test_every_class_has_a_place():
    for size, words in zip(
        patch_targets.CLASSES, (categories.LABELS, attributes.COLOURS, attributes.SIZES, attributes.MATERIALS)
    ):
        assert size == len(set(words))
    assert list(itertools.accumulate(patch_targets.COUNTS))[-1] == sum(patch_targets.CLASSES) + 6
