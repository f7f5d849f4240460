"""config.json of a workdir: written once, compared on the next start."""

import json

import pytest

from dtr1_jax.run import run_settings

CONFIG = {"seed": 0, "policy": {"name": "tiny", "sizes": (1, 2)}, "train": {"steps": 60}, "empty": {}}


def test_the_settings_of_the_first_start_are_written_and_returned(tmp_path):
    path = tmp_path / "config.json"
    first = run_settings.settle(path, CONFIG)
    assert first == {"seed": 0, "policy.name": "tiny", "policy.sizes": [1, 2], "train.steps": 60, "empty": {}}
    assert json.loads(path.read_text()) == {**CONFIG, "policy": {"name": "tiny", "sizes": [1, 2]}}
    assert run_settings.settle(path, {**CONFIG, "train": {"steps": 90}}) == first


def test_fields_limit_the_comparison(tmp_path):
    path = tmp_path / "config.json"
    run_settings.settle(path, CONFIG)
    other = {**CONFIG, "seed": 1, "policyholder": 3}
    assert run_settings.settle(path, other, ("policy",))["seed"] == 0
    with pytest.raises(run_settings.SettingsError, match="seed: workdir has 0, this run has 1"):
        run_settings.settle(path, other, ("policy", "seed"))
    with pytest.raises(run_settings.SettingsError, match=r"policyholder: workdir has '\(not set\)', this run has 3"):
        run_settings.settle(path, other)
