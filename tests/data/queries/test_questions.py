"""Questions: answers follow from the annotations."""

import re

from dtr1_jax.data.queries import motion, phrases, questions


def steps_of(example):
    """(text before the colon, text after it) of each step, or ("", its last ids) of a step without a colon."""
    steps = [step.rpartition(": ")[::2] for step in example.thought[:-1].split(". ")]
    return [(how, rest if how else re.search(r"(?: \d)*$", rest)[0]) for how, rest in steps]


def test_answers_of_questions_follow_from_the_last_ids(worded):
    kinds = set()
    for example in (e for (task, _, _), cell in worded.items() if task == "vqa" for e in cell):
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


def test_a_held_out_word_has_no_other_meaning_in_training(worded):
    """A policy that knew "any" from questions with yes or no for an answer took every held-out query for one."""
    train = [e for (_, _, split), cell in worded.items() if split == "train" for e in cell]
    words = {word for e in train for word in e.query.split()}
    assert words & set(phrases.DETERMINERS.train) and not words & set(phrases.DETERMINERS.heldout)


def test_yes_and_no_come_about_as_often_and_numbers_differ(worded):
    answers = [e.target.references[0] for (task, _, _), cell in worded.items() if task == "vqa" for e in cell]
    yes, no = answers.count("yes"), answers.count("no")
    assert 0.3 <= no / (yes + no) <= 0.7
    assert len({word for word in answers if word.isdigit()}) >= 4
