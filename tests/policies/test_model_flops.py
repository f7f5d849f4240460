"""Operations by hand; tests/experiments/test_utilization.py compares an update by LoRA with the traced program."""

import dataclasses

import pytest

from dtr1_jax.models import published_sizes
from dtr1_jax.models.spec import Spec, VisionSpec
from dtr1_jax.policies import model_flops

SPEC = Spec(vocab=11, width=6, layers=3, heads=2, kv_heads=1, head_dim=4, hidden=5)
SIZES = model_flops.Sizes(queries=2, group=3, prompt=7, new=4)
LAYER = 6 * 8 + 2 * 6 * 4 + 8 * 6 + 3 * 6 * 5  # queries, keys and values, output, MLP
TOKENS = 2 * (7 + 3 * 3)
PRODUCTS = 2 * TOKENS * 3 * LAYER + 2 * (2 * 3 * 4) * 6 * 11
# each token of a prompt sees 4 on average; each input of a completion the prompt and 2 of its own
ATTENTION = 4 * (2 * 7 * 4 + 2 * 3 * 3 * (7 + 2)) * 8 * 3


def test_an_update_by_hand():
    assert model_flops.layer_weights(SPEC) == LAYER
    assert model_flops.update(SPEC, SIZES) == 3 * PRODUCTS + 3 * ATTENTION
    assert model_flops.update(SPEC, SIZES, adapters=10) == 2 * PRODUCTS + 3 * ATTENTION + 6 * TOKENS * 10
    with_reference = model_flops.update(SPEC, SIZES, reference=True)
    assert with_reference == 4 * PRODUCTS + 4 * ATTENTION


def test_a_tower_by_hand():
    tower = VisionSpec(width=8, layers=3, heads=2, hidden=7, patch=2, temporal_patch=1, merge=2, side=4, deepstack=(1,))
    spec = dataclasses.replace(SPEC, vision=tower)
    blocks = 3 * (2 * 20 * (8 * 24 + 8 * 8 + 2 * 8 * 7) + 4 * 20 * 20 * 8)
    mergers = 2 * 2 * 5 * 32 * (32 + 6)  # two of them, for 5 tokens
    assert model_flops.tower(spec, 20) == 2 * 20 * 12 * 8 + blocks + mergers
    assert model_flops.tower(spec, 0) == model_flops.tower(SPEC, 20) == 0
    windows = dataclasses.replace(
        spec, vision=dataclasses.replace(tower, gated=True, window=1, full_layers=(2,), deepstack=())
    )
    blocks = 3 * 2 * 20 * (8 * 24 + 8 * 8 + 3 * 8 * 7) + 4 * 20 * 8 * (4 + 4 + 20)
    assert model_flops.tower(windows, 20) == 2 * 20 * 12 * 8 + blocks + mergers / 2


@pytest.mark.parametrize("adapters, times", [(10, 1), (0, 3)])
def test_a_frozen_tower_has_no_backward_pass(adapters, times):
    spec = published_sizes.get_spec("qwen2_5_vl_3b")
    text = dataclasses.replace(spec, vision=None)
    sizes = dataclasses.replace(SIZES, patches=64)
    more = model_flops.update(spec, sizes, adapters=adapters) - model_flops.update(text, sizes, adapters=adapters)
    assert more == pytest.approx(times * 2 * model_flops.tower(spec, 64), rel=1e-6)


def test_a_token_reads_weights_and_caches():
    found = model_flops.bytes_of_token(SPEC, SIZES, 1000, tensor=1, item=2)
    assert found == 1000 + (2 * 7 + 2 * 3 * 1.5) * 2 * 3 * 4 * 2
    # two devices cannot share one kv head: each keeps it
    assert model_flops.bytes_of_token(SPEC, SIZES, 1000, tensor=2, item=2) == found
