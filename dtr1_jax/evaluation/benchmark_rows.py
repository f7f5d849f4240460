"""Public benchmarks: what a query adds to the figures of its benchmark, and these figures from the rows of a file.

The field "benchmark" of a row of predictions.jsonl holds the name, the tags and the numbers of `measure`; `figures`
makes eval/<benchmark>/<figure> and, by tag, eval/<benchmark>/<tag>/<figure> of them. Conventions of peers that differ
from the benchmark's own are figures with a name of their own (peers.py), see docs/benchmarks.md.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from dtr1_jax.data.working_size import OBJECTWISE
from dtr1_jax.evaluation import caption_figures, peers, whole_videos
from dtr1_jax.evaluation.benchmarks import (
    boxes,
    exact_words,
    referring_boxes,
    referring_masks,
    segmentation,
    traced_masks,
)
from dtr1_jax.evaluation.query_metrics import truncate_answer
from dtr1_jax.rewards import video_overlap
from dtr1_jax.rewards.answer_regions import Outcome
from dtr1_jax.rewards.score import answer_text
from dtr1_jax.rewards.text_metrics import clean
from dtr1_jax.twin.transcript import Transcript
from dtr1_jax.types import POINTING, Example

Row = dict[str, Any]
_REFERRING = ("refcoco", "refcoco+", "refcocog", "llm_seg")
_CHOICES = ("nextqa",)  # questions with options


def measure(
    example: Example, transcript: Transcript, outcome: Outcome, masks: Sequence[np.ndarray] = (),
    whole: dict[str, Any] | None = None, emulate: Collection[str] = (),
) -> dict[str, Any] | None:  # fmt: skip
    """The field "benchmark" of the row of an answered query; None if its data is no public benchmark.

    It has name, tags, and by task:
        segmentation   target, answer: areas in pixels (answer is null for a failed sample); with ignored pixels also
                       `ignore`, the [intersection, union] where these are targets; for OBJECTWISE benchmarks `ious`,
                       the IoU of each target (traced_masks.py)
        grounding      strict, generalised (0 or 1), targets, boxes: see referring_boxes.BoxAnswer
        vqa            exact, plain, normalised: see exact_words.py
        summary        nothing: the row has references and answer
        video          what whole_videos.measure gives, for segmentation

    Args:
      example: the query with its target.
      transcript: the parsed completion.
      outcome: boxes and mask of the answer.
      masks: for OBJECTWISE benchmarks the mask bool[h, w] of each object of the answer, of the target's size.
      whole: for benchmarks about videos what whole_videos.measure gives.
      emulate: of peers.PEERS, whose numbers are added as "peers" where they have a rule.
    """
    if not example.benchmark:
        return None
    head: dict[str, Any] = {"name": example.benchmark, "tags": list(example.tags)}
    added = peers.measure(emulate, example, outcome, transcript.sound)
    head |= {"peers": added} if added else {}
    if example.task == "summary":
        return head
    if outcome.tracks is not None and example.task in POINTING:
        return None if whole is None else head | whole
    if example.task == "segmentation":
        ious = {"ious": _object_ious(example, masks)} if example.benchmark in OBJECTWISE else {}
        return head | _of_mask(example, outcome) | ious
    if example.task == "grounding":
        return head | _of_boxes(example, transcript, outcome)
    answer, references = answer_text(transcript), [clean(text) for text in example.target.references]
    answer = None if answer is None else clean(truncate_answer(answer))
    if not references:
        return head | dict.fromkeys(_WORDS, 0.0)
    return head | {
        "exact": max(exact_words.exact(answer, reference) for reference in references),
        "plain": max(exact_words.plain(answer, reference) for reference in references),
        "normalised": exact_words.normalised(answer, references),
    }


def figures(rows: Sequence[Row]) -> dict[str, float]:
    """The figures of each benchmark and task in the rows, over all queries and by tag."""
    numbers: dict[str, float] = {}
    groups: dict[tuple[str, str], list[Row]] = collections.defaultdict(list)
    for row in rows:
        for tag in ("", *row.get("benchmark", {}).get("tags", ())):
            if "benchmark" in row:
                groups[row["benchmark"]["name"] + (f"/{_word(tag)}" if tag else ""), row["task"]].append(row)
    for (name, task), part in groups.items():
        own = part[0]["benchmark"]["name"]
        found = whole_videos.figures(own, part) if _is_tracked(part[0]) else _FIGURES[task](own, part)
        found |= peers.figures(part)
        numbers |= {f"eval/{name}/{figure}": value for figure, value in found.items()}
        numbers[f"eval/{name}/{task}_queries"] = len(part)
    return numbers


def of_all(rows: Sequence[Row], missing: int) -> dict[str, float]:
    """The figures of a benchmark in which queries are missing, such as those about a broken picture.

    eval/<benchmark>/missing is their number, and eval/<benchmark>/<figure>_of_all the main figure, a mean, in which
    they count as wrong. {} where none is missing, or the rows are not all of one benchmark and task.
    """
    kinds = {(row["benchmark"]["name"], row["task"]) if "benchmark" in row else None for row in rows}
    if not missing or len(kinds) != 1 or None in kinds:
        return {}
    ((name, task),) = kinds
    main = whole_videos.MAIN if _is_tracked(rows[0]) else MAIN[task](name)
    mean = figures(rows)[f"eval/{name}/{main}"]
    return {f"eval/{name}/missing": missing, f"eval/{name}/{main}_of_all": mean * len(rows) / (len(rows) + missing)}


def format_figures(numbers: dict[str, float]) -> str:
    """The figures of the benchmarks as text, a line for each benchmark and tag; "" if there are none."""
    lines: dict[str, list[str]] = collections.defaultdict(list)
    counted = {key.rpartition("/")[0] for key in numbers if key.endswith("_queries")}
    for key, value in numbers.items():
        head, _, figure = key.rpartition("/")
        if head in counted:
            lines[head].append(f"{figure} {value:.4f}" if isinstance(value, float) else f"{figure} {value}")
    return "\n".join(f"{head.removeprefix('eval/')}: {', '.join(parts)}" for head, parts in lines.items())


def fault(row: Row) -> str | None:
    """The first fault of the field "benchmark" of a row, or None."""
    field = row.get("benchmark")
    if "benchmark" not in row:
        return None
    names = isinstance(field, dict) and isinstance(field.get("name"), str) and isinstance(field.get("tags"), list)
    if not names or not all(isinstance(tag, str) for tag in field["tags"]):
        return "benchmark: expected an object with name and tags"
    if (peer_fault := peers.fault(field)) is not None:
        return peer_fault
    if _is_tracked(row):
        return whole_videos.fault(field)
    for key in _FIELDS[row["task"]]:
        value = field.get(key, -1)
        if not (_is_number(value) or (value is None and key in ("answer", "boxes"))):
            return f"benchmark.{key}: expected a number of at least 0"
    pair = field.get("ignore", [0, 0])
    if not (isinstance(pair, list) and len(pair) == 2 and all(map(_is_number, pair)) and pair[0] <= pair[1]):
        return "benchmark.ignore: expected intersection and union in pixels"
    ious = field.get("ious", [] if field["name"] not in OBJECTWISE or row["task"] != "segmentation" else None)
    if not (isinstance(ious, list) and all(_is_number(iou) and iou <= 1 for iou in ious)):
        return "benchmark.ious: expected the IoU of each target, in [0, 1]"
    return None


def _of_mask(example: Example, outcome: Outcome) -> dict[str, Any]:
    target, ignore = example.target.mask, example.target.ignore
    pred = None if outcome.mask is None else video_overlap.resize_mask(outcome.mask, target.shape)
    counted = np.ones_like(target) if ignore is None else ~ignore
    areas = {"target": int((target & counted).sum()), "answer": None if pred is None else int((pred & counted).sum())}
    if ignore is None:
        return areas
    both = segmentation.overlap(pred, target | ignore)
    return areas | {"ignore": [both.intersection, both.union]}


def _object_ious(example: Example, masks: Sequence[np.ndarray]) -> list[float]:
    shape, wanted = example.target.mask.shape, example.answer_ids or ()
    targets = [video_overlap.resize_mask(item.mask, shape) for item in example.scene if item.id in wanted]
    return traced_masks.target_ious(masks, targets)


def _of_boxes(example: Example, transcript: Transcript, outcome: Outcome) -> dict[str, Any]:
    target = np.asarray(example.target.boxes, np.float64)
    found = {"strict": 0.0, "generalised": 0.0, "targets": len(target), "boxes": None}
    if not transcript.sound:
        return found
    # Pixels, because the hull of the generalised IoU is not that of the unit frame's rounding.
    h, w = example.image.shape[:2]
    answer, target = (np.asarray(x, np.float64) * [w, h, w, h] for x in (outcome.boxes, target))
    at_least = boxes.is_correct(outcome.boxes, example.target.boxes, size=(w, h))
    strict = at_least and referring_boxes.pairs_off(boxes.iou_matrix(answer, target), above=True)
    generalised = referring_boxes.pairs_off(referring_boxes.generalised_iou(answer, target))
    return found | {"strict": float(strict), "generalised": float(generalised), "boxes": len(answer)}


def _mask_figures(name: str, rows: Sequence[Row]) -> dict[str, float]:
    answers = [
        referring_masks.MaskAnswer(
            segmentation.Overlap(r["intersection"], r["union"], r["iou"]), r["benchmark"]["target"],
            r["benchmark"]["answer"],
        )
        for r in rows
    ]  # fmt: skip
    if name in OBJECTWISE:
        ious = [iou for r in rows for iou in r["benchmark"]["ious"]]
        return referring_masks.res(answers) | (traced_masks.figures(ious) if ious else {})
    if name in _REFERRING:
        return referring_masks.res(answers)
    if name == "grefcoco":
        return referring_masks.gres(answers)
    found = {
        "giou": segmentation.giou([a.overlap for a in answers]),
        "ciou": segmentation.ciou([a.overlap for a in answers]),
    }
    pairs = [r["benchmark"].get("ignore", [r["intersection"], r["union"]]) for r in rows]
    as_target = [
        segmentation.Overlap(i, u, i / u if u else float(r["benchmark"]["answer"] is not None))
        for r, (i, u) in zip(rows, pairs)
    ]
    if any("ignore" in r["benchmark"] for r in rows):
        found["giou_ignore_as_target"] = segmentation.giou(as_target)
        found["ciou_ignore_as_target"] = segmentation.ciou(as_target)
    return found


def _box_figures(name: str, rows: Sequence[Row]) -> dict[str, float]:
    answers = [
        referring_boxes.BoxAnswer(r["acc"], *(r["benchmark"][key] for key in _FIELDS["grounding"])) for r in rows
    ]
    return referring_boxes.grec(answers) if name == "grefcoco" else referring_boxes.rec(answers)


def _word_figures(name: str, rows: Sequence[Row]) -> dict[str, float]:
    means = {key: float(np.mean([r["benchmark"][key] for r in rows])) for key in _WORDS}
    read = float(np.mean([r["accuracy"] for r in rows]))
    if name == "vqav2":
        return {"accuracy": read, "accuracy_both_normalised": means["normalised"]}
    if name in _CHOICES:
        return {"acc": read}
    return {"exact": means["exact"], "exact_without_punctuation": means["plain"], "read": read}


def _text_figures(name: str, rows: Sequence[Row]) -> dict[str, float]:
    return caption_figures.figures(rows) | {"rouge_l": float(np.mean([r["rouge_l"] for r in rows]))}


_WORDS = ("exact", "plain", "normalised")
_FIELDS = {"segmentation": ("target", "answer"), "grounding": ("strict", "generalised", "targets", "boxes"),
           "vqa": _WORDS, "summary": ()}  # fmt: skip
_FIGURES: dict[str, Callable[[str, Sequence[Row]], dict[str, float]]] = {
    "segmentation": _mask_figures, "grounding": _box_figures, "vqa": _word_figures, "summary": _text_figures,
}  # fmt: skip
MAIN: dict[str, Callable[[str], str]] = {  # task -> benchmark -> its main figure, a mean over queries
    "segmentation": lambda name: "giou",
    "grounding": lambda name: "f1" if name == "grefcoco" else "acc",
    "vqa": lambda name: "accuracy" if name == "vqav2" else "acc" if name in _CHOICES else "exact",
    "summary": lambda name: "rouge_l",  # the weights of CIDEr-D need the references of the missing queries
}


def _is_tracked(row: Row) -> bool:
    """Whether a row is about objects in a video, whose figures are of all its frames."""
    return row["modality"] == "video" and row["task"] in POINTING


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1 << 53


def _word(tag: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", tag)[:60]
