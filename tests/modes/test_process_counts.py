"""The same numbers, predictions and weights on any number of processes, and runs that change their number.

As a program it is main.py with the small policy of tests/tiny.py, whose completions earn rewards that differ, but for
the groups of `some_flat`; or with the arguments WEIGHTS, OUT and mesh.rollout, one process of
`test_a_rollout_and_an_evaluation_in_two_processes`.
"""

import dataclasses
import json
import pathlib
import runpy
import sys
import zlib

import jax
import numpy as np
import pytest
import real_processes
import tiny

from dtr1_jax import mesh
from dtr1_jax.data import image_files, pipeline, sources
from dtr1_jax.evaluation import answered, metrics, predict, wrong_pictures
from dtr1_jax.modes import dispatch, experience, step_numbers
from dtr1_jax.policies import pretrained
from dtr1_jax.policies import state as states
from dtr1_jax.policies.runtime import Runtime, host_tools
from dtr1_jax.rl import update
from dtr1_jax.run import hosts

SECONDS = 3000  # that the processes of a test may take
CHANGES = {
    "rollout__queries": 16, "rollout__temperature": 1.0, "grpo__minibatches": 2, "grpo__advantage": "batch",
    "train__eval_examples": 7, "train__eval_batch": 8, "train__eval_every": 0, "train__eval_temperature": 1.0,
    "train__samples_every": 1, "grpo__resample": 1, "checkpoint__every": 1, "data__task": "unified",
    "policy__prompt_tokens": 96, "mesh__data": 1, "mesh__fsdp": -1,
}  # fmt: skip


def start(tmp_path, name, processes, devices, **changes):
    """main.py in `processes` processes with `devices` virtual devices each."""
    command = ["--config=configs/seg.py", f"--workdir={tmp_path / name}"]
    command += tiny.arguments(tiny.weights_file(tmp_path), **CHANGES | changes)
    return real_processes.launch(__file__, command, processes, devices)


def check_equal(a: pathlib.Path, b: pathlib.Path, steps: int, rel=1e-5):
    """Numbers of every step and evaluation, and predictions."""
    rows = [[json.loads(line) for line in (x / "metrics.jsonl").read_text().splitlines()] for x in (a, b)]
    assert [row["step"] for row in rows[0]] == [row["step"] for row in rows[1]] == [*range(steps + 1), steps]
    for first, second in zip(*map(tiny.timeless, rows)):
        assert first.keys() == second.keys()
        for name, value in first.items():
            assert second[name] == pytest.approx(value, rel=rel, abs=1e-6), (first["step"], name)
    trained = [row for row in rows[0] if "train/loss" in row]
    assert len(trained) == steps
    for name, least in (("reward", 0.1), ("reward_std", 0.05), ("grad_norm", 0.1)):
        assert all(row[f"train/{name}"] > least for row in trained), name
    tables = [{p.name: p.read_text() for p in (x / "samples").iterdir()} for x in (a, b)]
    assert tables[0] == tables[1] and len(tables[0]) == steps
    for part in ("before", "after"):
        files = [(x / "gallery" / part / "predictions.jsonl").read_text() for x in (a, b)]
        assert files[0] == files[1] and files[0].count("\n") == 7
        pictures = [sorted(p.name for p in (x / "gallery" / part).glob("*.png")) for x in (a, b)]
        assert pictures[0] == pictures[1] != []


def some_flat(transcripts, *args):
    """tiny's rewards, but those of every second group are equal, so that dynamic sampling replaces it."""
    rewards, outcomes = tiny._spread(transcripts, *args)
    is_flat_b = np.array([zlib.crc32(group[0].text.encode("utf-8", "replace")) % 2 for group in transcripts], bool)
    total_bg = np.where(is_flat_b[:, None], rewards.total_bg[:, :1], rewards.total_bg)
    return dataclasses.replace(rewards, total_bg=total_bg), outcomes


class Broken:
    """A source in which some examples cannot be read."""

    def __init__(self, source):
        self._source = source

    def __len__(self):
        return 40

    def __getitem__(self, index):
        if index in (2, 5, 7, 20):
            raise image_files.ImageError(f"photo {index}: corrupt")
        return self._source[index]


def roll_out_and_evaluate(path: str, holders: int) -> dict:
    """The numbers and rewards of two rollouts, and the lines of an evaluation, by all processes together.

    `holders` devices hold a copy of the weights.
    """
    changes = {"rollout__queries": 4, "train__eval_examples": 9, "train__eval_batch": 6, "mesh__rollout": holders}
    c = tiny.settings(path, **CHANGES | changes)
    ready, device_mesh = pretrained.load_policy(c), mesh.make(c.mesh)
    trainable, frozen = states.initial_weights(c, ready, device_mesh)
    source, share = Broken(sources.open_source(c.data, "train")), mesh.share_of_rows(device_mesh)
    batches = iter(pipeline.query_batches(source, ready.style, 4 // share[1], seed=3, shard=share))
    collected = []
    with host_tools(c) as (segmenter, text_scorers, _):
        runtime = Runtime(c, ready, device_mesh, segmenter=segmenter, text_scorers=text_scorers)
        runtime = runtime.with_weights(*update.weights(trainable, frozen)).for_rollout()
        assert runtime.sampling_mesh.shape["tensor"] == holders
        for step in range(2):
            gathered = experience.begin_collecting(runtime, batches, jax.random.key(step))()
            collected.append(step_numbers.gather(gathered, device_mesh))
        skipped = pipeline.SkipCounter()
        queries = answered.of_all(device_mesh, predict.evaluate(runtime, source, skipped=skipped), pictures=2)
        same = wrong_pictures.same_answers(runtime, source, predict.evaluate(runtime, source))
    numbers = metrics.compute_metrics(queries, mesh.total_of_shares(device_mesh, skipped.count))
    return {
        "rows": [{name: row.tolist() for name, row in step.rows.items()} for step in collected],
        "numbers": tiny.timeless([step_numbers.describe(step) | step_numbers.by_task(step) for step in collected]),
        "queries": [query.row for query in queries], "places": [query.place for query in queries],
        "pictures": [sorted(query.pictures) for query in queries], "evaluation": numbers, "same": list(same),
        "position": batches.get_state(),
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("holders", [1, 2])
def test_a_rollout_and_an_evaluation_in_two_processes(tmp_path, monkeypatch, holders):
    """Two holders are both processes, which prepare different rows."""
    weights, out = tiny.weights_file(tmp_path), tmp_path / "out.json"
    two = real_processes.launch(__file__, [weights, str(out), str(holders)], 2, 1)
    tiny.install(monkeypatch, devices=2)
    monkeypatch.setattr(experience.score, "score", some_flat)
    one = json.loads(json.dumps(roll_out_and_evaluate(weights, holders)))
    tiny.finish(two, SECONDS)
    got = json.loads(out.read_text())
    assert one["places"] == [0, 1, 3, 4, 6, 8] and one["evaluation"]["eval/examples_skipped"] == 3
    assert [bool(kinds) for kinds in one["pictures"]] == [True] * 2 + [False] * 4
    assert min(row for step in one["rows"] for row in step["reward"]) > 0
    assert one["position"]["batch"] > 2  # groups without spread were replaced
    assert one["numbers"][0]["train/reward_std"] > 0.05 and len(set(one["rows"][0]["logp"])) == 4
    for name in ("queries", "places", "pictures", "position", "same"):
        assert got[name] == one[name], name
    for name in ("rows", "numbers"):
        for a, b in zip(one[name], got[name], strict=True):
            assert a.keys() == b.keys()
            for key in a:
                assert b[key] == pytest.approx(a[key], rel=1e-5, abs=1e-6), key
    assert got["evaluation"] == pytest.approx(one["evaluation"], rel=1e-6)


@pytest.mark.slow
def test_two_processes_are_one(tmp_path):
    changes = {"train__steps": 2, "rollout__queries": 8}  # The table of samples has the first four of process 0.
    tiny.finish(start(tmp_path, "one", 1, 2, **changes) + start(tmp_path, "two", 2, 1, **changes), SECONDS)
    check_equal(tmp_path / "one", tmp_path / "two", steps=2)


@pytest.mark.parametrize("devices, steps", [(4, 2), pytest.param(8, 5, marks=pytest.mark.slow)])
def test_devices_of_one_two_or_four_processes(tmp_path, devices, steps):
    """Of four processes with a device each, two hold the halves of a weight (mesh.tensor)."""
    changes = {"train__steps": steps, "grpo__minibatches": 1, "mesh__tensor": 2}
    for processes in (1, 2, 4):
        tiny.finish(start(tmp_path, str(processes), processes, devices // processes, **changes), SECONDS)
    check_equal(tmp_path / "1", tmp_path / "2", steps)
    check_equal(tmp_path / "1", tmp_path / "4", steps)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_processes_and_another_mesh(tmp_path):
    """Three steps with two processes, one and four, each with a mesh of its own, are those of one process.

    They sample a step ahead, with weights that the checkpoints hold besides. The first two have one copy of the weights
    in each process, whose devices have other queries in the update; of the four, two processes hold a copy together.
    """
    schedule = {"train__eval_examples": 0, "rollout__ahead": 1, "grpo__importance": "token_truncate"}
    tiny.finish(start(tmp_path, "one", 1, 2, train__steps=3, **schedule), SECONDS)
    meshes = ((2, 2, 1, 2), (1, 2, 1, 2), (4, 1, 4, 2))
    for steps, (processes, devices, fsdp, rollout) in enumerate(meshes, 1):
        mesh = {"mesh__data": -1, "mesh__fsdp": fsdp, "mesh__rollout": rollout}
        tiny.finish(start(tmp_path, "several", processes, devices, train__steps=steps, **schedule | mesh), SECONDS)
    rows = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("one", "several")
    ]
    assert [row["step"] for row in rows[1]] == [row["step"] for row in rows[0]] == [1, 2, 3]
    for one, several in zip(*rows):
        for name in ("train/loss", "train/reward", "train/grad_norm", "train/length", "train/lr"):
            assert several[name] == pytest.approx(one[name], rel=1e-4, abs=1e-6), (one["step"], name)
    c = tiny.settings(tiny.weights_file(tmp_path), **CHANGES | schedule)
    with pytest.MonkeyPatch.context() as patch:
        tiny.install(patch)
        states = [tiny.state(tmp_path / name, c, 3) for name in ("one", "several")]
    for name, value in states[0].items():
        if value.dtype.kind == "f":
            np.testing.assert_allclose(states[1][name], value, atol=1e-5, err_msg=name)
        else:
            assert (states[1][name] == value).all(), name


if __name__ == "__main__":
    patch = pytest.MonkeyPatch()
    tiny.install(patch, devices=None)
    patch.setattr(experience.score, "score", some_flat)
    if len(sys.argv) == 4:
        dispatch.join_processes()
        with hosts.together({}):
            got = roll_out_and_evaluate(sys.argv[1], int(sys.argv[3]))
            if jax.process_index() == 0:
                pathlib.Path(sys.argv[2]).write_text(json.dumps(got))
    else:
        sys.argv[0] = str(tiny.ROOT / "main.py")
        runpy.run_path(sys.argv[0], run_name="__main__")
