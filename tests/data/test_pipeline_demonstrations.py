"""The cold start's batches (data/pipeline.py): cut to buckets, repeatable, and unusable examples are left out."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from dtr1_jax import types
from dtr1_jax.data import (
    batches,
    demonstrations,
    json_files,
    numbered_batches,
    patches,
    pipeline,
    prompts,
    tokenizer,
)
from dtr1_jax.data.queries import motion
from dtr1_jax.data.twinworld import patch_targets, picture_examples, practice
from dtr1_jax.policies import policy_files
from dtr1_jax.twin import text as twin_text
from dtr1_jax.twin.coordinates import Canvas, Frame
from dtr1_jax.twin.schema import Answer

SCENES = prompts.Style(
    tokenizer.load_tokenizer(policy_files.ASSETS / "tiny"),
    patches.Geometry(8, 1, 2, 12, 96 * 96),
    Frame.PIXEL,
    "brief",
    96,
)


def take(data, count):
    return list(itertools.islice(data, count))


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def demo_batches(batch=2, length=160, objects=lambda index: 2, **options):
    data = pipeline.demonstration_batches(SCENES, batch, seed=0, length=length, objects=objects, size=96, **options)
    return iter(data)


def test_demonstrations_are_cut_to_a_bucket():
    for batch in take(demo_batches(), 3):
        for mask in (batch.mask_bgs, batch.prompt.mask_bp):
            longest = mask.sum(-1).max()
            assert mask.shape[-1] % batches.BUCKET == 0
            assert longest <= mask.shape[-1] < longest + batches.BUCKET
            assert (np.diff(mask.astype(int), axis=-1) <= 0).all()  # what is cut off is padding
        p = batch.prompt
        assert p.token_bp.shape == p.mask_bp.shape == p.slot_bp.shape == p.position_bp3.shape[:2]
        assert batch.token_bgs.shape == batch.mask_bgs.shape
        assert (p.slot_bp.max(1) == 35).all()
        assert batch.dense_bnf.shape == (2, 144, len(patch_targets.COUNTS))
        assert batch.box_bn4.shape == (2, 144, 4)


def test_rows_of_segmentation_by_hand():
    """Rows by hand: each row is the example of picture_examples with its index, with a thought or without."""
    rows, canvas = take(demo_batches(direct=0.5), 3), Canvas(Frame.PIXEL, (96, 96))
    for index in range(6):
        example = picture_examples.example(0, "train", index, size=96, min_objects=2, max_objects=2)
        reasons = np.random.default_rng([0, index]).random() >= 0.5
        token, mask, _ = demonstrations.encode_transcript(demonstrations.oracle(example, canvas, reasons), SCENES, 160)
        row = rows[index // 2].token_bgs[index % 2]
        np.testing.assert_array_equal(row, token[:, : row.shape[1]])
        assert mask[:, : row.shape[1]].sum() == mask.sum()
    twins = pipeline.practice_batches(SCENES, 2, seed=0, queries=2, drills=1, objects=lambda index: 3)
    first = next(iter(twins))
    for row in range(2):
        things, exercises = picture_examples.practice_queries(0, row, 3, 2 + pipeline.SPARE, 1)
        exercises = [(q.text, q.thought, Answer(objects=q.ids)) for q in exercises]
        style = dataclasses.replace(SCENES, length=pipeline.PRACTICE_TWIN)
        twin = twin_text.from_scene(things, canvas)
        _, token, mask, reason = demonstrations.exercise(twin, exercises, style, batches.PRACTICE_QUERY, 3, 1)
        same((first.token_bgs[row], first.mask_bgs[row], first.reason_bgs[row]), (token, mask, reason))


@pytest.mark.parametrize("frames", [0, 4])
def test_all_tasks_are_interleaved(frames):
    geometry = dataclasses.replace(SCENES.geometry, video=patches.VideoRule(96 * 96, 96 * 96, stamped=False))
    style, tasks = dataclasses.replace(SCENES, geometry=geometry, length=224), dict.fromkeys(types.TASKS, 1.0)
    options = {"seed": 0, "objects": lambda index: 2, "task_weights": tasks, "frames": frames}
    data = pipeline.demonstration_batches(style, 4, length=320, size=96, direct=0.5, **options)
    for batch in take(iter(data), 2):
        assert batch.prompt.images.segment_bn.max() == max(1, frames)
        assert (batch.prompt.slot_bp.max(1) == 36 * max(1, frames) - 1).all()
        written = [style.tokenizer.decode(row[0][mask[0]]) for row, mask in zip(batch.token_bgs, batch.mask_bgs)]
        assert sum('<answer>{"text":' in text for text in written) == 2
        assert sum('<answer>{"objects":' in text for text in written) == 2
        assert all(('"frames":[0,1,2,3]' in text) == (frames > 0) for text in written)
    twins = pipeline.practice_batches(style, 2, queries=4, drills=2, **options)
    for batch in take(iter(twins), 2):
        assert batch.token_bgs.shape[1] == 6
        for rows, masks in zip(batch.token_bgs, batch.mask_bgs):
            decode = style.tokenizer.hf.decode
            written = [decode(row[mask], skip_special_tokens=True) for row, mask in zip(rows, masks)]
            assert all(text.startswith("point: list everything.") for text in written[:2])
            assert sum('<answer>{"text":' in text for text in written[2:]) == 2
            assert all(text.endswith("</answer>") for text in written)


def test_drills_of_videos_are_true():
    """Each step against the motion of the objects."""
    steps = set()
    for index in range(12):
        things, exercises = practice.practice(0, index, 3, (), 2, frames=4)
        motions = {thing.id: motion.measure_motion(thing) for thing in things}
        for text, thought, answer in exercises:
            assert text == "list everything." and set(answer.objects) == {i for i, m in motions.items() if m}
            for step in thought.removesuffix(".").split(". "):
                words = [w for w in step.split() if not w.isdecimal() and w != "none"]
                ids = {int(w) for w in step.split() if w.isdecimal()}
                name = " ".join(words)
                if name == "enters":
                    assert ids == {i for i, m in motions.items() if m and m.first > 0}
                elif name == "moves":
                    assert ids == {i for i, m in motions.items() if m and m.moves}
                steps.add(name)
    assert {"enters", "moves"} <= steps and len(steps) > 12


def test_demonstrations_repeat_resume_and_shard():
    expected = take(demo_batches(), 4)
    data = demo_batches()
    take(data, 2)
    state = data.get_state()
    other = demo_batches()
    other.set_state(state)
    same(take(other, 2), expected[2:])
    whole = [b.token_bgs[0, 0, :20] for b in take(demo_batches(batch=1), 4)]
    for i in range(2):
        same([b.token_bgs[0, 0, :20] for b in take(demo_batches(batch=1, shard=(i, 2)), 2)], whole[i::2])


def test_demonstrations_follow_the_curriculum():
    rows = take(demo_batches(batch=1, objects=lambda index: 1 + index), 3)
    assert [b.dense_bnf[..., 4].max() for b in rows] == [1, 2, 3]  # ids of the objects


def test_a_share_of_the_demonstrations_answers_directly():
    def direct(share):
        rows = take(demo_batches(batch=1, direct=share), 24)
        return ["<think></think>" in SCENES.tokenizer.decode(b.token_bgs[0, 0]) for b in rows]

    assert not any(direct(0.0)) and all(direct(1.0))
    assert direct(0.5) == direct(0.5)
    assert 4 < sum(direct(0.5)) < 20


def test_practice_pads_twins_to_a_bucket_and_resumes():
    def begin():
        return iter(
            pipeline.practice_batches(SCENES, 2, seed=0, queries=2, drills=1, objects=lambda index: 2 + index // 2)
        )

    data = begin()
    first, second = next(data), next(data)
    assert first.token_bgs.shape == (2, 3, batches.PRACTICE_QUERY)
    assert first.prompt.images is None and first.dense_bnf is None
    decode = SCENES.tokenizer.hf.decode
    for row in range(2):
        twin = decode(second.prompt.token_bp[row][second.prompt.mask_bp[row]])
        assert twin.count('"id":') == 3
        assert second.prompt.next_b[row] == second.prompt.mask_bp[row].sum()
    assert second.prompt.token_bp.shape[1] % batches.BUCKET == 0
    assert not (first.reason_bgs & ~first.mask_bgs).any() and (~first.reason_bgs & first.mask_bgs).any()
    again = begin()
    next(again)
    state = again.get_state()
    same(next(again), second)
    again.set_state(state)
    same(next(again), second)


def test_long_transcripts_are_replaced_at_their_places():
    lengths = [int(b.mask_bgs.sum()) for b in take(demo_batches(batch=1), 6)]
    limit, skipped = sorted(lengths)[3], pipeline.SkipCounter()
    short = [int(b.mask_bgs.sum()) for b in take(demo_batches(batch=1, length=limit, skips=skipped), 3)]
    assert skipped.count and max(short) <= limit
    kept = [(before, after) for before, after in zip(lengths, short) if before <= limit]
    assert kept and len(kept) < 3 and all(before == after for before, after in kept)


def test_no_room_for_any_transcript(monkeypatch):
    monkeypatch.setattr(numbered_batches, "PATIENCE", 20)
    with pytest.raises(json_files.DataError, match=r"none of 20 examples in a row .* more than the 5 it may have"):
        next(demo_batches(length=5))
