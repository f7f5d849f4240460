"""The whole decoder against a float64 reference in plain loops, and decoding against scoring."""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_policy

from dtr1_jax.models import decoder, policy

SPEC = tiny_policy.SPEC


def rms_norm(x, scale, eps):
    return x / math.sqrt(sum(v * v for v in x) / len(x) + eps) * scale


def rotary_axis(spec, i):
    """Position axis that frequency i follows, from the definition of either layout."""
    if spec.sections is None:
        return 0
    if not spec.interleaved:
        return 0 if i < spec.sections[0] else 1 if i < sum(spec.sections[:2]) else 2
    return i % 3 if i % 3 and i < 3 * spec.sections[i % 3] else 0


def rope(spec, x, position_3):
    half, out = spec.head_dim // 2, np.zeros(spec.head_dim)
    for i in range(half):
        angle = position_3[rotary_axis(spec, i)] * spec.theta ** (-2 * i / spec.head_dim)
        z = complex(x[i], x[i + half]) * complex(math.cos(angle), math.sin(angle))
        out[i], out[i + half] = z.real, z.imag
    return out


def linear(p, x):
    return x @ p["kernel"] + p.get("bias", 0)


def reference_logits(params, spec, x, position):
    """float64[L, V] of one sequence without padding, from its embeddings x [L, D] and positions [L, 3]."""
    params = jax.tree.map(lambda w: np.asarray(w, np.float64), params)
    x, length = np.array(x, np.float64), len(x)
    for layer in range(spec.layers):
        p = jax.tree.map(lambda w: w[layer], params["decoder"])  # noqa: B023
        keys, values, queries = [], [], []
        for l in range(length):
            y = rms_norm(x[l], p["attn_norm"]["scale"], spec.eps)
            heads = {}
            for name in "qkv":
                flat = y @ p[name]["kernel"] + (p[name]["bias"] if spec.qkv_bias else 0)
                heads[name] = flat.reshape(-1, spec.head_dim)
            if spec.qk_norm:
                for name in "qk":
                    heads[name] = [rms_norm(h, p[f"{name}_norm"]["scale"], spec.eps) for h in heads[name]]
            queries.append([rope(spec, h, position[l]) for h in heads["q"]])
            keys.append([rope(spec, h, position[l]) for h in heads["k"]])
            values.append(heads["v"])
        for l in range(length):
            out = []
            for n in range(spec.heads):
                kv = n * spec.kv_heads // spec.heads
                weight = np.array(
                    [math.exp(queries[l][n] @ keys[t][kv] / math.sqrt(spec.head_dim)) for t in range(l + 1)]
                )
                out.append(sum(w * values[t][kv] for t, w in enumerate(weight / weight.sum())))
            x[l] = x[l] + linear(p["o"], np.concatenate(out))
            y = rms_norm(x[l], p["mlp_norm"]["scale"], spec.eps)
            gate = linear(p["gate"], y)
            x[l] = x[l] + linear(p["down"], gate / (1 + np.exp(-gate)) * linear(p["up"], y))
    head = params["embed"]["table"].T if spec.tied else params["head"]["kernel"]
    return np.stack([rms_norm(row, params["norm"]["scale"], spec.eps) @ head for row in x])


def reference_completion_logits(params, spec, prompt, vision_bmd, token_bgs):
    """float64[B, G, S, V]: each completion is one long sequence behind a copy of its prompt."""
    b, g, s = token_bgs.shape
    table = np.asarray(params["embed"]["table"], np.float64)
    out = np.zeros((b, g, s, spec.vocab))
    for i, j in np.ndindex(b, g):
        real = np.flatnonzero(prompt.mask_bp[i])
        x = [vision_bmd[i, prompt.slot_bp[i, l]] if prompt.slot_bp[i, l] >= 0 else table[prompt.token_bp[i, l]]
             for l in real]  # fmt: skip
        position = [prompt.position_bp3[i, l] for l in real] + [[prompt.next_b[i] + n] * 3 for n in range(s)]
        x = np.stack([*x, *table[token_bgs[i, j]]])
        out[i, j] = reference_logits(params, spec, x, position)[len(real) - 1 : -1]
    return out


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"qk_norm": False, "qkv_bias": True, "tied": False, "interleaved": False},
        {"sections": None, "kv_heads": 1, "layers": 1, "vision": None},
        {"kv_heads": 4, "qkv_bias": True, "eps": 0.1, "theta": 3.0, "out_bias": True, "mlp_bias": True},
    ],
    ids=["qwen3-vl", "qwen2.5-vl", "text", "all-heads"],
)
def test_logits_equal_the_reference(changes):
    spec = dataclasses.replace(SPEC, **changes)
    params = tiny_policy.params(spec)
    prompt = tiny_policy.prompt("middle", pictures=spec.vision is not None)
    token_bgs = tiny_policy.completions(group=2, length=4)
    vision_bmd = tiny_policy.encode(params, None, spec, prompt) if spec.vision else None

    @jax.jit
    def logits(params, vision_bmd):
        prefix = policy.prefill(params, None, spec, prompt, vision_bmd=vision_bmd)
        return policy.logits(params, spec, policy.hidden(params, None, spec, prefix, token_bgs))

    wanted = reference_completion_logits(params, spec, prompt, vision_bmd, token_bgs)
    assert np.abs(wanted).max() > 1
    np.testing.assert_allclose(logits(params, vision_bmd), wanted, atol=1e-4, rtol=1e-4)


@functools.partial(jax.jit, static_argnames="spec")
def decode(params, split, prefix, cache, token_bgq, position_bgq, seen_bgt, slot, *, spec=SPEC):
    state_bgqd, cache = policy.decode(params, spec, split, prefix, cache, token_bgq, position_bgq, seen_bgt, slot)
    return jax.nn.log_softmax(policy.logits(params, spec, state_bgqd)), cache


@functools.partial(jax.jit, static_argnames=("spec", "group", "slots"))
def begin(params, lora, prompt, *, spec=SPEC, group, slots):
    prefix = policy.prefill(params, lora, spec, prompt)
    first = jax.nn.log_softmax(policy.logits(params, spec, prefix.last_bd))
    return prefix, first, *policy.start(params, lora, spec, prefix, group, slots)


def chosen(logp_v, token):
    return np.take_along_axis(np.asarray(logp_v), token[..., None], -1)[..., 0]


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("padding", ["right", "middle"])
def test_decoding_step_by_step_equals_scoring(padding, adapted):
    params, prompt, token_bgs = tiny_policy.params(), tiny_policy.prompt(padding), tiny_policy.completions()
    b, g, s = token_bgs.shape
    lora = policy.init_lora(jax.random.key(1), params, 2, ".*") if adapted else None
    lora = jax.tree.map(lambda x: x + 0.1, lora)
    prefix, first, split, cache = begin(params, lora, prompt, group=g, slots=s)
    got = [chosen(first[:, None].repeat(g, 1), token_bgs[..., 0])]
    for slot in range(s - 1):
        seen = np.broadcast_to(np.arange(s) <= slot, (b, g, s))
        position = np.broadcast_to(prompt.next_b[:, None, None] + slot, (b, g, 1))
        logp, cache = decode(params, split, prefix, cache, token_bgs[..., slot : slot + 1], position, seen, slot)
        got.append(chosen(logp[:, :, 0], token_bgs[..., slot + 1]))
    wanted = tiny_policy.logprobs(params, lora, prompt, token_bgs)
    np.testing.assert_allclose(np.stack(got, -1), wanted, atol=1e-5)


def test_rows_that_leave_slots_unused_equal_scoring():
    """Row (0, 0) writes slots 0 1 2 3, the other rows leave slot 1 unused: it holds garbage that no token sees."""
    params, prompt, token_bgs = tiny_policy.params(), tiny_policy.prompt(), tiny_policy.completions(2, 5)
    b, g, _ = token_bgs.shape
    slots, late = 4, np.array([[False, True], [True, True]])
    prefix, _, split, cache = begin(params, None, prompt, group=g, slots=slots)
    seen, length = np.zeros((b, g, slots), bool), np.zeros((b, g), int)
    got = np.zeros((b, g, 4))
    for slot in range(slots):
        live = ~late | (slot != 1)
        token = np.where(live, np.take_along_axis(token_bgs, length[..., None], 2)[..., 0], 40 + slot)
        seen[..., slot] = live
        position = prompt.next_b[:, None] + length
        logp, cache = decode(params, split, prefix, cache, token[..., None], position[..., None], seen, slot)
        for i, j in np.argwhere(live):
            got[i, j, length[i, j]] = logp[i, j, 0, token_bgs[i, j, length[i, j] + 1]]
        length += live
    wanted = np.asarray(tiny_policy.logprobs(params, None, prompt, token_bgs))[..., 1:]
    np.testing.assert_allclose(got[0, 0], wanted[0, 0], atol=1e-5)
    np.testing.assert_allclose(got[late][:, :3], wanted[late][:, :3], atol=1e-5)


def test_several_tokens_at_once_equal_one_by_one():
    """As the sampler's `insert` does it: 2 tokens, then 3 with the last one only in some rows."""
    params, prompt, token_bgs = tiny_policy.params(), tiny_policy.prompt(), tiny_policy.completions(2, 6)
    b, g, _ = token_bgs.shape
    prefix, _, split, cache = begin(params, None, prompt, group=g, slots=5)
    got, seen = [], np.zeros((b, g, 5), bool)
    for slot, count in ((0, 2), (2, 3)):
        seen[..., slot : slot + count] = True
        seen[1, 1, 4] = False
        position = np.broadcast_to(prompt.next_b[:, None, None] + slot + np.arange(count), (b, g, count))
        token = token_bgs[..., slot : slot + count]
        logp, cache = decode(params, split, prefix, cache, token, position, seen, slot)
        got.append(chosen(logp, token_bgs[..., slot + 1 : slot + count + 1]))
    got, wanted = np.concatenate(got, -1), np.asarray(tiny_policy.logprobs(params, None, prompt, token_bgs))[..., 1:]
    np.testing.assert_allclose(got[..., :4], wanted[..., :4], atol=1e-5)
    np.testing.assert_allclose(got[0], wanted[0], atol=1e-5)
    assert abs(got[1, 1, 4] - wanted[1, 1, 4]) > 1e-4  # it does not see itself


@functools.partial(jax.jit, static_argnames="spec")
def scanned(params, *, spec):
    """Value and gradient of the stack alone."""
    rng = np.random.default_rng(0)
    x, angle = rng.standard_normal((2, 3, 5, spec.width)), rng.standard_normal((2, 1, 5, spec.head_dim // 2))
    mask = np.tril(np.ones((5, 5), bool))[None, None]

    def total(params):
        out, kv = decoder.scan(params, None, spec, jnp.float32(x), jnp.float32(angle), mask)
        return jnp.sin(out).sum() + jnp.cos(kv.k).sum()

    return jax.value_and_grad(total)(params)


@pytest.mark.parametrize("changes", [{"unroll": 2}, {"unroll": 9}, {"remat": True}, {"remat": True, "unroll": 2}])
def test_unroll_and_remat_change_nothing(changes):
    base = dataclasses.replace(SPEC, layers=4)
    params = tiny_policy.params(base)["decoder"]
    value, grad = scanned(params, spec=base)
    other, other_grad = scanned(params, spec=dataclasses.replace(base, **changes))
    np.testing.assert_allclose(other, value, rtol=1e-5)
    tiny_policy.assert_trees_close(other_grad, grad, atol=1e-3, rtol=1e-4)  # of gradients in the hundreds


def test_remat_keeps_fewer_activations():
    """With remat, the backward pass does not hold the hidden units of the layers."""
    params = tiny_policy.params()
    x, angle, mask = jnp.ones((1, 1, 7, SPEC.width)), jnp.ones((1, 1, 7, 4)), jnp.ones((1, 1, 7, 7), bool)

    def residual_size(remat):
        spec = dataclasses.replace(SPEC, remat=remat)
        _, backward = jax.vjp(lambda p: decoder.scan(p, None, spec, x, angle, mask)[0], params["decoder"])
        return sum(leaf.size for leaf in jax.tree.leaves(backward))

    assert residual_size(True) < 0.7 * residual_size(False)


def test_unstack_splits_the_layer_axis():
    tree = {"a": np.arange(6).reshape(3, 2), "b": {"c": np.arange(3)}}
    parts = decoder.unstack(tree, 3)
    assert [p["b"]["c"].item() for p in parts] == [0, 1, 2]
    assert [p["a"].tolist() for p in parts] == [[0, 1], [2, 3], [4, 5]]
    assert decoder.unstack(None, 2) == [{}, {}]


@pytest.mark.parametrize("held", ["float32", "bfloat16", "int8"])
def test_matrices_stay_in_their_stack_on_tpus(monkeypatch, held):
    """By hand: those whose results are not cut into heads, unless the loop has to convert them or they are int8."""
    monkeypatch.setattr(decoder.layout, "platform", lambda: "tpu")
    names = ("q", "k", "v", "o", "gate", "up", "down")
    params = {name: {"kernel": jnp.ones((2, 3, 4), held), "bias": jnp.ones((2, 4))} for name in names}
    params = {**params, "attn_norm": {"scale": jnp.ones((2, 3))}}
    got = decoder.weights_by_layer(params, 2, jnp.bfloat16)
    stay = {name for name in got[1] if isinstance(got[1][name].get("kernel"), decoder.InStack)}
    assert stay == ({"o", "gate", "up", "down"} if held == "bfloat16" else set()) and len(got) == 2
    assert all(isinstance(tree.get("bias", tree.get("scale")), jax.Array) for tree in got[0].values())
    monkeypatch.setattr(decoder.layout, "platform", lambda: "cpu")
    assert not any(isinstance(x, decoder.InStack) for x in decoder.weights_by_layer(params, 2, jnp.bfloat16))


def test_decoding_out_of_the_stack_gives_the_same(monkeypatch):
    """The states of four steps, in a loop that XLA compiles; each matrix in the stack is read in it."""
    params, prefix = tiny_policy.params(), tiny_policy.prefill(tiny_policy.params(), None, SPEC, tiny_policy.prompt())
    tokens = tiny_policy.completions(group=2, length=4)

    @jax.jit
    def decoded(params):
        split, cache = policy.start(params, None, SPEC, prefix, 2, 4)

        def step(cache, inputs):
            slot, token = inputs
            place = jnp.broadcast_to(prefix.next_b[:, None, None] + slot, token.shape)
            seen = jnp.broadcast_to(jnp.arange(4) <= slot, (2, 2, 4))
            state, cache = policy.decode(params, SPEC, split, prefix, cache, token, place, seen, slot)
            return cache, state

        return jax.lax.scan(step, cache, (jnp.arange(4), jnp.moveaxis(tokens, 2, 0)[..., None]))[1]

    want = decoded(params)
    jax.clear_caches()
    monkeypatch.setattr(decoder.layout, "platform", lambda: "tpu")
    np.testing.assert_allclose(decoded(params), want, atol=1e-6)
    other = jax.tree.map(lambda x: x, params)
    for name in ("o", "gate", "up", "down"):
        for layer in range(SPEC.layers):
            kernel = params["decoder"][name]["kernel"]
            other["decoder"][name] = {**params["decoder"][name], "kernel": kernel.at[layer].add(0.1)}
            assert np.abs(decoded(other) - want).max() > 1e-3, (name, layer)
            other["decoder"][name] = params["decoder"][name]
