"""The cold start's batches: scenes that grow, steps of one kind each, practice, and a position that restores all."""

import json
import re

import coco_folders
import jax
import numpy as np
import pytest
import thin
from thin import settings

from dtr1_jax.data import cold_start
from dtr1_jax.policies import pretrained


@pytest.fixture(autouse=True)
def thin_policy(monkeypatch):
    thin.install(monkeypatch)


def counts(c, steps):
    at = cold_start.object_schedule(c)
    return [at(step, step) for step in range(steps)]


def test_scenes_grow():
    c = settings(data__max_objects=7, sft__steps=100, sft__curriculum=0.6)
    got = counts(c, 130)
    assert got[:6] == [2, 3] * 3
    largest = [max(got[: i + 1]) for i in range(130)]
    assert (largest[5], largest[58], largest[66]) == (3, 6, 7)
    assert set(got[70:100]) == set(range(2, 8))


def test_practice_starts_with_the_text_and_follows_the_curriculum():
    c = settings(data__max_objects=5, sft__steps=8, sft__tower=0.5, sft__practice=2)
    assert cold_start.tower_steps(c, pretrained.load_policy(c).style) == 4
    data, count = cold_start.ColdStartBatches(c, pretrained.load_policy(c).style), cold_start.object_schedule(c)
    assert data.next(text=False)[1] is None
    for step in range(4, 7):
        twins, tokenizer = data.next(text=True)[1].prompt, pretrained.load_policy(c).style.tokenizer
        for token, mask in zip(twins.token_bp, twins.mask_bp):
            assert tokenizer.hf.decode(token[mask]).count('"id":') == count(step, step)


def test_the_position_of_the_data_restores_both_streams():
    c = settings(sft__practice=2)
    made = pretrained.load_policy(c)
    data, other = cold_start.ColdStartBatches(c, made.style), cold_start.ColdStartBatches(c, made.style)
    data.next(text=False), data.next(text=True)
    position = json.loads(json.dumps(data.get_state()))
    expected = [data.next(text=True) for _ in range(2)]
    other.set_state(position)
    jax.tree.map(np.testing.assert_array_equal, [other.next(text=True) for _ in range(2)], expected)
    without = cold_start.ColdStartBatches(settings(sft__practice=0), made.style)
    assert without.next(text=True)[1] is None
    without.set_state(json.loads(json.dumps(without.get_state())))


@pytest.mark.parametrize("curriculum", [0.0, 0.03, 1.0])
@pytest.mark.parametrize("fewest, most", [(1, 1), (2, 2), (2, 3), (1, 9)])
def test_scenes_stay_within_the_settings(fewest, most, curriculum):
    c = settings(data__min_objects=fewest, data__max_objects=most, sft__steps=40, sft__curriculum=curriculum)
    got = counts(c, 200)
    assert min(got) == fewest
    assert max(got) == most


def unified(**changes):
    return settings(
        data__task="unified", data__video=0.5, policy__prompt_tokens=208, rollout__new_tokens=224, data__frames=4,
        sft__practice=2, sft__practice_drills=1, **changes,
    )  # fmt: skip


def test_steps_are_about_pictures_or_videos_and_both_have_their_practice():
    c = unified()
    made = pretrained.load_policy(c)
    data, decode, kinds = cold_start.ColdStartBatches(c, made.style), made.style.tokenizer.hf.decode, []
    for step in range(8):
        shown, practice = data.next(text=step >= cold_start.tower_steps(c, made.style))
        frames = shown.prompt.images.segment_bn.max()
        kinds.append(frames > 1)
        assert frames == (4 if kinds[-1] else 1)
        assert shown.dense_bnf.shape[1] == shown.prompt.images.patch_bnc.shape[1] == 144 * frames
        assert (practice is None) == (step < 2)
        if practice is not None:
            twin = decode(practice.prompt.token_bp[0][practice.prompt.mask_bp[0]])
            assert ('"frames":[0,1,2,3]' in twin) == kinds[-1]
            assert practice.token_bgs.shape[1] == 5
    assert sum(kinds) == 4
    position = json.loads(json.dumps(data.get_state()))
    expected = [data.next(text=True) for _ in range(2)]
    other = cold_start.ColdStartBatches(c, made.style)
    other.set_state(position)
    jax.tree.map(np.testing.assert_array_equal, [other.next(text=True) for _ in range(2)], expected)


def test_summaries_have_steps_of_their_own():
    c = unified()
    made = pretrained.load_policy(c)
    data, decode, kinds = cold_start.ColdStartBatches(c, made.style), made.style.tokenizer.hf.decode, []
    for _ in range(8):
        shown, _ = data.next(text=True)
        written = [decode(row[0][mask[0]]) for row, mask in zip(shown.token_bgs, shown.mask_bgs)]
        summaries = {bool(re.search("things?: |no such thing", text)) for text in written}
        assert len(summaries) == 1, written
        kinds.append((*summaries, bool(shown.prompt.images.segment_bn.max() > 1)))
    assert sorted(kinds) == sorted(3 * [(False, False)] + 3 * [(False, True)] + [(True, False), (True, True)])


def test_videos_have_fewer_objects():
    at = cold_start.object_schedule(unified(data__max_objects=7), video=True)
    assert {at(100, turn) for turn in range(9)} == {2, 3}


def test_own_pictures_are_demonstrations_in_their_transcripts(tmp_path):
    """A COCO folder: every transcript has the twin of its picture, a thought and the ids of its answer."""
    notes = [coco_folders.note(coco_folders.rectangle(12 * k, 3, 12 * k + 9, 20), 1 + (i + k) % 3, i, number=3 * i + k)
             for i in range(1, 9) for k in range(2)]  # fmt: skip
    root = coco_folders.write_coco_folder(tmp_path, notes, pictures=8)
    c = settings(data__source="coco", data__root=str(root), sft__practice=2, sft__direct=0.5)
    made = pretrained.load_policy(c)
    assert cold_start.tower_steps(c, made.style) == 0 and cold_start.dense_weight(c, made.style) == 0.0 < c.sft.dense
    data, decode = cold_start.ColdStartBatches(c, made.style), made.style.tokenizer.hf.decode
    thoughts = []
    for _ in range(6):
        shown, practice = data.next(text=True)
        assert shown.dense_bnf is None and shown.box_bn4 is None and practice is None
        for token, mask in zip(shown.token_bgs[:, 0], shown.mask_bgs[:, 0]):
            text = decode(token[mask])
            assert re.search(r'"label":"(person|dog|cat)"', text) and '<answer>{"objects":[' in text
            thoughts.append(re.search("<think>(.*)</think>", text).group(1))
    assert 0.2 < np.mean([not thought for thought in thoughts]) < 0.8 and len(set(thoughts)) > 4
    position = json.loads(json.dumps(data.get_state()))
    expected = [data.next(text=True) for _ in range(2)]
    other = cold_start.ColdStartBatches(c, made.style)
    other.set_state(position)
    jax.tree.map(np.testing.assert_array_equal, [other.next(text=True) for _ in range(2)], expected)


def test_the_memory_of_waiting_batches_is_a_setting():
    c = settings(data__prefetch_mb=3, sft__practice=2)
    data = cold_start.ColdStartBatches(c, pretrained.load_policy(c).style)
    assert {stream._budget for stream in data._streams[0]} == {3 << 20}
