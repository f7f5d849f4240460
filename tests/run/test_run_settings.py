"""config.json of a workdir: written once, compared on the next start."""

import json

import pytest

from configs import default
from dtr1_jax import config
from dtr1_jax.run import run_settings

CONFIG = {
    "seed": 0,
    "policy": {"name": "tiny", "sizes": (1, 2), "ids": "number", "adapter": ""},
    "train": {"steps": 60},
    "empty": {},
}


def test_the_settings_of_the_first_start_are_written_and_returned(tmp_path):
    path = tmp_path / "config.json"
    first = run_settings.settle(path, CONFIG)
    assert first == {
        "seed": 0,
        "policy.name": "tiny",
        "policy.sizes": [1, 2],
        "policy.ids": "number",
        "policy.adapter": "",
        "train.steps": 60,
        "empty": {},
    }
    assert json.loads(path.read_text()) == {
        **CONFIG,
        "policy": {"name": "tiny", "sizes": [1, 2], "ids": "number", "adapter": ""},
    }
    assert run_settings.settle(path, {**CONFIG, "train": {"steps": 90}}) == first | {
        "train.profile": 0,
        "policy.attention": "einsum",
        "policy.relations": True,
    }


def test_fields_limit_the_comparison(tmp_path):
    path = tmp_path / "config.json"
    run_settings.settle(path, CONFIG)
    other = {**CONFIG, "seed": 1, "policyholder": 3}
    assert run_settings.settle(path, other, ("policy",))["seed"] == 0
    with pytest.raises(run_settings.SettingsError, match="seed: workdir has 0, this run has 1"):
        run_settings.settle(path, other, ("policy", "seed"))
    with pytest.raises(run_settings.SettingsError, match=r"policyholder: workdir has '\(not set\)', this run has 3"):
        run_settings.settle(path, other)


def test_a_run_of_an_earlier_version_acts_as_before(tmp_path):
    """Its config.json lacks the settings and reward columns that came later."""
    path, now = tmp_path / "config.json", config.to_dict(config.from_configdict(default.get_config()))
    earlier = json.loads(json.dumps(now))
    for group, values in run_settings.ADDED.items():
        for name in values:
            del earlier[group][name]
    del earlier["reward"]["weights"]["vqa"]["blind"]
    path.write_text(json.dumps(earlier))
    run_settings.settle(path, now)
    assert run_settings.with_added(earlier)["grpo"] == now["grpo"]
    del earlier["specialists"]  # the whole group came later
    assert run_settings.with_added(earlier)["specialists"] == now["specialists"]
    now["grpo"]["importance"] = "token_truncate"
    with pytest.raises(run_settings.SettingsError, match=r"importance: workdir has 'off', this run has 'token_tru"):
        run_settings.settle(path, now)
    now["reward"]["weights"]["vqa"]["blind"] = 0.5
    with pytest.raises(run_settings.SettingsError, match=r"vqa.blind: workdir has 0.0, this run has 0.5"):
        run_settings.settle(path, now)
    for value in (None, 3, [], {"grpo": 3}, {"data": None}):
        assert run_settings.with_added(value) == value


def test_a_column_that_no_earlier_query_had_may_have_any_weight(tmp_path):
    path, now = tmp_path / "config.json", {"reward": {"weights": {"vqa": {"economy": 0.05, "blind": 0.0}}}}
    path.write_text(json.dumps({"reward": {"weights": {"vqa": {"blind": 0.0}}}}))
    run_settings.settle(path, now)
    path.write_text(json.dumps({"reward": {"weights": {"vqa": {"economy": 0.1, "blind": 0.0}}}}))
    with pytest.raises(run_settings.SettingsError, match=r"economy: workdir has 0\.1, this run has 0\.05"):
        run_settings.settle(path, now)
