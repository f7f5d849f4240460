"""Buckets, padding and stacking: few shapes, and no value changes."""

import dataclasses
import itertools
import logging

import jax
import numpy as np
import pytest

from dtr1_jax import types
from dtr1_jax.data import batches, patches, pipeline, prompts, tokenizer
from dtr1_jax.policies import policy_files
from dtr1_jax.twin.coordinates import Frame

SMALL = patches.Geometry(8, 1, 2, 12, 32 * 32)
STYLE = prompts.Style(tokenizer.load_tokenizer(policy_files.ASSETS / "tiny"), SMALL, Frame.PIXEL, "brief", 64)


def take(data, count):
    return list(itertools.islice(data, count))


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.mark.parametrize(
    "count, most, expected",
    [(1, 96, 96), (96, 96, 96), (1, 2048, 512), (512, 2048, 512), (513, 2048, 1024), (2048, 2048, 2048),
     (129, 300, 256), (257, 300, 300), (600, 1000, 768), (900, 1000, 1000)],
)  # fmt: skip
def test_bucket_of_tokens_by_hand(count, most, expected):
    assert batches.bucket_tokens(count, most) == expected


@pytest.mark.parametrize("most", [1, 96, 128, 1000, 2048, 30_001])
def test_lengths_are_few(most):
    lengths = {batches.bucket_tokens(count, most) for count in range(1, most + 1)}
    assert len(lengths) <= batches.STEPS
    assert max(lengths) == most
    assert all(batches.bucket_tokens(count, most) >= count for count in range(1, most + 1))


def test_counts_of_patches_are_few():
    one = patches.Geometry(14, 2, 2, 0, 28 * 28 * 1000, rule="smart")  # a picture has at most 4000 patches
    sizes = [batches.bucket_patches(count, one) for count in range(4, 20_001, 4)]
    assert all(size >= count and size % 4 == 0 for size, count in zip(sizes, range(4, 20_001, 4)))
    assert sorted(set(sizes)) == [
        256,
        384,
        512,
        768,
        1024,
        1536,
        2048,
        3072,
        4000,
        4096,
        6144,
        8192,
        12288,
        16384,
        24576,
    ]
    assert batches.bucket_patches(4, SMALL) == batches.bucket_patches(16, SMALL) == SMALL.patches == 16
    threes = patches.Geometry(8, 1, 3, 12, 24 * 24 * 1000, rule="smart")
    assert batches.bucket_patches(200, threes) == 261  # whole tokens


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Pictures of several sizes, some queries with two of them."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        side = (60, 200, 330)[index % 3]
        image = np.full((side, side, 3), index, np.uint8)
        target = types.Target(np.zeros((side, side), bool), np.zeros((0, 4), np.float32))
        visuals = (image, image) if index % 4 == 3 else ()
        return types.Example(str(index), image, "look " * (1 + 8 * index), "segmentation", target, visuals=visuals)


LARGE = dataclasses.replace(
    STYLE, geometry=patches.Geometry(8, 1, 2, 12, 320 * 320, rule="smart"), length=1024
)  # pictures of 16, 144 and 400 vision tokens


def test_batches_are_cut_to_buckets_and_new_shapes_are_logged(caplog):
    batches._logged.clear()
    with caplog.at_level(logging.INFO):
        ready = list(pipeline.evaluation_batches(Sizes(), LARGE, 1, 12))
    shapes = {(b.prompt.token_bp.shape[1], b.prompt.images.segment_bn.shape[1]) for b in ready}
    logged = [r.getMessage() for r in caplog.records if "a new shape of prompts" in r.getMessage()]
    assert len(logged) == len(shapes) == len(set(logged)) > 2
    assert {n for n, _ in shapes} <= {256, 512, 768, 1024}
    for batch, example in zip(ready, Sizes()):
        fields, pictures, _ = prompts.prompt(example, LARGE)
        p, length = batch.prompt, batch.prompt.token_bp.shape[1]
        assert p.mask_bp.sum() == fields["mask_bp"].sum() > length - 256
        np.testing.assert_array_equal(p.token_bp[0], fields["token_bp"][:length])
        count = len(pictures["segment_bn"])
        np.testing.assert_array_equal(p.images.patch_bnc[0, :count], pictures["patch_bnc"])
        assert not p.images.segment_bn[0, count:].any()
        assert p.slot_bp.max() == count // 4 - 1


def test_prompts_of_several_processes_get_one_shape():
    small, large = (pipeline.single_batch(Sizes()[i], LARGE).prompt for i in (0, 11))
    assert batches.shape_of(small)[0] < batches.shape_of(large)[0]
    grown = batches.with_shape(small, *batches.shape_of(large))
    assert batches.shape_of(grown) == batches.shape_of(large)
    same(grown, jax.tree.map(lambda x: x[:1], batches.join_prompts(small, large)))
    assert batches.with_shape(small, *batches.shape_of(small)) is small
    text = np.ones((1, 2, 3), np.int32)
    shown = types.Demonstration(small, text, text > 0, text > 0, None, None)
    longer = batches.with_lengths(shown, *batches.shape_of(large), 5)
    assert longer.token_bgs.tolist() == [[[1, 1, 1, 0, 0]] * 2] and not longer.mask_bgs[..., 3:].any()
    same(longer.prompt, grown)


def test_join_pads_to_the_larger():
    short, long = (pipeline.single_batch(Sizes()[i], LARGE).prompt for i in (0, 11))
    both = batches.join_prompts(short, long)
    assert both.token_bp.shape == (2, 1024) and both.images.segment_bn.shape[1] == long.images.segment_bn.shape[1]
    for row, one in enumerate((short, long)):
        p, n = one.token_bp.shape[1], one.images.segment_bn.shape[1]
        for name in ("token_bp", "mask_bp", "position_bp3", "slot_bp"):
            np.testing.assert_array_equal(getattr(both, name)[row, :p], getattr(one, name)[0])
        np.testing.assert_array_equal(both.images.patch_bnc[row, :n], one.images.patch_bnc[0])
        assert both.next_b[row] == one.next_b[0]
    assert not both.mask_bp[0, 256:].any() and (both.slot_bp[0, 256:] == -1).all()
    same(batches.join_prompts(short, short).token_bp, np.repeat(short.token_bp, 2, 0))


def test_bucket_is_never_wider_than_the_rows():
    size = batches.BUCKET
    mask = np.arange(size + 4) < np.array([[size + 2], [3]])
    assert batches._bucket(mask) == size + 4
    assert batches._bucket(mask[:, : size + 1]) == size + 1
    assert batches._bucket(mask & (np.arange(size + 4) < size)) == size
