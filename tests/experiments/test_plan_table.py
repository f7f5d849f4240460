"""The table of plans: which cells, by which command, and that a run goes on where it was stopped."""

import json

import pytest
import scripts

from configs import seg
from dtr1_jax import config, mesh
from dtr1_jax.models import published_sizes
from dtr1_jax.policies import chips

script = scripts.load_script("experiments/plan_table.py")
PLANNED = {
    "hbm_bytes_per_chip": 2**33, "usable_bytes": 2**34, "fits": True, "mfu": 0.5,
    "update": {"seconds": 9.5, "sent_bytes": 3e11}, "decode": None,
}  # fmt: skip


def test_the_cells():
    cells = script.cells()
    assert len(cells) == len(set(cells)) == 5 * 2 * 4 and cells[:3] == list(script.FIRST)
    assert {name: chips.of_slice(name)[1] for name in script.CHIPS} == script.CHIPS


@pytest.mark.parametrize("cell", ["qwen2_5_vl_7b/full/v5e:16x16", "qwen3_vl_2b/lora/v5e:4x4"])
def test_a_command_is_one_of_the_program(cell):
    """Its settings exist, and its mesh has the chips of the slice and cuts the queries."""
    words = script.command(cell, ["--config.grpo.micro_group=8"], fast=True)
    values = dict(word.split("=") for word in words if "=" in word)
    assert values["--mode"] == "plan" and "--fast" in words and words[0] == "main.py"
    file, policy = values["--config"].split(":")
    assert file == "configs/seg.py" and policy in published_sizes.CONFIGS
    settings = seg.get_config(policy)
    for name, value in values.items():
        if name.startswith("--config."):
            _, group, key = name.split(".")
            settings[group][key] = type(settings[group][key])(value)
    c = config.from_configdict(settings)
    count = script.CHIPS[values["--topology"]]
    sizes = mesh.axis_sizes(c.mesh, count)
    assert sizes[0] * sizes[1] * sizes[2] == count and c.rollout.queries % (sizes[0] * sizes[1]) == 0
    assert (c.rollout.group, c.policy.prompt_tokens, c.rollout.new_tokens, c.grpo.micro_group) == (8, 2048, 1024, 8)
    assert (c.lora.rank == 0) == ("full" in cell)


def test_goes_on_with_what_is_missing(tmp_path, monkeypatch, capsys):
    path, calls = tmp_path / "plan.jsonl", []
    first, second, _ = script.FIRST
    path.write_text(
        json.dumps({"cell": first, "planned": PLANNED}) + "\n" + json.dumps({"cell": second, "error": "x"}) + '\n{"cell'
    )

    def run(cell, settings, fast):
        calls.append((cell, settings, fast))
        return {"cell": cell, "planned": PLANNED | {"fits": False}}

    monkeypatch.setattr(script, "run", run)
    path.write_text(path.read_text() + "\n")
    script.main([f"--out={path}", f"--cells={first},{second}", "--fast", "--config.grpo.beta=0.0"])
    assert calls == [(second, ["--config.grpo.beta=0.0"], True)]
    rows = capsys.readouterr().out.splitlines()[2:]
    assert rows[0] == f"| {first.replace('/', ' | ')} | 8.0 of 16.00 | yes | 9.50 | 0.50 | 300 |  |  |  |"
    assert rows[1].split(" | ")[4] == "no" and len(rows) == 2
    script.main([f"--out={path}", "--table"])
    assert len(calls) == 1 and capsys.readouterr().out.splitlines()[2:] == rows


@pytest.mark.parametrize("wrong, message", [
    ("--cells=a/b/c", "expected POLICY/TRAINING/SLICE such as qwen2_5_vl_7b/lora/v5e:4x4, got a/b/c"),
    ("--quick", "unexpected arguments: --quick"),
])  # fmt: skip
def test_wrong_arguments_are_named(wrong, message, capsys):
    with pytest.raises(SystemExit):
        script.main([wrong])
    assert message in capsys.readouterr().err


def test_an_error_is_a_line_without_figures(monkeypatch):
    monkeypatch.setattr(script, "command", lambda *_: ["-c", "import sys; print('text'); sys.exit(3)"])
    line = script.run(script.FIRST[0], [], False)
    assert line["error"] == "exit status 3" and "planned" not in line
    monkeypatch.setattr(script, "command", lambda *_: ["-c", "print('text'); print('{\"fits\": true}')"])
    assert script.run(script.FIRST[0], [], False)["planned"] == {"fits": True}
