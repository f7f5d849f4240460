"""Completions around the twins of specialists: on the device, in transcripts and rewards, and in whole runs."""

import dataclasses
import json

import fake_perceivers
import jax
import numpy as np
import pytest
import tiny
from fake_perceivers import ASKING, request, speak

from dtr1_jax import mesh
from dtr1_jax.asking import complete, perceived_twins
from dtr1_jax.asking.requested_work import PHASES
from dtr1_jax.data import pipeline, sources
from dtr1_jax.evaluation import answered, metrics, predict
from dtr1_jax.modes import evaluate, experience, step_numbers, train
from dtr1_jax.policies import pretrained
from dtr1_jax.policies.runtime import Runtime, host_tools
from dtr1_jax.rl import scorer
from dtr1_jax.specialists.segmenter import Segmenter


def runtime_of(c, perceiver, segmenter=None):
    ready, device_mesh = pretrained.load_policy(c), mesh.make(c.mesh)
    params = pretrained.read_weights(c, ready)
    params = mesh.put(params, mesh.shardings(device_mesh, params))
    return Runtime(c, ready, device_mesh, params, segmenter=segmenter, perceiver=perceiver)


def heldout(c, count=4):
    source = sources.open_source(c.data, "heldout")
    return [source[i] for i in range(count)]


@pytest.mark.parametrize("twins", ["empty", "annotated"])
def test_sampler_and_scorer_agree_over_real_insertions(path, small, monkeypatch, twins):
    """The random policy asks for nothing in words; with "annotated" the host acts as if it had asked for everything."""
    c = tiny.settings(path, **ASKING)
    examples = heldout(c)
    perceive = perceived_twins.perceive
    if twins == "annotated":
        everything = [[request(*sorted({x.label for x in e.scene}))] * 2 for e in examples]
        monkeypatch.setattr(perceived_twins, "perceive", lambda texts, *rest: perceive(everything, *rest))
    runtime = runtime_of(c, fake_perceivers.annotated(examples))
    batch = next(pipeline.evaluation_batches(examples, runtime.policy.style, 4, 4))
    got = complete.complete(runtime, batch, jax.random.key(0), group=2, temperature=1.0)
    rollout = got.rollout
    scored = scorer.score(
        runtime.params, None, batch.prompt, rollout.token_bgs, rollout.mask_bgs, runtime.policy.banned_v,
        spec=runtime.policy.spec, temperature=1.0,
    )  # fmt: skip
    assert np.abs(scored - rollout.logp_bgs).max() < 1e-4
    assert (rollout.mask_bgs.sum(-1) <= 24).all() and rollout.inserted_bgs.any(-1).all()
    for b, g in np.ndindex(4, 2):
        one, row = got.insertions[b][g], rollout.token_bgs[b, g]
        assert tuple(row[rollout.inserted_bgs[b, g]]) == one.ids and rollout.inserted_bgs[b, g].argmax() <= 9
        assert bool(one.twin.objects) == (twins == "annotated")
        read = got.transcripts[b][g]
        assert not read.sound and "<twin>" in read.text and read.constructor == "specialists"
    assert set(got.seconds) == {"rollout", *PHASES} and min(got.seconds.values()) > 0
    phases = sum(got.seconds[name] for name in PHASES)
    assert got.seconds["rollout"] == pytest.approx(phases - got.seconds["perceive"])


@pytest.mark.parametrize("constructor", ["specialists", "policy"])
def test_padded_batches_and_a_mesh(path, monkeypatch, constructor):
    """Also where rows come from one mesh, and another one of the same devices samples."""
    settings = {**ASKING, "policy__constructor": constructor}
    with pytest.MonkeyPatch.context() as patch:
        tiny.install(patch)
        c = tiny.settings(path, **settings)
        examples = heldout(c, 3)
        one = runtime_of(c, fake_perceivers.annotated(examples))
        batch = next(pipeline.evaluation_batches(examples, one.policy.style, 4, 3))
        expected = predict.ask(one, batch, jax.random.key(0))
    tiny.install(monkeypatch, devices=2)
    c = tiny.settings(path, **settings, mesh__data=2, train__eval_batch=4)
    runtime = runtime_of(c, one.perceiver)
    both = mesh.for_rollout(runtime.mesh, 2)
    params = mesh.put(pretrained.read_weights(c, runtime.policy), mesh.replicated(both))
    for two in (runtime, dataclasses.replace(runtime, params=params, rollout_mesh=both)):
        got = predict.ask(two, batch, jax.random.key(0))
        assert [t[0].text for t in got.transcripts] == [t[0].text for t in expected.transcripts]
        assert got.rollout.token_bgs.shape[0] == 3


def right_answers(c, monkeypatch, ops=("segment",), count=2):
    """A policy that asks for the answer's labels, gets them, and names the answer's objects by their ids."""
    examples = heldout(c, count)
    requests, replies = [], []
    for e in examples:
        labels = sorted({x.label for x in e.scene if x.id in e.answer_ids}) or [e.scene[0].label]
        requests.append(request(*labels, ops=ops))
        ids = ",".join(map(str, e.answer_ids))
        replies.append(f'<think></think><answer>{{"objects":[{ids}]}}</answer>')
    speak(monkeypatch, c, requests, replies)
    return examples


@pytest.mark.parametrize("ops", [("segment",), ()])
def test_answers_by_ids_have_the_real_masks(path, small, monkeypatch, ops):
    """With segment they are the annotated ones and no segmenter works; without it boxes become masks as before."""
    c = tiny.settings(path, **{**ASKING, "rollout__twin_tokens": 400})
    examples = right_answers(c, monkeypatch, ops)
    with Segmenter("box") as segmenter:
        calls = []
        runtime = runtime_of(
            c, fake_perceivers.annotated(examples), lambda *args: calls.append(len(args[0])) or segmenter(*args)
        )
        batch = next(pipeline.evaluation_batches(examples, runtime.policy.style, 2, 2))
        key = jax.random.key(0)
        predictions = predict.predictions_of(runtime, batch, predict.ask(runtime, batch, key), key)
    assert all(p.transcript.sound for p in predictions), [p.transcript.faults for p in predictions]
    targets = [e.target.mask for e in examples]
    equal = [np.array_equal(p.outcome.mask, target) for p, target in zip(predictions, targets)]
    boxed = [bool(e.answer_ids) for e in examples]
    assert any(boxed)
    if ops:
        assert all(equal) and sum(calls) == 0 and all(p.columns["mask_iou"] == 1 for p in predictions)
    else:
        assert sum(calls) == sum(boxed) and not any(e for e, b in zip(equal, boxed) if b)
    assert all("economy" in p.columns and not any(n.startswith("twin_") for n in p.columns) for p in predictions)
    assert all(p.fidelity is None for p in predictions)
    numbers = metrics.compute_metrics([answered.of_prediction(p) for p in predictions])
    assert numbers["eval/requested"] == 1 and numbers["eval/work"] == 1 + len(ops)
    assert numbers["eval/perceive_s"] == pytest.approx(2 * predictions[0].seconds["perceive"])


def test_gather_counts_requests(path, monkeypatch):
    tiny.install(monkeypatch)
    monkeypatch.setattr(experience.score, "score", tiny._score)
    c = tiny.settings(path, **{**ASKING, "rollout__twin_tokens": 400})
    examples = right_answers(c, monkeypatch, count=4)
    with Segmenter("box") as segmenter:
        runtime = runtime_of(c, fake_perceivers.annotated(examples), segmenter)
        batch = next(pipeline.evaluation_batches(examples, runtime.policy.style, 4, 4))
        got = experience.begin_gathering(runtime, batch, jax.random.key(0))()
    numbers = step_numbers.numbers(got)
    assert numbers["train/requested"] == 1 and numbers["train/looks"] == 1 and numbers["train/ops_asked"] == 2
    assert numbers["train/sound"] == 1 and numbers["train/mask_iou"] == 1 and 0 < numbers["train/twin_tokens"] <= 400
    assert got.tokens == got.rollout.mask_bgs.sum() and numbers["train/length"] == got.rollout.mask_bgs.sum(-1).mean()
    assert numbers["train/work"] == 2 and numbers["train/work_segment"] == numbers["train/work_detect"] == 1
    assert numbers["train/work_depth"] == 0 and numbers["train/needless"] == 0 and "train/remembered" not in numbers
    assert numbers["train/rollout_s"] == pytest.approx(
        sum(numbers[f"train/{name}_s"] for name in ("write_request", "insert", "write_answer"))
    )
    both = experience._join(got, got)
    assert step_numbers.numbers(both)["train/looks"] == 1 and both.rollout.inserted_bgs.shape[0] == 8


def test_whole_runs(path, small, monkeypatch, tmp_path, capsys):
    """Training and evaluation with specialists that find nothing; the perceiver is closed with the run."""
    module = fake_perceivers.install(monkeypatch, fake_perceivers.nothing)
    c = tiny.settings(path, **ASKING, train__steps=1, train__eval_examples=0, checkpoint__every=0)
    train.run(c, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    steps = [row for row in rows if "train/perceive_s" in row]
    assert len(steps) == 1 and all(row["train/mismatch_max"] < 1e-4 for row in steps)
    assert all(row["train/requested"] == 0 and row["train/twin_tokens"] > 0 for row in steps)
    assert len(module.opened) == 1 and module.opened[0].closed
    shown = evaluate.run(dataclasses.replace(c, train=dataclasses.replace(c.train, eval_examples=2)), tmp_path)
    assert len(module.opened) == 2 and module.opened[1].closed
    assert "sound requests" in shown and "0.0 %" in shown
    (written,) = tmp_path.glob("evaluations/*/eval.json")
    numbers = json.loads(written.read_text())
    assert numbers["eval/requested"] == numbers["eval/work"] == 0 and "eval/needless" not in numbers
    assert all(numbers[f"eval/{name}_s"] > 0 for name in PHASES)
    assert "training, mean of the last 1 steps" in (tmp_path / "report.html").read_text()
    assert "requested 0" in capsys.readouterr().out  # the progress line


def test_no_perceiver_is_opened_for_other_constructors(path, small, monkeypatch):
    module = fake_perceivers.install(monkeypatch, fake_perceivers.nothing)
    with host_tools(tiny.settings(path)) as (_, _, perceiver):
        assert perceiver is None and not module.opened
    c = tiny.settings(path, **ASKING)
    runtime = runtime_of(c, None)
    batch = next(pipeline.evaluation_batches(heldout(c, 2), runtime.policy.style, 2, 2))
    with pytest.raises(ValueError, match=r"needs Runtime\.perceiver"):
        predict.ask(runtime, batch, jax.random.key(0))


def sampled(path, constructor, monkeypatch, **changes):
    """(runtime, four queries, their batch); with specialists the host acts as if the first two had asked for all labels
    and the others for nothing, so that their twins have unequal lengths.
    """
    asking = (
        ASKING if constructor == "specialists" else {"policy__constructor": constructor, "policy__prompt_tokens": 96}
    )
    c = tiny.settings(path, **asking | changes)
    examples = heldout(c)
    perceive = perceived_twins.perceive

    first = {e.uid for e in examples[:2]}

    def ask(texts, batch, *rest):
        words = [request(*sorted({x.label for x in e.scene})) if e.uid in first else "" for e in batch.examples]
        return perceive([[one] * len(row) for one, row in zip(words, texts)], batch, *rest)

    monkeypatch.setattr(perceived_twins, "perceive", ask)
    perceiver = fake_perceivers.annotated(examples) if constructor == "specialists" else None
    runtime = runtime_of(c, perceiver)
    return runtime, examples, next(pipeline.evaluation_batches(examples, runtime.policy.style, 4, 4))


@pytest.mark.parametrize("constructor", ["policy", "given", "specialists"])
def test_parts_of_a_rollout_give_the_same_experience(path, small, monkeypatch, constructor):
    changes = {"rollout__queries": 4, "rollout__group": 2}
    with Segmenter("box") as segmenter:
        experiences = []
        for parts in (1, 2):
            runtime, _, batch = sampled(path, constructor, monkeypatch, rollout__parts=parts, **changes)
            runtime = dataclasses.replace(runtime, segmenter=segmenter)
            experiences.append(experience.begin_gathering(runtime, batch, jax.random.key(3))())
    whole, cut = experiences
    assert cut.asked == whole.asked
    np.testing.assert_array_equal(cut.rollout.token_bgs, whole.rollout.token_bgs)
    np.testing.assert_array_equal(cut.rollout.mask_bgs, whole.rollout.mask_bgs)
    np.testing.assert_allclose(cut.rollout.logp_bgs, whole.rollout.logp_bgs, atol=1e-5)
    np.testing.assert_array_equal(cut.rewards.total_bg, whole.rewards.total_bg)
    assert cut.tokens == whole.tokens and cut.seconds.keys() == whole.seconds.keys()
    for a, b in zip(jax.tree.leaves(cut.prompt), jax.tree.leaves(whole.prompt)):
        np.testing.assert_array_equal(a, b)
    if whole.work is not None:
        assert (cut.work.requests, cut.work.units) == (whole.work.requests, whole.work.units)


@pytest.mark.parametrize("constructor", ["policy", "specialists"])
def test_the_device_has_the_next_work_while_the_host_works(path, small, monkeypatch, constructor):
    """What happens to batches a, b and c, in order; `scored` is the caller's work."""
    events = []
    runtime, _, batch = sampled(path, constructor, monkeypatch)

    def noting(module, name, event):
        real = getattr(module, name)

        def call(*args, **options):
            events.append(event)
            return real(*args, **options)

        monkeypatch.setattr(module, name, call)

    noting(complete.rollouts, "sample", "sample")
    noting(complete.staged, "write_requests", "requests")
    noting(complete.perceived_twins, "perceive", "perceive")
    noting(complete.staged, "write_answers", "answers")
    work = [(batch, jax.random.key(i)) for i in range(3)]
    for _ in complete.complete_in_turn(runtime, work, group=2, temperature=1.0):
        events.append("scored")
    if constructor == "policy":
        assert events == ["sample", "sample", "scored", "sample", "scored", "scored"]
    else:
        first = ["requests", "requests", "perceive", "answers", "requests", "scored", "perceive", "answers"]
        assert events == [*first, "scored", "perceive", "answers", "scored"]
