"""Scenes of pictures: silhouettes, depth order and occlusion."""

import dataclasses
import itertools

import numpy as np
import pytest

from dtr1_jax.data.queries import (
    attributes,
)
from dtr1_jax.data.twinworld import (
    categories,
    picture_examples,
    scenes,
)


def test_attributes_are_colour_size_material_and_sizes_are_told_apart():
    assert len(categories.LABELS) >= 16
    rng = np.random.default_rng(0)
    for label, size in itertools.product(categories.LABELS, attributes.SIZES):
        for _ in range(5):
            item = scenes.sample_sprite(rng, scenes.Kind(label, "red", size, "metal"), 96)
            low, high = {"small": (16, 23), "large": (28, 42)}[size]
            assert low <= max(item.tones.shape) <= high
            assert item.area == np.count_nonzero(item.tones) >= 75, label
            assert item.tones.any(0).all() and item.tones.any(1).all()


@pytest.mark.parametrize("split", picture_examples.SPLITS)
def test_nearer_objects_cover_farther_ones_which_stay_visible(split):
    rng = np.random.default_rng(1)
    covered = 0
    for count in [2, 5, 7, 9] * 6:
        scene = scenes.sample_picture_scene(rng, split, count, 96)
        painted = np.zeros((96, 96), int)
        bases = [top + item.tones.shape[0] for item, (_, top) in zip(scene.sprites, scene.corners)]
        assert len(bases) == count and np.diff(bases).min(initial=9) >= 3, "nearer objects stand lower in the picture"
        for k, (item, (left, top)) in enumerate(zip(scene.sprites, scene.corners), 1):
            height, width = item.tones.shape
            painted[top : top + height, left : left + width][item.tones > 0] = k
        np.testing.assert_array_equal(painted, scene.owner)
        pixels = np.bincount(painted.ravel())[1:]
        for number, item in zip(pixels, scene.sprites):
            assert number >= max(60, 0.4 * item.area)
            covered += number < item.area
        depths = {thing.depth: thing for thing in scenes.picture_instances(scene)}
        for k, item in enumerate(scene.sprites, 1):
            assert depths[count - k + 1].label == item.kind.label
            np.testing.assert_array_equal(depths[count - k + 1].mask, painted == k)
    assert covered > 10, "no occlusion at all"


def test_the_grid_holds_as_many_objects_as_are_allowed():
    rng = np.random.default_rng(2)
    for size in (96, 200):
        for _ in range(20):
            kinds = scenes.sample_kinds(rng, "train", scenes.MOST_OBJECTS)
            small = [dataclasses.replace(kind, size="small") for kind in kinds]
            sprites = [scenes.sample_sprite(rng, kind, size) for kind in small]
            scene = scenes._grid(rng, sprites, size)
            pixels = np.bincount(scene.owner.ravel())[1:]
            assert [int(n) for n in pixels] == [item.area for item in scene.sprites]
