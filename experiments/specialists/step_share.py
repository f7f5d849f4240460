"""Which share of a GRPO step specialists take, without and with the memory of earlier results.

    python experiments/specialists/step_share.py --assets=DIR --policy=FILE [--steps=3] [--queries=4] [--group=4]

DIR has coco_mini, weights/coco_ssd_tfjs and weights/mobile_sam.pt; FILE is SmolLM2-135M-Instruct as GGUF
(experiments/smollm2/weights.py fetches it). A policy that was never trained on requests asks for little, so the host
acts as if each completion had asked to detect and segment the labels of its example: the work of a trained policy. In
each step the specialists look twice, first with an empty memory and then with what they just found. The first step is
left out, because it compiles. The last line is one JSON object with medians of seconds over the other steps.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from configs import seg
from dtr1_jax import config
from dtr1_jax.asking import perceived_twins
from dtr1_jax.modes import train
from dtr1_jax.run import run_log
from dtr1_jax.specialists import perceiver, toolbox
from dtr1_jax.specialists.embedding_cache import EmbeddingCache
from dtr1_jax.twin.construct import DETECT, SEGMENT, Request, dumps_request

PARTS = ("write_request", "insert", "write_answer", "score", "update")  # of a step, without the specialists


def settings(arguments: argparse.Namespace) -> config.Config:
    """A small run on COCO photos with the specialists of `--assets`."""
    assets = Path(arguments.assets)
    c = seg.get_config("smollm2_135m")
    c.update_from_flattened_dict({
        "data.source": "coco", "data.root": str(assets / "coco_mini/annotations/instances_train2017.json"),
        "data.max_objects": 4, "policy.path": arguments.policy, "policy.constructor": "specialists",
        "policy.dtype": "float32", "policy.weights_dtype": "float32", "policy.prompt": "full",
        "policy.prompt_tokens": 768, "lora.rank": 8, "rollout.queries": arguments.queries,
        "rollout.group": arguments.group, "rollout.new_tokens": 96, "rollout.construct_tokens": 48,
        "rollout.twin_tokens": 256, "grpo.mask_truncated": False, "reward.segmenter": "box",
        "specialists.detector": str(assets / "weights/coco_ssd_tfjs/model.json"),
        "specialists.segmenter": f"sam:{assets / 'weights/mobile_sam.pt'}", "train.steps": arguments.steps,
        "train.eval_examples": 0, "checkpoint.every": 0, "train.log_every": 1,
    })  # fmt: skip
    return config.from_configdict(c)


def looking_twice(perceive: Any, tools: list[toolbox.Toolbox], seconds: list[tuple[float, float]]) -> Any:
    """`perceived_twins.perceive` for completions that ask for the labels of their example, with both times."""

    def act(texts: Any, batch: Any, style: Any, look: perceiver.SpecialistPerceiver, twin_tokens: int) -> Any:
        asked = [
            [_request(sorted({x.label for x in example.scene}) or ["person"])] * len(of_query)
            for example, of_query in zip(batch.examples, texts)
        ]
        look.cache = EmbeddingCache(512 << 20)
        tools[0].segmenter.cache = EmbeddingCache(256 << 20)
        times = [time.perf_counter()]
        for _ in range(2):
            found = perceive(asked, batch, style, look, twin_tokens)
            times.append(time.perf_counter())
        seconds.append((times[1] - times[0], times[2] - times[1]))
        return found

    return act


def _request(labels: list[str]) -> str:
    return f"<construct>{dumps_request(Request(tuple(labels), (DETECT, SEGMENT)))}</construct>"


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", required=True)
    parser.add_argument("--policy", required=True)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--queries", type=int, default=4)
    parser.add_argument("--group", type=int, default=4)
    arguments = parser.parse_args()
    c = settings(arguments)
    opened: list[toolbox.Toolbox] = []
    seconds: list[tuple[float, float]] = []

    def open_perceiver(c: config.Config) -> perceiver.SpecialistPerceiver:
        opened.append(toolbox.open_toolbox(c.specialists))
        return perceiver.SpecialistPerceiver(opened[0], c.specialists)

    perceiver.open_perceiver = open_perceiver
    perceived_twins.perceive = looking_twice(perceived_twins.perceive, opened, seconds)
    with tempfile.TemporaryDirectory() as workdir:
        train.run(c, Path(workdir))
        rows = [row for row in run_log.read_run_log(workdir) if "train/perceive_s" in row][1:]
    parts = {name: statistics.median(row[f"train/{name}_s"] for row in rows) for name in PARTS}
    cold, warm = (statistics.median(times) for times in zip(*seconds[1:]))
    rest = sum(parts.values())
    print(json.dumps({
        "steps": len(rows), "queries": arguments.queries, "group": arguments.group, "cores": os.cpu_count(),
        **{f"{name}_s": round(value, 2) for name, value in parts.items()}, "perceive_s": round(cold, 2),
        "perceive_remembered_s": round(warm, 3), "share": round(cold / (rest + cold), 3),
        "share_remembered": round(warm / (rest + warm), 4), "looks": rows[-1]["train/looks"],
        "work": rows[-1]["train/work"],
    }))  # fmt: skip


if __name__ == "__main__":
    main()
