"""A whole run in two processes that share a mesh: main.py --distributed on a checkpoint in shards, and on in one.

As a program it is main.py in which the process counts what it reads of the checkpoint: READS names the file for it.
"""

import contextlib
import json
import os
import pathlib
import runpy
import socket
import subprocess
import sys

import checkpoints
import numpy as np
import pytest
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


def start(tmp_path, workdir: str, rank: int | None, port: int = 0, **changes) -> subprocess.Popen:
    """main.py on 4 virtual devices, or as process `rank` of two with 2 each."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COORD")}
    devices = 4 if rank is None else 2
    env |= {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        "PYTHONPATH": os.pathsep.join((str(tiny.ROOT), str(tiny.ROOT / "tests"))),
        "READS": str(tmp_path / f"{workdir}_{rank}.json"), "JAX_PLATFORMS": "cpu",
    }  # fmt: skip
    command = [sys.executable, __file__, f"--config={tiny.ROOT / 'configs/seg.py'}:auto"]
    command += [f"--workdir={tmp_path / workdir}", f"--config.policy.path={tmp_path / 'checkpoint'}"]
    command += [f"--config.{name}={value}" for name, value in (SETTINGS | changes).items()]
    if rank is not None:
        env |= {
            "JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": "2", "JAX_PROCESS_ID": str(rank),
            "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
        }  # fmt: skip
        command.append("--distributed")
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def rows(folder: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path):
    checkpoints.write(
        tmp_path / "checkpoint", "qwen2", shard=40_000, num_hidden_layers=LAYERS, hidden_size=64, intermediate_size=128
    )
    assert len(list((tmp_path / "checkpoint").glob("*.safetensors"))) > 3
    with socket.socket() as s:
        s.bind(("localhost", 0))
        port = s.getsockname()[1]
    said = tiny.finish([start(tmp_path, "two", rank, port) for rank in (0, 1)], SECONDS)
    assert "report:" in said[0] and "report:" not in said[1]  # the first speaks for both
    tiny.finish([start(tmp_path, "one", None)], SECONDS)

    one, two = rows(tmp_path / "one"), rows(tmp_path / "two")
    assert [r["step"] for r in two] == [r["step"] for r in one]
    trained = [r for r in two if "train/loss" in r]
    assert len(trained) == 2 and all(np.isfinite(r["train/loss"]) for r in trained)
    assert all(r["train/mismatch_max"] < 1e-4 and r["train/skipped"] == 0 for r in trained)
    before = [(tmp_path / name / "gallery/before/predictions.jsonl").read_text() for name in ("one", "two")]
    assert before[0] == before[1] and before[0].count("\n") == 4  # the same weights say the same

    read = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("two_0", "two_1", "one_None")]
    assert read[2] > 0 and max(read[:2]) < 0.7 * read[2]  # each reads what its devices hold

    # what two processes saved, one goes on from
    tiny.finish([start(tmp_path, "two", None, **{"train.steps": 3})], SECONDS)
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
