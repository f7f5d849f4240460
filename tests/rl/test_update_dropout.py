"""Dropout of the adapters: as in PEFT, only in updates, and the same from the same key."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small
import tiny

from configs import default
from dtr1_jax import config
from dtr1_jax import mesh as mesh_lib
from dtr1_jax.models import layers, policy
from dtr1_jax.modes import learn, train
from dtr1_jax.rl import update
from dtr1_jax.types import Rollout

B, G, S, RATE = 8, 2, 5, 0.25
SPEC = dataclasses.replace(small.SPEC, lora_dropout=RATE)
PARAMS, PROMPT = jax.tree.map(jnp.asarray, (small.params(), small.prompt(B)))
KEY, TX = jax.random.key(7), optax.sgd(0.1)
KNOBS = dataclasses.replace(
    config.from_configdict(default.get_config()).grpo, variant="cispo", micro_group=0, mask_truncated=False
)


@functools.cache
def adapters(targets=".*"):
    """Of all projections, none of them the identity."""
    rng = np.random.default_rng(1)
    shapes = jax.eval_shape(lambda w: policy.init_lora(jax.random.key(0), w, 2, targets), PARAMS)
    return jax.tree.map(lambda x: (0.3 * rng.normal(size=x.shape)).astype(np.float32), shapes)


@functools.cache
def batch():
    rng = np.random.default_rng(0)
    token = rng.integers(1, small.VOCAB, (B, G, S)).astype(np.int32)
    rollout = Rollout(token, np.ones((B, G, S), bool), np.full((B, G, S), -3, np.float32), np.ones((B, G), bool))
    return update.Minibatch(PROMPT, rollout, rng.normal(size=(B, G)).astype(np.float32))


def dropped(x, rate=RATE, key=KEY):
    """The input of a projection's adapter: with kernel 0 and a = b = 1, it is the output."""
    n = x.shape[-1]
    weights = {"params": {"kernel": np.zeros((n, n), np.float32)}, "lora": {"a": np.eye(n), "b": np.eye(n)}}
    return np.asarray(layers.Projection(n, lora_dropout=rate).apply(weights, x, rngs=layers.rngs(key)))


def test_a_value_is_dropped_or_made_larger():
    x = np.random.default_rng(0).normal(size=(50, 40)).astype(np.float32)
    got = dropped(x)
    gone = got == 0
    np.testing.assert_allclose(got[~gone], x[~gone] / (1 - RATE), rtol=1e-6)
    assert gone.mean() == pytest.approx(RATE, abs=4 * np.sqrt(RATE * (1 - RATE) / x.size))
    assert gone.any(0).all() and gone.any(1).all()  # no whole row or column is dropped
    np.testing.assert_array_equal(dropped(x), got)
    assert ((dropped(x, key=jax.random.key(8)) == 0) != gone).any()
    np.testing.assert_array_equal(dropped(x, rate=0.0), x)
    np.testing.assert_array_equal(dropped(x, key=None), x)
    assert dropped(jnp.asarray(x, jnp.bfloat16)).dtype == jnp.bfloat16


def test_the_weights_see_all_and_the_adapters_what_is_left():
    rng = np.random.default_rng(2)
    x, kernel, a, b = (rng.normal(size=s).astype(np.float32) for s in ((6, 4), (4, 3), (4, 2), (2, 3)))
    layer = layers.Projection(3, lora_scale=2.0, lora_dropout=0.5)

    def out(x):
        return layer.apply({"params": {"kernel": kernel}, "lora": {"a": a, "b": b}}, x, rngs=layers.rngs(KEY))

    rest = dropped(x, rate=0.5)
    np.testing.assert_allclose(out(x), x @ kernel + 2 * rest @ a @ b, atol=1e-5)
    # dropped values have the gradient of the weights alone
    slope = jax.grad(lambda x: out(x).sum())(x)
    np.testing.assert_allclose(slope, (kernel + (rest != 0)[..., None] / 0.5 * 2 * (a @ b)).sum(-1), atol=1e-5)


def logp(lora, prompt, token_bgs, key=None, spec=SPEC):
    k_prompt, k_rows = (None, None) if key is None else jax.random.split(key)
    prefix = policy.prefill(PARAMS, lora, spec, prompt, key=k_prompt)
    return policy.logprobs(PARAMS, lora, spec, prefix, token_bgs, key=k_rows)


def program(lora, key, spec=SPEC):
    """The traced program, in which `draws` counts the dropout masks."""
    return jax.make_jaxpr(functools.partial(logp, spec=spec))(lora, PROMPT, batch().rollout.token_bgs, key)


def draws(part):
    if isinstance(part, list | tuple):
        return sum(map(draws, part))
    steps = getattr(getattr(part, "jaxpr", part), "eqns", ())
    return sum((step.primitive.name == "random_bits") + draws(tuple(step.params.values())) for step in steps)


def test_no_key_no_rate_or_no_adapters_no_dropout():
    plain = dataclasses.replace(SPEC, lora_dropout=0.0)
    without = program(adapters(), None)
    assert str(without) == str(program(adapters(), None, plain)) and not draws(without)
    assert not draws(program(adapters(), KEY, plain)) and not draws(program(None, KEY))  # the latter is the reference


WHERE = {"decoder/q": 2, "decoder/down": 2, "vision/patch": 1, "vision/blocks/up": 1, "vision/merger/fc2": 1}


@pytest.mark.parametrize("where", [*WHERE, "decoder/.*", ".*"])
def test_every_projection_draws_its_own_mask(where):
    """A layer of the decoder stands in the program for prompts and for completions."""
    count = WHERE.get(where, 2 * 7 + (1 + 4 + 2) * (where == ".*"))
    assert draws(program(adapters(where), KEY)) == count


def test_completions_share_the_masks_of_their_prompt_and_have_their_own():
    token = np.broadcast_to(batch().rollout.token_bgs[:, :1], (B, G, S))
    without, got = (jax.jit(logp)(adapters(), text().prompt, token, key) for key in (None, KEY))
    np.testing.assert_allclose(got[:, 0, 0], got[:, 1, 0], atol=1e-6)  # the first token depends on the prompt alone
    assert np.abs(got[:, 0] - got[:, 1])[:, 1:].max() > 1e-3
    assert np.abs(got - without)[..., 0].max() > 1e-3


def test_layers_do_not_share_their_masks():
    """With the same weights and the same input in both layers, only the mask can differ."""
    same = {"decoder": jax.tree.map(lambda x: np.broadcast_to(x[:1], x.shape), PARAMS["decoder"])}
    quiet = {n: {k: 0 * v if n in ("o", "down") else v for k, v in x.items()} for n, x in same["decoder"].items()}
    lora = {"decoder": jax.tree.map(lambda x: np.broadcast_to(x[:1], x.shape), adapters("decoder/v")["decoder"])}
    weights = PARAMS | {"decoder": quiet}
    kv = policy.prefill(weights, lora, SPEC, PROMPT, key=KEY).kv
    np.testing.assert_allclose(kv.k[0], kv.k[1], atol=1e-6)
    assert np.abs(kv.v[0] - kv.v[1]).max() > 1e-3


def text():
    return dataclasses.replace(batch(), prompt=small.prompt(B, pictures=False))


def step(key=KEY, mesh=None, data=None):
    """(adapters, metrics) after an update of the decoder's adapters, on text."""
    data = data or text()
    weights = {n: x for n, x in small.params().items() if n != "vision"}
    trainable, frozen = {"lora": adapters("decoder/.*")}, {"base": weights}
    if mesh is None:
        trainable = jax.tree.map(jnp.array, trainable)
    else:
        trainable, frozen = (mesh_lib.put(x, mesh_lib.shardings(mesh, x)) for x in (trainable, frozen))
        data = mesh_lib.put_batch(mesh, data)
    state, numbers = update.update(
        update.State(trainable, TX.init(trainable)), frozen, data, None, tx=TX, temperature=1.0, mesh=mesh, key=key,
        spec=dataclasses.replace(SPEC, vision=None), knobs=KNOBS,
    )  # fmt: skip
    return jax.device_get((state.trainable, numbers))


def far(one, other):
    return max(float(np.abs(a - b).max()) for a, b in zip(jax.tree.leaves(one[0]), jax.tree.leaves(other[0])))


def test_the_key_alone_says_what_an_update_drops():
    first = step()
    assert far(step(), first) == 0
    assert far(step(jax.random.key(8)), first) > 1e-4


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
def test_a_mesh_drops_the_same():
    one, numbers = step()
    eight, theirs = step(mesh=mesh_lib.make(config.Mesh(2, 2, 2), jax.devices()[:8]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), eight, one)
    np.testing.assert_allclose(theirs["loss"], numbers["loss"], rtol=1e-4)


@pytest.mark.parametrize("rate", [0.5, 0.0])
def test_every_update_of_a_run_has_a_key_of_its_own_also_after_a_stop(path, small, tmp_path, rate):
    """And sampling has other keys. The update itself is left out here: it would only be compiled."""
    keys = []

    def update(state, *args, key, spec, **kwargs):
        assert spec.lora_dropout == rate
        keys.append(None if key is None else jax.random.key_data(key).tolist())
        return state, {"loss": 0.0, "skipped": 0.0, "mismatch": 0.0, "mismatch_max": 0.0}

    small.setattr(learn.update, "update", update)
    changes = {
        "lora__rank": 2, "lora__dropout": rate, "train__eval_examples": 0, "train__samples_every": 0,
        "grpo__epochs": 2, "optim__schedule": "constant",
    }  # fmt: skip
    for steps in (1, 2):  # the same workdir: the second run goes on after the first
        train.run(tiny.settings(path, **changes, train__steps=steps), tmp_path)
    root = jax.random.key(0)
    drop = [jax.random.fold_in(jax.random.fold_in(root, step), learn.DROPOUT) for step in range(2)]
    expected = [jax.random.key_data(jax.random.fold_in(key, i)).tolist() for key in drop for i in range(2)]
    assert keys == (expected if rate else [None] * 4)
