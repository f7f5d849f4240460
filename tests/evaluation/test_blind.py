"""Asked blind: the shipped policy answers from its twin as text, and what the option costs where it is off."""

import jax
import numpy as np
import pytest
import tiny

from configs import default
from dtr1_jax import config, mesh
from dtr1_jax.asking import complete
from dtr1_jax.data import demonstrations, prompts
from dtr1_jax.data.batches import stack_queries
from dtr1_jax.data.twinworld import tasks
from dtr1_jax.evaluation import blind, predict
from dtr1_jax.modes import experience
from dtr1_jax.policies import pretrained
from dtr1_jax.policies.runtime import Runtime
from dtr1_jax.rl import rollout as rollouts
from dtr1_jax.specialists.segmenter import Segmenter
from dtr1_jax.twin.schema import Answer, Twin
from dtr1_jax.twin.transcript import compose, parse

KEY = jax.random.key(0)


def runtime_of(c, segmenter):
    policy, one = pretrained.load_policy(c), mesh.make(c.mesh)
    return Runtime(c, policy, one, mesh.put(pretrained.read_weights(c, policy), mesh.replicated(one)), None, segmenter)


def batch_of(runtime, kinds, count):
    examples = [tasks.example(task, 5, "heldout", i, max_objects=4) for task in kinds for i in range(count)]
    style = runtime.policy.style
    return stack_queries([(e, *prompts.prompt(e, style)) for e in examples], style)


def test_the_shipped_policy_answers_from_a_true_twin_and_not_from_an_empty_one():
    values = default.get_config()
    values.reward.segmenter = "box"
    for task in ("segmentation", "grounding", "vqa"):
        values.reward.weights[task].blind = 0.5
    c = config.from_configdict(values)
    with pytest.MonkeyPatch.context() as patch, Segmenter("box") as segmenter:
        make = mesh.make
        patch.setattr(mesh, "make", lambda sizes: make(sizes, jax.devices()[:1]))
        runtime = runtime_of(c, segmenter)
        batch = batch_of(runtime, ("grounding", "vqa"), 8)
        groups = []
        for e, canvas in zip(batch.examples, batch.canvases):
            answer = Answer(text="no") if e.task == "vqa" else Answer(objects=())
            true = parse(demonstrations.oracle(e, canvas, by_id=True), task=e.task, canvas=canvas)
            empty = parse(compose(Twin(canvas.size, ()), "", answer), task=e.task, canvas=canvas)
            unsound = parse("nonsense", task=e.task, canvas=canvas)
            groups.append([true, empty, unsound])
        score_bg = blind.blind_scores(runtime, batch, groups, KEY, temperature=0.0)
    with_twin, with_nothing, broken = score_bg.mean(0)
    assert with_twin > 0.6 and with_nothing < 0.35 and broken == 0


def test_the_column_is_in_the_total_and_off_costs_nothing(path, small):
    off = tiny.settings(path)
    on = tiny.settings(path, reward__weights__segmentation__blind=0.25)
    calls, sample = [], rollouts.sample

    def counted(params, lora, prompt, *args, **kwargs):
        calls.append((prompt.token_bp.shape, prompt.images is None, kwargs["group"]))
        return sample(params, lora, prompt, *args, **kwargs)

    small.setattr(rollouts, "sample", counted)
    with Segmenter("box") as segmenter:
        batch = batch_of(runtime_of(off, segmenter), ("segmentation",), 4)
        without = experience.begin_gathering(runtime_of(off, segmenter), batch, KEY)()
        assert len(calls) == 1 and "blind" not in without.rewards.columns
        both = experience.begin_gathering(runtime_of(on, segmenter), batch, KEY)()
        length = on.policy.prompt_tokens + on.rollout.new_tokens
        assert calls[2] == ((4 * on.rollout.group, length), True, 1), "B x G queries, no pictures, one completion each"
        assert calls[:1] == calls[1:2]
        np.testing.assert_array_equal(both.rollout.token_bgs, without.rollout.token_bgs)
        assert both.rewards.columns["blind"].shape == (4, on.rollout.group)

        small.setattr(blind, "blind_scores", lambda *a, **k: np.full((4, on.rollout.group), 0.5, np.float32))
        small.setattr(complete.completions, "read_completions", lambda rollout, batch, style: [
            [parse(demonstrations.oracle(e, canvas), task=e.task, canvas=canvas)] * on.rollout.group
            for e, canvas in zip(batch.examples, batch.canvases)
        ])  # fmt: skip
        sound = [experience.begin_gathering(runtime_of(c, segmenter), batch, KEY)().rewards for c in (off, on)]
    np.testing.assert_allclose(sound[1].total_bg - sound[0].total_bg, 0.25 * 0.5, atol=1e-6)


def test_evaluation_has_the_column_too(path, small):
    c = tiny.settings(path, reward__weights__segmentation__blind=0.25)
    with Segmenter("box") as segmenter:
        runtime = runtime_of(c, segmenter)
        batch = batch_of(runtime, ("segmentation",), 3)
        judged = predict.predictions_of(runtime, batch, predict.ask(runtime, batch, KEY), KEY)
        assert [p.columns["blind"] for p in judged] == [0, 0, 0]  # nothing sound was said


def test_it_needs_a_policy_that_writes_its_twin():
    values = default.get_config()
    values.policy.constructor = "given"
    values.reward.weights.vqa.blind = 0.5
    with pytest.raises(config.ConfigError, match=r"weights\.vqa\.blind: expected 0 where the policy does not write"):
        config.from_configdict(values)
    assert not blind.is_on(config.from_configdict(default.get_config()).reward)
