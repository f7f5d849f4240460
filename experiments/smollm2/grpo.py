"""GRPO on digital twins of real photos: `python experiments/smollm2/grpo.py --seed 0 1 2`.

SmolLM2-135M-Instruct learns, by LoRA, to answer queries about COCO photos. It sees no photos: twins of them, from the
annotations, stand in the prompt (constructor "given"). This file writes the data as JSON lines, has the settings, runs
dtr1_jax/modes/train.py, and prints the results.

The photos and queries are those of photo_queries.py beside it, from two folders in COCO's format below `--assets`. The
reward is structure (is the transcript sound?) plus the matched IoU of the answer's boxes.

Each seed writes metrics.jsonl and report.html into OUT/grpo/seed_N; the same command resumes a stopped run. The last
line is one JSON object. For each seed it has the means over all held-out queries before and after training, with
answers sampled as in training (reward, structure, box_iou, sound), steps and seconds; `all_up` says whether the reward
rose for all seeds. With `--greedy` it also has these means for greedy answers to the same queries.
"""

import argparse
import dataclasses
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import photo_queries
import weights

from configs import seg
from dtr1_jax import config
from dtr1_jax.modes import dispatch, evaluate, train
from dtr1_jax.run import console, interrupt, run_log

OBJECTS = 4  # most objects of a twin
FIGURES = ("reward", "structure", "box_iou", "sound")


def settings(checkpoint: Path, data: Path, seed: int, steps: int, changes: dict | None = None) -> config.Config:
    """The settings of a run, with `changes` ({"optim.lr": 1e-4}, ...) applied last. Raises ConfigError."""
    c = seg.get_config("smollm2_135m")
    c.seed = seed
    c.data.source, c.data.root, c.data.max_objects = "jsonl", str(data), OBJECTS
    c.policy.path = str(checkpoint)
    c.policy.dtype = c.policy.weights_dtype = "float32"
    c.policy.prompt, c.policy.prompt_tokens = "example", 448
    c.policy.ids = "number"  # the figures of README.md were measured so; untrained, its JSON breaks on names
    c.lora.rank, c.lora.alpha = 16, 32.0
    c.rollout.queries, c.rollout.group, c.rollout.new_tokens = 4, 8, 48
    c.rollout.temperature = 0.7  # at 1 the untrained policy hardly ever keeps to the format
    # the answer names objects of a correct twin, so boxes measure it as well as masks would
    c.reward.weights.segmentation.mask_iou, c.reward.weights.segmentation.box_iou = 0.0, 1.0
    c.reward.segmenter = "box"
    # scale by the batch: in a group without a right answer, rewards differ by the form only
    c.grpo.advantage, c.grpo.beta = "batch", 0.05
    c.grpo.mask_truncated = False  # most of the first completions are truncated; the policy has to learn to end them
    c.optim.lr, c.optim.warmup, c.optim.schedule = 3e-4, 2, "linear"
    c.train.steps = steps
    c.train.eval_examples, c.train.eval_batch, c.train.gallery = 1000, 8, 12  # 1000: all of them
    c.train.eval_temperature = c.rollout.temperature  # evaluate as in training
    c.train.samples_every = c.checkpoint.every = 5
    c.update_from_flattened_dict(changes or {})
    return config.from_configdict(c)


def summary(workdir: Path) -> dict:
    """Steps, seconds, and the held-out FIGURES before and after training, from a run's metrics.jsonl."""
    rows = run_log.read_run_log(workdir)
    held_out = [row for row in rows if "eval/reward" in row]
    steps = [row["train/step_s"] for row in rows if "train/step_s" in row]
    ends = {"before": held_out[0], "after": held_out[-1]}
    return {"steps": len(steps), "seconds": sum(steps)} | {
        name: {kind: row[f"eval/{name}"] for kind, row in ends.items()} for name in FIGURES
    }


def greedy(c: config.Config, workdir: Path) -> dict[str, float]:
    """The held-out figures of greedy answers by the newest weights in `workdir`, or by untrained ones."""
    name = f"greedy-{c.train.steps}"
    evaluate.run(dataclasses.replace(c, train=dataclasses.replace(c.train, eval_temperature=0.0)), workdir, name=name)
    figures = json.loads((workdir / "evaluations" / name / "eval.json").read_text("utf-8"))
    return {name: figures[f"eval/{name}"] for name in FIGURES}


def change(text: str) -> tuple[str, object]:
    """Parses NAME=VALUE; a value that is not JSON is a string."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


def main(argv: list[str] | None = None) -> None:
    """Parses the arguments and runs the experiment; an expected error ends it with one line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    beside = Path(__file__).resolve().parents[3] / "shared" / "assets"
    parser.add_argument("--assets", type=Path, default=Path(os.environ.get("DTR1_ASSETS") or beside))
    parser.add_argument("--out", type=Path, default=weights.FOLDER, help="folder for the weights and the runs")
    parser.add_argument("--seed", type=int, nargs="+", default=[0])
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--greedy", action="store_true", help="also answer all held-out queries greedily")
    parser.add_argument(
        "--set",
        type=change,
        nargs="*",
        default=[],
        metavar="NAME=VALUE",
        help="settings to change, such as optim.lr=1e-4",
    )
    execute(run_seeds, parser.parse_args(argv))


def execute(experiment: Callable[[argparse.Namespace], dict], args: argparse.Namespace) -> None:
    """Runs an experiment and prints its figures; an expected error ends it with one line."""
    console.set_up_logging()
    try:
        print(json.dumps(experiment(args)))
    except dispatch.EXPECTED as error:
        sys.exit(f"error: {error}")
    except interrupt.Interrupted as error:
        sys.exit(f"{error} and saved; the same command goes on from there")


def run_seeds(args: argparse.Namespace) -> dict:
    """Writes the data and trains a policy for each seed; returns the figures."""
    checkpoint, data = weights.fetch(args.out), args.out / "photos.jsonl"
    print(f"{photo_queries.write(args.assets, data, OBJECTS)} queries in {data}", flush=True)
    result, before, start = {}, None, time.monotonic()
    for seed in args.seed:
        workdir = args.out / "grpo" / f"seed_{seed}"
        c = settings(checkpoint, data, seed, args.steps, dict(args.set))
        report = train.run(c, workdir)
        result[f"seed_{seed}"] = summary(workdir)
        if args.greedy:
            before = before or greedy(c, args.out / "grpo" / "untrained")
            result[f"seed_{seed}"]["greedy"] = {"before": before, "after": greedy(c, workdir)}
        print(f"report: {report}", flush=True)
    result["all_up"] = all(figures["reward"]["after"] > figures["reward"]["before"] for figures in result.values())
    return result | {"wall_s": time.monotonic() - start}


if __name__ == "__main__":
    main()
