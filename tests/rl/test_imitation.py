"""The cold start's losses by hand, which weights each of them reaches, and that it learns a fixed batch."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtr1_jax import config, types
from dtr1_jax.models import policy
from dtr1_jax.models.spec import Spec, VisionSpec
from dtr1_jax.rl import imitation

SPEC = Spec(
    vocab=32, width=16, layers=2, heads=2, kv_heads=1, head_dim=8, hidden=16, sections=(2, 1, 1), remat=False,
    vision=VisionSpec(width=16, layers=2, heads=2, hidden=16, patch=2, temporal_patch=1, merge=2, side=4),
)  # fmt: skip
COUNTS = (3, 4)
SETTINGS = config.Sft(
    steps=20, batch=2, lr=2e-2, warmup=2, direct=0.0, reasoning=3.0, practice=0, practice_queries=0,
    practice_drills=0, dense=1.0, tower=0.0, log_every=1, curriculum=0.5,
)  # fmt: skip


def batch(seed=0):
    """Two queries of 2 + 4 + 1 tokens with a picture of 4 x 4 patches padded to 24, and transcripts of 5 and 3."""
    rng = np.random.default_rng(seed)
    b, n, real = 2, 24, 16
    grid = np.stack(np.meshgrid(np.arange(4), np.arange(4), indexing="ij"), -1).reshape(16, 2)
    images = types.Images(
        patch_bnc=rng.normal(size=(b, n, SPEC.vision.values)).astype(np.float32),
        position_bn2=np.broadcast_to(np.pad(grid, [(0, 8), (0, 0)]), (b, n, 2)).astype(np.int32),
        corner_bn4=rng.integers(0, 16, (b, n, 4)),
        corner_weight_bn4=np.full((b, n, 4), 0.25, np.float32),
        segment_bn=np.broadcast_to(np.arange(n) < real, (b, n)).astype(np.int32),
    )
    slot = np.array([-1, -1, 0, 1, 2, 3, -1], np.int32)
    prompt = types.Prompt(
        token_bp=rng.integers(0, 32, (b, 7)),
        mask_bp=np.ones((b, 7), bool),
        position_bp3=np.broadcast_to(np.arange(7)[:, None], (b, 7, 3)).astype(np.int32),
        slot_bp=np.broadcast_to(slot, (b, 7)),
        next_b=np.full(b, 7, np.int32),
        images=images,
    )
    there = rng.integers(0, 2, (b, n, 1)) * (np.arange(n) < real)[:, None]
    dense = np.stack([rng.integers(1, k, (b, n)) for k in COUNTS], -1) * there
    return types.Demonstration(
        prompt=prompt,
        token_bgs=rng.integers(0, 32, (b, 1, 5)),
        mask_bgs=np.arange(5) < np.array([5, 3])[:, None, None],
        reason_bgs=(np.arange(5) >= 2) & (np.arange(5) < np.array([5, 3])[:, None, None]),
        dense_bnf=dense.astype(np.int32),
        box_bn4=(rng.random((b, n, 4)) * there).astype(np.float32),
    )


@jax.jit
def weights(seed=0):
    k_policy, k_head = jax.random.split(jax.random.key(seed))
    return {"policy": policy.init(k_policy, SPEC), "head": imitation.init_head(k_head, SPEC, COUNTS)}


compiled = jax.jit(imitation.loss, static_argnames=("spec", "reasoning", "dense", "counts", "text"))
dense_loss = jax.jit(imitation.dense_loss, static_argnames="counts")


def loss(trainable, data, dense=1.0, text=True, reasoning=1.0):
    return compiled(trainable, SPEC, data, reasoning=reasoning, dense=dense, counts=COUNTS, text=text)


def test_dense_loss_against_a_loop():
    data, head = batch(), weights()["head"]
    vision_bmd = np.random.default_rng(3).normal(size=(2, 6, 16)).astype(np.float32)
    got, metrics = dense_loss(head, jnp.asarray(vision_bmd), data, COUNTS)
    entropy, weight, gap, objects, right = np.zeros(2), 0.0, 0.0, 0, np.zeros(2)
    for b in range(2):
        for n in range(16):
            out = (vision_bmd[b, n // 4] @ np.asarray(head["kernel"])).reshape(4, 11)[n % 4]
            w = 1.0 if data.dense_bnf[b, n, 0] else 0.25
            for f, z in enumerate((out[:3], out[3:7])):
                label = data.dense_bnf[b, n, f]
                entropy[f] += w * (np.log(np.exp(z).sum()) - z[label])
                right[f] += bool(label) and z.argmax() == label
            weight += w
            if data.dense_bnf[b, n, 0]:
                gap += np.abs(1 / (1 + np.exp(-out[7:])) - data.box_bn4[b, n]).sum()
                objects += 1
    assert got == pytest.approx(entropy.sum() / weight / 2 + 2 * gap / objects, rel=1e-5)
    assert metrics["dense_box_l1"] == pytest.approx(gap / objects / 4, rel=1e-5)
    assert [metrics["dense_right_0"], metrics["dense_right_1"]] == pytest.approx(list(right / objects))


def test_dense_loss_ignores_padding():
    data, head = batch(), weights()["head"]
    vision_bmd = jax.random.normal(jax.random.key(1), (2, 6, 16))
    other = dataclasses.replace(data, dense_bnf=data.dense_bnf.copy(), box_bn4=data.box_bn4.copy())
    other.dense_bnf[:, 16:], other.box_bn4[:, 16:] = 1, 0.7
    a = dense_loss(head, vision_bmd, data, COUNTS)
    b = dense_loss(head, vision_bmd.at[:, 4:].add(5.0), other, COUNTS)
    jax.tree.map(np.testing.assert_array_equal, a, b)
    changed = dense_loss(head, vision_bmd.at[:, 3].add(5.0), data, COUNTS)
    assert changed[0] != a[0]


def test_a_picture_without_objects_has_a_finite_loss():
    data = batch()
    data = dataclasses.replace(data, dense_bnf=data.dense_bnf * 0, box_bn4=data.box_bn4 * 0)
    value, metrics = dense_loss(weights()["head"], jnp.ones((2, 6, 16)), data, COUNTS)
    assert np.isfinite(value)
    assert metrics["dense_box_l1"] == metrics["dense_right_0"] == 0


def test_text_loss_is_the_weighted_mean_over_real_tokens():
    data, trainable = batch(), weights()
    value, metrics = loss(trainable, data, dense=0.0)

    @jax.jit
    def score(params):
        return policy.logprobs(params, None, SPEC, policy.prefill(params, None, SPEC, data.prompt), data.token_bgs)

    logp = score(trainable["policy"])
    twin, reasoning = logp[0, 0, :2].sum() + logp[1, 0, :2].sum(), logp[0, 0, 2:].sum() + logp[1, 0, 2]
    assert value == metrics["loss"] == pytest.approx(float(-(twin + reasoning) / 8), rel=1e-5)
    assert metrics["nll_twin"] == pytest.approx(float(-twin / 4), rel=1e-5)
    assert metrics["nll_reasoning"] == pytest.approx(float(-reasoning / 4), rel=1e-5)
    weighted = loss(trainable, data, dense=0.0, reasoning=3.0)[0]
    assert weighted == pytest.approx(float(-(twin + 3 * reasoning) / (4 + 3 * 4)), rel=1e-5)
    token = data.token_bgs.copy()
    token[1, 0, 3:] = 7
    assert loss(trainable, dataclasses.replace(data, token_bgs=token), dense=0.0)[0] == pytest.approx(
        float(value), rel=1e-6
    )


def practice():
    """Two twins of 7 tokens with two queries of 5 tokens each, of which the last 3 and 1 are thought and answer."""
    data = batch(seed=4)
    rng = np.random.default_rng(5)
    prompt = dataclasses.replace(data.prompt, slot_bp=np.full((2, 7), -1, np.int32), images=None)
    return types.Demonstration(
        prompt=prompt,
        token_bgs=rng.integers(0, 32, (2, 2, 5)),
        mask_bgs=np.ones((2, 2, 5), bool),
        reason_bgs=np.broadcast_to(np.arange(5) >= np.array([2, 4])[:, None], (2, 2, 5)),
        dense_bnf=None,
        box_bn4=None,
    )


def test_practice_adds_the_mean_over_its_thoughts_and_answers():
    data, more, trainable = batch(), practice(), weights()
    without, _ = loss(trainable, data)
    together, metrics = compiled(trainable, SPEC, data, more, reasoning=1.0, dense=1.0, counts=COUNTS, text=True)
    params = trainable["policy"]

    @jax.jit
    def score(params):
        return policy.logprobs(params, None, SPEC, policy.prefill(params, None, SPEC, more.prompt), more.token_bgs)

    logp = score(params)
    by_hand = -float((logp[:, 0, 2:].sum() + logp[:, 1, 4].sum()) / 8)
    assert metrics["nll_practice"] == pytest.approx(by_hand, rel=1e-5)
    assert together == pytest.approx(float(without) + by_hand, rel=1e-5)
    alone, _ = compiled(trainable, SPEC, data, more, reasoning=1.0, dense=1.0, counts=COUNTS, text=False)
    assert alone == pytest.approx(float(loss(trainable, data, text=False)[0]), rel=1e-6)


def test_total_is_weighted():
    data, trainable = batch(), weights()
    total, metrics = loss(trainable, data, dense=0.5)
    text = loss(trainable, data, dense=0.0)[0]
    assert total == pytest.approx(float(text + 0.5 * metrics["dense"]), rel=1e-6)
    assert metrics["loss"] == total


def reached(text, dense):
    """Names of the parts whose gradient is not all zero."""
    grads = jax.jit(jax.grad(lambda t: loss(t, batch(), dense=dense, text=text)[0]))(weights())
    parts = {**grads["policy"], "head": grads["head"]}
    return {name for name, part in parts.items() if any(np.any(x) for x in jax.tree.leaves(part))}


def test_who_learns():
    assert reached(text=False, dense=1.0) == {"vision", "head"}
    assert reached(text=True, dense=0.0) == {"vision", "embed", "decoder", "norm"}


def test_a_fixed_batch_is_learned():
    data, trainable, tx = batch(), weights(), imitation.optimizer(SETTINGS)
    opt, values = jax.jit(tx.init)(trainable), []
    for _ in range(SETTINGS.steps):
        trainable, opt, metrics = imitation.update(
            trainable, opt, data, tx=tx, spec=SPEC, reasoning=3.0, dense=1.0, counts=COUNTS, text=True
        )
        values.append(jax.device_get(metrics))
    assert values[-1]["loss"] < 0.7 * values[0]["loss"]
    for name in ("nll_twin", "nll_reasoning"):
        assert values[-1][name] < 0.7 * values[0][name]
    assert values[-1]["dense"] < values[0]["dense"]
    assert all(np.isfinite(v["grad_norm"]) and v["grad_norm"] > 0 for v in values)


def test_muon_has_the_policys_kernels_and_adam_the_rest():
    """One Muon step makes a kernel's update nearly orthogonal in each layer of the stack: like singular values."""
    trainable = weights()
    tx = imitation.optimizer(dataclasses.replace(SETTINGS, warmup=0))
    rng = np.random.default_rng(0)
    grads = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), trainable)
    updates, _ = jax.jit(tx.update)(grads, jax.jit(tx.init)(trainable), trainable)
    # Adam's first step is the gradient's sign; momentum that looks ahead (Dozat 2016) makes it longer than the rate
    first = SETTINGS.lr / 10 * (0.9 * 0.1 / (1 - 0.9**2) + 1)
    kernels = 0
    for path, update in jax.tree_util.tree_leaves_with_path(updates):
        names = [p.key for p in path]
        if names[0] == "policy" and names[-1] == "kernel":
            values = np.linalg.svd(np.asarray(update), compute_uv=False)  # [..., rank], a row for each layer
            assert (values.max(-1) < 2.5 * values.min(-1)).all(), names
            kernels += 1
        else:
            np.testing.assert_allclose(np.abs(update), first, rtol=1e-2, err_msg=str(names))
    assert kernels >= 9


def test_the_rate_warms_up_and_ends_at_zero():
    grads = trainable = {"policy": {"norm": {"scale": jnp.ones(4)}, "q": {"kernel": jnp.ones((2, 4, 4))}}}
    tx = imitation.optimizer(dataclasses.replace(SETTINGS, steps=8, warmup=4))
    opt, sizes, step = tx.init(trainable), [], jax.jit(tx.update)
    for _ in range(9):
        updates, opt = step(grads, opt, trainable)
        sizes.append([float(jnp.abs(x).max()) for x in jax.tree.leaves(updates)])
    for size in zip(*sizes):
        assert size[0] == 0
        assert np.argmax(size) == 4
        assert size[8] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_short_runs_have_a_schedule(steps):
    tx = imitation.optimizer(dataclasses.replace(SETTINGS, steps=steps, warmup=100))
    params = {"policy": {"q": {"kernel": jnp.ones((1, 2, 2))}}}
    updates, _ = jax.jit(tx.update)(params, tx.init(params), params)
    assert np.isfinite(updates["policy"]["q"]["kernel"]).all()
