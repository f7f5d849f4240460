"""Examples of all tasks: reproducible, with sound oracle transcripts."""

import itertools

import numpy as np
import pytest

from dtr1_jax.data import demonstrations, prompts
from dtr1_jax.data.twinworld import picture_examples, tasks, video_examples
from dtr1_jax.rewards import answer_regions
from dtr1_jax.twin.coordinates import Canvas, Frame
from dtr1_jax.twin.text import from_scene
from dtr1_jax.twin.transcript import parse
from dtr1_jax.types import TASKS

CELLS = list(itertools.product(("vqa", "summary"), (False, True)))


def canvas_of(example):
    frames = tuple(example.visuals[0].index.tolist()) if example.visuals else ()
    return Canvas(Frame.NORM1000, example.image.shape[1::-1], frames)


def test_segmentation_and_grounding_share_their_scenes():
    for video in (False, True):
        one, two = (tasks.example(task, 3, "train", 4, video=video, max_objects=5) for task in TASKS[:2])
        assert (one.task, two.task) == TASKS[:2] and one.query == two.query
        np.testing.assert_array_equal(one.image, two.image)
    same = picture_examples.example(3, "train", 4)
    assert tasks.example("segmentation", 3, "train", 4).query == same.query
    one = video_examples.example(3, "train", 4, frames=5)
    two = tasks.example("grounding", 3, "train", 4, video=True, frames=5, max_objects=5)
    assert one.thought == two.thought


def test_same_arguments_same_example_and_others_differ(worded):
    for (task, video, split), cell in worded.items():
        again = tasks.example(task, 5, split, 3, video=video, frames=6, max_objects=5)
        assert (again.uid, again.query, again.target.references) == (
            cell[3].uid, cell[3].query, cell[3].target.references,
        )  # fmt: skip
        np.testing.assert_array_equal(again.image, cell[3].image)
    uids = {example.uid for cell in worded.values() for example in cell}
    assert len(uids) == sum(map(len, worded.values()))
    pictures = {example.image.tobytes() for cell in worded.values() for example in cell}
    assert len(pictures) == len(uids)


def test_targets_in_words_have_no_pixels(worded):
    for example in (e for cell in worded.values() for e in cell):
        assert example.target.references and all(r.strip() == r for r in example.target.references)
        assert not example.target.mask.any() and example.target.boxes.shape == (0, 4)
        assert example.target.masks is None and example.answer_ids is None
        assert bool(example.visuals) == ("-video" in example.uid)
        assert example.query == example.query.lower() and 1 <= example.level <= 4


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("video", [False, True])
def test_the_oracle_of_every_task_is_sound(task, video):
    for i, split in enumerate(picture_examples.SPLITS * 4):
        example = tasks.example(task, 9, split, i, video=video, frames=6, max_objects=5)
        canvas = canvas_of(example)
        transcript = parse(demonstrations.oracle(example, canvas), task=task, canvas=canvas)
        assert transcript.sound, transcript.faults
        assert transcript.twin == from_scene(example.scene, canvas) and transcript.thought == example.thought
        assert transcript.twin.frames == canvas.frames
        answer = transcript.answer
        if task in ("vqa", "summary"):
            assert answer.text == example.target.references[0]
        elif task == "segmentation" or video:
            assert answer.objects == example.answer_ids
        if task in ("segmentation", "grounding"):
            boxes = answer_regions.boxes_of(transcript, canvas)
            assert len(boxes) == len(example.target.boxes)
            np.testing.assert_allclose(
                np.sort(boxes, 0), np.sort(example.target.boxes, 0), atol=videos_tolerance(video)
            )


def videos_tolerance(video):
    """What keyframes and whole thousandths leave of the boxes."""
    return 0.016 if video else 0.0006


def test_what_the_oracle_cannot_say_is_refused():
    example = tasks.example("vqa", 9, "train", 0)
    canvas = canvas_of(example)
    for task in ("segmentation", "grounding"):
        with pytest.raises(prompts.PromptError, match="no objects as an answer"):
            demonstrations.oracle(type(example)(**{**vars(example), "task": task}), canvas)
    query = tasks.example("segmentation", 9, "train", 0)
    with pytest.raises(prompts.PromptError, match="no answer in words"):
        demonstrations.oracle(type(query)(**{**vars(query), "task": "vqa"}), canvas)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"task": "caption"}, "task"),
        ({"split": "test"}, "split"),
        ({"max_objects": 10}, "max_objects"),
        ({"video": True, "max_objects": 7}, "max_objects"),
        ({"video": True, "max_objects": 5, "frames": 2}, "frames"),
        ({"size": 5}, "size"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    for task in ("vqa", "segmentation"):
        with pytest.raises(ValueError, match=message):
            tasks.example(**{"task": task, "seed": 0, "split": "train", "index": 0} | arguments)


def test_queries_of_the_splits_are_disjoint(worded):
    for task, video in CELLS:
        queries = [{e.query for e in worded[task, video, split]} for split in picture_examples.SPLITS]
        assert not queries[0] & queries[1]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("video", [False, True])
def test_the_defaults_of_a_task_fit_pictures_and_videos(task, video):
    counts = set()
    for index in range(12 if video else 30):
        example = tasks.example(task, 0, "train", index, video=video)
        counts.add(len(example.scene))
        assert bool(example.visuals) == video
    assert max(counts) <= (5 if video else 7) and len(counts) > 2
    assert tasks.example(task, video=video).uid == tasks.example(task, 0, "train", 0, video=video).uid
    assert len(tasks.example(task, video=video, min_objects=6).scene) >= 6
    with pytest.raises(ValueError, match="max_objects"):
        tasks.example(task, video=video, max_objects=7 if video else 10)
