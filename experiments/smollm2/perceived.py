"""Imitation, then GRPO, on twins that specialists perceived in real photos: `python experiments/smollm2/perceived.py`.

A text policy answers queries about COCO photos (photo_queries.py). It never sees a photo, nor its annotation: SSDLite
finds the objects, MobileSAM cuts them out, FastDepth orders them, and the twin of what they found stands in the prompt
(constructor "given"). An answer by ids has the perceived masks, and is scored by the annotated ones.

    1 perceive     OUT/perceived/twins.jsonl
    2 imitate      OUT/imitation, an adapter: transcripts whose answers are the perceived objects that match the target
    3 GRPO         OUT/grpo/seed_N from that adapter, on OUT/answerable.jsonl: training queries whose target was
                   perceived, because the others give their completions no spread; the reward is structure and the IoU
                   of masks
                   with --untrained-seed N also OUT/grpo_untrained/seed_N, without imitation, and with worked examples
                   in the prompt
    4 evaluate     greedy answers to all held-out queries: untrained, after 2, after 3; and the policies of 3 on
                   annotated twins, the bound that perfect specialists would allow

Every part goes on where it was stopped, and a part that is done is not repeated. The last line is one JSON object: for
each stage gIoU with its 95 % interval, the share of sound transcripts, and perception x reasoning; for each seed the
difference to the imitation, with an interval over photos; and two answers by rule: the largest object whose label
stands in the query (else the largest of all), and the objects that the query's program gives on the perceived twin.
`seeds` has the differences of the seeds' mean IoU of each query. Queries with and without a target are also counted
apart. Without one only an answer without pixels is right, so `without_target` is the share of those answered "none".
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import grpo
import numpy as np
import photo_queries
import weights

from configs import seg
from dtr1_jax import config
from dtr1_jax.data import sources
from dtr1_jax.modes import evaluate, perceive, sft, train
from dtr1_jax.twin import programs, things

OBJECTS = 6  # most objects of a twin
ALL = 10_000  # more than there are held-out queries
KEPT = ("giou", "giou_low", "giou_high", "sound")
CELLS = ("both_right", "only_perception_right", "only_reasoning_right", "both_wrong")  # perception x reasoning


def settings(checkpoint: Path, data: Path, seed: int = 0, changes: dict | None = None) -> config.Config:
    """The settings of all parts, with `changes` ({"optim.lr": 1e-4}, ...) applied last. Raises ConfigError."""
    c = seg.get_config("auto")
    c.seed = seed
    c.data.source, c.data.root, c.data.max_objects = "jsonl", str(data), OBJECTS
    c.policy.path, c.policy.constructor = str(checkpoint), "given"
    c.policy.dtype = c.policy.weights_dtype = "float32"
    c.policy.remat = "off"
    c.policy.prompt, c.policy.prompt_tokens = "brief", 384
    c.lora.rank, c.lora.alpha = 16, 32.0
    c.sft.batch, c.sft.steps, c.sft.lr, c.sft.log_every = 8, 60, 1e-3, 5
    c.rollout.queries, c.rollout.group, c.rollout.new_tokens = 4, 8, 64
    c.reward.segmenter = "box"  # only objects without a perceived mask need it; here all have one
    c.reward.weights.segmentation.mask_iou, c.reward.weights.segmentation.box_iou = 1.0, 0.0
    c.grpo.beta, c.grpo.advantage, c.grpo.micro_queries = 0.02, "batch", 1
    c.optim.lr, c.optim.warmup, c.optim.schedule = 2e-4, 2, "linear"
    c.train.steps, c.train.eval_examples, c.train.gallery, c.train.samples_every = 20, 0, 0, 5
    c.train.eval_batch = 8
    c.checkpoint.every = 5
    c.update_from_flattened_dict(changes or {})
    return config.from_configdict(c)


def perceived_twins(args: argparse.Namespace, annotated: Path) -> Path:
    """The file of the perceived twins, which is made if it is not there."""
    out = args.out / "perceived"
    c = seg.get_config()
    c.data.source, c.data.root, c.data.max_objects = "jsonl", str(annotated), OBJECTS
    c.specialists.detector, c.specialists.segmenter = str(args.detector), str(args.segmenter)
    c.specialists.depth, c.specialists.threshold, c.specialists.max_objects = str(args.depth or ""), 0.3, 8
    c.specialists.cache_mb = 3000  # the queries about a photo stand far apart in the file
    if not (out / "sheet.png").is_file():
        perceive.run(config.from_configdict(c), None, None, str(out))
    return out / "twins.jsonl"


def answerable(data: Path, file: Path) -> Path:
    """Writes the lines of `data` whose target is among the perceived objects, and all held-out ones, into `file`."""
    rows = []
    for line in data.read_text("utf-8").splitlines():
        row = json.loads(line)
        row["image"] = str((data.parent / row["image"]).resolve())
        if row["split"] == "heldout" or "answer" in row["oracle"]:
            rows.append(row)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return file


def trained(c: config.Config, known: Path, workdir: Path) -> Path:
    """Trains by GRPO on the queries of the file `known`; the folder of the evaluation on all held-out ones."""
    train.run(dataclasses.replace(c, data=dataclasses.replace(c.data, root=str(known))), workdir)
    return evaluated(c, workdir, "perceived")


def evaluated(c: config.Config, workdir: Path, name: str, examples: int = ALL) -> Path:
    """The folder of an evaluation with greedy answers to held-out queries, which is made if it is not there."""
    folder = workdir / "evaluations" / name
    if not (folder / "eval.json").is_file():
        greedy = dataclasses.replace(c.train, eval_examples=examples, eval_temperature=0.0)
        evaluate.run(dataclasses.replace(c, train=greedy), workdir, name=name)
    return folder


def figures(folder: Path) -> dict[str, float]:
    """KEPT and CELLS of an evaluation."""
    numbers = json.loads((folder / "eval.json").read_text("utf-8"))
    names = dict(zip(KEPT, KEPT)) | {name: f"program/segmentation/picture/{name}" for name in CELLS}
    return {name: round(numbers[f"eval/{key}"], 4) for name, key in names.items()}


def ious(folder: Path) -> dict[str, float]:
    """{uid: IoU of the query's masks} of an evaluation."""
    rows = (folder / "predictions.jsonl").read_text("utf-8").splitlines()
    return {row["uid"]: row["value"] for row in map(json.loads, rows)}


def by_target(scores: dict[str, float], empty: set[str]) -> dict[str, float]:
    """Mean IoU of the queries with a target, and of those without one, whose uids are `empty`."""
    parts = {"with_target": scores.keys() - empty, "without_target": scores.keys() & empty}
    return {name: round(float(np.mean([scores[uid] for uid in part])), 4) for name, part in parts.items() if part}


def gains(after: dict[str, float], before: dict[str, float], empty: set[str]) -> dict[str, dict[str, float]]:
    """`difference` of all queries, and of those with a target."""
    wanted = {uid: value for uid, value in after.items() if uid not in empty}
    return {"gain": difference(after, before), "gain_with_target": difference(wanted, before)}


def difference(after: dict[str, float], before: dict[str, float], draws: int = 4000) -> dict[str, float]:
    """Mean difference of the queries' IoU, and its 95 % interval, by a bootstrap over photos."""
    photo = {uid: uid.rpartition("/")[0] for uid in after}
    sums = np.array([
        (sum(after[u] - before[u] for u in after if photo[u] == p), sum(photo[u] == p for u in after))
        for p in sorted(set(photo.values()))
    ])  # fmt: skip
    drawn = sums[np.random.default_rng(0).integers(0, len(sums), (draws, len(sums)))].sum(1)
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], (0.025, 0.975))
    return {"mean": float(sums[:, 0].sum() / sums[:, 1].sum()), "low": float(low), "high": float(high)}


def by_rule(c: config.Config) -> tuple[dict[str, float], set[str]]:
    """(gIoU of two answers by rule on the perceived twins of all held-out queries; the uids of those without a target).

    An answer without pixels to a query without a target has IoU 1, as in the evaluation.
    """
    source = sources.truth_free(sources.open_source(c.data, "heldout"))  # as the prompts show the twins
    scores: dict[str, list[float]] = {"named_label": [], "program": []}
    empty = set()
    for example in (source[i] for i in range(len(source))):
        if not example.target.mask.any():
            empty.add(example.uid)
        words = f" {example.query.lower()} "
        named = [x for x in example.scene if f" {x.label}" in words]
        largest = max(named or example.scene, key=lambda x: x.mask.sum(), default=None)
        found = programs.execute(example.program, things.things_of_scene(example.scene)) if example.program else None
        answers = {
            "named_label": [largest] if largest is not None else [],
            "program": [x for x in example.scene if found is not None and x.id in found.ids],
        }
        for name, objects in answers.items():
            scores[name].append(_iou(objects, example))
    return {name: float(np.mean(values)) for name, values in scores.items()}, empty


def _iou(objects, example) -> float:
    mask = np.zeros(example.target.mask.shape, bool)
    for one in objects:
        mask |= one.mask
    if example.target.ignore is not None:
        mask &= ~example.target.ignore
    union = (mask | example.target.mask).sum()
    return float((mask & example.target.mask).sum() / union) if union else 1.0


def run(args: argparse.Namespace) -> dict:
    """Runs all parts; returns the figures."""
    began = time.monotonic()
    checkpoint = args.policy or weights.fetch(args.out)
    annotated = args.out / "annotated.jsonl"
    if not annotated.is_file():
        photo_queries.write(args.assets, annotated, OBJECTS)
    data, changes = perceived_twins(args, annotated), dict(args.set)
    c = settings(checkpoint, data, 0, changes)
    rules, empty = by_rule(c)
    result: dict = {"by_rule": rules}
    adapter = args.out / "imitation" / "adapter"
    if not adapter.is_dir():
        of_grpo = ("grpo.", "optim.", "train.", "rollout.queries", "rollout.group")
        kept = {name: value for name, value in changes.items() if not name.startswith(of_grpo)}
        sft.run(settings(checkpoint, data, 0, kept), args.out / "imitation")
    c = settings(checkpoint, data, 0, {"policy.adapter": str(adapter)} | changes)
    imitation = evaluated(c, args.out / "imitated", "greedy")
    before = ious(imitation)
    result["imitation"] = figures(imitation) | by_target(before, empty)
    print(json.dumps(result), flush=True)
    known, afters = answerable(data, args.out / "answerable.jsonl"), []
    for seed in args.seed:
        c = settings(checkpoint, data, seed, {"policy.adapter": str(adapter)} | changes)
        after = trained(c, known, args.out / "grpo" / f"seed_{seed}")
        afters.append(ious(after))
        result[f"seed_{seed}"] = figures(after) | by_target(afters[-1], empty) | gains(afters[-1], before, empty)
        mean = {uid: float(np.mean([one[uid] for one in afters])) for uid in before}
        result["seeds"] = gains(mean, before, empty)
        print(json.dumps(result), flush=True)
    with_examples = changes | {"policy.prompt": "example", "policy.prompt_tokens": 640}
    untrained = evaluated(settings(checkpoint, data, 0, with_examples), args.out / "untrained", "greedy")
    plain = ious(untrained)
    result["untrained"] = figures(untrained) | by_target(plain, empty)
    for seed in args.untrained_seed:
        c = settings(checkpoint, data, seed, with_examples)
        after = trained(c, known, args.out / "grpo_untrained" / f"seed_{seed}")
        scores = ious(after)
        result[f"untrained_seed_{seed}"] = figures(after) | by_target(scores, empty) | gains(scores, plain, empty)
        print(json.dumps(result), flush=True)
    for seed in args.seed:
        c = settings(checkpoint, annotated, seed, {"policy.adapter": str(adapter)} | changes)
        bound = evaluated(c, args.out / "grpo" / f"seed_{seed}", "annotated")
        result[f"seed_{seed}"]["annotated_twins"] = figures(bound)
    result["wall_s"] = round(time.monotonic() - began)
    return result


def arguments(doc: str, out: str) -> argparse.ArgumentParser:
    """The arguments of an experiment with specialists, whose runs go into `out` by default."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    beside = Path(os.environ.get("DTR1_ASSETS") or Path(__file__).resolve().parents[3] / "shared" / "assets")
    parser.add_argument("--assets", type=Path, default=beside)
    parser.add_argument("--out", type=Path, default=Path(out))
    parser.add_argument("--policy", type=Path, help="a .gguf file or folder of a text model; else SmolLM2-135M")
    parser.add_argument("--detector", type=Path, help="else weights/coco_ssd_tfjs/model.json of --assets")
    parser.add_argument("--segmenter", type=Path, help="else weights/mobile_sam.pt of --assets")
    parser.add_argument("--depth", type=Path, help="an ONNX depth model with its specialist.json; else no depth")
    parser.add_argument(
        "--set", type=grpo.change, nargs="*", default=[], metavar="NAME=VALUE", help="settings to change"
    )
    return parser


def execute(experiment: Callable[[argparse.Namespace], dict], args: argparse.Namespace) -> None:
    """`grpo.execute`, with the specialists of --assets where no others are named."""
    args.detector = args.detector or args.assets / "weights/coco_ssd_tfjs/model.json"
    args.segmenter = args.segmenter or args.assets / "weights/mobile_sam.pt"
    grpo.execute(experiment, args)


def main(argv: list[str] | None = None) -> None:
    """Parses the arguments and runs the experiment."""
    parser = arguments(__doc__, "runs/perceived_photos")
    parser.add_argument("--seed", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument(
        "--untrained-seed",
        type=int,
        nargs="*",
        default=[],
        help="seeds of GRPO from the untrained policy, with examples",
    )
    execute(run, parser.parse_args(argv))


if __name__ == "__main__":
    main()
