"""Settings are checked once, at the door: what is wrong is named with what was expected, and nothing wrong gets in."""

import dataclasses
import functools

import pytest
from ml_collections import ConfigDict

from configs import default, seg
from dtr1_jax import config


def settings(**changes) -> ConfigDict:
    """The defaults with dotted paths (dots written as __) set to anything, as a config file could set them."""
    values = default.get_config().to_dict()
    for path, value in changes.items():
        *groups, name = path.split("__")
        functools.reduce(dict.__getitem__, groups, values)[name] = value
    return ConfigDict(values)


def faults(**changes) -> list[str]:
    """What from_configdict says about the changed defaults, one line per fault."""
    with pytest.raises(config.ConfigError) as error:
        config.from_configdict(settings(**changes))
    first, *lines = str(error.value).splitlines()
    assert first == "bad settings:"
    return [line.strip() for line in lines]


@pytest.mark.parametrize("module", [default, seg])
def test_defaults_are_valid_and_complete(module):
    values = module.get_config()
    built = config.from_configdict(values)
    assert config.to_dict(built) == values.to_dict()
    assert built.policy.name == "tiny"
    assert module.get_config("qwen3_vl_2b").policy.name == "qwen3_vl_2b"


def test_settings_can_not_be_changed():
    built = config.from_configdict(default.get_config())
    with pytest.raises(dataclasses.FrozenInstanceError):
        built.grpo.beta = 1.0


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"grpo__betta": 0.1}, 'config.grpo.betta: unknown setting (did you mean "beta"?)'),
        ({"rolout": 1}, 'config.rolout: unknown setting (did you mean "rollout"?)'),
        ({"mesh__zzz": 1}, "config.mesh.zzz: unknown setting (known: data, fsdp, rollout, tensor)"),
    ],
)
def test_unknown_name(changes, line):
    assert faults(**changes) == [line]


def test_missing_name():
    values = default.get_config()
    del values.optim.lr
    with pytest.raises(config.ConfigError, match=r"config\.optim\.lr: missing"):
        config.from_configdict(values)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"rollout__group": 8.0}, "config.rollout.group: expected int, got 8.0 (float)"),
        ({"rollout__group": "8"}, "config.rollout.group: expected int, got '8' (str)"),
        ({"rollout__group": True}, "config.rollout.group: expected int, got True (bool)"),
        ({"grpo__mask_truncated": 1}, "config.grpo.mask_truncated: expected bool, got 1 (int)"),
        ({"optim__lr": "1e-4"}, "config.optim.lr: expected float, got '1e-4' (str)"),
        ({"optim__lr": True}, "config.optim.lr: expected float, got True (bool)"),
        ({"optim__lr": None}, "config.optim.lr: expected float, got None (NoneType)"),
        ({"optim__lr": float("nan")}, "config.optim.lr: expected a number, got nan"),
        (
            {"reward__weights__vqa__structure": "much"},
            "config.reward.weights.vqa.structure: expected float, got 'much' (str)",
        ),
        ({"reward__weights": 1.0}, "config.reward.weights: expected names with groups, got 1.0"),
        ({"reward__weights": {"vqa": 1.0}}, "config.reward.weights.vqa: expected names with numbers, got 1.0"),
        ({"optim": 3}, "config.optim: expected a group of settings, got 3"),
        ({"seed": {"a": 1}}, "config.seed: expected int, got {'a': 1} (dict)"),
    ],
)
def test_wrong_type(changes, line):
    assert faults(**changes) == [line]


def test_option():
    (line,) = faults(grpo__variant="drgrpo")
    options = "grpo, dr_grpo, dapo, gspo, cispo"
    assert line == f"config.grpo.variant: expected one of {options}, got 'drgrpo' (did you mean \"dr_grpo\"?)"


def test_an_integer_stands_for_a_float():
    built = config.from_configdict(settings(grpo__beta=1, reward__weights__vqa__structure=2))
    assert (built.grpo.beta, built.reward.weights["vqa"]["structure"]) == (1.0, 2.0)
    assert type(built.grpo.beta) is float and type(built.reward.weights["vqa"]["structure"]) is float


@pytest.mark.parametrize(
    ("changes", "start"),
    [
        ({"rollout__queries": 0}, "config.rollout.queries: expected at least 1, got 0"),
        ({"rollout__group": 1}, "config.rollout.group: expected at least 2"),
        ({"optim__lr": -1.0}, "config.optim.lr: expected 0 or more, got -1.0"),
        ({"data__max_objects": 1}, "config.data.max_objects: expected at least data.min_objects, got 1"),
        ({"data__shuffle_objects": True}, "config.data.shuffle_objects: expected False for policy.constructor=policy"),
        ({"rollout__top_p": 0.0}, "config.rollout.top_p: expected a number in (0, 1], got 0.0"),
        ({"rollout__temperature": 0.0}, "config.rollout.temperature: expected above 0"),
        ({"grpo__dual_clip": 1.0}, "config.grpo.dual_clip: expected 0 (off) or above 1, got 1.0"),
        ({"grpo__dual_clip": 1.2}, "config.grpo.dual_clip: expected 0 (off) or more than 1 + grpo.clip_high = 1.28: a"),
        ({"grpo__dual_clip": 1.28}, "config.grpo.dual_clip: expected 0 (off) or more than 1 + grpo.clip_high = 1.28"),
        ({"optim__decay_steps": 60}, "config.optim.decay_steps: expected 0 for optim.schedule=constant, which has no"),
        (
            {"optim__decay_steps": 59, "optim__schedule": "linear"},
            "config.optim.decay_steps: expected 0 or at least train.steps = 60, because the learning rate is 0 after",
        ),
        ({"grpo__importance_low": 1.5}, "config.grpo.importance_low: expected a number in [0, 1]"),
        ({"grpo__importance_high": 0.5}, "config.grpo.importance_high: expected at least 1, got 0.5"),
        ({"grpo__importance": "token"}, "config.grpo.importance: expected one of off, token_truncate"),
        ({"grpo__hold_twin": 2.0, "grpo__beta": 0.0}, "config.grpo.hold_twin: expected 1 where there is no KL"),
        (
            {"grpo__hold_twin": 2.0, "policy__constructor": "given"},
            "config.grpo.hold_twin: expected 1 where there is no KL (grpo.beta = 0) or the policy does not write",
        ),
        ({"policy__relations": False}, "config.policy.relations: expected True for policy.constructor=policy, which"),
        ({"seed": -1}, "config.seed: expected 0 or more, got -1"),
        ({"data__seed": -1}, "config.data.seed: expected 0 or more, got -1"),
        ({"grpo__minibatches": 3}, "config.grpo.minibatches: expected a divisor of rollout.queries = 16, got 3"),
        ({"grpo__micro_queries": 3}, "config.grpo.micro_queries: expected 0 or a divisor of the 16 queries"),
        ({"data__source": "coco"}, "config.data.root: expected a path, for data.source=coco, got ''"),
        (
            {"lora__dropout": 0.1},
            "config.lora.dropout: expected 0.0 where there are no adapters (lora.rank = 0), got 0.1",
        ),
        ({"lora__rslora": True}, "config.lora.rslora: expected False where there are no adapters (lora.rank = 0)"),
        ({"lora__rank": 2, "lora__dropout": 1.0}, "config.lora.dropout: expected a share in [0, 1), got 1.0"),
        ({"lora__rank": 2, "lora__dropout": -0.1}, "config.lora.dropout: expected a share in [0, 1), got -0.1"),
        (
            {"policy__weights_dtype": "int8"},
            "config.policy.weights_dtype: expected float32 where all weights are trained",
        ),
        ({"reward__length_most": 128}, "config.reward.length_most: expected more tokens than reward.length_free = 128"),
        ({"reward__judge__budget": -1}, "config.reward.judge.budget: expected 0 or more, got -1"),
        (
            {"mesh__data": 0},
            "config.mesh: expected sizes of at least 1, at most one of them -1, and 0 (automatic) for fsdp"
            " and tensor alone, got [0, 0, 0]",
        ),
        ({"mesh__fsdp": -1}, "config.mesh: expected sizes of at least 1, at most one of them -1, and 0 (automatic)"),
    ],
)
def test_settings_that_do_not_fit_together(changes, start):
    (line,) = faults(**changes)
    assert line.startswith(start)


def test_all_faults_at_once():
    lines = faults(grpo__betta=0.1, rollout__group="8", data__source="cocoa", optim__lr=None)
    assert [line.split(":")[0] for line in lines] == [
        "config.data.source",
        "config.rollout.group",
        "config.grpo.betta",
        "config.optim.lr",
    ]
    assert len(faults(optim__b1=1.0, optim__b2=-0.5, reward__deadline=0.0)) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"policy.prompt": "brief"}, r"policy\.prompt: expected full or example for policy\.constructor=specialists"),
        ({"rollout.construct_tokens": 160}, r"rollout\.construct_tokens: expected less than rollout\.new_tokens = 160"),
        ({"rollout.twin_tokens": 0}, r"rollout\.twin_tokens: expected .*, got 0"),
        ({"reward.weights.vqa.blind": 0.1}, r"blind: expected 0 where the policy does not write the twin"),
    ],
)
def test_specialists_need_fitting_settings(changes, message):
    values = default.get_config()
    values.update_from_flattened_dict({"policy.constructor": "specialists", "policy.prompt": "full"})
    assert config.from_configdict(values).policy.constructor == "specialists"
    values.update_from_flattened_dict(changes)
    with pytest.raises(config.ConfigError, match=message):
        config.from_configdict(values)
