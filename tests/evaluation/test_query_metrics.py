"""What one answer adds to its benchmark's figures: by hand, and for answers that are none."""

import dataclasses

import numpy as np
import pytest
from scored import CANVAS, WANT_LEFT, Segmenter, example, say, say_boxes
from scored_tasks import PATH, VIDEO, in_words, question, tell, video_query

from dtr1_jax.evaluation import query_metrics
from dtr1_jax.evaluation.benchmarks import video_segmentation
from dtr1_jax.rewards import answer_regions
from dtr1_jax.twin.schema import Answer, Object, Twin
from dtr1_jax.twin.transcript import parse
from dtr1_jax.types import Target

BROKEN = parse("no", task="segmentation", canvas=CANVAS)


def measured(query, transcript, canvas=CANVAS, segment=None):
    masked = [query.task == "segmentation"]
    outcome = answer_regions.outcomes([[transcript]], [query], [canvas], segment or Segmenter(), masked)[0][0]
    return query_metrics.measure(query, transcript, outcome)


def test_segmentation_of_a_picture():
    query = example(WANT_LEFT)
    assert measured(query, say(1, 7)) == {"intersection": 16, "union": 32, "iou": 0.5}
    assert measured(query, BROKEN) == {"intersection": 0, "union": 16, "iou": 0.0}
    assert measured(example(), say())["iou"] == 1.0 and measured(example(), BROKEN)["iou"] == 0.0
    assert measured(example(), say(1), segment=lambda *_: [None])["iou"] == 0.0


def test_segmentation_of_a_picture_whose_target_has_another_size():
    query = example(WANT_LEFT)
    large = np.kron(query.target.mask, np.ones((10, 10), bool))
    query = dataclasses.replace(query, target=dataclasses.replace(query.target, mask=large))
    assert measured(query, say(1)) == {"intersection": 1600, "union": 1600, "iou": 1.0}


def test_segmentation_of_a_video():
    query = video_query()
    assert measured(query, tell(Answer(objects=(1,))), VIDEO) == {"j": 1.0, "f": 1.0}
    wrong = tell(Answer(objects=(2,)))
    outcome = answer_regions.outcomes([[wrong]], [query], [VIDEO], Segmenter())[0][0]
    want = video_segmentation.score(list(outcome.masks), list(query.target.masks))
    assert measured(query, wrong, VIDEO) == pytest.approx({"j": want.j, "f": want.f}) and 0 < want.j < 1
    some = video_query(labelled=np.array([True, False, False]))
    assert measured(some, wrong, VIDEO) == {"j": 1.0, "f": 1.0}  # in the first frame both objects are in one place
    none = video_query(labelled=np.zeros(3, bool))
    broken = parse("no", task="segmentation", canvas=VIDEO)
    assert measured(none, wrong, VIDEO) == measured(query, broken, VIDEO) == {"j": 0.0, "f": 0.0}


def test_a_video_of_one_frame_and_a_target_of_another_size():
    canvas = dataclasses.replace(VIDEO, frames=(0,))
    twin = Twin((8, 4), (Object(1, "mug", (0, 0, 4, 4)),), frames=(0,))
    said = tell(Answer(objects=(1,)), canvas=canvas, twin=twin)
    for task, want in (("segmentation", {"j": 1.0, "f": 1.0}), ("grounding", {"iou": 1.0})):
        query = video_query(PATH[:, :1].repeat(3, 1), task)
        one = dataclasses.replace(query.visuals[0], frames=query.visuals[0].frames[:1], index=np.array([0]), total=1)
        first = query.target.masks[:1]
        for masks in (first, np.kron(first, np.ones((1, 10, 10), bool))):
            target = Target(masks[0], PATH[:, 0], masks=masks, tracks=PATH[:, :1])
            assert measured(dataclasses.replace(query, visuals=(one,), target=target), said, canvas) == want


def test_grounding_of_a_picture():
    query = example(WANT_LEFT, task="grounding")
    assert measured(query, say_boxes((0, 0, 4, 4))) == {"acc": 1.0, "iou": 1.0}
    assert measured(query, say_boxes((0, 0, 1, 4))) == {"acc": 0.0, "iou": 0.25}
    assert measured(query, say_boxes((0, 0, 4, 4), (4, 0, 8, 4))) == {"acc": 0.0, "iou": 0.5}
    assert measured(query, say_boxes()) == measured(query, BROKEN) == {"acc": 0.0, "iou": 0.0}
    nothing = example(task="grounding")
    assert measured(nothing, say_boxes()) == {"acc": 1.0, "iou": 1.0}
    assert measured(nothing, BROKEN) == {"acc": 0.0, "iou": 0.0}


def test_grounding_of_a_video():
    query = video_query(task="grounding")
    assert measured(query, tell(Answer(objects=(1,)), "grounding"), VIDEO) == {"iou": 1.0}
    first = tell(Answer(boxes=((0, 0, 4, 4),)), "grounding")
    assert measured(query, first, VIDEO) == pytest.approx({"iou": 1 / 3})
    assert measured(query, parse("no", task="grounding", canvas=VIDEO), VIDEO) == {"iou": 0.0}
    assert measured(video_query(PATH[:0], task="grounding"), tell(Answer(objects=()), "grounding"), VIDEO) == {
        "iou": 1.0
    }


@pytest.mark.parametrize(
    ("references", "answer", "accuracy"),
    [
        (("two",), "2", 1.0), (("2",), "there are two.", 1.0), (("2",), "3", 0.0), (("yes",), "Yes, it is", 1.0),
        (("red mug",), "the red mug", 1.0), (("red mug",), "mug", 0.0), (("mug", "cup"), "cup", 1.0),
        (("red",) * 2 + ("blue",) * 8, "red", 0.6), ((), "red", 0.0), (("قطة",), "قطة", 1.0),
    ],
)  # fmt: skip
def test_accuracy(references, answer, accuracy):
    assert measured(question(*references), in_words(answer)) == pytest.approx({"accuracy": accuracy})


def test_accuracy_of_choices():
    example = question("the dog")
    example = dataclasses.replace(example, target=dataclasses.replace(example.target, choices=("a cat", "the dog")))
    found = [measured(example, in_words(text))["accuracy"] for text in ("B", "(b) the dog", "dog", "A", "a cat", "?")]
    assert found == [1, 1, 1, 0, 0, 0]


def test_marks_of_writing_direction_are_no_mistake():
    assert measured(question("two"), in_words("\u200ftwo")) == {"accuracy": 1.0}
    assert measured(question("yes\u200f"), in_words("yes")) == {"accuracy": 1.0}


@pytest.mark.parametrize(
    "text", ["黑猫", "แมว", "می\u200cخواهم", "\u200fكلب", "cafe\u0301", "два кота " * 600],
    ids=["chinese", "thai", "persian", "arabic", "decomposed", "long"],
)  # fmt: skip
def test_the_same_words_in_any_script_are_right(text):
    assert measured(question(text), in_words(text)) == {"accuracy": 1.0}
    assert measured(question(*[text] * 10), in_words(text)) == {"accuracy": 1.0}


def test_words_that_are_none():
    unsound = parse("two", task="vqa", canvas=CANVAS)
    other_form = parse(say(1).text, task="vqa", canvas=CANVAS)
    for said in (unsound, other_form):
        assert measured(question("two"), said) == {"accuracy": 0.0}
        assert measured(question("two", task="summary"), said) == {"rouge_l": 0.0}
    assert measured(question("a cat sat", task="summary"), in_words("a cat sat", "summary")) == {
        "rouge_l": pytest.approx(1)
    }
    assert measured(question(task="summary"), in_words("a cat", "summary")) == {"rouge_l": 0.0}
    assert measured(question("a b", task="summary"), in_words("x " * 30_000, "summary")) == {"rouge_l": 0.0}
