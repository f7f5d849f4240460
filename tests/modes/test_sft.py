"""`--mode=sft` on a policy of two thin layers: what it writes, and that stopping changes nothing."""

import dataclasses
import functools
import json
import re
import signal

import jax
import numpy as np
import pytest

from configs import default
from dtr1_jax import config, mesh
from dtr1_jax.data import batches, cold_start
from dtr1_jax.data.json_files import DataError
from dtr1_jax.models import spec
from dtr1_jax.models.weights import native
from dtr1_jax.modes import sft
from dtr1_jax.policies import pretrained
from dtr1_jax.rl import imitation
from dtr1_jax.run import interrupt

TOWER = dataclasses.replace(spec.TINY.vision, width=16, layers=1, heads=2, hidden=16)
THIN = dataclasses.replace(
    spec.TINY, width=16, layers=1, heads=2, kv_heads=1, head_dim=8, hidden=16, sections=(2, 1, 1), vision=TOWER
)  # fmt: skip


@pytest.fixture(autouse=True)
def thin(monkeypatch):
    """The thin policy on one device, and all batches of one shape: less to compile."""
    monkeypatch.setitem(spec.SPECS, "tiny", THIN)
    monkeypatch.setattr(mesh, "make", functools.partial(mesh.make, devices=jax.devices()[:1]))
    monkeypatch.setattr(batches, "BUCKET", 1000)


def settings(**changes):
    values = default.get_config()
    values.data.max_objects = 2
    values.sft.steps, values.sft.batch, values.sft.warmup, values.sft.log_every = 4, 4, 1, 1
    values.sft.tower, values.sft.practice = 0.5, 4
    values.checkpoint.every = 0
    for name, value in changes.items():
        *section, key = name.split("__")
        (values[section[0]] if section else values)[key] = value
    return config.from_configdict(values)


def rows(workdir):
    """The metrics without the clock's."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if "examples_per_s" not in k and "time" not in k} for line in lines]


@pytest.fixture
def stop_after(monkeypatch):
    """A function that has SIGTERM sent during update `n`."""
    update = imitation.update

    def arm(n):
        left = [n]

        def counted(*args, **kwargs):
            left[0] -= 1
            if not left[0]:
                signal.raise_signal(signal.SIGTERM)
            return update(*args, **kwargs)

        monkeypatch.setattr(imitation, "update", counted)

    return arm


def test_stopped_and_gone_on_is_the_same_as_in_one_go(tmp_path, stop_after):
    c = settings()
    whole = sft.run(c, tmp_path / "whole")
    assert whole == tmp_path / "whole" / "policy.safetensors"
    stop_after(2)
    with pytest.raises(interrupt.Interrupted) as stopped:
        sft.run(c, tmp_path / "parts")
    assert stopped.value.step == 2
    assert not (tmp_path / "parts" / "policy.safetensors").exists()
    parts = sft.run(c, tmp_path / "parts")
    assert parts.read_bytes() == whole.read_bytes()
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")

    lines = rows(tmp_path / "whole")
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert ["sft/nll_twin" in line for line in lines] == [
        False,
        False,
        True,
        True,
    ]  # the tower alone for half of the steps
    assert all(np.isfinite(list(line.values())).all() for line in lines)

    made = pretrained.load_policy(c)
    got = native.load_native(whole, pretrained.template(made))
    assert jax.tree.map(np.shape, got) == jax.tree.map(lambda x: x.shape, pretrained.template(made))

    before = parts.read_bytes()
    parts.unlink()
    assert sft.run(c, tmp_path / "parts").read_bytes() == before  # a run that is done only writes its weights


def test_no_steps_give_the_random_weights(tmp_path):
    path = sft.run(settings(sft__steps=0), tmp_path)
    made = pretrained.load_policy(settings())
    got = native.load_native(path, pretrained.template(made))
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(got))


def test_it_goes_on_from_the_weights_that_are_given(tmp_path):
    given = sft.run(settings(sft__steps=0, seed=5), tmp_path / "given")
    kept = sft.run(settings(sft__steps=0, policy__path=str(given)), tmp_path / "kept")
    new = sft.run(settings(sft__steps=0), tmp_path / "new")
    assert kept.read_bytes() == given.read_bytes() != new.read_bytes()


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"data__source": "coco", "data__root": "photos"}, config.ConfigError,
         r"config\.data\.source: expected twinworld, .* got 'coco'"),
        ({"data__source": "jsonl", "data__root": "x.jsonl"}, config.ConfigError, r"got 'jsonl'"),
        ({"data__image_size": 128}, config.ConfigError,
         r"config\.data\.image_size: .* config\.policy\.max_pixels = 9216 turns 128 x 128 into 96 x 96 pixels"),
        ({"data__max_objects": 12}, DataError, r"twinworld objects: .* got 2 and 12"),
        ({"data__image_size": 64, "policy__max_pixels": 64 * 64}, DataError, r"at least 96 pixels, got 64"),
        ({"mesh__data": 3}, config.ConfigError, r"config\.mesh: .* = 3 devices, but there are 1"),
    ],
)  # fmt: skip
def test_settings_that_can_not_be_used_are_refused_before_anything_is_written(tmp_path, changes, error, message):
    workdir = tmp_path / "run"
    with pytest.raises(error, match=message):
        sft.run(settings(**changes), workdir)
    assert not workdir.exists()


def counts(c, steps):
    at = cold_start.object_count(c)
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
    assert cold_start.tower_steps(c) == 4
    data, count = cold_start.ColdStartBatches(c, pretrained.load_policy(c).style), cold_start.object_count(c)
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
        shown, practice = data.next(text=step >= cold_start.tower_steps(c))
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
    at = cold_start.object_count(unified(data__max_objects=7), video=True)
    assert {at(100, turn) for turn in range(9)} == {2, 3}


@pytest.mark.slow
def test_a_cold_start_of_all_tasks_runs(tmp_path):
    sft.run(unified(), tmp_path)
    assert all(np.isfinite(list(line.values())).all() for line in rows(tmp_path))
