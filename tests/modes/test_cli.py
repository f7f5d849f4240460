"""The commands as a user gives them: exit status, one clear message, and nothing lost."""

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import tiny
from assets import path as asset

from dtr1_jax import config
from dtr1_jax.evaluation import predict, table
from dtr1_jax.modes import cli, sft, train
from dtr1_jax.run import run_log


def command(*arguments, plan="", script=tiny.__file__, **settings):
    """Runs main.py with the small policy, as a user does."""
    env = os.environ | {"TINY_SIGNALS": plan, "PYTHONPATH": str(tiny.ROOT)}
    return subprocess.run(
        [sys.executable, script, *arguments], cwd=tiny.ROOT, env=env | settings, capture_output=True, text=True
    )


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
            "error: flag --mode=evaluate: value should be one of <train|sft|eval|infer|export|plan>",
        ),
        ([SEG, "photo.jpg"], "error: not understood: photo.jpg"),
        ([], "error: --config is missing"),
        (["--mode=export", "--out=out"], "error: --config is missing; expected a file such as configs/seg.py, or, for"),
        (["--mode=train", "--workdir=runs/demo"], "error: --config is missing"),
        (
            ["--mode=export", "--workdir=runs/demo", "--config.seed=3"],
            "error: --config.seed changes a setting of --config, which is missing; give both",
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
    assert stopped.returncode == cli.STOPPED, stopped.stderr
    lines = stopped.stderr.splitlines()
    assert lines[-1] == "stopped after step 0 and saved; the same command goes on from there"
    said = ("masks by", "evaluating on", "a new shape of prompts", "stopping: this step is saved first")
    assert [line for line in lines if line][:-1][: len(said)] == [
        line for start in said for line in lines if line.startswith(start)
    ]
    assert len(lines) <= 7  # two more may say what was saved
    killed = command(*arguments, plan="TERM@gather:1,TERM@gather:1")
    assert killed.returncode == -signal.SIGTERM, killed.stderr
    assert "going on from step 0" in killed.stderr


def test_what_eval_prints_is_the_table_and_nothing_else(path, tmp_path):
    result = command(SEG, *tiny.arguments(path), f"--workdir={tmp_path}/new/run", "--mode=eval")
    assert result.returncode == 0, result.stderr
    figures = json.loads((tmp_path / "new/run/eval.json").read_text())
    assert figures["eval/examples"] == 4
    found, again = table.recompute(tmp_path / "new/run/gallery/eval/predictions.jsonl")
    assert result.stdout == table.format_table(found) + "\n" and again.items() <= figures.items()
    assert [dataclasses.asdict(cell) for cell in found] == figures["table"]
    rows = [json.loads(s) for s in (tmp_path / "new/run/gallery/eval/predictions.jsonl").read_text().splitlines()]
    assert figures["eval/giou"] == pytest.approx(np.mean([r["iou"] for r in rows]))
    assert result.stderr.splitlines() == [
        f"weights of {path}",
        "masks by the filled boxes of the answer; no segmentation",
        "a new shape of prompts, to be compiled: 64 tokens and 16 patches",
    ]


def run(capsys, *arguments, **more):
    """cli.run in this process: (status, what it said on stderr)."""
    status = cli.run(*arguments, **more)
    return status, capsys.readouterr().err


def photo_folder(root, broken=False):
    """A COCO folder of two photos."""
    (root / "annotations").mkdir(parents=True)
    box = [[10, 10, 40, 10, 40, 40, 10, 40]]
    for split in ("train", "val"):
        (root / split).mkdir()
        for i in (1, 2):
            pixels = np.full((64, 80, 3), 40 * i, np.uint8)
            data = b"broken" if broken else predict.draw.to_png(pixels)
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
        (tiny.values(str(tmp_path / "file")), "run", "file: can not be read as safetensors"),
        (tiny.values(path), "file/run", "can ?not write to .*file/run: Not a directory"),
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
    assert cli.run("eval", values, workdir) == 0
    assert capsys.readouterr().out.startswith("task ")
    again = json.loads((tmp_path / "run" / "eval.json").read_text())
    del again["table"]
    assert {k: v for k, v in after.items() if k != "step"} == again
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
        (cli.interrupt.Interrupted(7), 130), (KeyboardInterrupt(), 130),
    ):  # fmt: skip
        small.setattr(train, "run", raises(error))
        got, said = run(capsys, "train", tiny.values(path), str(tmp_path))
        assert got == status and said.count("\n") == 1
    small.setattr(train, "run", raises(ZeroDivisionError("ours")))
    with pytest.raises(ZeroDivisionError):  # a fault of ours is not dressed up as one of the user's
        cli.run("train", tiny.values(path), str(tmp_path))
    small.setattr(sft, "run", lambda c, folder: folder / "policy.safetensors")
    assert run(capsys, "sft", tiny.values(path), str(tmp_path))[0] == 0
    assert run(capsys, "walk", tiny.values(path), str(tmp_path)) == (
        1, "error: --mode: expected train, sft, eval, infer, export or plan, got 'walk'\n"
    )  # fmt: skip


def test_joining_other_hosts(monkeypatch):
    calls = []
    monkeypatch.setattr(cli.jax.distributed, "initialize", lambda **kw: calls.append(kw))
    for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "TPU_WORKER_HOSTNAMES"):
        monkeypatch.delenv(name, raising=False)
    cli.join()
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "host0")
    cli.join()
    assert calls == []
    cli.join(asked=True)
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "host0,host1")
    cli.join()
    monkeypatch.setenv("JAX_NUM_PROCESSES", "2")
    monkeypatch.setenv("JAX_PROCESS_ID", "1")
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "host0:1234")
    cli.join()
    assert calls == [{}, {}, {"num_processes": 2, "process_id": 1}]

    def alone(**_):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(cli.jax.distributed, "initialize", alone)
    with pytest.raises(config.ConfigError, match=r"can not join .* coordinator_address .*; expected a TPU pod"):
        cli.join(asked=True)


def test_nothing_touches_a_device_before_the_hosts_have_joined():
    code = "from dtr1_jax import cli; from jax._src import xla_bridge; assert not xla_bridge.backends_are_initialized()"
    result = subprocess.run([sys.executable, "-c", code], cwd=tiny.ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", ["coco_mini", "coco_panoptic_val100"])
def test_real_photos(name, tmp_path):
    root = asset(name)
    weights = tmp_path / "policy.safetensors"
    cli.native.save_native(weights, cli.pretrained.policy.init(cli.jax.random.key(0), cli.pretrained.spec.TINY))
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
    assert json.loads((tmp_path / "run/eval.json").read_text())["eval/examples"] == 8
    assert [row["step"] for row in run_log.read_run_log(tmp_path / "run") if "train/loss" in row] == [1, 2]
