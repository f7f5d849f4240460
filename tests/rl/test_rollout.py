"""The sampled tokens, their log-probabilities, and sampling that stops and continues."""

import dataclasses
import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from dtr1_jax import config
from dtr1_jax import mesh as mesh_lib
from dtr1_jax.models import policy
from dtr1_jax.rl import rollout, sampling

B, G, S, NEVER = 4, 3, 8, -1
BANNED = np.isin(np.arange(small.VOCAB), (3, 7, 8, 20, 21, 22))
PARAMS, PROMPT = jax.tree.map(jnp.asarray, small.params()), small.prompt(B)
LORA = small.lora(PARAMS)
NAMES = ("token_bgs", "mask_bgs", "logp_bgs", "stopped_bg")

# `end` and `stop` are traced here, so that one compilation serves every token of these tests
begin = jax.jit(
    functools.partial(rollout.begin, spec=small.SPEC, pad=small.PAD, dtype=jnp.float32),
    static_argnames=("group", "new_tokens", "slots"),
)
extend = jax.jit(functools.partial(rollout.extend, spec=small.SPEC), static_argnames=("temperature", "top_k", "top_p"))
insert = jax.jit(functools.partial(rollout.insert, PARAMS, None, small.SPEC))


def start(slots=S, group=G):
    return begin(PARAMS, None, prompt=PROMPT, group=group, new_tokens=S, slots=slots)


def greedy(session, end=NEVER, stop=(NEVER,)):
    out = extend(PARAMS, None, session=session, key=jax.random.key(0), end=end, stop=stop, temperature=0.0)
    return jax.block_until_ready(out)


def sample(seed=5, group=G, temperature=1.0, banned=BANNED, lora=LORA, end=NEVER, **knobs):
    out = rollout.sample(
        PARAMS, lora, PROMPT, jax.random.key(seed), jnp.asarray(banned), spec=small.SPEC, group=group, new_tokens=S,
        end=end, pad=small.PAD, temperature=temperature, **knobs,
    )  # fmt: skip
    return jax.tree.map(np.asarray, out)


@functools.partial(jax.jit, static_argnames=("temperature", "dtype"))
def scored(lora, token_bgs, temperature, dtype=jnp.float32):
    temper = functools.partial(sampling.temper, temperature=temperature, banned_v=jnp.asarray(BANNED))
    prefix = policy.prefill(PARAMS, LORA, small.SPEC, PROMPT, dtype)
    return policy.logprobs(PARAMS, lora, small.SPEC, prefix, token_bgs, temper=temper)


@functools.partial(jax.jit, static_argnames="temperature")
def scored_naively(token_bgs, temperature):
    temper = functools.partial(sampling.temper, temperature=temperature, banned_v=jnp.asarray(BANNED))
    return small.without_sharing(PARAMS, LORA, small.SPEC, PROMPT, token_bgs, temper)


@jax.jit
def teacher_forced(token_bgs):
    """float32[B, G, S, V]: the scorer's logits at each token."""
    prefix = policy.prefill(PARAMS, None, small.SPEC, PROMPT)
    return policy.logits(PARAMS, small.SPEC, policy.hidden(PARAMS, None, small.SPEC, prefix, token_bgs))


@pytest.fixture(scope="module")
def whole():
    """Greedy completions that nothing ends, one for each prompt: int[B, S]."""
    done = rollout.result(greedy(start()))
    assert done.mask_bgs.all() and not done.stopped_bg.any()
    np.testing.assert_array_equal(done.token_bgs[:, :1], done.token_bgs[:, 1:2])  # greedy: all of a group are equal
    return np.asarray(done.token_bgs[:, 0])


def first_at(tokens_bs, token):
    """int[B]: where a row first has a token, S where it has not."""
    match = tokens_bs == token
    return np.where(match.any(1), match.argmax(1), S)


def some_token(tokens_bs):
    """A token that some rows have before their last place, at different places, and at least one row has not."""
    for token in np.unique(tokens_bs):
        at = first_at(tokens_bs, token)
        if (at < S - 2).sum() >= 1 and (at == S).any() and len(set(at)) > 1:
            return int(token)
    raise AssertionError(f"no such token; take another seed:\n{tokens_bs}")


def test_greedy_is_the_argmax_of_the_scorer(whole):
    z_bgsv = teacher_forced(jnp.asarray(whole)[:, None])
    np.testing.assert_array_equal(z_bgsv.argmax(-1)[:, 0], whole)
    assert len({tuple(row) for row in whole.tolist()}) > 1  # prompts matter


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logp_is_that_of_the_scorer(temperature):
    got = sample(temperature=temperature)
    np.testing.assert_allclose(got.logp_bgs, scored(LORA, got.token_bgs, temperature), atol=1e-5)
    np.testing.assert_allclose(got.logp_bgs, scored_naively(got.token_bgs, temperature), atol=1e-5)
    assert got.mask_bgs.all() and not BANNED[got.token_bgs].any()
    assert np.abs(got.logp_bgs - scored(None, got.token_bgs, temperature)).max() > 1e-2  # the adapters matter


def test_shapes_types_and_groups():
    got = sample()
    assert [getattr(got, n).shape for n in NAMES] == [(B, G, S)] * 3 + [(B, G)]
    assert [getattr(got, n).dtype for n in NAMES] == [np.int32, bool, np.float32, bool]
    assert all(len({tuple(row) for row in group.tolist()}) == G for group in got.token_bgs)
    again, other = sample(), sample(seed=6)
    assert all((getattr(got, n) == getattr(again, n)).all() for n in NAMES)
    assert (got.token_bgs != other.token_bgs).any((1, 2)).all()


def test_one_compilation_for_a_shape():
    sample()
    before = rollout.sample._cache_size()
    sample(seed=9)
    sample(seed=10, banned=~BANNED)
    assert rollout.sample._cache_size() == before


def test_top_k_and_top_p():
    one = sample(top_k=1)
    assert (one.token_bgs == one.token_bgs[:, :1]).all()  # the most likely, for every key
    np.testing.assert_array_equal(one.token_bgs, sample(seed=8, top_k=1).token_bgs)
    few = sample(top_p=1e-6)
    np.testing.assert_array_equal(few.token_bgs, one.token_bgs)
    np.testing.assert_allclose(few.logp_bgs, one.logp_bgs, atol=1e-6)
    assert one.logp_bgs.max() < -1e-2  # the log-probability is that of before the cut


def test_end(whole):
    end = some_token(whole)
    session = greedy(start(), end=end)
    got = jax.tree.map(np.asarray, rollout.result(session))
    at = first_at(whole, end)
    length = np.minimum(at + 1, S)
    for b in range(B):
        n = length[b]
        assert (got.mask_bgs[b] == (np.arange(S) < n)).all()
        np.testing.assert_array_equal(got.token_bgs[b, :, :n], np.broadcast_to(whole[b, :n], (G, n)))
        assert (got.token_bgs[b, :, n:] == small.PAD).all() and (got.logp_bgs[b, :, n:] == 0).all()
        assert (got.logp_bgs[b, :, :n] < 0).all()
    np.testing.assert_array_equal(got.stopped_bg, np.broadcast_to((at < S)[:, None], (B, G)))
    np.testing.assert_array_equal(session.length_bg[:, 0], length)
    assert session.slot == S and session.occupied_bgt.sum() == G * length.sum()


def test_a_row_ends_at_the_first_of_several_end_tokens(whole):
    one = some_token(whole)
    other = next(int(t) for t in whole[:, : S - 1].ravel() if t != one)
    at = np.minimum(first_at(whole, one), first_at(whole, other))
    got = jax.tree.map(np.asarray, rollout.result(greedy(start(), end=(one, NEVER, other))))
    np.testing.assert_array_equal(got.mask_bgs[:, 0], np.arange(S) < np.minimum(at + 1, S)[:, None])
    np.testing.assert_array_equal(got.stopped_bg, np.broadcast_to((at < S)[:, None], (B, G)))
    assert (at != first_at(whole, one)).any()
    sampled = sample(temperature=0.0, banned=np.zeros(small.VOCAB, bool), lora=None, end=(one, other))
    for name in ("token_bgs", "mask_bgs", "stopped_bg"):
        np.testing.assert_array_equal(getattr(sampled, name), getattr(got, name))
    for never in ((), NEVER):
        assert not sample(end=never).stopped_bg.any()


def test_returns_when_all_rows_are_done(whole):
    end = int(whole[0, 2])
    few = jax.tree.map(lambda x: np.repeat(x[:1], B, 0), PROMPT)  # all rows end at the same place
    session = begin(PARAMS, None, prompt=few, group=G, new_tokens=S, slots=S)
    done = greedy(session, end=end)
    steps = 1 + int(first_at(whole, end)[0])
    assert done.ended_bg.all() and done.slot == steps < S
    again = greedy(done, end=end)
    assert all((np.asarray(a) == np.asarray(b)).all() for a, b in zip(jax.tree.leaves(done), jax.tree.leaves(again)))


def test_no_room_is_no_end():
    last = int(sample(seed=3).token_bgs[0, 0, -1])
    got = sample(seed=3, end=last)
    assert got.stopped_bg[0, 0] and got.mask_bgs.sum(-1)[0, 0] <= S
    assert not sample(seed=3).stopped_bg.any()


def test_a_tag_stops_a_row_and_going_on_changes_nothing(whole):
    tag = some_token(whole)
    stopped = greedy(start(slots=2 * S), stop=(NEVER, tag))
    at = first_at(whole, tag)
    np.testing.assert_array_equal(stopped.length_bg[:, 0], np.minimum(at + 1, S))
    assert not stopped.ended_bg.any()
    session = stopped
    for _ in range(S):  # a row may come upon the tag again
        session = greedy(session, stop=(tag, NEVER))
    assert (session.length_bg == S).all() and session.slot > S  # rows that waited left holes
    np.testing.assert_array_equal(session.token_bgs, np.broadcast_to(whole[:, None], (B, G, S)))
    straight = greedy(start())
    np.testing.assert_allclose(session.logp_bgs, straight.logp_bgs, atol=1e-5)
    np.testing.assert_array_equal(session.mask_bgs, straight.mask_bgs)


def spliced(whole, tag, count_bg, inserted, end=NEVER):
    """Stops at a tag, inserts tokens, and continues to the end of the room."""
    stopped = greedy(start(slots=3 * S), end=end, stop=(NEVER, tag))
    joined = insert(stopped, jnp.asarray(inserted), jnp.asarray(count_bg))
    return stopped, joined, greedy(joined, end=end)


def test_insert_is_teacher_forcing_on_the_spliced_sequence(whole):
    tag = some_token(whole)
    rng = np.random.default_rng(0)
    inserted = rng.integers(1, small.VOCAB, (B, G, 3)).astype(np.int32)
    count = rng.integers(0, 4, (B, G))
    count[first_at(whole, tag).argmin()] = [0, 2, 3]
    stopped, joined, done = jax.tree.map(np.asarray, spliced(whole, tag, count, inserted))
    fits = stopped.length_bg + count <= S
    assert fits.any() and not fits.all() and (stopped.length_bg[fits] < S).any()
    length = np.where(fits, count, 0)
    np.testing.assert_array_equal(joined.length_bg, stopped.length_bg + length)
    z = np.asarray(teacher_forced(jnp.asarray(done.token_bgs)))
    logp = np.asarray(jax.nn.log_softmax(z))
    place = np.arange(S)
    for b, g in np.ndindex(B, G):
        n, inserts = stopped.length_bg[b, g], length[b, g]
        inside = (place >= n) & (place < n + inserts)
        np.testing.assert_array_equal(done.token_bgs[b, g, :n], whole[b, :n])
        np.testing.assert_array_equal(done.token_bgs[b, g, inside], inserted[b, g, :inserts])
        np.testing.assert_array_equal(done.mask_bgs[b, g], ~inside)
        assert (done.logp_bgs[b, g, inside] == 0).all()
        np.testing.assert_array_equal(done.token_bgs[b, g, ~inside], z[b, g].argmax(-1)[~inside])
        chosen = logp[b, g, place, done.token_bgs[b, g]]
        np.testing.assert_allclose(done.logp_bgs[b, g, ~inside], chosen[~inside], atol=1e-5)


def test_insert_leaves_ended_rows_alone(whole):
    end = some_token(whole)
    inserted = np.full((B, G, 3), 9, np.int32)
    stopped = greedy(start(slots=2 * S), end=end)
    ended = np.asarray(stopped.ended_bg)
    stopped = dataclasses.replace(stopped, length_bg=jnp.minimum(stopped.length_bg, S - 3))  # room in every row
    joined = insert(stopped, jnp.asarray(inserted), jnp.full((B, G), 3))
    np.testing.assert_array_equal(joined.length_bg - stopped.length_bg, np.where(ended, 0, 3))
    for name in ("token_bgs", "state_bgd"):
        a, b = np.asarray(getattr(joined, name)), np.asarray(getattr(stopped, name))
        assert (a[ended] == b[ended]).all() and (a[~ended] != b[~ended]).any()


@pytest.mark.parametrize("slots", [S, S + 2])
def test_insert_without_slots_changes_nothing(slots):
    """Also the cache: a write past its end would go to slots that are in use."""
    inserted = jnp.full((B, G, 3), 9)
    full = greedy(start(slots=slots))
    full = dataclasses.replace(full, length_bg=full.length_bg - 3)
    after = insert(full, inserted, jnp.full((B, G), 3))
    assert all((np.asarray(a) == np.asarray(b)).all() for a, b in zip(jax.tree.leaves(full), jax.tree.leaves(after)))


def test_bfloat16():
    got = sample(dtype=jnp.bfloat16)
    assert got.logp_bgs.dtype == np.float32
    np.testing.assert_allclose(got.logp_bgs, scored(LORA, got.token_bgs, 1.0, jnp.bfloat16), atol=0.1)
    assert np.abs(got.logp_bgs - scored(LORA, got.token_bgs, 1.0)).max() > 1e-3  # it was not float32 in disguise


def test_caches_are_neither_copied_nor_chosen_between_in_the_loop():
    """The decode loop writes new keys in place; a select or concatenate over a cache would cost its size each step."""
    args = (PARAMS, None, small.SPEC, start(), jax.random.key(0))
    loop = jax.make_jaxpr(lambda *a: rollout.extend(*a[:2], small.SPEC, *a[2:], end=NEVER))(*args[:2], *args[3:])
    body = next(e for e in loop.eqns if e.primitive.name == "while").params["body_jaxpr"].jaxpr
    caches = {x.shape for x in start().cache[0]}
    makers = {e.primitive.name for e in body.eqns for v in e.outvars if v.aval.shape in caches}
    assert makers == {"dynamic_update_slice"}


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="reads the code that XLA compiles for the CPU")
@pytest.mark.parametrize("b, g, kv_heads", [(2, 3, 2), (1, 3, 2), (2, 1, 2), (2, 1, 1)])
def test_nor_does_the_compiled_loop_copy_them(b, g, kv_heads):
    """It once did where B, G or K was 1: a matrix product without this axis needed the cache in another shape."""
    spec, slots = dataclasses.replace(small.TEXT, kv_heads=kv_heads), 37
    body = small.compiled_loops(spec, b, g, slots, NEVER)
    size = b * g * kv_heads * slots * spec.head_dim
    shapes = {name: re.findall(rf"= f32\[([\d,]+)\]\S* {name}\(", body) for name in ("copy", "dynamic-update-slice")}
    counts = {name: sum(math.prod(map(int, x.split(","))) == size for x in sizes) for name, sizes in shapes.items()}
    assert counts == {"copy": 0, "dynamic-update-slice": 2 * spec.layers}


def on_mesh(mesh, prompt, temperature):
    weights = {"base": PARAMS, "lora": LORA}
    if mesh is not None:
        places = mesh_lib.shardings(mesh, weights, small.SPEC.head_counts, resident=True)
        weights = mesh_lib.put(weights, places)
        prompt = mesh_lib.put_batch(mesh, prompt)
    return rollout.sample(
        weights["base"], weights["lora"], prompt, jax.random.key(2), jnp.asarray(BANNED), spec=small.SPEC, group=G,
        new_tokens=S, end=5, pad=small.PAD, temperature=temperature, mesh=mesh,
    )  # fmt: skip


@functools.cache
def on_one_device(temperature):
    return jax.tree.map(np.asarray, on_mesh(None, small.prompt(8), temperature))


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
@pytest.mark.parametrize("sizes, temperature", [((8, 1, 1), 1.0), ((2, 4, 1), 1.0), ((1, 2, 4), 1.0), ((2, 2, 2), 0.0)])
def test_a_mesh_samples_the_same(sizes, temperature):
    """With tensor = 4, each kv head is on two devices, and blocks of the draw lie across the cuts of the vocabulary."""
    mesh, want = mesh_lib.make(config.Mesh(*sizes), jax.devices()[:8]), on_one_device(temperature)
    got = on_mesh(mesh, small.prompt(8), temperature)
    assert got.token_bgs.sharding.is_equivalent_to(mesh_lib.batch(mesh), 3)
    got = mesh_lib.local(got)
    for name in ("token_bgs", "mask_bgs", "stopped_bg"):
        np.testing.assert_array_equal(getattr(got, name), getattr(want, name), err_msg=name)
    np.testing.assert_allclose(got.logp_bgs, want.logp_bgs, atol=1e-5)
    assert not want.stopped_bg.all() and (want.stopped_bg.any() or not temperature)
