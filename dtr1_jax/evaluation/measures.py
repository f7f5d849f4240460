"""What one answer adds to its benchmark's figures, by the conventions of benchmarks/."""

from __future__ import annotations

from dtr1_jax.evaluation.benchmarks import boxes, captions, segmentation, video_segmentation, vqa
from dtr1_jax.rewards import answer_matching, video_overlap
from dtr1_jax.rewards.resolve import Outcome
from dtr1_jax.rewards.score import said
from dtr1_jax.rewards.text_metrics import CUT, clean
from dtr1_jax.twin.transcript import Transcript
from dtr1_jax.types import Example, Target

MODALITIES = ("picture", "video")


def modality(outcome: Outcome) -> str:
    """One of MODALITIES: what the query is about."""
    return "picture" if outcome.tracks is None else "video"


def measure(example: Example, transcript: Transcript, outcome: Outcome, tolerance: float = 0.0) -> dict[str, float]:
    """The numbers of one held-out answer; a failed one (unsound, no mask) has those of a wrong one.

        segmentation   iou, intersection and union in pixels; of a video j and f, means over its labelled frames
        grounding      acc (right or not) and iou of matched boxes; of a video iou of matched tracks
        vqa            accuracy
        summary        rouge_l

    A mask of another size than its target is brought to the target's, by its nearest pixels.

    Args:
      tolerance: of numbers as answers, as a share of the right one.
    """
    if example.task == "segmentation":
        return _regions(example, outcome) if outcome.tracks is not None else _region(example, outcome)
    if example.task == "grounding":
        if outcome.tracks is not None:
            right = video_overlap.truth(example.target, outcome.tracks.shape[1])
            found = outcome.tracks if transcript.sound else None
            return {"iou": boxes.matched_track_iou(found, right.tracks, right.labelled)}
        found = outcome.boxes if transcript.sound else None
        wanted = example.target.boxes
        return {"acc": float(boxes.is_correct(found, wanted)), "iou": boxes.matched_iou(found, wanted)}
    answer, references = said(transcript), example.target.references
    if example.task == "vqa":
        return {"accuracy": _accuracy(answer, example.target, tolerance)}
    return {"rouge_l": captions.rouge_l(answer and cut(answer), references) if references else 0.0}


def cut(answer: str) -> str:
    """The part of an answer that is measured: a policy may write a book."""
    return answer[:CUT]


def _accuracy(answer: str | None, target: Target, tolerance: float) -> float:
    """The VQA benchmark's accuracy where people gave 4 or more answers; else 1 where it is one of them, read by kind.

    Of choices it is the one that the answer names. Marks of writing direction and the like do not count. Unlike the
    reward there is nothing for words that an answer shares with a reference.
    """
    if answer is None or not target.references:
        return 0.0
    answer, *references = (clean(cut(said)) for said in (answer, *target.references))
    kind = answer_matching.kind_of(references, target.choices)
    if kind != "choice" and len(references) >= answer_matching.PEOPLE:
        return vqa.soft_accuracy(answer, references)
    if kind != "open":
        return answer_matching.typed(answer, references, kind, target.choices, tolerance)
    return max(vqa.exact(answer, reference) for reference in references)


def _region(example: Example, outcome: Outcome) -> dict[str, float]:
    target, ignore = example.target.mask, example.target.ignore
    pred, ignore = (None if mask is None else video_overlap.fit(mask, target.shape) for mask in (outcome.mask, ignore))
    return segmentation.overlap(pred, target, ignore)._asdict()


def _regions(example: Example, outcome: Outcome) -> dict[str, float]:
    frames = outcome.tracks.shape[1]
    right = video_overlap.truth(example.target, frames)
    counted = right.labelled.nonzero()[0]
    if not len(counted):
        return {"j": 0.0, "f": 0.0}
    preds = None
    if outcome.masks is not None:
        answered = video_overlap.over(outcome.masks, frames)
        preds = [video_overlap.fit(answered[t], right.masks.shape[1:]) for t in counted]
    ignores = [None if right.counted[t].all() else ~right.counted[t] for t in counted]
    return video_segmentation.score(preds, [right.masks[t] for t in counted], ignores)._asdict()
