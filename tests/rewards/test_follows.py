"""The column `follows`: answers that follow from the completion's own twin, answers that do not, and hacks."""

import dataclasses
import functools

import numpy as np
import pytest
from scored import Segmenter, settings

from dtr1_jax.data.twinworld import tasks
from dtr1_jax.rewards import columns, score
from dtr1_jax.rewards.follows import follows
from dtr1_jax.twin import programs, things
from dtr1_jax.twin.coordinates import Canvas, Frame
from dtr1_jax.twin.schema import Answer, Object, Twin
from dtr1_jax.twin.text import from_scene
from dtr1_jax.twin.transcript import compose, parse
from dtr1_jax.types import Example, Instance, Target

PICTURE = Canvas(Frame.NORM1000, (96, 96))
VIDEO = Canvas(Frame.NORM1000, (96, 96), tuple(range(8)))
COUNT = 60


def say(answer, twin, task, canvas=PICTURE):
    return parse(compose(twin, "because", answer), task=task, canvas=canvas)


@functools.cache
def examples(task, video):
    return [tasks.example(task, 2, "heldout", i, video=video, max_objects=6) for i in range(COUNT)]


def right_answer(example):
    return (
        Answer(objects=example.answer_ids)
        if example.answer_ids is not None
        else Answer(text=example.target.references[0])
    )


def implied_answer(example, twin, canvas):
    result = programs.execute(example.program, things.things_of_twin(twin, canvas))
    if example.task != "vqa":
        return Answer(objects=result.ids)
    return Answer(text=result.texts[0] if result.texts else "no")


def column_of(task, video, twin_of, answer_of=None):
    """The column for the twin that `twin_of` makes of the oracle's twin, with the answer that this twin implies."""
    canvas, scores = VIDEO if video else PICTURE, []
    for e in examples(task, video):
        twin = twin_of(from_scene(e.scene, canvas), e)
        answer = answer_of(e) if answer_of else implied_answer(e, twin, canvas)
        scores.append(follows([[say(answer, twin, task, canvas)]], [e], [canvas])[0, 0])
    return np.array(scores)


def with_objects(change):
    return lambda twin, e: dataclasses.replace(twin, objects=tuple(change(o, i) for i, o in enumerate(twin.objects)))


CASES = [(task, video) for task in ("segmentation", "grounding", "vqa") for video in (False, True)]


@pytest.mark.parametrize(("task", "video"), CASES)
def test_the_oracle_earns_nearly_all(task, video):
    scores = column_of(task, video, lambda twin, e: twin, right_answer)
    assert scores.min() > 0.8 and scores.mean() > 0.95  # integers and keyframes cost a little IoU


# What each twin earns at most in the mean, with the answer that it implies.
HACKS = {
    "empty_twin": (lambda twin, e: dataclasses.replace(twin, objects=()), 0.0),
    "junk_labels": (with_objects(lambda o, i: dataclasses.replace(o, label="stuff", attributes=())), 0.0),
    "no_attributes": (with_objects(lambda o, i: dataclasses.replace(o, attributes=())), 0.75),
    "one_object_too_many_each": (
        lambda twin, e: dataclasses.replace(
            twin, objects=twin.objects + tuple(dataclasses.replace(o, id=o.id + 99) for o in twin.objects)
        ),
        0.5,
    ),
    "whole_picture": (
        with_objects(lambda o, i: dataclasses.replace(o, box=(0, 0, 1000, 1000), track=(), velocity=None)), 0.35,
    ),
    "other_labels": (
        lambda twin, e: dataclasses.replace(twin, objects=tuple(
            dataclasses.replace(o, label=twin.objects[i - 1].label) for i, o in enumerate(twin.objects))), 0.5,
    ),
}  # fmt: skip


@pytest.mark.parametrize("hack", HACKS)
@pytest.mark.parametrize(("task", "video"), CASES)
def test_an_untrue_twin_does_not_earn_with_the_answer_that_it_implies(task, video, hack):
    twin_of, most = HACKS[hack]
    scores = column_of(task, video, twin_of)
    assert scores.mean() <= most


def test_an_empty_twin_earns_nothing_even_where_the_empty_answer_is_right():
    empty = [e for e in examples("segmentation", False) if not e.answer_ids]
    assert empty
    for e in empty:
        transcript = say(Answer(objects=()), Twin((96, 96), ()), "segmentation")
        assert follows([[transcript]], [e], [PICTURE])[0, 0] == 0


@pytest.mark.parametrize("video", [False, True])
def test_an_answer_that_the_twin_does_not_imply_earns_less(video):
    canvas = VIDEO if video else PICTURE
    for e in examples("segmentation", video):
        twin = from_scene(e.scene, canvas)
        ids = [o.id for o in twin.objects]
        wrong = tuple(i for i in ids if i not in e.answer_ids)
        more = tuple({*e.answer_ids, *wrong[:1]})
        group = [say(Answer(objects=x), twin, "segmentation", canvas) for x in (e.answer_ids, more, wrong)]
        right, surplus, none = follows([group], [e], [canvas])[0]
        assert none == (0 if wrong or e.answer_ids else right)
        assert surplus == pytest.approx(
            right * 2 * len(e.answer_ids) / (len(e.answer_ids) + len(more)) if more else right
        )


def scene():
    mask = np.ones((4, 4), bool)
    return (
        Instance(1, "mug", (0.0, 0.0, 0.5, 0.5), mask, 2, ("red",)),
        Instance(2, "key", (0.5, 0.5, 1.0, 1.0), mask, 1, ("blue",)),
    )


def example(program, task="segmentation", references=()):
    target = Target(np.zeros((4, 4), bool), np.zeros((0, 4), np.float32), references=references)
    return Example("uid", np.zeros((4, 4, 3), np.uint8), "which?", task, target, scene(), program=program)


MUG, KEY = Object(5, "mug", (0, 0, 500, 500), 2, ("red",)), Object(9, "key", (500, 500, 1000, 1000), 1, ("blue",))
MUGS = ("label", "mug")


def twin(*objects):
    return Twin((96, 96), objects)


def column(program, answer, *objects, task="segmentation", references=()):
    transcript = say(answer, twin(*objects), task)
    return float(follows([[transcript]], [example(program, task, references)], [PICTURE])[0, 0])


def test_objects_by_hand():
    assert column(MUGS, Answer(objects=(5,)), MUG, KEY) == 1
    assert column(MUGS, Answer(objects=(9,)), MUG, KEY) == 0
    assert column(MUGS, Answer(objects=(5, 9)), MUG, KEY) == pytest.approx(2 / 3)
    assert column(MUGS, Answer(objects=(5,)), MUG) == 0.5, "half of the scene is missing"
    half = dataclasses.replace(MUG, box=(0, 0, 250, 500))
    assert column(MUGS, Answer(objects=(5,)), half, KEY) == 0.5, "what the answer rests on has IoU 0.5"
    away = dataclasses.replace(KEY, box=(500, 500, 750, 1000))
    assert column(MUGS, Answer(objects=(5,)), MUG, away) == 0.75, "the mean over the scene"
    assert column(MUGS, Answer(objects=(5,)), MUG, KEY, Object(3, "hat", (0, 0, 9, 9))) == pytest.approx(2 / 3)


def test_the_twins_word_counts_not_the_annotations():
    """The twin is wrong about a colour: the answer that follows from it earns, the right answer does not."""
    swapped = dataclasses.replace(MUG, attributes=("blue",)), dataclasses.replace(KEY, attributes=("red",))
    red = ("word", ("all",), "red")
    assert column(red, Answer(objects=(5,)), *swapped) == 0 and column(red, Answer(objects=(5,)), MUG, KEY) == 1
    sized = [dataclasses.replace(o, attributes=(*o.attributes, "red")) for o in (MUG, KEY)]
    assert column(red, Answer(objects=(5, 9)), *sized) == 1
    assert column(red, Answer(objects=(5,)), *sized) == pytest.approx(2 / 3)


def test_depth_that_is_needed_must_be_stated():
    nearest = ("nearest", ("all",))
    assert column(nearest, Answer(objects=(9,)), MUG, KEY) == 1
    assert column(nearest, Answer(objects=(9,)), dataclasses.replace(MUG, depth=None), KEY) == 0.5
    assert column(MUGS, Answer(objects=(5,)), dataclasses.replace(MUG, depth=None), KEY) == 1


def test_boxes_by_hand():
    say_boxes = functools.partial(column, MUGS, task="grounding")
    assert say_boxes(Answer(boxes=(MUG.box,)), MUG, KEY) == 1
    assert say_boxes(Answer(boxes=((0, 0, 250, 500),)), MUG, KEY) == 0.5
    assert say_boxes(Answer(boxes=()), MUG, KEY) == 0
    assert say_boxes(Answer(boxes=(MUG.box,))) == 0, "a right answer in boxes over an empty twin"
    assert column(("label", "hat"), Answer(boxes=()), MUG, KEY, task="grounding") == 1
    assert column(("label", "hat"), Answer(boxes=()), task="grounding") == 0


def test_words_by_hand():
    count = functools.partial(column, ("number", MUGS), task="vqa", references=("1", "one"))
    assert count(Answer(text="one"), MUG, KEY) == count(Answer(text="there is 1"), MUG, KEY) == 1
    assert count(Answer(text="2"), MUG, KEY) == 0
    colours = ("which word", MUGS, ("red",), ("blue",))
    looks = functools.partial(column, colours, task="vqa", references=("red",))
    blue = dataclasses.replace(MUG, attributes=("blue",))
    assert looks(Answer(text="red"), MUG, KEY) == 1 and looks(Answer(text="blue"), MUG, KEY) == 0
    assert looks(Answer(text="blue"), blue, KEY) == 0, "the twin says nothing true about the mug"
    assert looks(Answer(text="red"), blue, KEY) == 0, "the answer does not follow"
    there = functools.partial(column, ("any", ("label", "hat")), task="vqa", references=("no",))
    assert there(Answer(text="no"), MUG, KEY) == 1 and there(Answer(text="no")) == 0


def test_what_has_no_program_or_no_soundness_earns_nothing():
    unsound = parse("nonsense", task="segmentation", canvas=PICTURE)
    good = say(Answer(objects=(5,)), twin(MUG, KEY), "segmentation")
    summary = say(Answer(text="a mug."), twin(MUG, KEY), "summary")
    got = follows([[good, unsound]] * 2 + [[summary] * 2], [example(MUGS), example(()), example(MUGS, "summary")],
                  [PICTURE] * 3)  # fmt: skip
    assert got.tolist() == [[1, 0], [0, 0], [0, 0]]


def test_a_given_twin_is_executed_too():
    text = '<think>because</think><answer>{"objects":[5]}</answer>'
    transcript = parse(text, task="segmentation", canvas=PICTURE, constructor="given", given_twin=twin(MUG, KEY))
    assert follows([[transcript]], [example(MUGS)], [PICTURE])[0, 0] == 1


def test_it_is_a_column_of_queries_with_a_program():
    group = [say(Answer(objects=ids), twin(MUG, KEY), "segmentation") for ids in ((5,), ())]
    weights = settings(structure=0.5, follows=0.25)
    rewards, _ = score.score(
        [group, group], [example(MUGS), example(())], [PICTURE] * 2, Segmenter(), weights
    )  # fmt: skip
    np.testing.assert_allclose(rewards.columns["follows"], [[1, 0], [0, 0]])
    np.testing.assert_allclose(rewards.total_bg, [[0.75, 0.5], [0.5, 0.5]])
    assert rewards.own["follows"].tolist() == [True, False]
    without, _ = score.score([group], [example(())], [PICTURE], Segmenter(), weights)
    assert "follows" not in without.columns
    assert [task for task, names in columns.TASK_COLUMNS.items() if "follows" in names] == [
        "segmentation", "grounding", "vqa",
    ]  # fmt: skip
