"""Objects in a random order: another numbering of the same scene, the same answer."""

import dataclasses
import itertools

import numpy as np
import pytest

from dtr1_jax import types
from dtr1_jax.data import demonstrations, object_order, pipeline, prompts, tokenizer
from dtr1_jax.data.twinworld import tasks
from dtr1_jax.policies import policy_files
from dtr1_jax.twin import programs, things
from dtr1_jax.twin.coordinates import Frame

GIVEN = prompts.Style(
    tokenizer.load_tokenizer(policy_files.ASSETS / "tiny"), None, Frame.PIXEL, "brief", 400, constructor="given"
)
OBJECTS = {
    "scene": tuple(
        types.Instance(number, label, (0.0, 0.0, 0.1 * number, 0.5), np.full((2, 2), number == 1))
        for number, label in enumerate(("cat", "dog", "cat"), 1)
    ),
    "answer_ids": (1, 3),
    "relations": ((1, "on", 2),),
}


def example(**fields):
    target = types.Target(np.zeros((2, 2), bool), np.zeros((0, 4), np.float32))
    return types.Example("a", np.zeros((2, 2, 3), np.uint8), "?", "segmentation", target, **{**OBJECTS, **fields})


class Order:
    """Stands for a random generator whose permutation is known."""

    def __init__(self, *order):
        self.order = np.array(order)

    def permutation(self, count):
        assert count == len(self.order)
        return self.order


def test_by_hand():
    """Objects 3, 1, 2 of the data become 1, 2, 3."""
    got = object_order.shuffled(example(thought="cat 1,3. left of 2: 1."), Order(2, 0, 1))
    assert [(one.id, one.label, one.box[2]) for one in got.scene] == [
        (1, "cat", 0.1 * 3),
        (2, "cat", 0.1),
        (3, "dog", 0.2),
    ]
    assert got.scene[1].mask.all() and not got.scene[0].mask.any()
    assert got.answer_ids == (1, 2) and got.relations == ((2, "on", 3),)
    assert got.thought == "cat 1,2. left of 3: 2."
    same = dataclasses.replace(got, scene=(), answer_ids=None, relations=(), thought="")
    assert dataclasses.asdict(same).keys() == dataclasses.asdict(example()).keys() and same.query == "?"


@pytest.mark.parametrize(
    ("fields", "thought", "answer"),
    [
        ({"answer_ids": None, "thought": "count: 2."}, "count: 2.", None),  # the answer of a count is no id
        ({"answer_ids": (), "thought": ""}, "", ()),
        ({"program": ("label", "cat"), "thought": "cat 1,3."}, "", (1, 2)),  # what the program says anyway
        ({"program": ("label", "cat"), "thought": ""}, "", (1, 2)),
    ],
)
def test_thoughts(fields, thought, answer):
    got = object_order.shuffled(example(**fields), Order(2, 0, 1))
    assert (got.thought, got.answer_ids) == (thought, answer)


def test_a_step_that_gives_an_order_keeps_it():
    got = object_order.shuffled(example(thought="left to right 1 2 3. cat 1 3."), Order(2, 0, 1))
    assert got.thought == "left to right 2 3 1. cat 1 2."


@pytest.mark.parametrize("thought", ["I see 2 of 3, so the 4th.", "the cat on 7."])
def test_a_thought_of_another_form_keeps_the_order(thought):
    given = example(thought=thought)
    assert object_order.shuffled(given, Order(2, 0, 1)) is given


def test_an_empty_scene():
    empty = example(scene=(), answer_ids=None, relations=())
    assert object_order.shuffled(empty, np.random.default_rng(0)) == empty


@pytest.mark.parametrize("video", [False, True])
@pytest.mark.parametrize("task", types.TASKS)
def test_the_oracle_names_the_same_objects(task, video):
    """In another order, the program of a query gives the same objects, and its oracle has the same answer."""
    moved = 0
    for index in range(12):
        old = tasks.example(task, 5, "train", index, video=video, size=96, frames=4, min_objects=3, max_objects=4)
        new = object_order.shuffled(old, np.random.default_rng(index))
        assert [one.id for one in new.scene] == list(range(1, len(old.scene) + 1))
        label = {id(one.mask): one.id for one in old.scene}
        number = {one.id: label[id(one.mask)] for one in new.scene}  # new number -> old number
        moved += any(a != b for a, b in number.items())
        results = [programs.execute(old.program, things.things_of_scene(one.scene)) for one in (old, new)]
        assert {number[one] for one in results[1].ids} == set(results[0].ids)
        assert set(results[1].texts) == set(results[0].texts)
        twins = [prompts.prompt_with_twin(one, GIVEN)[3] for one in (old, new)]
        replies = [demonstrations.reply_parts(one, twin, True, by_id=True) for one, twin in zip((old, new), twins)]
        if task in types.POINTING:
            assert {number[one] for one in replies[1][1].objects} == set(replies[0][1].objects)
            assert replies[1][1].objects == tuple(sorted(replies[1][1].objects))
        else:
            assert replies[1][1] == replies[0][1]
        assert len(replies[1][0]) == len(replies[0][0])
    assert moved > 6


class Source:
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return dataclasses.replace(example(), uid=str(index), query=f"query {index}")


def orders(shuffle, batch=3, shard=(0, 1)):
    """The labels of the scene in each row of eight batches."""
    data = pipeline.query_batches(Source(), GIVEN, batch, seed=0, shard=shard, shuffle_objects=shuffle)
    return [[tuple(one.label for one in row.scene) for row in made.examples] for made in itertools.islice(data, 8)]


def test_each_pass_has_another_order_on_any_number_of_processes():
    fixed = [labels for rows in orders(False) for labels in rows]
    drawn = orders(True)
    assert set(fixed) == {("cat", "dog", "cat")}
    flat = [labels for rows in drawn for labels in rows]
    assert len(set(flat)) == 3 and flat.count(("dog", "cat", "cat")) < len(flat) - 3
    assert orders(True) == drawn
    thirds = [orders(True, 1, (number, 3)) for number in range(3)]
    assert [[labels for row in rows for labels in row] for rows in zip(*thirds)] == drawn
