"""The flags before they are parsed: where the settings of a run are taken from its workdir."""

import json
import subprocess
import sys

import pytest
import tiny

from configs import default
from dtr1_jax import __main__, settings_of_run


@pytest.mark.parametrize(
    ("argv", "value"),
    [
        (["--config=a.py"], "a.py"), (["-config", "a.py"], "a.py"), (["--config=a.py", "--config=b.py"], "b.py"),
        (["--config.seed=3"], None), ([], None), (["--", "--config=a.py"], None), (["--config"], None),
    ],
)  # fmt: skip
def test_a_flag_is_found_before_the_flags_are_parsed(argv, value):
    assert __main__.value_of(["main.py", *argv], "config") == value


@pytest.mark.parametrize("mode", ["eval", "infer", "export"])
def test_settings_of_a_run_stand_in_for_a_missing_config(tmp_path, mode):
    (tmp_path / "config.json").write_text(json.dumps(default.get_config().to_dict()))
    argv = ["main.py", f"--mode={mode}", f"--workdir={tmp_path}", "--config.seed=3"]
    program, config, *rest = __main__.with_settings_of_run(argv)
    assert config == f"--config={settings_of_run.__file__}:{tmp_path}" and [program, *rest] == argv


@pytest.mark.parametrize(
    "arguments",
    [
        ["--mode=train", "--workdir=none"], ["--workdir=none"], ["--mode=eval"],
        ["--mode=eval", "--workdir=none", "--config=configs/seg.py"],
    ],
)  # fmt: skip
def test_other_command_lines_stay_as_they_are(arguments):
    assert __main__.with_settings_of_run(["main.py", *arguments]) == ["main.py", *arguments]


def test_a_run_without_settings_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="expected a JSON object with the settings of a run"):
        __main__.with_settings_of_run(["main.py", "--mode=eval", f"--workdir={tmp_path}"])


def test_a_workdir_in_a_flag_file_counts(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(default.get_config().to_dict()))
    (tmp_path / "flags").write_text(f"--mode=eval\n--workdir={tmp_path}\n")
    words = __main__.with_settings_of_run(["main.py", f"--flagfile={tmp_path / 'flags'}"])
    assert words[1:] == [f"--config={settings_of_run.__file__}:{tmp_path}", "--mode=eval", f"--workdir={tmp_path}"]


def test_help_lists_the_flags():
    for script in (["main.py"], ["-m", "dtr1_jax"]):
        done = subprocess.run([sys.executable, *script, "--help"], cwd=tiny.ROOT, capture_output=True, text=True)
        assert all(f"--{name}" in done.stdout for name in ("workdir", "mode", "step", "predictions", "[no]adapter"))


def attack(tmp_path, **judge):
    values = default.get_config().to_dict()
    values["reward"]["judge"] |= {"url": "https://collector.example.org", "key_env": "HOME"} | judge
    (tmp_path / "config.json").write_text(json.dumps(values))
    return ["main.py", "--mode=eval", f"--workdir={tmp_path}"]


def test_settings_that_reach_outside_are_named_and_can_be_given(tmp_path, capsys):
    argv = attack(tmp_path)
    __main__.with_settings_of_run(argv)
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2 and "reward.judge.url" in told[0] and "--config.reward.judge.key_env=VALUE" in told[1]
    __main__.with_settings_of_run([*argv, "--config.reward.judge.url=https://own.example.org"])
    assert "judge.url" not in capsys.readouterr().err
    # also where the user names the file that stands in for --config
    __main__.with_settings_of_run(["main.py", f"--config={settings_of_run.__file__}:{tmp_path}"])
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_a_policy_that_would_be_downloaded_is_refused_until_the_command_line_names_it(tmp_path):
    argv = attack(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    values["policy"]["path"] = "someone/policy"
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"would be downloaded.*add --config\.policy\.path=someone/policy"):
        __main__.with_settings_of_run(argv)
    __main__.with_settings_of_run([*argv, "--config.policy.path=someone/policy"])


HUB = {
    "reward.segmenter": "sam:someone/sam", "specialists.segmenter": "someone/sam@main", "policy.adapter": "a/adapter",
    "specialists.detector": "someone/detector", "specialists.depth": "someone/depth",
}  # fmt: skip


@pytest.mark.parametrize("name", HUB)
def test_a_model_that_would_be_downloaded_is_refused_with_the_flag_that_asks_for_it(tmp_path, name):
    """Without it the figures would be of another segmenter or perception, so that a line of print is not enough."""
    c = default.get_config()
    c.update_from_flattened_dict({name: HUB[name]})
    (tmp_path / "config.json").write_text(json.dumps(c.to_dict()))
    argv = ["main.py", "--mode=eval", f"--workdir={tmp_path}"]
    with pytest.raises(ValueError, match=rf"would be downloaded.*add --config\.{name}={HUB[name]}"):
        __main__.with_settings_of_run(argv)
    assert __main__.with_settings_of_run([*argv, f"--config.{name}={HUB[name]}"])
    exported = [argv[0], "--mode=export", argv[2]]  # an export needs the policy alone
    if name == "policy.adapter":
        with pytest.raises(ValueError, match="would be downloaded"):
            __main__.with_settings_of_run(exported)
    else:
        assert __main__.with_settings_of_run(exported)


def test_several_models_are_refused_at_once(tmp_path):
    c = default.get_config()
    c.update_from_flattened_dict({name: HUB[name] for name in ("reward.segmenter", "specialists.depth")})
    (tmp_path / "config.json").write_text(json.dumps(c.to_dict()))
    with pytest.raises(
        ValueError, match=r"add --config\.reward\.segmenter=\S+ --config\.specialists\.depth=someone/depth"
    ):
        __main__.with_settings_of_run(["main.py", "--mode=infer", f"--workdir={tmp_path}"])
