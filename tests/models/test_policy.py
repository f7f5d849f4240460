"""The functions of the policy: equal results by different ways of computing them, and the use of every weight."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_policy
from tiny_policy import SPEC, gradients, logprobs

from dtr1_jax import layout
from dtr1_jax.models import decoder, policy
from dtr1_jax.models.weights import native

PARAMS = tiny_policy.params()
PROMPT = tiny_policy.prompt()
TOKENS = tiny_policy.completions()
UNTIED = dataclasses.replace(SPEC, tied=False, qkv_bias=True, out_bias=True, mlp_bias=True)


def leaves(tree):
    return native.flatten(tree)


@pytest.mark.parametrize("pictures", [True, False])
@pytest.mark.parametrize(("padding", "length"), [("left", 10), ("middle", 10), ("right", 13)])
def test_where_padding_stands_does_not_matter(padding, length, pictures):
    wanted = logprobs(PARAMS, None, tiny_policy.prompt(pictures=pictures), TOKENS)
    other = tiny_policy.prompt(padding, length, pictures, seed=1)
    np.testing.assert_allclose(logprobs(PARAMS, None, other, TOKENS), wanted, atol=1e-5)
    if length == 10 and pictures:
        grad, other_grad = gradients(PARAMS, None, PROMPT, TOKENS), gradients(PARAMS, None, other, TOKENS)
        tiny_policy.assert_trees_close(other_grad, grad, atol=1e-4, rtol=1e-4)


def test_shared_prefix_equals_a_copy_for_each_completion():
    b, g, s = TOKENS.shape
    tiled = jax.tree.map(lambda x: np.repeat(x, g, 0), PROMPT)
    apart = TOKENS.reshape(b * g, 1, s)
    shared = logprobs(PARAMS, None, PROMPT, TOKENS)
    assert shared.shape == (b, g, s) and shared.dtype == jnp.float32
    np.testing.assert_allclose(shared, logprobs(PARAMS, None, tiled, apart).reshape(b, g, s), atol=1e-5)

    def loss(params, prompt, token, weight):
        prefix = policy.prefill(params, None, SPEC, prompt)
        return (policy.logprobs(params, None, SPEC, prefix, token) * weight).mean()

    weight = np.cos(np.arange(TOKENS.size)).reshape(TOKENS.shape)
    step = jax.jit(jax.value_and_grad(loss))
    value, grad = step(PARAMS, PROMPT, TOKENS, weight)
    other, other_grad = step(PARAMS, tiled, apart, weight.reshape(apart.shape))
    np.testing.assert_allclose(other, value, atol=1e-5)
    tiny_policy.assert_trees_close(other_grad, grad)


def test_probabilities_sum_to_one_and_branches_do_not_see_each_other():
    before = np.asarray(logprobs(PARAMS, None, PROMPT, TOKENS))
    changed = TOKENS.copy()
    changed[0, 1, 3] = (changed[0, 1, 3] + 1) % 64
    moved = np.abs(np.asarray(logprobs(PARAMS, None, PROMPT, changed)) - before) > 1e-6
    assert moved[0, 1, 3:].all()  # the token itself and all after it
    moved[0, 1, 3:] = False
    assert not moved.any()
    every = np.broadcast_to(np.arange(64)[None, :, None], (2, 64, 1)).astype(np.int32)
    np.testing.assert_allclose(np.exp(logprobs(PARAMS, None, PROMPT, every)).sum(1), 1.0, rtol=1e-5)


def test_temper_is_applied_before_the_softmax():
    every = np.broadcast_to(np.arange(64)[None, :, None], (2, 64, 1)).astype(np.int32)  # the whole first distribution
    plain = np.asarray(logprobs(PARAMS, None, PROMPT, every), np.float64)[..., 0]

    def temper(z, token_v):
        return jnp.where(token_v == 7, -jnp.inf, z / 0.7)

    got = np.asarray(logprobs(PARAMS, None, PROMPT, every, temper=temper))[..., 0]
    weight = np.exp(plain / 0.7)
    weight[:, 7] = 0
    np.testing.assert_allclose(np.exp(got), weight / weight.sum(1, keepdims=True), atol=1e-6)
    assert (got[:, 7] == -np.inf).all()


@pytest.mark.parametrize("spec", [SPEC, UNTIED], ids=["tied", "untied"])
def test_every_weight_has_a_gradient_and_moves_the_logprobs(spec):
    params = tiny_policy.params(spec)
    before = logprobs(params, None, PROMPT, TOKENS, spec=spec)
    grad = leaves(gradients(params, None, PROMPT, TOKENS, spec=spec))
    rng = np.random.default_rng(0)
    for name, leaf in leaves(params).items():
        stacked = name.startswith(("decoder/", "vision/blocks/"))
        for i in range(len(leaf) if stacked else 1):
            part = (name, i) if stacked else (name,)
            assert np.abs(grad[name][i] if stacked else grad[name]).max() > 1e-4, part
            bumped = np.array(leaf)
            bumped[i if stacked else ...] += 0.1 * rng.standard_normal(leaf.shape[1:] if stacked else leaf.shape)
            tree = native.unflatten(leaves(params) | {name: bumped})
            assert np.abs(logprobs(tree, None, PROMPT, TOKENS, spec=spec) - before).max() > 1e-4, part


def adapters(targets, rank=2, filled=True):
    lora = policy.init_lora(jax.random.key(3), PARAMS, rank, targets)
    rng = np.random.default_rng(3)
    return jax.tree.map(lambda x: x + rng.standard_normal(x.shape).astype(np.float32) * 0.1, lora) if filled else lora


def test_new_adapters_leave_the_policy_as_it_was():
    lora = adapters(".*", filled=False)
    reference = logprobs(PARAMS, None, PROMPT, TOKENS)
    np.testing.assert_allclose(logprobs(PARAMS, lora, PROMPT, TOKENS), reference, atol=1e-5)
    for name, leaf in leaves(lora).items():
        assert (leaf == 0).all() == name.endswith("/b")
    a = lora["vision"]["merger"]["fc1"]["a"]
    assert a.std() == pytest.approx(a.shape[0] ** -0.5, rel=0.2)
    # two projections of one shape, and two layers of one projection, do not start alike
    assert not np.allclose(lora["decoder"]["k"]["a"], lora["decoder"]["v"]["a"])
    assert not np.allclose(lora["decoder"]["k"]["a"][0], lora["decoder"]["k"]["a"][1])


@pytest.mark.parametrize(
    ("targets", "paths"),
    [
        ("decoder/(q|v)", {"decoder/q", "decoder/v"}),
        ("decoder/.*", {f"decoder/{n}" for n in ("q", "k", "v", "o", "gate", "up", "down")}),
        ("vision/blocks/qkv", {"vision/blocks/qkv"}),
        ("vision/merger/.*", {"vision/merger/fc1", "vision/merger/fc2"}),
        (".*/patch|decoder/down", {"vision/patch", "decoder/down"}),
    ],
)
def test_targets_say_which_projections_are_adapted(targets, paths):
    lora = adapters(targets)
    assert {name.rpartition("/")[0] for name in leaves(lora)} == paths
    assert np.abs(logprobs(PARAMS, lora, PROMPT, TOKENS) - logprobs(PARAMS, None, PROMPT, TOKENS)).max() > 1e-4


def test_every_adapter_counts():
    lora = adapters(".*")
    before = logprobs(PARAMS, lora, PROMPT, TOKENS)
    grad = leaves(gradients(PARAMS, lora, PROMPT, TOKENS, wrt_lora=True))
    assert set(grad) == set(leaves(lora))
    for name, leaf in leaves(lora).items():
        stacked = name.startswith(("decoder/", "vision/blocks/"))
        for i in range(len(leaf) if stacked else 1):
            assert np.abs(grad[name][i] if stacked else grad[name]).max() > 1e-5, (name, i)
        # not the same everywhere: a shift of all features alike is what the next layer norm takes out
        moved = leaf + 0.1 * np.random.default_rng(0).standard_normal(leaf.shape).astype(np.float32)
        tree = native.unflatten(leaves(lora) | {name: moved})
        assert np.abs(logprobs(PARAMS, tree, PROMPT, TOKENS) - before).max() > 1e-4, name


def test_adapters_equal_weights_with_their_product_added():
    lora, scale = adapters(".*"), 0.5
    merged = leaves(PARAMS)
    for name in {name.rpartition("/")[0] for name in leaves(lora)}:
        a, b = leaves(lora)[f"{name}/a"], leaves(lora)[f"{name}/b"]
        merged[f"{name}/kernel"] = merged[f"{name}/kernel"] + scale * a @ b
    got = logprobs(PARAMS, lora, PROMPT, TOKENS, spec=dataclasses.replace(SPEC, lora_scale=scale))
    np.testing.assert_allclose(got, logprobs(native.unflatten(merged), None, PROMPT, TOKENS), atol=1e-4)
    assert np.abs(got - logprobs(PARAMS, lora, PROMPT, TOKENS)).max() > 1e-3


def test_targets_that_match_nothing_are_refused_with_a_list_of_the_projections():
    with pytest.raises(
        ValueError, match=r"'decoder/query' match no projection; there are: decoder/down, .*fc2"
    ) as error:
        policy.init_lora(jax.random.key(0), PARAMS, 2, "decoder/query")
    assert "norm" not in str(error.value)
    for slow in ("(a+)+$", "(.|d)*x", ".*" * 7, "decoder/q" * 100, "(decoder){5}"):
        with pytest.raises(ValueError, match=r"expected at most 500 characters and 6 of the signs \* \+ {"):
            policy.init_lora(jax.random.key(0), PARAMS, 2, slow)
    with pytest.raises(ValueError, match="not a regular expression"):
        policy.init_lora(jax.random.key(0), PARAMS, 2, "decoder/(q")
    with pytest.raises(ValueError, match="match no projection"):
        policy.init_lora(jax.random.key(0), tiny_policy.params(UNTIED), 2, "head")


def test_text_only_policy():
    spec = dataclasses.replace(SPEC, vision=None)
    params = {name: x for name, x in PARAMS.items() if name != "vision"}
    assert set(policy.init(jax.random.key(0), spec)) == set(params)
    text = tiny_policy.prompt(pictures=False)
    got = logprobs(params, None, text, TOKENS, spec=spec)
    np.testing.assert_allclose(got, logprobs(PARAMS, None, text, TOKENS), atol=1e-6)  # an unused tower does nothing
    with pytest.raises(ValueError, match="no vision tower"):
        tiny_policy.prefill(params, None, spec, PROMPT)


def test_vision_tokens_that_the_caller_has_are_used():
    seen = tiny_policy.encode(PARAMS, None, SPEC, PROMPT)
    own = tiny_policy.prefill(PARAMS, None, SPEC, PROMPT)
    given = tiny_policy.prefill(PARAMS, None, SPEC, PROMPT, vision_bmd=seen)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), given, own)
    other = tiny_policy.prefill(PARAMS, None, SPEC, PROMPT, vision_bmd=seen + 1)
    assert np.abs(other.last_bd - own.last_bd).max() > 1e-3


@pytest.mark.parametrize("levels", [0, 2])
def test_embed_puts_vision_tokens_into_their_slots(levels):
    """Their DeepStack features come apart, and text has none."""
    seen = np.random.default_rng(0).standard_normal((2, 4, (1 + levels) * SPEC.width)).astype(np.float32)
    x, deep = policy.embed(PARAMS, SPEC, PROMPT, seen)
    parts = [x] if deep is None else [x, *deep]
    assert len(parts) == 1 + levels
    for part, wanted in zip(parts, np.split(seen, 1 + levels, -1)):
        np.testing.assert_array_equal(part[0, 4], wanted[0, 2])
        np.testing.assert_array_equal(part[1, 2], wanted[1, 1])
    np.testing.assert_array_equal(x[0, 3], PARAMS["embed"]["table"][9])
    assert not any(d[0, 3].any() for d in parts[1:])


def test_one_token_completions():
    """The shortest completion needs no pass of its own: its state is the prompt's last."""
    short, long = TOKENS[..., :1], TOKENS
    got, wanted = logprobs(PARAMS, None, PROMPT, short), logprobs(PARAMS, None, PROMPT, long)[..., :1]
    np.testing.assert_allclose(got, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("length", "parts", "platform", "count"),
    [(8, 1, "cpu", 7), (8, 1, "tpu", 8), (8, 1, "gpu", 8), (12, 1, "tpu", 11), (12, 4, "cpu", 12), (2, 1, "tpu", 1)],
)
def test_how_many_tokens_of_a_completion_pass(length, parts, platform, count):
    assert decoder.tokens_read(length, parts, platform) == count


def test_a_last_token_that_passes_changes_nothing(monkeypatch):
    """On accelerators the decoder reads all of 8 tokens, of which the last predicts nothing."""
    tokens = np.random.default_rng(3).integers(2, SPEC.vocab, (2, 3, 8), np.int32)
    prefix = tiny_policy.prefill(PARAMS, None, SPEC, PROMPT)

    def score():
        def total(params):
            logp = policy.logprobs(params, None, SPEC, prefix, tokens)
            return (logp * jnp.cos(jnp.arange(tokens.size)).reshape(tokens.shape)).sum(), logp

        (_, logp), grad = jax.jit(jax.value_and_grad(total, has_aux=True))(PARAMS)
        return logp, grad

    read, look_up = [], policy._look_up
    monkeypatch.setattr(policy, "_look_up", lambda *args: read.append(args[2].shape[-1]) or look_up(*args))
    logp, grad = score()
    monkeypatch.setattr(layout, "platform", lambda: "gpu")
    got, got_grad = score()
    assert read == [7, 8]
    np.testing.assert_allclose(got, logp, atol=1e-5)
    tiny_policy.assert_trees_close(got_grad, grad, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("spec", [SPEC, UNTIED], ids=["tied", "untied"])
def test_bfloat16_is_near_float32(spec):
    params = policy.init(jax.random.key(0), spec)
    exact = logprobs(params, None, PROMPT, TOKENS, spec=spec)
    rough = logprobs(params, None, PROMPT, TOKENS, spec=spec, dtype=jnp.bfloat16)
    assert rough.dtype == jnp.float32
    assert 0 < np.abs(rough - exact).max() < 0.1


def test_bfloat16_logits_are_not_rounded():
    """A sum of exact products: 16 + 1/16 has no bfloat16, so a rounded logit would be 16."""
    x = jnp.zeros((SPEC.width,), jnp.bfloat16).at[:2].set(jnp.array([4.0, 0.25]))
    params = {"embed": {"table": jnp.zeros((3, SPEC.width)).at[1, :2].set(jnp.array([4.0, 0.25]))}}
    assert policy.logits(params, SPEC, x).tolist() == [0.0, 16.0625, 0.0]


def test_init_depends_on_the_key_and_layers_differ():
    one, two = policy.init(jax.random.key(0), SPEC), policy.init(jax.random.key(1), SPEC)
    for name, x in leaves(one).items():
        if name.endswith(("kernel", "table")):
            assert not np.allclose(x, leaves(two)[name]), name
        if name.endswith("kernel") and x.ndim == 3:
            assert not np.allclose(x[0], x[1]), name
            assert x.std() == pytest.approx(x.shape[1] ** -0.5, rel=0.2), name


def test_a_sequence_longer_than_a_window_is_refused():
    """Windows are not computed. The prompts have 10 tokens, the completions as many as TOKENS."""
    new = TOKENS.shape[-1]

    def score(window):
        shape = dataclasses.replace(SPEC, window=window)
        prefix = policy.prefill(PARAMS, None, shape, PROMPT)
        return policy.logprobs(PARAMS, None, shape, prefix, TOKENS)

    length = PROMPT.mask_bp.shape[1]
    assert jax.eval_shape(lambda: score(length + new)).shape == TOKENS.shape
    for window in (length + new - 1, length - 1):
        with pytest.raises(ValueError, match=rf"layers of the policy see only the last {window} \(sliding_window\)"):
            jax.eval_shape(lambda window=window: score(window))
    prefix = jax.eval_shape(lambda: policy.prefill(PARAMS, None, SPEC, PROMPT))
    with pytest.raises(ValueError, match=rf"up to {length + 7} tokens"):
        jax.eval_shape(lambda p: policy.start(PARAMS, None, dataclasses.replace(SPEC, window=length), p, 2, 7), prefix)
