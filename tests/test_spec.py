"""Sizes that can not work are refused where they are written down."""

import dataclasses

import jax
import pytest

from dtr1_jax import config
from dtr1_jax.models import policy, spec


def size(shape: spec.Spec) -> int:
    params = jax.eval_shape(lambda: policy.init(jax.random.key(0), shape))
    return sum(x.size for x in jax.tree.leaves(params))


def test_tiny_has_at_most_5_million_parameters():
    assert 1_000_000 < size(spec.get("tiny")) <= 5_000_000


def test_unknown_name_says_the_nearest():
    with pytest.raises(config.ConfigError, match=r"config\.policy\.name: no policy 'tinny'.*did you mean \"tiny\""):
        spec.get("tinny")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kv_heads": 4}, "heads = 6 is not a multiple of kv_heads = 4"),
        ({"sections": (6, 5, 4)}, r"sections \(6, 5, 4\) must sum to head_dim / 2 = 16"),
        ({"head_dim": 31, "sections": None}, "head_dim = 31 is odd"),
    ],
)
def test_decoder_sizes_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(spec.TINY, **changes)


def test_tower_sizes_that_do_not_fit():
    with pytest.raises(ValueError, match="vision width = 128 is not a multiple of 4 x heads = 12"):
        dataclasses.replace(spec.TINY.vision, heads=3)


def test_values_of_a_patch():
    tower = spec.VisionSpec(width=16, layers=1, heads=2, hidden=16, patch=14, temporal_patch=2)
    assert tower.values == 3 * 2 * 14 * 14


def test_specs_are_hashable_and_equal_by_value():
    """They are static arguments of jit: equal ones share a compilation."""
    twin = dataclasses.replace(spec.TINY)
    assert twin == spec.TINY and hash(twin) == hash(spec.TINY)
    assert dataclasses.replace(spec.TINY, eps=1e-5) != spec.TINY


@pytest.mark.parametrize("changes", [{"tied": False}, {"qkv_bias": True}, {"qk_norm": False}, {"vision": None}])
def test_options_decide_which_weights_there_are(changes):
    def names(shape):
        params = jax.eval_shape(lambda: policy.init(jax.random.key(0), shape))
        return {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)}

    added = names(dataclasses.replace(spec.TINY, **changes)) - names(spec.TINY)
    gone = names(spec.TINY) - names(dataclasses.replace(spec.TINY, **changes))
    wanted = {
        "tied": ({"['head']['kernel']"}, set()),
        "qkv_bias": ({f"['decoder']['{n}']['bias']" for n in "qkv"}, set()),
        "qk_norm": (set(), {f"['decoder']['{n}_norm']['scale']" for n in "qk"}),
        "vision": (set(), {n for n in names(spec.TINY) if n.startswith("['vision']")}),
    }
    assert (added, gone) == wanted[next(iter(changes))]
