"""The cold start's batches (data/pipeline.py): cut to buckets, repeatable, and what can not be used is left out."""

import itertools

import jax
import numpy as np
import pytest

from dtr1_jax import bundle
from dtr1_jax.data import files, pipeline, prompts, tokens, vision
from dtr1_jax.data.twinworld import dense
from dtr1_jax.twin.text import Frame

SCENES = prompts.Style(
    tokens.load(bundle.ASSETS / "tiny"), vision.Geometry(8, 1, 2, 12, 96 * 96), Frame.PIXEL, "brief", 96
)


def take(data, count):
    return list(itertools.islice(data, count))


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def demonstrations(batch=2, length=160, objects=lambda index: 2, **options):
    data = pipeline.demonstrations(SCENES, batch, seed=0, length=length, objects=objects, size=96, **options)
    return iter(data)


def test_demonstrations_are_cut_to_a_bucket():
    for batch in take(demonstrations(), 3):
        for mask in (batch.mask_bgs, batch.prompt.mask_bp):
            longest = mask.sum(-1).max()
            assert mask.shape[-1] % pipeline.BUCKET == 0
            assert longest <= mask.shape[-1] < longest + pipeline.BUCKET
            assert (np.diff(mask.astype(int), axis=-1) <= 0).all()  # what is cut off is padding
        p = batch.prompt
        assert p.token_bp.shape == p.mask_bp.shape == p.slot_bp.shape == p.position_bp3.shape[:2]
        assert batch.token_bgs.shape == batch.mask_bgs.shape
        assert (p.slot_bp.max(1) == 35).all()
        assert batch.dense_bnf.shape == (2, 144, len(dense.COUNTS))
        assert batch.box_bn4.shape == (2, 144, 4)


def test_bucket_is_never_wider_than_the_rows():
    size = pipeline.BUCKET
    mask = np.arange(size + 4) < np.array([[size + 2], [3]])
    assert pipeline._bucket(mask) == size + 4
    assert pipeline._bucket(mask[:, : size + 1]) == size + 1
    assert pipeline._bucket(mask & (np.arange(size + 4) < size)) == size


def test_demonstrations_repeat_resume_and_shard():
    expected = take(demonstrations(), 4)
    data = demonstrations()
    take(data, 2)
    state = data.get_state()
    other = demonstrations()
    other.set_state(state)
    same(take(other, 2), expected[2:])
    whole = [b.token_bgs[0, 0, :20] for b in take(demonstrations(batch=1), 4)]
    for i in range(2):
        same([b.token_bgs[0, 0, :20] for b in take(demonstrations(batch=1, shard=(i, 2)), 2)], whole[i::2])


def test_demonstrations_follow_the_curriculum():
    batches = take(demonstrations(batch=1, objects=lambda index: 1 + index), 3)
    assert [b.dense_bnf[..., 4].max() for b in batches] == [1, 2, 3]  # ids of the objects


def test_a_share_of_the_demonstrations_answers_directly():
    def direct(share):
        rows = take(demonstrations(batch=1, direct=share), 24)
        return ["<think></think>" in SCENES.tokenizer.decode(b.token_bgs[0, 0]) for b in rows]

    assert not any(direct(0.0)) and all(direct(1.0))
    assert direct(0.5) == direct(0.5)
    assert 4 < sum(direct(0.5)) < 20


def test_practice_pads_twins_to_a_bucket_and_resumes():
    def begin():
        return iter(pipeline.practice(SCENES, 2, seed=0, queries=2, drills=1, objects=lambda index: 2 + index // 2))

    data = begin()
    first, second = next(data), next(data)
    assert first.token_bgs.shape == (2, 3, pipeline.PRACTICE_QUERY)
    assert first.prompt.images is None and first.dense_bnf is None
    decode = SCENES.tokenizer.hf.decode
    for row in range(2):
        twin = decode(second.prompt.token_bp[row][second.prompt.mask_bp[row]])
        assert twin.count('"id":') == 3
        assert second.prompt.next_b[row] == second.prompt.mask_bp[row].sum()
    assert second.prompt.token_bp.shape[1] % pipeline.BUCKET == 0
    assert not (first.reason_bgs & ~first.mask_bgs).any() and (~first.reason_bgs & first.mask_bgs).any()
    again = begin()
    next(again)
    state = again.get_state()
    same(next(again), second)
    again.set_state(state)
    same(next(again), second)


def test_long_transcripts_are_left_out():
    lengths = [int(b.mask_bgs.sum()) for b in take(demonstrations(batch=1), 6)]
    limit, skipped = sorted(lengths)[3], pipeline.Skipped()
    kept = [int(b.mask_bgs.sum()) for b in take(demonstrations(batch=1, length=limit, skipped=skipped), 3)]
    assert kept == [n for n in lengths if n <= limit][:3]


def test_no_room_for_any_transcript(monkeypatch):
    monkeypatch.setattr(pipeline, "PATIENCE", 20)
    with pytest.raises(files.DataError, match=r"none of 20 examples in a row .* more than the 5 it may have"):
        next(demonstrations(length=5))
