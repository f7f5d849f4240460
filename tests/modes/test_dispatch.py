"""The commands as a user gives them: exit status, one clear message, and nothing lost."""

import dataclasses
import json
import re
import signal
import subprocess
import sys
import types

import jax
import numpy as np
import pytest
import tiny
from assets import path as asset

from dtr1_jax import config, draw
from dtr1_jax.evaluation import table
from dtr1_jax.models import policy, spec
from dtr1_jax.models.weights import native
from dtr1_jax.modes import dispatch, sft, train
from dtr1_jax.run import run_log


def command(*arguments, plan="", script=tiny.__file__, **settings):
    """Runs main.py with the small policy, as a user does."""
    env = tiny.environment(TINY_SIGNALS=plan, **settings)
    return subprocess.run([sys.executable, script, *arguments], cwd=tiny.ROOT, env=env, capture_output=True, text=True)


MAIN = str(tiny.ROOT / "main.py")
SEG = "--config=configs/seg.py"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([SEG, "--config.rolout.group=2"], "error: settings: 'rolout' Did you mean \"rollout\""),
        ([SEG, "--config.rollout.group=2.5"], "error: flag --config.rollout.group=2.5: invalid literal for int()"),
        ([SEG, "--config.mesh=3"], "error: flag --config.mesh=3: "),
        (
            [SEG, "--mode=evaluate"],
            "error: flag --mode=evaluate: value should be one of "
            "<train|sft|eval|infer|perceive|export|plan|check|rescore|fetch|convert>",
        ),
        ([SEG, "photo.jpg"], "error: unexpected arguments: photo.jpg"),
        ([], "error: --config is missing"),
        (["--mode=export", "--out=out"], "error: --config is missing; expected a file such as configs/seg.py, or, for"),
        (["--mode=train", "--workdir=runs/demo"], "error: --config is missing"),
        (
            ["--mode=train", "--workdir=runs/none", "--config.seed=3"],
            "error: --config.seed changes a setting of --config, which is missing; give both",
        ),
        (
            ["--mode=export", "--workdir=runs/none", "--config.seed=3"],
            "error: runs/none/config.json: expected a JSON object with the settings of a run",
        ),
    ],
)
def test_flags_that_do_not_fit(arguments, message):
    result = command(*arguments, script=MAIN)
    assert result.returncode == 1 and result.stdout == ""
    assert result.stderr.startswith(message) and result.stderr.count("\n") == 1


def test_an_unknown_setting_is_refused_with_the_nearest_name(tmp_path):
    result = command(SEG, f"--workdir={tmp_path}/run", "--config.grpo.betta=1", "--config.seed=-", script=MAIN)
    assert result.returncode == 1 and "--config.seed=-" in result.stderr
    result = command(SEG, f"--workdir={tmp_path}/run", "--config.grpo.betta=1", "--config.train.steps=-1", script=MAIN)
    line = 'error: bad settings:\n  config.grpo.betta: unknown setting (did you mean "beta"?)\n'
    assert (result.returncode, result.stderr, result.stdout) == (1, line, "") and not (tmp_path / "run").exists()


def test_a_run_that_is_stopped_and_one_that_is_stopped_twice(path, tmp_path):
    arguments = [SEG, *tiny.arguments(path), f"--workdir={tmp_path}/run"]
    stopped = command(*arguments, plan="INT@predict:1")
    assert stopped.returncode == dispatch.STOPPED, stopped.stderr
    lines = stopped.stderr.splitlines()
    assert lines[-1] == "stopped after step 0 and saved; the same command goes on from there"
    said = ("masks by", "evaluating on", "a new shape of prompts", "stopping: this step is saved first")
    assert [start for line in lines for start in said if line.startswith(start)] == list(said)
    assert len(lines) <= 12  # five are about the data, and two more may say what was saved
    killed = command(*arguments, plan="TERM@gather:1,TERM@gather:1")
    assert killed.returncode == -signal.SIGTERM, killed.stderr
    assert "going on from step 0" in killed.stderr


def test_eval_prints_the_table_and_rescore_prints_it_again(path, tmp_path):
    result = command(SEG, *tiny.arguments(path), f"--workdir={tmp_path}/new/run", "--mode=eval")
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "new/run/evaluations/twinworld-heldout-untrained"
    written = json.loads((folder / "eval.json").read_text())
    assert written["eval/examples"] == 4 and written["name"] == folder.name and written["step"] is None
    assert written["data"]["source"] == "twinworld" and written["data"]["eval_split"] == "heldout"
    cells, numbers = table.recompute(folder / "predictions.jsonl")
    assert result.stdout.startswith(table.format_table(cells) + "\n") and numbers.items() <= written.items()
    assert "perception (the twin implies the right answer) x reasoning" in result.stdout
    assert [dataclasses.asdict(cell) for cell in cells] == written["table"]
    rows = [json.loads(s) for s in (folder / "predictions.jsonl").read_text().splitlines()]
    assert written["eval/giou"] == pytest.approx(np.mean([r["iou"] for r in rows]))
    assert result.stderr.splitlines() == [
        f"weights of {path}",
        "masks by the filled boxes of the answer; no segmentation",
        "a new shape of prompts, to be compiled: 64 tokens and 16 patches",
        f"evaluation twinworld-heldout-untrained is in {folder}",
    ]
    again = command("--mode=rescore", f"--predictions={folder / 'predictions.jsonl'}", script=MAIN)
    assert again.returncode == 0, again.stderr
    assert again.stdout.startswith(result.stdout)
    assert json.loads(again.stdout.splitlines()[-1]) == numbers | {"table": written["table"]}


def test_the_package_is_the_same_door():
    command = [sys.executable, "-m", "dtr1_jax", SEG, "--mode=rescore"]
    result = subprocess.run(command, cwd=tiny.ROOT, capture_output=True, text=True)
    assert result.returncode == 1, result.stderr
    assert result.stderr == "error: --mode=rescore needs --predictions=FILE, a predictions.jsonl of an evaluation\n"


def run(capsys, *arguments, **options):
    """dispatch.run in this process: (status, stderr)."""
    status = dispatch.run(*arguments, dispatch.Options(**options))
    return status, capsys.readouterr().err


def photo_folder(root, broken=False):
    """A COCO folder of two photos."""
    (root / "annotations").mkdir(parents=True)
    box = [[10, 10, 40, 10, 40, 40, 10, 40]]
    for split in ("train", "val"):
        (root / split).mkdir()
        for i in (1, 2):
            pixels = np.full((64, 80, 3), 40 * i, np.uint8)
            data = b"broken" if broken else draw.to_png(pixels)
            (root / split / f"{i}.png").write_bytes(data)
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps({
            "images": [{"id": i, "file_name": f"{i}.png", "width": 80, "height": 64} for i in (1, 2)],
            "annotations": [{"id": i, "image_id": i, "category_id": 1, "segmentation": box} for i in (1, 2)],
            "categories": [{"id": 1, "name": "dog"}],
        }))  # fmt: skip
    return str(root)


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_errors_of_the_user_are_one_message_and_leave_nothing(path, small, tmp_path, capsys, mode):
    (tmp_path / "file").write_text("")
    (tmp_path / "empty.jsonl").write_text("")
    data = {"data__source": "coco", "data__train_split": "train", "data__eval_split": "val"}
    cases = [
        (tiny.values(str(tmp_path / "none")), "run", "none.: no such file or folder; expected"),
        (tiny.values(str(tmp_path / "file")), "run", "file: cannot be read as safetensors"),
        (tiny.values(path), "file/run", "cannot write to .*file/run.*: Not a directory"),
        (tiny.values(path, mesh__data=3), "run", "config.mesh: .* but there are 1"),
        (tiny.values(path, policy__name="tinny"), "run", "no policy 'tinny' .did you mean \"tiny\""),
        (tiny.values(path, data__root=str(tmp_path / "nowhere"), **data), "run", "nowhere"),
        (tiny.values(path, data__source="jsonl", data__root=str(tmp_path / "empty.jsonl")), "run", "empty.jsonl"),
        (tiny.values(path, data__task="vqa", data__root="nowhere", **data), "run", "data.task"),
    ]
    for values, workdir, message in cases:
        status, said = run(capsys, mode, values, str(tmp_path / workdir))
        assert status == 1 and said.startswith("error: "), said
        assert re.search(message, said), said
        assert not (tmp_path / "run").exists()
    assert (tmp_path / "file").read_text() == ""


def test_infer_takes_pictures_again_and_again_a_video_and_a_task(tmp_path):
    shown = ["--image=a.png", "--image=b.png", "--video=c.mp4", "--query=what"]
    result = command(SEG, "--mode=infer", f"--workdir={tmp_path}/run", *shown, "--task=sumary", script=MAIN)
    assert result.returncode == 1, result.stderr
    assert (
        result.stderr == ("error: --task: expected one of segmentation, grounding, vqa, summary, got 'sumary'\n")
        and not (tmp_path / "run").exists()
    )
    result = command(SEG, "--mode=infer", f"--workdir={tmp_path}/run", *shown[:2], "--query=what", script=MAIN)
    assert result.returncode == 1 and result.stderr.endswith("error: a.png: no such file; check the path\n")


def test_a_data_set_of_broken_photos_ends_with_a_message(path, small, tmp_path, capsys, caplog):
    root = photo_folder(tmp_path / "coco", broken=True)
    data = {"data__source": "coco", "data__root": root, "data__eval_split": "val"}
    status, said = run(capsys, "eval", tiny.values(path, **data), str(tmp_path / "run"))
    assert status == 1 and "none of the 4 held-out examples" in said and "skipped an example" in caplog.text
    no_eval = tiny.values(path, train__eval_examples=0, **data)
    status, said = run(capsys, "train", no_eval, str(tmp_path / "run"))
    assert status == 1 and "none of" in said


def test_train_eval_and_infer_on_photos_with_adapters(path, small, tmp_path, capsys):
    data = {"data__source": "coco", "data__root": photo_folder(tmp_path / "coco"), "data__eval_split": "val"}
    values = tiny.values(path, lora__rank=2, train__steps=1, **data)
    workdir = str(tmp_path / "run")
    assert run(capsys, "train", values, workdir)[0] == 0
    assert (tmp_path / "run" / "report.html").exists()
    status, said = run(capsys, "eval", tiny.values(path, lora__rank=2), workdir)  # on other data than it was trained on
    assert status == 0, said
    after = [row for row in run_log.read_run_log(workdir) if "eval/giou" in row][-1]
    assert dispatch.run("eval", values, workdir) == 0
    assert capsys.readouterr().out.startswith("task ")
    written = json.loads((tmp_path / "run/evaluations/coco-coco-val-step1/eval.json").read_text())
    assert (written.pop("name"), written.pop("step")) == ("coco-coco-val-step1", 1)
    assert written.pop("data")["root"] == values.data.root
    assert written.pop("policy")["path"] == path
    del written["table"]
    assert {k: v for k, v in after.items() if k != "step"} == written
    picture = str(tmp_path / "coco" / "val" / "1.png")
    assert run(capsys, "infer", values, workdir, image=picture, query="the dog")[0] == 0
    assert (tmp_path / "run" / "infer" / "1" / "answer.json").exists()
    status, said = run(capsys, "eval", tiny.values(path), workdir)
    assert status == 1 and "lora.rank: workdir has 2, this run has 0" in said
    status, said = run(capsys, "train", tiny.values(path, seed=3), workdir)
    assert status == 1 and "seed: workdir has 0, this run has 3" in said and "data.source" in said


def test_exit_status_of_every_end(path, small, tmp_path, capsys):
    def raises(error):
        def mode(*_):
            raise error

        return mode

    for error, status in (
        (train.DivergedError("it diverged"), 1), (OSError(28, "No space left on device"), 1),
        (dispatch.interrupt.Interrupted(7), 130), (KeyboardInterrupt(), 130),
    ):  # fmt: skip
        small.setattr(train, "run", raises(error))
        got, said = run(capsys, "train", tiny.values(path), str(tmp_path))
        assert got == status and said.count("\n") == 1
    small.setattr(train, "run", raises(ZeroDivisionError("ours")))
    with pytest.raises(ZeroDivisionError):  # a fault of ours is not dressed up as one of the user's
        dispatch.run("train", tiny.values(path), str(tmp_path))
    small.setattr(sft, "run", lambda c, folder: folder / "policy.safetensors")
    assert run(capsys, "sft", tiny.values(path), str(tmp_path))[0] == 0
    assert run(capsys, "walk", tiny.values(path), str(tmp_path)) == (
        1,
        "error: --mode: expected train, sft, eval, infer, perceive, export, plan, check, rescore, fetch or convert, "
        "got 'walk'\n",
    )  # fmt: skip


def test_joining_other_hosts(monkeypatch):
    calls = []
    monkeypatch.setattr(dispatch.jax.distributed, "initialize", lambda **kw: calls.append(kw))
    for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "TPU_WORKER_HOSTNAMES"):
        monkeypatch.delenv(name, raising=False)
    dispatch.join_processes()
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "host0")
    dispatch.join_processes()
    assert calls == []
    dispatch.join_processes(required=True)
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "host0,host1")
    dispatch.join_processes()
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    monkeypatch.setenv("JAX_PROCESS_ID", "1")
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "host0:1234")
    dispatch.join_processes()
    assert calls == [{}, {}, {"num_processes": 2, "process_id": 1}]

    def alone(**_):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(dispatch.jax.distributed, "initialize", alone)
    with pytest.raises(config.ConfigError, match=r"cannot join .* coordinator_address .*; expected a TPU pod"):
        dispatch.join_processes(required=True)


def test_nothing_touches_a_device_before_the_hosts_have_joined():
    code = (
        "from dtr1_jax.modes import dispatch; from jax._src import xla_bridge;"
        "assert not xla_bridge.backends_are_initialized()"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tiny.ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["coco_mini", "coco_panoptic_val100"])
def test_real_photos(name, tmp_path):
    root = asset(name)
    weights = tmp_path / "policy.safetensors"
    native.save_native(weights, policy.init(jax.random.key(0), spec.SPECS["tiny"]))
    arguments = [
        SEG, f"--workdir={tmp_path}/run", "--config.data.source=coco", f"--config.data.root={root}",
        f"--config.policy.path={weights}", "--config.data.eval_split=val", "--config.train.steps=2",
        "--config.train.eval_examples=8", "--config.train.eval_batch=8", "--config.rollout.queries=8",
        "--config.rollout.group=2", "--config.rollout.new_tokens=32",
    ]  # fmt: skip
    if name == "coco_panoptic_val100":
        arguments.append("--config.data.train_split=val")
    for mode in ("train", "eval"):
        result = command(*arguments, f"--mode={mode}", script=MAIN)
        assert result.returncode == 0, result.stderr
    written = tmp_path / f"run/evaluations/coco-{name}-val-step2/eval.json"
    assert json.loads(written.read_text())["eval/examples"] == 8
    assert [row["step"] for row in run_log.read_run_log(tmp_path / "run") if "train/loss" in row] == [1, 2]


def test_pathways_is_opened_instead_of_joining(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "proxy,cpu")
    monkeypatch.setattr(jax.distributed, "initialize", lambda **_: pytest.fail("one process joins nobody"))
    with pytest.raises(config.ConfigError, match="--distributed: expected one process with JAX_PLATFORMS=proxy"):
        dispatch.join_processes(True)
    monkeypatch.setitem(sys.modules, "pathwaysutils", None)
    with pytest.raises(config.ConfigError, match=r"needs pathwaysutils, .* pip install pathwaysutils"):
        dispatch.join_processes()
    opened = []
    module = types.ModuleType("pathwaysutils")
    module.initialize = lambda: opened.append(True)
    monkeypatch.setitem(sys.modules, "pathwaysutils", module)
    dispatch.join_processes()
    assert opened == [True]
