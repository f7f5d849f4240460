"""`--mode=sft` on a policy of two thin layers: what it writes, and that stopping changes nothing."""

import json
import signal
import types

import jax
import numpy as np
import pytest
import thin
from PIL import Image
from thin import settings

from dtr1_jax import config
from dtr1_jax.data.json_files import DataError
from dtr1_jax.models.weights import native
from dtr1_jax.modes import sft
from dtr1_jax.policies import pretrained
from dtr1_jax.rl import imitation
from dtr1_jax.run import interrupt


@pytest.fixture(autouse=True)
def thin_policy(monkeypatch):
    thin.install(monkeypatch)


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
        ({"data__source": "coco", "data__root": "photos"}, DataError, r"photos: expected .* got no such folder"),
        ({"data__source": "jsonl", "data__root": "x.jsonl"}, DataError, r"x\.jsonl: cannot be read"),
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


def unified(**changes):
    return settings(
        data__task="unified", data__video=0.5, policy__prompt_tokens=208, rollout__new_tokens=224, data__frames=4,
        sft__practice=2, sft__practice_drills=1, **changes,
    )  # fmt: skip


@pytest.mark.slow
def test_a_cold_start_of_all_tasks_runs(tmp_path):
    sft.run(unified(), tmp_path)
    assert all(np.isfinite(list(line.values())).all() for line in rows(tmp_path))


def own_lines(folder, count=10, **fields):
    """A JSON lines file with its pictures: a red square that is asked for, and a blue one."""
    folder.mkdir(exist_ok=True)
    lines = []
    for i in range(count):
        pixels = np.full((60, 80, 3), 200, np.uint8)
        pixels[10:30, 5 + i : 25 + i], pixels[35:55, 50:70] = (200, 0, 0), (0, 0, 200)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        red, blue = [5 + i, 10, 25 + i, 30], [50, 35, 70, 55]
        objects = [{"label": "mug", "box": red}, {"label": "lamp", "box": blue}]
        lines.append({"image": f"{i}.png", "query": "what is red", "boxes": [red], "objects": objects} | fields)
    (folder / "mine.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return {"data__source": "jsonl", "data__root": str(folder / "mine.jsonl")}


def test_own_lines_are_demonstrations(tmp_path, stop_after, caplog):
    """The loss falls on their twins; a run that is stopped goes on; the dense loss is left out and said to be."""
    own = own_lines(tmp_path / "data")
    c = settings(**own, sft__steps=6, sft__direct=0.0)
    whole = sft.run(c, tmp_path / "whole")
    assert "config.sft.dense, sft.tower and sft.practice are not used with config.data.source=jsonl" in caplog.text
    lines = rows(tmp_path / "whole")
    assert len(lines) == 6 and not any("sft/dense" in line or "sft/nll_practice" in line for line in lines)
    assert lines[-1]["sft/nll_twin"] < lines[0]["sft/nll_twin"]
    stop_after(2)
    with pytest.raises(interrupt.Interrupted):
        sft.run(c, tmp_path / "parts")
    assert sft.run(c, tmp_path / "parts").read_bytes() == whole.read_bytes()


def test_lines_without_an_answer_among_objects_are_refused(tmp_path):
    for fields in ({"objects": []}, {"boxes": [[1, 2, 30, 40]]}):
        own = own_lines(tmp_path / "data", **fields)
        with pytest.raises(DataError, match=r"none of the first 8 examples .* `boxes` that equal boxes of `objects`"):
            sft.run(settings(**own), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("began_with, warned", [(4000, False), (2000, True)])
def test_a_rate_that_jumps_on_resume_is_warned_of(began_with, warned, caplog):
    c = settings(sft__steps=4000, sft__warmup=100)
    sft._warn_of_jump(c, types.SimpleNamespace(settings={"sft.steps": began_with}), step=2000)
    assert ("because sft.steps was changed: the schedule is now 4000 updates long" in caplog.text) == warned
