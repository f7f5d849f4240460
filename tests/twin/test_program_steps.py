"""Thoughts from programs: by hand, and their end is the program's answer."""

import pytest

from dtr1_jax.data.twinworld import picture_examples
from dtr1_jax.twin import program_steps, programs, things
from dtr1_jax.twin.things import Thing

SCENE = [
    Thing(1, "person", ((0.0, 0.0, 0.5, 1.0),)),
    Thing(2, "dog", ((0.6, 0.5, 0.8, 0.9),), attributes=("brown",)),
    Thing(3, "dog", ((0.1, 0.5, 0.2, 0.6),)),
    Thing(4, "cat", ((0.8, 0.1, 0.9, 0.2),), depth=1),
]


@pytest.mark.parametrize(
    "program, wanted",
    [
        (("label", "dog", "cat"), "dog 2,3, cat 4."),
        (("label", "zebra"), "zebra none."),
        (("largest", ("label", "dog")), "dog 2,3. largest: 2."),
        (("right of", ("label", "dog"), ("label", "person")), "person 1. dog 2,3. right of 1: 2."),
        # several persons would fit; the largest one is meant, here the dog 2
        (("above", ("label", "cat"), ("label", "dog")), "dog 2,3. cat 4. above 2: 4."),
        (("number", ("label", "dog")), "dog 2,3. number: 2."),
        (("both", ("label", "dog"), ("left half", ("all",))),
         "all: 1,2,3,4. left half: 1,3. dog 2,3. both: 3."),
        (("word", ("label", "dog"), "brown"), "dog 2,3. word: 2."),
        (("most common label",), "most common label: 2,3."),
        (("left of", ("label", "dog"), ("label", "zebra")), ""),
    ],
)  # fmt: skip
def test_by_hand(program, wanted):
    assert program_steps.steps(program, SCENE) == wanted


@pytest.mark.parametrize("index", range(40))
def test_the_last_step_is_the_answer(index):
    example = picture_examples.example(5, "train", index, min_objects=2, max_objects=6)
    seen = things.things_of_scene(example.scene)
    text, result = program_steps.steps(example.program, seen), programs.execute(example.program, seen)
    assert result.executable
    last = text.removesuffix(".").split(". ")[-1]
    ids = {int(word) for word in last.rpartition(":")[2].replace(",", " ").split() if word.isdigit()}
    assert ids == set(result.ids), text


def test_unknown_operations_are_refused():
    with pytest.raises(ValueError, match="expected an operation"):
        program_steps.steps(("sing",), SCENE)
