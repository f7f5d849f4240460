"""Imitation, then GRPO, of a policy that asks specialists about real photos: `python experiments/smollm2/asking.py`.

A text policy answers queries about COCO photos (photo_queries.py), and sees nothing of them. It writes a request;
SSDLite, MobileSAM and a depth model look at the photo; their twin is put into its transcript, and it answers with their
masks (constructor "specialists"). perceived.py trains the same policy on twins of everything that can be found.

    1 imitate      OUT/imitation, an adapter: requests, thoughts and answers of the annotated objects
    2 GRPO         OUT/grpo/seed_N from that adapter; the reward is structure, the IoU of masks, and no needless work
    3 evaluate     greedy answers to held-out queries, with what the specialists really find: after 1 and after 2

Every part goes on where it was stopped, and a part that is done is not repeated. The last line is one JSON object: for
both stages gIoU with its 95 % interval, the shares of sound transcripts and of sound requests, and the work a query
(docs/perception.md explains these figures); medians over the steps of GRPO of the seconds of each phase; and the
difference of the two stages, with an interval over photos.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import perceived
import photo_queries
import weights

from dtr1_jax import config
from dtr1_jax.modes import sft, train
from dtr1_jax.run import run_log

ASKED = ("requested", "looks", "looks_failed", "work", "work_detect", "work_segment", "work_depth", "phrases_asked")
ASKED += ("needless", "twin_objects", "remembered")
SECONDS = ("write_request_s", "perceive_s", "insert_s", "write_answer_s", "score_s", "update_s")


def settings(args: argparse.Namespace, checkpoint: Path, data: Path, seed: int = 0, adapter: str = "") -> config.Config:
    """The settings of all parts, with `--set` applied last. Raises ConfigError."""
    changes = {
        "policy.constructor": "specialists", "policy.prompt": "full", "policy.prompt_tokens": 640,
        "policy.adapter": adapter, "specialists.detector": str(args.detector), "specialists.threshold": 0.3,
        "specialists.segmenter": str(args.segmenter), "specialists.depth": str(args.depth or ""),
        "specialists.max_objects": 8, "specialists.cache_mb": 2000, "rollout.queries": 4, "rollout.group": 4,
        "rollout.new_tokens": 128, "rollout.construct_tokens": 64, "rollout.twin_tokens": 224,
        "sft.batch": 4, "sft.steps": 50,
        "grpo.advantage": "group", "optim.lr": 1e-4, "train.steps": 20,
    }  # fmt: skip
    return perceived.settings(checkpoint, data, seed, changes | dict(args.set))


def figures(folder: Path) -> dict[str, float]:
    """The figures of an evaluation."""
    numbers = json.loads((folder / "eval.json").read_text("utf-8"))
    return {name: round(numbers[f"eval/{name}"], 4) for name in perceived.KEPT + ASKED if f"eval/{name}" in numbers}


def steps(workdir: Path) -> dict[str, float]:
    """Over the steps of GRPO, without the first, which compiles: the median of each phase's seconds, and the means of
    what the sampled requests asked for."""
    rows = [row for row in run_log.read_run_log(workdir) if "train/perceive_s" in row][1:]
    seconds = {name: statistics.median(row[f"train/{name}"] for row in rows) for name in SECONDS}
    asked = {
        name: statistics.mean(values)
        for name in ASKED
        if (values := [row[f"train/{name}"] for row in rows if f"train/{name}" in row])
    }
    return {name: round(value, 3) for name, value in (seconds | asked).items()} | {"steps": len(rows) + 1}


def run(args: argparse.Namespace) -> dict:
    """Runs all parts; returns the figures."""
    began = time.monotonic()
    checkpoint = args.policy or weights.fetch(args.out)
    data = args.out / "annotated.jsonl"
    if not data.is_file():
        photo_queries.write(args.assets, data, perceived.OBJECTS)
    adapter = args.out / "imitation" / "adapter"
    if not adapter.is_dir():
        sft.run(settings(args, checkpoint, data), args.out / "imitation")
    c = settings(args, checkpoint, data, args.seed, str(adapter))
    before = perceived.evaluated(c, args.out / "imitated", "greedy", args.heldout)
    result: dict = {"imitation": figures(before)}
    print(json.dumps(result), flush=True)
    workdir = args.out / "grpo" / f"seed_{args.seed}"
    train.run(c, workdir)
    after = perceived.evaluated(c, workdir, "greedy", args.heldout)
    gain = perceived.difference(perceived.ious(after), perceived.ious(before))
    result |= {"grpo": figures(after) | {"gain": gain}, "steps": steps(workdir)}
    return result | {"wall_s": round(time.monotonic() - began)}


def main(argv: list[str] | None = None) -> None:
    """Parses the arguments and runs the experiment."""
    parser = perceived.arguments(__doc__, "runs/asking_photos")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--heldout", type=int, default=perceived.ALL, help="most held-out queries of an evaluation")
    perceived.execute(run, parser.parse_args(argv))


if __name__ == "__main__":
    main()
