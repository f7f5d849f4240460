"""Addresses and names that reach outside: which are allowed, and that no message or file shows a key."""

import json

import pytest

from configs import default
from dtr1_jax import config, outside, settings_of_run

KEY = "sk-S3cretS3cretS3cret"


@pytest.mark.parametrize(
    "url",
    ["https://api.example.org/v1", "https://api.example.org:8443", "http://localhost:8000/v1", "http://127.0.0.1:1/",
     "http://127.8.9.1", "http://[::1]:80/v1", "HTTPS://EXAMPLE.ORG", "http://LOCALHOST"],
)  # fmt: skip
def test_encrypted_or_of_this_machine(url):
    assert outside.is_safe_url(url)


@pytest.mark.parametrize(
    "url",
    ["http://example.org", "http://10.0.0.5:8000", "http://localhost.example.org", "http://0.0.0.0", "ftp://localhost",
     "file:///etc/passwd", "localhost:8000", "http://", "https://", "https:example.org", "http://127.0.0.1.example.org",
     "https://user:word@example.org", f"https://{KEY}@example.org", f"https://example.org/v1?key={KEY}",
     f"https://example.org/v1#{KEY}", "http://localhost@example.org", "http://example.org\\@localhost",
     "http://localhost:x", "http://[::1", "https://exam\nple.org", "https://ex ample.org", "http://2130706433",
     "http://localhost\u200b", "https://\u0435xample.org", "\x1bhttps://example.org", " https://example.org"],
)  # fmt: skip
def test_other_addresses_are_refused_without_showing_a_key(url):
    assert not outside.is_safe_url(url)
    shown = outside.shown_url(url)
    assert KEY not in shown and "word" not in shown.replace("password", "") and len(shown) < 130


@pytest.mark.parametrize(
    ("name", "value"),
    [("url", f"https://user:{KEY}@example.org/v1"), ("url", f"https://example.org/v1?api_key={KEY}"), ("key_env", KEY),
     ("key_env", "hf_abcdefghijklmnop"), ("key_env", "A" * 65), ("key_env", "A=B")],
)  # fmt: skip
def test_settings_that_hold_a_key_are_refused_without_showing_it(name, value):
    c = default.get_config()
    c.reward.judge[name] = value
    with pytest.raises(config.ConfigError, match=rf"config\.reward\.judge\.{name}: expected") as error:
        config.from_configdict(c)
    assert value not in str(error.value) and KEY not in str(error.value)


def foreign(folder, **changes):
    c = default.get_config()
    c.update_from_flattened_dict({name.replace("__", "."): value for name, value in changes.items()})
    (folder / "config.json").write_text(json.dumps(c.to_dict()))
    return str(folder)


ATTACK = {
    "reward__judge__url": "https://collector.example.org/v1", "reward__judge__key_env": "AWS_SECRET_ACCESS_KEY",
    "reward__judge__cache": "/etc", "reward__judge__model": "m", "policy__path": "evil/policy@main",
}  # fmt: skip


def test_nothing_that_reaches_outside_is_taken_from_a_workdir(tmp_path):
    workdir = foreign(tmp_path, seed=7, **ATTACK)
    c = settings_of_run.get_config(workdir)
    assert c.seed == 7 and c.reward.judge.model == "m"  # the others are
    assert [c.reward.judge[name] for name in ("url", "key_env", "cache")] == ["", "", ""] and c.policy.path == ""
    assert settings_of_run.withheld(workdir) == {
        "reward.judge.url": "https://collector.example.org/v1", "reward.judge.key_env": "AWS_SECRET_ACCESS_KEY",
        "reward.judge.cache": "/etc", "policy.path": "evil/policy@main",
    }  # fmt: skip


def test_no_specialist_is_downloaded_because_a_workdir_names_it(tmp_path):
    named = {"specialists__segmenter": "sam:evil/sam@main", "specialists__depth": "evil/depth"}
    workdir = foreign(tmp_path, specialists__detector="weights/model.json", **named)
    c = settings_of_run.get_config(workdir)
    assert (c.specialists.detector, c.specialists.segmenter, c.specialists.depth) == (
        "weights/model.json",
        "grabcut",
        "",
    )
    assert settings_of_run.withheld(workdir) == {
        "specialists.segmenter": "sam:evil/sam@main", "specialists.depth": "evil/depth"
    }  # fmt: skip


def strings(c, prefix=""):
    """Dotted names of all settings that are text."""
    for name, value in c.items():
        if isinstance(value, str):
            yield prefix + name
        elif hasattr(value, "items"):
            yield from strings(value, f"{prefix}{name}.")


# Text that no code takes for the name of a model or file to load from a hub.
WORDS = {
    "data.root", "data.name", "data.phrases", "data.train_split", "data.eval_split", "lora.targets", "reward.idf",
    "reward.sentences", "reward.judge.model", "specialists.phrases", "policy.name",
}  # fmt: skip


@pytest.mark.parametrize("value", ["evil/model", "evil/model@main", "sam:evil/model"])
def test_each_setting_that_can_name_a_hub_repository_is_withheld(tmp_path, value):
    """A new setting of text must either be withheld or stand in WORDS."""
    kept_names = set()
    for name in strings(default.get_config()):
        c = default.get_config()
        c.update_from_flattened_dict({name: value})
        (tmp_path / "config.json").write_text(json.dumps(c.to_dict()))
        try:
            kept = settings_of_run.get_config(str(tmp_path))
        except ValueError:  # the setting is one of a few words
            continue
        if value in json.dumps(kept.to_dict()):
            kept_names.add(name)
    assert kept_names <= WORDS


def test_a_policy_in_a_folder_is_taken_over(tmp_path):
    (tmp_path / "weights").mkdir()
    workdir = foreign(tmp_path, policy__path=str(tmp_path / "weights"))
    assert settings_of_run.get_config(workdir).policy.path == str(tmp_path / "weights")
    assert settings_of_run.withheld(workdir) == {}


def test_a_run_with_an_address_that_is_refused_today_can_still_be_evaluated(tmp_path):
    workdir = foreign(tmp_path, reward__judge__url="http://10.0.0.5:8000/v1")
    assert settings_of_run.get_config(workdir).reward.judge.url == ""


@pytest.mark.parametrize("value", [3, None, {"a": 1}, ["x"]])
def test_a_setting_of_another_type_is_an_error(tmp_path, value):
    values = default.get_config().to_dict()
    values["reward"]["judge"]["url"] = value
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"config\.json: expected a JSON object with the settings"):
        settings_of_run.get_config(str(tmp_path))
