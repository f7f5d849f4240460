"""Completions that end leave the batch, and nothing else changes: the same tokens, masks and log-probabilities."""

import functools
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from dtr1_jax import config, layout
from dtr1_jax import mesh as mesh_lib
from dtr1_jax.models import policy
from dtr1_jax.rl import compaction, rollout, sampling
from dtr1_jax.rl.compaction import Shape

S, ENDS = 72, (3, 9)
SPEC = small.TEXT
PARAMS = jax.tree.map(jnp.asarray, small.params(spec=SPEC))
LORA = small.lora(PARAMS)
FREE = np.zeros(small.VOCAB, bool)


def program(b, group, **knobs):
    """Samples with and without compaction, from (key, banned_v): two Rollouts of numpy arrays."""

    def both(seed, banned=FREE):
        found = [
            rollout.sample(
                PARAMS, LORA, small.prompt(b, pictures=False), jax.random.key(seed), jnp.asarray(banned), spec=SPEC,
                group=group, new_tokens=S, end=ENDS, pad=small.PAD, shrink=shrink,
                **{"temperature": 1.0} | knobs,
            )
            for shrink in (True, False)
        ]  # fmt: skip
        return jax.tree.map(np.asarray, found)

    return both


def lengths_if_equal(got, want):
    """int[B, G], the tokens of each row of two Rollouts, which must be equal."""
    for name in ("token_bgs", "mask_bgs", "stopped_bg"):
        np.testing.assert_array_equal(getattr(got, name), getattr(want, name), err_msg=name)
    np.testing.assert_allclose(got.logp_bgs, want.logp_bgs, atol=1e-5)
    return got.mask_bgs.sum(-1)


def first_step_in_smaller(length_bg, shape):
    """The first step, counted from 0, that the loop of the smaller shape makes; S = none."""
    return next((t for t in range(S) if compaction.fits(shape, jnp.asarray(length_bg > t))), S)


def test_samples_are_the_same_where_decoding_works_as_on_tpus(monkeypatch):
    """Keys that are not transposed, in caches that grow and lose rows, and weights that are read in their stack."""
    banned = np.isin(np.arange(small.VOCAB), ENDS[:1])
    want, _ = program(4, 8)(5, banned)
    jax.clear_caches()
    monkeypatch.setattr(layout, "platform", lambda: "tpu")
    got, whole = program(4, 8)(5, banned)
    jax.clear_caches()
    for found in (got, whole):
        length_bg = lengths_if_equal(found, want)
    assert length_bg.max() > S // 2 and (length_bg < S // 2).any()
    shapes = compaction.shapes(4, 8, S)
    assert first_step_in_smaller(length_bg, shapes[-1]) < S


def test_shapes_by_hand():
    assert compaction.shapes(16, 8, 160) == [Shape(16, 8, 80), Shape(16, 8, 160), Shape(16, 2, 160)]
    assert compaction.shapes(32, 1, 161) == [Shape(32, 1, 81), Shape(32, 1, 161), Shape(8, 1, 161)]
    assert compaction.shapes(4, 3, 64) == [Shape(4, 3, 32), Shape(4, 3, 64), Shape(3, 1, 64)]
    assert compaction.shapes(1, 7, 64) == [Shape(1, 7, 32), Shape(1, 7, 64)]  # few rows
    assert compaction.shapes(16, 8, 63) == [Shape(16, 8, 63)]  # few tokens


def test_places_by_hand():
    live = jnp.array([[1, 0, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]], bool)  # 4 rows, 3 queries of a grid with G = 2
    assert compaction.fits(Shape(3, 2, 1), live) and not compaction.fits(Shape(2, 2, 1), live)
    move = compaction.plan(live, Shape(3, 2, 1))
    np.testing.assert_array_equal(move.place_sr, [[0, -1, 1, 2, -1, -1, -1, -1, -1, 4, -1, -1]])
    np.testing.assert_array_equal(move.row_sn, [[0, 2, 3, 0, 9, 0]])
    np.testing.assert_array_equal(move.taken_sn, [[1, 1, 1, 0, 1, 0]])


@pytest.mark.parametrize("b, g, queries, group", [(4, 6, 4, 2), (5, 3, 4, 1), (3, 8, 2, 3)])
def test_each_live_row_has_one_place_beside_rows_of_its_query(b, g, queries, group):
    rng, shape = np.random.default_rng(0), Shape(queries, group, 1)
    placed = jax.jit(lambda live: (compaction.fits(shape, live), compaction.plan(live, shape)))
    outcomes = set()
    for share in np.linspace(0, 1, 60):
        live = rng.random((b, g)) < share
        fits, ((place,), (row,), (taken,)) = jax.tree.map(np.asarray, placed(live))
        needed = sum(math.ceil(n / group) for n in live.sum(1).tolist())
        assert fits == (needed <= queries)
        moves = place >= 0
        assert not (moves & ~live.ravel()).any() and (not fits or (moves == live.ravel()).all())
        np.testing.assert_array_equal(np.sort(place[moves]), np.flatnonzero(taken))
        np.testing.assert_array_equal(row[place[moves]], np.flatnonzero(moves))
        for rows, used in zip(row.reshape(queries, group), taken.reshape(queries, group)):
            assert len(set((rows[used] // g).tolist())) <= 1 and not (used[1:] & ~used[:-1]).any()
        outcomes.add(bool(fits))
    assert len(outcomes) == 2


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
def test_the_shard_that_needs_most_room_decides():
    live = np.zeros((8, 2), bool)
    live[0, 0] = live[1, 1] = live[7, 1] = True  # two live rows in the first of four shards, one in the last
    mesh = mesh_lib.make(config.Mesh(4, 1, 2), jax.devices()[:8])

    @functools.partial(jax.jit, static_argnames="shape")
    def planned(live, shape):
        with layout.use(mesh, resident=True):
            return compaction.fits(shape, live), compaction.plan(live, shape), compaction.shapes(8, 8, 64)[-1].queries

    fits, move, _ = planned(live, Shape(8, 1, 1))
    assert fits
    np.testing.assert_array_equal(move.row_sn, [[0, 3], [0, 0], [0, 0], [3, 0]])
    np.testing.assert_array_equal(move.taken_sn, [[1, 1], [0, 0], [0, 0], [1, 0]])
    assert not planned(live, Shape(4, 1, 1))[0]
    assert planned(live, Shape(4, 1, 1))[2] == 8


def test_samples_do_not_change():
    b, group = 4, 8
    both, smaller = program(b, group), compaction.shapes(b, group, S)[-1]
    ended_early, one_is_long = 0, 0
    for seed in range(12):
        length = lengths_if_equal(*both(seed))
        step = first_step_in_smaller(length, smaller)
        ended_early += step < S // 2 < length.max()  # rows left before the cache has grown
        one_is_long += length.max() >= 10 + np.sort(length, None)[-2]
        assert step < length.max() and len(set(length.ravel().tolist())) > 4
    assert ended_early and one_is_long
    nobody = lengths_if_equal(*both(0, np.isin(np.arange(small.VOCAB), ENDS)))
    assert (nobody == S).all()
    at_once = lengths_if_equal(*both(0, ~np.isin(np.arange(small.VOCAB), ENDS)))
    assert (at_once == 1).all()
    banned = np.isin(np.arange(small.VOCAB), (4, 5, 9))
    got, want = both(7, banned)
    assert lengths_if_equal(got, want).max() > 1 and not banned[got.token_bgs[got.mask_bgs]].any()


@pytest.mark.slow
@pytest.mark.parametrize("b, group, knobs", [(9, 1, {"top_k": 9, "top_p": 0.95}), (1, 8, {"temperature": 0.8})])
def test_grids_of_one_query_or_one_row(b, group, knobs):
    both, smaller = program(b, group, **knobs), compaction.shapes(b, group, S)[-1]
    lengths = [lengths_if_equal(*both(seed)) for seed in range(3)]
    assert any(first_step_in_smaller(length, smaller) < length.max() for length in lengths)


def test_logp_is_that_of_the_scorer():
    @jax.jit
    def scored(token_bgs):
        prefix = policy.prefill(PARAMS, LORA, SPEC, small.prompt(4, pictures=False))
        temper = functools.partial(sampling.temper, temperature=1.0, banned_v=None)
        return policy.logprobs(PARAMS, LORA, SPEC, prefix, token_bgs, temper)

    got, _ = program(4, 8)(1)
    np.testing.assert_allclose(got.logp_bgs, np.where(got.mask_bgs, scored(got.token_bgs), 0), atol=1e-5)


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
def test_a_mesh_samples_the_same():
    mesh, prompt = mesh_lib.make(config.Mesh(2, 2, 2), jax.devices()[:8]), small.prompt(8, pictures=False)
    weights = {"base": PARAMS, "lora": LORA}
    placed = mesh_lib.put(weights, mesh_lib.shardings(mesh, weights, SPEC.head_counts, resident=True))

    def sample(weights, prompt, **where):
        return rollout.sample(
            weights["base"], weights["lora"], prompt, jax.random.key(4), None, spec=SPEC, group=4, new_tokens=S,
            end=ENDS, pad=small.PAD, temperature=1.0, **where,
        )  # fmt: skip

    got = sample(placed, mesh_lib.put_batch(mesh, prompt), mesh=mesh)
    assert got.token_bgs.sharding.is_equivalent_to(mesh_lib.batch(mesh), 3)
    length = lengths_if_equal(mesh_lib.local(got), jax.tree.map(np.asarray, sample(weights, prompt, shrink=False)))
    by_shard = length.reshape(4, 2, 4)  # each shard: 2 queries of 4 rows, then 2 of 1
    assert max(first_step_in_smaller(x, Shape(2, 1, S)) for x in by_shard) < length.max()


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="reads the code that XLA compiles for the CPU")
def test_the_loops_shrink_and_copy_no_cache():
    """Each step writes two values for each row, and attends over the cache of its own loop."""
    spec, b, g = SPEC, 2, 4
    body = small.compiled_loops(spec, b, g, S, ENDS)
    shapes = compaction.shapes(b, g, S)
    assert [(s.completions, s.slots) for s in shapes] == [(8, 36), (8, 72), (2, 72)]
    for shape in shapes:
        size = shape.completions * spec.kv_heads * shape.slots * spec.head_dim
        for name, count in (("copy", 0), ("dynamic-update-slice", 2 * spec.layers)):
            found = re.findall(rf"= f32\[([\d,]+)\]\S* {name}\(", body)
            assert sum(math.prod(map(int, x.split(","))) == size for x in found) == count, (shape, name)
