"""Summaries: reference texts follow from the annotations."""

import itertools
import re

from dtr1_jax.data.queries import motion, questions, summaries
from dtr1_jax.data.twinworld import tasks


def described(example):
    """The objects that a summary is about: all, or those of the last step that finds some."""
    things = sorted(example.scene, key=lambda thing: thing.id)
    if any(example.query in words for pool in summaries.REQUESTS.values() for words in pool):
        return things
    thought = re.sub(r" nearest \d\. farthest \d\.$", "", example.thought)
    ids = [int(i) for i in re.search(r"((?: \d)+| none)\.$", thought)[1].replace("none", "").split()]
    if thought.rpartition(". ")[2].count(":"):  # a step that looks up several kinds, as "kitchen: apple 3, mug 2."
        ids = [int(i) for i in re.findall(r"\d", thought.rpartition(". ")[2])]
    return [thing for thing in things if thing.id in ids]


def test_summaries_say_all_that_is_meant_in_several_wordings(worded):
    counts = set()
    for example in (e for (task, _, _), cell in worded.items() if task == "summary" for e in cell):
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
    """The thought of a summary is that of a query, whose objects it names by their looks."""
    for i, video in itertools.product(range(40), (False, True)):
        example = tasks.example("summary", 6, "train", i, video=video, frames=4, max_objects=5)
        things = described(example)
        looks = [(thing.attributes[1], thing.attributes[0], thing.label) for thing in things]
        descriptions = re.findall(r"an? (\w+) (\w+) \w+ (\w+) (?:on|in|that)\b", example.target.references[0])
        assert descriptions == looks, (example.target.references, example.thought)
        assert len(things) <= 4 or len(things) == len(example.scene)


def test_a_summary_by_hand():
    whole = (tasks.example("summary", 0, "train", i, min_objects=1, max_objects=1) for i in itertools.count())
    example = next(e for e in whole if e.query in summaries.REQUESTS["picture"].train)
    (thing,) = example.scene
    colour, size, material = thing.attributes
    place = {"on the left": thing.box[2] < 0.5, "on the right": thing.box[0] > 0.5}
    material_word = "wooden" if material == "wood" else material
    first = example.target.references[0]
    assert first.startswith(f"there is one thing: a {size} {colour} {material_word} {thing.label} ")
    assert all(where not in first or holds for where, holds in place.items())


def test_summaries_of_videos_say_what_moves(worded):
    count = 0
    for example in worded["summary", True, "train"] + worded["summary", True, "heldout"]:
        motions = [motion.measure_motion(thing) for thing in described(example)]
        first = example.target.references[0]
        assert first.count("stays where it is") == sum(m.moves is False for m in motions)
        assert len(re.findall(r"\bleaves\b", first)) == sum(m.last < len(m.visible) - 1 for m in motions)
        assert first.count("comes in") == sum(m.first > 0 for m in motions)
        for way in ("left", "right"):
            assert first.count(f"moves to the {way}") == sum(m.direction == way for m in motions)
            count += first.count(f"moves to the {way}")
    assert count > 5
