"""Sampling in stages: what is inserted is read as if the policy had written it, and is in no sum over tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from dtr1_jax import mesh as mesh_lib
from dtr1_jax.rl import scorer, staged

B, G, NEW, ASK, TWIN, NEVER = 8, 2, 12, 5, 7, -1
PARAMS = jax.tree.map(jnp.asarray, small.params())
LORA = small.lora(PARAMS)
CLOSING = (9, 4)  # the text is complete after token 9 and then token 4


def table():
    out = np.zeros((small.VOCAB, 2), np.int8)
    out[CLOSING[0]] = 1
    out[CLOSING[1], 1] = 2
    return out


def run(counts, tokens, mesh=None, temperature=1.0, end=NEVER, spec=small.TEXT, closing=None, chunk=3):
    """A staged rollout as numpy, with the lengths of the requests."""
    weights, prompt = {"base": PARAMS, "lora": LORA}, small.prompt(B, pictures=spec.vision is not None)
    place = (lambda x: x) if mesh is None else (lambda x: mesh_lib.put_batch(mesh, x))
    if mesh is not None:
        places = mesh_lib.shardings(mesh, weights, spec.head_counts, resident=True)
        weights, prompt = mesh_lib.put(weights, places), place(prompt)
    pair, knobs = (weights["base"], weights["lora"]), {"end": end, "temperature": temperature, "mesh": mesh}
    session = staged.write_requests(
        *pair, prompt, jax.random.key(3), None, jnp.asarray(table() if closing is None else closing), spec=spec,
        group=G, request_tokens=ASK, new_tokens=NEW, twin_tokens=TWIN, pad=small.PAD, **knobs,
    )  # fmt: skip
    requested = np.asarray(session.length_bg)
    for start in range(0, TWIN, chunk):
        part = np.zeros((B, G, chunk), np.int32)
        part[..., : tokens[..., start : start + chunk].shape[-1]] = tokens[..., start : start + chunk]
        part = place((part, np.clip(counts - start, 0, chunk)))
        session = staged.insert_twins(*pair, session, *part, spec=spec, mesh=mesh)
    session = staged.write_answers(*pair, session, jax.random.key(3), None, spec=spec, answer_tokens=NEW - ASK, **knobs)
    return staged.local_rollout(session), requested


@pytest.fixture(scope="module")
def twins():
    rng = np.random.default_rng(1)
    return rng.integers(0, TWIN + 1, (B, G)), rng.integers(1, small.VOCAB, (B, G, TWIN)).astype(np.int32)


@pytest.fixture
def short_chunks(monkeypatch):
    monkeypatch.setattr(staged, "CHUNK", 3)


@pytest.mark.parametrize("spec", [small.SPEC, small.TEXT], ids=["pictures", "text"])
def test_sampler_and_scorer_agree_over_inserted_tokens(twins, short_chunks, spec):
    counts, tokens = twins
    got, requested = run(counts, tokens, spec=spec)
    scored = scorer.score(
        PARAMS, LORA, small.prompt(B, pictures=spec.vision is not None), got.token_bgs, got.mask_bgs, None, spec=spec,
        temperature=1.0,
    )  # fmt: skip
    difference = np.abs(scored - got.logp_bgs)
    assert difference.max() < 1e-4 and (got.logp_bgs[got.mask_bgs] < 0).all()
    for b, g in np.ndindex(B, G):
        start, count = requested[b, g], counts[b, g]
        inside = np.arange(NEW + TWIN)
        inside = (inside >= start) & (inside < start + count)
        np.testing.assert_array_equal(got.inserted_bgs[b, g], inside)
        np.testing.assert_array_equal(got.token_bgs[b, g, inside], tokens[b, g, :count])
        assert got.mask_bgs[b, g].sum() == start + NEW - ASK  # the twin takes nothing from the answer
        assert not (got.mask_bgs & got.inserted_bgs).any()
        np.testing.assert_array_equal(got.text_bgs[b, g], np.arange(NEW + TWIN) < start + count + NEW - ASK)


def test_the_answer_depends_on_the_twin(twins, short_chunks):
    """With the same random key, completions go on differently after different twins."""
    counts, tokens = np.full((B, G), TWIN), twins[1]
    got, requested = run(counts, tokens)
    other, _ = run(counts, (tokens + 5) % small.VOCAB)
    answers = [
        [[x.token_bgs[b, g, requested[b, g] + TWIN :][: NEW - ASK] for g in range(G)] for b in range(B)]
        for x in (got, other)
    ]
    assert (np.array(answers[0]) != np.array(answers[1])).any(-1).mean() > 0.5


def test_rows_halt_behind_the_closing_text(short_chunks):
    nothing = np.zeros((B, G), int), np.zeros((B, G, TWIN), np.int32)
    free, _ = run(*nothing, closing=np.zeros((small.VOCAB, 2), np.int8))
    pairs = {
        tuple(row[i : i + 2]) for row in free.token_bgs[..., :ASK].reshape(-1, ASK).tolist() for i in range(ASK - 2)
    }
    one, two = sorted(pairs)[len(pairs) // 2]
    closing = np.zeros((small.VOCAB, 2), np.int8)
    closing[one], closing[two, 1] = 1, 2
    _, requested = run(*nothing, closing=closing)
    expected = []
    for row in free.token_bgs[..., :ASK].reshape(-1, ASK).tolist():
        ends = [i + 2 for i in range(ASK - 1) if row[i : i + 2] == [one, two]]
        expected.append(min([*ends, ASK]))
    np.testing.assert_array_equal(requested.reshape(-1), expected)
    assert min(expected) < ASK


def test_ended_rows_get_nothing(twins, short_chunks):
    counts, tokens = np.full((B, G), TWIN), twins[1]
    free, _ = run(counts, tokens)
    end = int(free.token_bgs[0, 0, 2])
    got, requested = run(counts, tokens, end=end)
    ended = (got.token_bgs[..., :ASK] == end).any(-1)
    assert ended[0, 0] and not ended.all()
    np.testing.assert_array_equal(got.inserted_bgs.any(-1), ~ended)
    assert got.stopped_bg[ended].all()
    np.testing.assert_array_equal(got.mask_bgs.sum(-1)[ended], requested[ended])


def test_slots():
    assert staged.slots(100, 64) == 164 and staged.slots(100, 65) == 196 and staged.slots(100, 10) == 110


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
def test_a_mesh_samples_the_same(twins, short_chunks):
    from dtr1_jax import config

    expected, _ = run(*twins)
    got, _ = run(*twins, mesh=mesh_lib.make(config.Mesh(2, 2, 2)))
    np.testing.assert_array_equal(got.token_bgs, expected.token_bgs)
    np.testing.assert_array_equal(got.inserted_bgs, expected.inserted_bgs)
    np.testing.assert_allclose(got.logp_bgs, expected.logp_bgs, atol=1e-4)


def test_requests_are_written_with_a_cache_of_their_length():
    """Each token attends over all slots, so those of the twin and of the answer would only take time."""
    spec = small.TEXT

    def request(key):
        return staged.write_requests(
            PARAMS, LORA, small.prompt(B, pictures=False), key, None, table(), spec=spec, group=G, request_tokens=ASK,
            new_tokens=NEW, twin_tokens=TWIN, end=NEVER, pad=small.PAD, temperature=1.0,
        )  # fmt: skip

    jaxpr, session = jax.make_jaxpr(request, return_shape=True)(jax.random.key(0))
    (inner,) = [e.params["jaxpr"].jaxpr for e in jaxpr.eqns if e.params.get("name") == "write_requests"]
    (loop,) = [e for e in inner.eqns if e.primitive.name == "while"]
    rows = (B, G, spec.kv_heads)
    carried = [v.aval.shape for v in loop.outvars if v.aval.shape[:3] == rows]
    assert carried == [(*rows, spec.head_dim, ASK), (*rows, ASK, spec.head_dim)] * spec.layers
    assert session.cache[0].v.shape == (*rows, staged.slots(NEW, TWIN), spec.head_dim)


def test_few_programs(twins, short_chunks):
    """A second batch with other lengths compiles nothing."""
    counts, tokens = twins
    run(counts, tokens)
    programs = (staged.write_requests, staged.insert_twins, staged.write_answers)
    before = [p._cache_size() for p in programs]
    run(counts[::-1], tokens[::-1])
    assert [p._cache_size() for p in programs] == before
