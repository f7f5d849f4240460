"""All tasks of TwinWorld: answers in words follow from the annotations, and the oracle's transcripts are sound."""

import itertools
import re

import numpy as np
import pytest

from dtr1_jax.data import demonstrations, prompts
from dtr1_jax.data.queries import motion, phrases, questions, summaries
from dtr1_jax.data.twinworld import picture_examples, tasks, video_examples
from dtr1_jax.rewards import resolve
from dtr1_jax.twin.coordinates import Canvas, Frame
from dtr1_jax.twin.text import from_scene
from dtr1_jax.twin.transcript import parse
from dtr1_jax.types import TASKS

COUNT = 50
CELLS = list(itertools.product(("vqa", "summary"), (False, True)))


@pytest.fixture(scope="module")
def examples():
    return {
        (task, video, split): [
            tasks.example(task, 5, split, i, video=video, frames=6, max_objects=5)
            for i in range(COUNT if task == "vqa" else 12)
        ]
        for task, video in CELLS
        for split in picture_examples.SPLITS
    }


def canvas_of(example):
    frames = tuple(example.visuals[0].index.tolist()) if example.visuals else ()
    return Canvas(Frame.NORM1000, example.image.shape[1::-1], frames)


def steps_of(example):
    """(what stands before its colon, what after it; or "" and the ids it ends in) of each step."""
    steps = [step.rpartition(": ")[::2] for step in example.thought[:-1].split(". ")]
    return [(how, rest if how else re.search(r"(?: \d)*$", rest)[0]) for how, rest in steps]


def test_segmentation_and_grounding_share_their_scenes():
    for video in (False, True):
        one, two = (tasks.example(task, 3, "train", 4, video=video, max_objects=5) for task in TASKS[:2])
        assert (one.task, two.task) == TASKS[:2] and one.query == two.query
        np.testing.assert_array_equal(one.image, two.image)
    same = picture_examples.example(3, "train", 4)
    assert tasks.example("segmentation", 3, "train", 4).query == same.query
    filmed = video_examples.example(3, "train", 4, frames=5)
    assert tasks.example("grounding", 3, "train", 4, video=True, frames=5, max_objects=5).thought == filmed.thought


def test_same_arguments_same_example_and_others_differ(examples):
    for (task, video, split), made in examples.items():
        again = tasks.example(task, 5, split, 3, video=video, frames=6, max_objects=5)
        assert (again.uid, again.query, again.target.references) == (
            made[3].uid, made[3].query, made[3].target.references,
        )  # fmt: skip
        np.testing.assert_array_equal(again.image, made[3].image)
    uids = {example.uid for made in examples.values() for example in made}
    assert len(uids) == sum(map(len, examples.values()))
    pictures = {example.image.tobytes() for made in examples.values() for example in made}
    assert len(pictures) == len(uids)


def test_targets_in_words_have_no_pixels(examples):
    for example in (e for made in examples.values() for e in made):
        assert example.target.references and all(r.strip() == r for r in example.target.references)
        assert not example.target.mask.any() and example.target.boxes.shape == (0, 4)
        assert example.target.masks is None and example.answer_ids is None
        assert bool(example.visuals) == ("-video" in example.uid)
        assert example.query == example.query.lower() and 1 <= example.level <= 4


def test_answers_of_questions_follow_from_the_last_ids(examples):
    kinds = set()
    for example in (e for (task, _, _), made in examples.items() if task == "vqa" for e in made):
        *before, (how, answer) = steps_of(example)
        ids = [int(i) for i in re.findall(r"\d+", before[-1][1])] if before else [t.id for t in example.scene]
        things = {thing.id: thing for thing in example.scene}
        kinds.add(how)
        assert answer == example.target.references[0]
        if how == "count":
            assert answer == str(len(ids)) and example.target.references[1] == questions.NUMBERS[len(ids)]
            continue
        if how == "found":
            assert answer == ("yes" if ids else "no")
            continue
        (thing,) = (things[i] for i in ids)
        assert not set(example.target.references) & set(re.findall(r"\w+", example.query)) or how in ("size", "way")
        if how == "kind":
            assert answer == thing.label
        elif how in ("colour", "size", "material"):
            assert answer == thing.attributes[("colour", "size", "material").index(how)]
        elif how == "moves":
            assert answer == ("yes" if motion.measure_motion(thing).moves else "no")
        else:
            dx, dy = thing.velocity
            way = ("left" if dx < 0 else "right") if abs(dx) > abs(dy) else ("up" if dy < 0 else "down")
            assert how == "way" and answer == way
    assert kinds == {"count", "found", "kind", "colour", "size", "material", "moves", "way"}


def test_a_held_out_word_has_no_other_meaning_in_training(examples):
    """A policy that knew "any" from questions with yes or no for an answer took every held-out query for one."""
    train = [e for (_, _, split), made in examples.items() if split == "train" for e in made]
    said = {word for e in train for word in e.query.split()}
    assert said & set(phrases.DETERMINERS.train) and not said & set(phrases.DETERMINERS.heldout)


def test_yes_and_no_come_about_as_often_and_numbers_differ(examples):
    said = [e.target.references[0] for (task, _, _), made in examples.items() if task == "vqa" for e in made]
    yes, no = said.count("yes"), said.count("no")
    assert 0.3 <= no / (yes + no) <= 0.7
    assert len({word for word in said if word.isdigit()}) >= 4


def test_phrasings_of_the_splits_are_disjoint(examples):
    for pool in (*questions.pools(), *summaries.pools()):
        assert pool.train and pool.heldout and not set(pool.train) & set(pool.heldout)
    for task, video in CELLS:
        asked = [{e.query for e in examples[task, video, split]} for split in picture_examples.SPLITS]
        assert not asked[0] & asked[1]


def described(example):
    """The objects that a summary is about: all, or those of the last step that finds some."""
    things = sorted(example.scene, key=lambda thing: thing.id)
    if any(example.query in words for pool in summaries.REQUESTS.values() for words in pool):
        return things
    found = re.sub(r" nearest \d\. farthest \d\.$", "", example.thought)
    ids = [int(i) for i in re.search(r"((?: \d)+| none)\.$", found)[1].replace("none", "").split()]
    if found.rpartition(". ")[2].count(":"):  # a step that looks up several kinds, as "kitchen: apple 3, mug 2."
        ids = [int(i) for i in re.findall(r"\d", found.rpartition(". ")[2])]
    return [thing for thing in things if thing.id in ids]


def test_summaries_say_all_that_is_meant_in_several_wordings(examples):
    counts = set()
    for example in (e for (task, _, _), made in examples.items() if task == "summary" for e in made):
        texts, things = example.target.references, described(example)
        counts.add(len(things) if len(things) < len(example.scene) else "all")
        assert len(set(texts)) == len(texts) == summaries.WORDINGS
        for text in texts:
            head = text.partition(". ")[0]  # before what is nearest and farthest
            for thing in example.scene:
                same = sum(other.label == thing.label for other in things)
                assert len(re.findall(rf"\b{thing.label}\b", head)) == same, (text, example.thought)
            assert questions.NUMBERS[len(things)] in text if things else "no such thing" in text
            assert ",," not in text and ", ." not in text and " ," not in text and "\n" not in text
            assert text.endswith(".")
    assert counts >= {0, 1, 2, "all"}


def test_what_a_summary_means_is_what_a_query_would_point_at():
    """The thought of a summary is that of a query, whose objects it names by what is seen of them."""
    for i, video in itertools.product(range(40), (False, True)):
        example = tasks.example("summary", 6, "train", i, video=video, frames=4, max_objects=5)
        things = described(example)
        looks = [(thing.attributes[1], thing.attributes[0], thing.label) for thing in things]
        found = re.findall(r"an? (\w+) (\w+) \w+ (\w+) (?:on|in|that)\b", example.target.references[0])
        assert found == looks, (example.target.references, example.thought)
        assert len(things) <= 4 or len(things) == len(example.scene)


def test_a_summary_by_hand():
    whole = (tasks.example("summary", 0, "train", i, min_objects=1, max_objects=1) for i in itertools.count())
    example = next(e for e in whole if e.query in summaries.REQUESTS["picture"].train)
    (thing,) = example.scene
    colour, size, material = thing.attributes
    place = {"on the left": thing.box[2] < 0.5, "on the right": thing.box[0] > 0.5}
    made = "wooden" if material == "wood" else material
    first = example.target.references[0]
    assert first.startswith(f"there is one thing: a {size} {colour} {made} {thing.label} ")
    assert all(where not in first or holds for where, holds in place.items())


def test_summaries_of_videos_say_what_moves(examples):
    said = 0
    for example in examples["summary", True, "train"] + examples["summary", True, "heldout"]:
        found = [motion.measure_motion(thing) for thing in described(example)]
        first = example.target.references[0]
        assert first.count("stays where it is") == sum(m.moves is False for m in found)
        assert len(re.findall(r"\bleaves\b", first)) == sum(m.last < len(m.visible) - 1 for m in found)
        assert first.count("comes in") == sum(m.first > 0 for m in found)
        for way in ("left", "right"):
            assert first.count(f"moves to the {way}") == sum(m.direction == way for m in found)
            said += first.count(f"moves to the {way}")
    assert said > 5


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
            boxes = resolve.boxes_of(transcript, canvas)
            assert len(boxes) == len(example.target.boxes)
            np.testing.assert_allclose(
                np.sort(boxes, 0), np.sort(example.target.boxes, 0), atol=videos_tolerance(video)
            )


def videos_tolerance(video):
    """What keyframes and whole thousandths leave of the boxes."""
    return 0.016 if video else 0.0006


def test_what_the_oracle_can_not_say_is_refused():
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
        ({"video": True}, "max_objects"),
        ({"video": True, "max_objects": 5, "frames": 2}, "frames"),
        ({"size": 5}, "size"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    for task in ("vqa", "segmentation"):
        with pytest.raises(ValueError, match=message):
            tasks.example(**{"task": task, "seed": 0, "split": "train", "index": 0} | arguments)


def test_training_words_do_not_tell_what_form_of_answer_is_wanted():
    """Else a policy goes by their sound, and takes held-out queries such as "where is ..." for questions."""
    pointing = set(phrases.SENTENCES.train)
    asking = {form.replace("every {}", "{}") for pool in questions.pools() for form in pool.train}
    assert len(pointing & asking) >= len(pointing) / 2
    assert {"{}.", "find {}."} <= pointing & asking and {"what colour is {}?", "count {}."} <= pointing & asking
    assert not pointing & set(phrases.SENTENCES.heldout) and "where" not in " ".join(pointing)
