"""The numbers of one held-out answer, as the benchmark of its task defines them (see benchmarks/)."""

from __future__ import annotations

from dtr1_jax.evaluation.benchmarks import boxes, captions, segmentation, video_segmentation, vqa
from dtr1_jax.rewards import answer_matching, open_answers, video_overlap
from dtr1_jax.rewards.answer_regions import Outcome
from dtr1_jax.rewards.score import answer_text
from dtr1_jax.rewards.text_metrics import CUT, clean
from dtr1_jax.twin.transcript import Transcript
from dtr1_jax.types import Example, Target

MODALITIES = ("picture", "video")


def modality(outcome: Outcome) -> str:
    """Whether the query is about a picture or a video, one of MODALITIES."""
    return "picture" if outcome.tracks is None else "video"


def measure(example: Example, transcript: Transcript, outcome: Outcome, tolerance: float = 0.0) -> dict[str, float]:
    """The numbers of one held-out answer by name; all but `intersection` and `union` are in [0, 1].

        segmentation   iou, intersection and union (in pixels); for a video j and f, means over its labelled frames
        grounding      acc (0 or 1) and iou, of matched boxes; for a video iou, of matched tracks
        vqa            accuracy
        summary        rouge_l

    A failed answer (unsound transcript, no mask) has the numbers of a wrong one. A mask whose size differs from its
    target's is resized to the target's size by nearest pixels.

    Args:
      example: the query with its target.
      transcript: the parsed completion.
      outcome: boxes, masks or tracks of the answer.
      tolerance: largest error of a number that counts as right, as a share of the right number.
    """
    if example.task == "segmentation":
        return _video_score(example, outcome) if outcome.tracks is not None else _picture_overlap(example, outcome)
    if example.task == "grounding":
        if outcome.tracks is not None:
            truth = video_overlap.truth(example.target, outcome.tracks.shape[1])
            pred = outcome.tracks if transcript.sound else None
            return {"iou": boxes.matched_track_iou(pred, truth.tracks, truth.labelled)}
        pred = outcome.boxes if transcript.sound else None
        target, (height, width) = example.target.boxes, example.image.shape[:2]
        correct = boxes.is_correct(pred, target, size=(width, height))
        return {"acc": float(correct), "iou": boxes.matched_iou(pred, target)}
    answer, references = answer_text(transcript), example.target.references
    if example.task == "vqa":
        return {"accuracy": _accuracy(answer, example.target, tolerance)}
    return {"rouge_l": captions.rouge_l(answer and truncate_answer(answer), references) if references else 0.0}


def truncate_answer(answer: str) -> str:
    """The start of a text answer, at most text_metrics.CUT characters; the rest is not measured."""
    return answer[:CUT]


def _accuracy(answer: str | None, target: Target, tolerance: float) -> float:
    """The VQA benchmark's accuracy if there are 4 or more references; else 1 if the answer says a reference, else 0.

    With fewer references, answers are read as the reward reads them: as numbers, yes or no, choices, or short answers
    (`answer_matching.answer_kind`). Unlike the reward, the figure gives nothing for words that the answer shares with a
    reference. With 4 or more, texts are compared as the benchmark's code compares them, word for word.
    """
    if answer is None or not target.references:
        return 0.0
    answer, *references = (clean(truncate_answer(text)) for text in (answer, *target.references))
    kind = answer_matching.answer_kind(references, target.choices)
    if kind != "choice" and len(references) >= answer_matching.PEOPLE:
        return vqa.soft_accuracy(answer, references)
    if kind != "open":
        return answer_matching.typed_score(answer, references, kind, target.choices, tolerance)
    return float(any(open_answers.same_answer(answer, reference) for reference in references))


def _picture_overlap(example: Example, outcome: Outcome) -> dict[str, float]:
    target, ignore = example.target.mask, example.target.ignore
    pred, ignore = (
        None if mask is None else video_overlap.resize_mask(mask, target.shape) for mask in (outcome.mask, ignore)
    )
    return segmentation.overlap(pred, target, ignore)._asdict()


def _video_score(example: Example, outcome: Outcome) -> dict[str, float]:
    frames = outcome.tracks.shape[1]
    truth = video_overlap.truth(example.target, frames)
    indices = truth.labelled.nonzero()[0]
    if not len(indices):
        return {"j": 0.0, "f": 0.0}
    preds = None
    if outcome.masks is not None:
        masks = video_overlap.first_frames(outcome.masks, frames)
        preds = [video_overlap.resize_mask(masks[t], truth.masks.shape[1:]) for t in indices]
    ignores = [None if truth.counted[t].all() else ~truth.counted[t] for t in indices]
    return video_segmentation.score(preds, [truth.masks[t] for t in indices], ignores)._asdict()
