"""Greedy completions, from prefill to the last decode step, against transformers' `generate`, token by token."""

import functools

import jax
import numpy as np
import pytest

pytest.importorskip("torch", reason="the reference models need torch: pip install -e '.[parity]'")
import parity

from dtr1_jax.models import policy
from dtr1_jax.rl import rollout

TOKENS = 64
SCENES = {
    "text": (5, 17, 60, 33, 2, 71, 8, 29),
    "one token": (4,),
    "picture, text": (("image", (1, 2, 4)), 44, 5, 13),
    "text, picture": (7, 12, 80, ("image", (1, 3, 2))),
    "text, picture, text": (7, ("image", (1, 4, 2)), 44, 5, 13),
    "pictures": (("image", (1, 3, 2)), 9, 61, ("image", (1, 1, 4)), 21, ("image", (1, 2, 2))),
    "video, text": (("video", (3, 2, 2), 0.5), 8, 14, 40, 2),
    "slow video": (3, ("video", (4, 1, 2), 40.0), 8, 14, 40, 2, 33, 51),
    "two videos": (("video", (2, 1, 2), 3.0), 8, ("video", (3, 1, 1), 7.5), 4, 64),
    "picture, video": (1, 6, ("image", (1, 2, 2)), 30, ("video", (2, 2, 3), 9.0), 12, 19),
    "video, picture": (("video", (2, 1, 2), 1.5), 4, ("image", (1, 3, 1)), 12),
    "picture, video, picture": (("image", (1, 1, 2)), 5, ("video", (3, 1, 1), 20.0), ("image", (1, 2, 1)), 31),
}
# The text behind a video has two rules; they differ for Qwen2.5-VL only.
CASES = [(family, "end") for family in parity.CONFIGS] + [("qwen2_5_vl", "grid")]


def scenes(family):
    return {n: s for n, s in SCENES.items() if family in parity.VISION or n in ("text", "one token")}


def untied(family):
    """The sizes without a tied embedding: random models with one repeat their last token."""
    return [size for size in range(3) if not parity.shape(family, size).tied]


@functools.cache
def ours(family, size, resume, left):
    """int[scene, 2, TOKENS]: our completions of all scenes in one batch, half of them padded left, in a group of 2."""
    rows = [parity.row(family, size, scene, seed) for seed, scene in enumerate(scenes(family).values())]
    prompt = parity.prompt(family, size, rows, left, resume)
    drawn = rollout.sample(
        parity.params(family, size), None, prompt, jax.random.key(0), None, spec=parity.shape(family, size), group=2,
        new_tokens=TOKENS, end=-1, pad=0, temperature=0.0,
    )  # fmt: skip
    return rows, prompt, drawn


@pytest.mark.parametrize(("family", "resume"), CASES)
@pytest.mark.parametrize("left", [0, 1])
def test_greedy_tokens(family, resume, left):
    size = untied(family)[left % len(untied(family))]
    rows, _, drawn = ours(family, size, resume, left)
    different = []
    for i, name in enumerate(scenes(family)):
        wanted = parity.generate(family, size, rows[i], TOKENS, resume)
        assert len(wanted) == TOKENS, name
        different.append(len(set(wanted.tolist())))
        for g in range(2):
            np.testing.assert_array_equal(drawn.token_bgs[i, g], wanted, err_msg=name)
    # some completions of random models repeat one token, and would not show a wrong position
    assert np.mean(different) > 6, different


@pytest.mark.parametrize(("family", "resume"), CASES)
def test_the_scorer_gives_the_tokens_the_log_probabilities_of_the_sampler(family, resume):
    size = untied(family)[0]
    _, prompt, drawn = ours(family, size, resume, 0)
    params, spec = parity.params(family, size), parity.shape(family, size)

    @jax.jit
    def score(params, prompt, token):
        return policy.logprobs(params, None, spec, policy.prefill(params, None, spec, prompt), token)

    np.testing.assert_allclose(score(params, prompt, drawn.token_bgs), drawn.logp_bgs, atol=1e-4)


def test_the_two_rules_give_different_completions():
    """Behind a slow video; a test that cannot tell them apart would prove nothing."""
    size, i = untied("qwen2_5_vl")[0], list(SCENES).index("slow video")
    _, _, end = ours("qwen2_5_vl", size, "end", 0)
    _, _, grid = ours("qwen2_5_vl", size, "grid", 0)
    # Random weights may choose the same tokens under both rules, but not with the same probabilities.
    assert np.abs(end.logp_bgs[i] - grid.logp_bgs[i]).max() > 100 * 1e-4


@pytest.mark.parametrize("resume", ["end", "grid"])
@pytest.mark.parametrize("name", ["slow video", "picture, video"])
def test_generate_does_what_whole_forward_passes_do(name, resume):
    """The reference itself: the positions that `generate` gives its decode steps are the last one plus 1, 2, ..."""
    size = untied("qwen2_5_vl")[0]
    row = parity.row("qwen2_5_vl", size, SCENES[name], 3)
    np.testing.assert_array_equal(
        parity.generate("qwen2_5_vl", size, row, 48, resume),
        parity.greedy_without_cache("qwen2_5_vl", size, row, 48, resume),
    )
