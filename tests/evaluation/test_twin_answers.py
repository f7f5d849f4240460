"""Perception x reasoning by hand, and for the oracle."""

import dataclasses
import functools

import numpy as np
import pytest

from dtr1_jax.data.twinworld import tasks
from dtr1_jax.evaluation import twin_answers
from dtr1_jax.twin.coordinates import Canvas, Frame
from dtr1_jax.twin.schema import Answer, Object, Twin
from dtr1_jax.twin.text import from_scene
from dtr1_jax.twin.transcript import compose, parse
from dtr1_jax.types import Example, Target

CANVAS = Canvas(Frame.NORM1000, (96, 96))
MUG, KEY = Object(5, "mug", (0, 0, 500, 500)), Object(9, "key", (500, 500, 1000, 1000))
MUGS = ("label", "mug")
LEFT = np.array([[0, 0, 0.5, 0.5]], np.float32)


def judge(program, answer, *objects, task="segmentation", boxes=LEFT, references=()):
    target = Target(np.zeros((4, 4), bool), boxes, references=references)
    e = Example("uid", np.zeros((4, 4, 3), np.uint8), "which?", task, target, program=program)
    twin = Twin((96, 96), objects)
    text = compose(twin, "because", Answer(text="x") if answer is None else answer)
    figures = twin_answers.judge(e, parse(text, task=task, canvas=CANVAS), CANVAS)
    return figures["perception"], figures["reasoning"]


def test_objects_by_hand():
    assert judge(MUGS, Answer(objects=(5,)), MUG, KEY) == (1, 1)
    assert judge(MUGS, Answer(objects=(9,)), MUG, KEY) == (1, 0)
    assert judge(MUGS, Answer(objects=(5, 9)), MUG, KEY) == (1, 0)
    called_hat = dataclasses.replace(KEY, label="mug"), dataclasses.replace(MUG, label="hat")
    assert judge(MUGS, Answer(objects=(9,)), *called_hat) == (0, 1), "the twin confuses two objects"
    assert judge(MUGS, Answer(objects=(5,)), *called_hat) == (0, 0), "right by chance"
    shifted = dataclasses.replace(MUG, box=(0, 0, 250, 500))
    assert judge(MUGS, Answer(objects=(5,)), shifted) == (1, 1), "IoU 0.5"
    assert judge(MUGS, Answer(objects=(5,)), dataclasses.replace(MUG, box=(0, 0, 240, 500))) == (0, 1)
    nothing = np.zeros((0, 4), np.float32)
    assert judge(("label", "hat"), Answer(objects=()), MUG, boxes=nothing) == (1, 1)
    assert judge(MUGS, Answer(objects=()), boxes=nothing) == (1, 1)
    assert judge(MUGS, Answer(objects=()), MUG, boxes=nothing) == (0, 0)


def test_a_program_that_the_twin_does_not_allow():
    assert judge(("left of", ("all",), ("label", "hat")), Answer(objects=()), MUG, boxes=LEFT[:0]) == (0, 0)


def test_unsound_transcripts_state_nothing():
    assert judge(MUGS, None, MUG) == (1, 0), "the twin is sound by itself"
    e = Example(
        "uid", np.zeros((4, 4, 3), np.uint8), "", "segmentation", Target(np.zeros((4, 4), bool), LEFT), program=MUGS
    )
    broken = parse("nonsense", task="segmentation", canvas=CANVAS)
    assert twin_answers.judge(e, broken, CANVAS) == {"perception": 0, "reasoning": 0}


def test_boxes_by_hand():
    grounding = functools.partial(judge, MUGS, task="grounding")
    assert grounding(Answer(boxes=(MUG.box,)), MUG, KEY) == (1, 1)
    assert grounding(Answer(boxes=((0, 0, 250, 500),)), MUG, KEY) == (1, 1), "IoU 0.5"
    assert grounding(Answer(boxes=((0, 0, 240, 500),)), MUG, KEY) == (1, 0)
    assert grounding(Answer(boxes=(MUG.box, KEY.box)), MUG, KEY) == (1, 0)
    assert grounding(Answer(boxes=(MUG.box,))) == (0, 0), "a right answer over an empty twin"


def test_words_by_hand():
    count = functools.partial(judge, ("number", MUGS), task="vqa", references=("2", "two"))
    twins = dataclasses.replace(KEY, label="mug")
    assert count(Answer(text="2"), MUG, twins) == count(Answer(text="two"), MUG, twins) == (1, 1)
    assert count(Answer(text="1"), MUG, twins) == (1, 0)
    assert count(Answer(text="1"), MUG, KEY) == (0, 1)
    assert count(Answer(text="2"), MUG, KEY) == (0, 0)


def test_what_has_no_program_has_no_figures():
    transcript = parse("nonsense", task="summary", canvas=CANVAS)
    target = Target(np.zeros((4, 4), bool), LEFT)
    for task, program in (("segmentation", ()), ("summary", MUGS)):
        e = Example("uid", np.zeros((4, 4, 3), np.uint8), "", task, target, program=program)
        assert twin_answers.judge(e, transcript, CANVAS) == {}


@pytest.mark.parametrize("video", [False, True])
@pytest.mark.parametrize("task", ["segmentation", "grounding", "vqa"])
def test_the_oracle_is_right_in_both(task, video):
    canvas = Canvas(Frame.NORM1000, (96, 96), tuple(range(8)) if video else ())
    for i in range(40):
        e = tasks.example(task, 6, "heldout", i, video=video, max_objects=6)
        answer = Answer(text=e.target.references[0]) if task == "vqa" else Answer(objects=e.answer_ids)
        text = compose(from_scene(e.scene, canvas), "because", answer)
        transcript = parse(text, task=task, canvas=canvas)
        assert twin_answers.judge(e, transcript, canvas) == {"perception": 1, "reasoning": 1}, e.query


def rows(*pairs, task="vqa", modality="video"):
    return [{"task": task, "modality": modality, "perception": p, "reasoning": r} for p, r in pairs]


def test_figures_and_table_by_hand():
    several = rows((1, 1), (1.0, 1.0), (1, 0), (0, 1)) + rows((0, 0), task="grounding", modality="picture")
    numbers = twin_answers.figures([*several, {"task": "vqa", "modality": "picture"}])
    assert numbers == {
        "eval/program/grounding/picture/both_right": 0, "eval/program/grounding/picture/only_perception_right": 0,
        "eval/program/grounding/picture/only_reasoning_right": 0, "eval/program/grounding/picture/both_wrong": 1,
        "eval/program/grounding/picture/examples": 1, "eval/program/vqa/video/both_right": 0.5,
        "eval/program/vqa/video/only_perception_right": 0.25, "eval/program/vqa/video/only_reasoning_right": 0.25,
        "eval/program/vqa/video/both_wrong": 0, "eval/program/vqa/video/examples": 4,
    }  # fmt: skip
    assert twin_answers.lines(numbers)[2] == [
        "vqa",
        "video",
        "50.0 % (2)",
        "25.0 % (1)",
        "25.0 % (1)",
        "0.0 % (0)",
        "4",
    ]
    assert "vqa        video     50.0 % (2)" in twin_answers.format_figures(numbers)
    assert twin_answers.figures([]) == {} and twin_answers.lines({}) == [] and twin_answers.format_figures({}) == ""
    broken = numbers | {"eval/program/vqa/video/both_right": "much", "eval/program/grounding/picture/examples": None}
    assert twin_answers.lines(broken) == []
