"""A whole run in two processes that share a mesh: main.py --distributed on a checkpoint in shards, and on in one.

As a program it is main.py in which the process counts what it reads of the checkpoint: READS names the file for it.
"""

import contextlib
import json
import os
import pathlib
import runpy
import subprocess
import sys

import checkpoints
import numpy as np
import pytest
import real_processes
import tiny

from dtr1_jax.models.weights import hf_checkpoint

SECONDS = 900  # that the processes of a test may take
LAYERS = 4  # so that the weights are mostly kernels, which are cut
SETTINGS = {
    "policy.dtype": "float32", "policy.weights_dtype": "float32", "policy.constructor": "given",
    "policy.prompt": "brief", "policy.prompt_tokens": 512, "data.max_objects": 3, "lora.rank": 2,
    "rollout.queries": 4, "rollout.group": 2, "rollout.new_tokens": 8, "reward.segmenter": "box",
    "reward.mask_size": 32, "grpo.mask_truncated": False, "optim.warmup": 0, "train.steps": 2,
    "train.eval_examples": 4, "train.eval_batch": 4, "train.gallery": 1, "checkpoint.every": 1,
    "mesh.data": 1, "mesh.fsdp": -1,
}  # fmt: skip


def start(tmp_path, workdir: str, processes: int, devices: int, **changes) -> list[subprocess.Popen]:
    """main.py in `processes` processes with `devices` virtual devices each."""
    command = [f"--config={tiny.ROOT / 'configs/seg.py'}:auto", f"--workdir={tmp_path / workdir}"]
    command += [f"--config.policy.path={tmp_path / 'checkpoint'}", *["--distributed"] * (processes > 1)]
    command += [f"--config.{name}={value}" for name, value in (SETTINGS | changes).items()]
    reads = str(tmp_path / f"{workdir}_RANK.json")
    return real_processes.launch(__file__, command, processes, devices, READS=reads)


def rows(folder: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    checkpoints.write(
        tmp_path / "checkpoint", "qwen2", shard=40_000, num_hidden_layers=LAYERS, hidden_size=64, intermediate_size=128
    )
    assert len(list((tmp_path / "checkpoint").glob("*.safetensors"))) > 3
    said = tiny.finish(start(tmp_path, "two", 2, 2), SECONDS)
    assert "report:" in said[0] and "report:" not in said[1]  # the first speaks for both
    tiny.finish(start(tmp_path, "one", 1, 4), SECONDS)

    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert [r["step"] for r in two] == [r["step"] for r in one]
    trained = [r for r in two if "train/loss" in r]
    assert len(trained) == 2 and all(np.isfinite(r["train/loss"]) for r in trained)
    assert all(r["train/mismatch_max"] < 1e-4 and r["train/skipped"] == 0 for r in trained)
    before = [(tmp_path / name / "gallery/before/predictions.jsonl").read_text() for name in ("one", "two")]
    assert before[0] == before[1] and before[0].count("\n") == 4  # the same weights say the same

    read = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("two_0", "two_1", "one_0")]
    assert read[2] > 0 and max(read[:2]) < 0.7 * read[2]  # each reads what its devices hold

    # what two processes saved, one goes on from
    tiny.finish(start(tmp_path, "two", 1, 4, **{"train.steps": 3}), SECONDS)
    assert [r["step"] for r in rows(tmp_path / "two") if "train/loss" in r] == [1, 2, 3]


if __name__ == "__main__":
    patch, count = pytest.MonkeyPatch(), 0
    reading = hf_checkpoint._reading

    @contextlib.contextmanager
    def counted(file):
        with reading(file) as read:

            def counting(*args):
                global count
                part = read(*args)
                count += part.size
                return part

            yield counting

    patch.setattr(hf_checkpoint, "_reading", counted)
    sys.argv[0] = str(tiny.ROOT / "main.py")
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    finally:
        pathlib.Path(os.environ["READS"]).write_text(json.dumps(count))
