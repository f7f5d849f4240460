"""Ids as names: "mug_1" is object 1, a mug; one form in a transcript; a wrong label with a right number is a fault."""

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtr1_jax.twin import ids, text, transcript
from dtr1_jax.twin.coordinates import Canvas, Frame
from dtr1_jax.twin.schema import Answer, Object, Twin

CANVAS = Canvas(Frame.PIXEL, (90, 60))
TWIN = Twin(
    (90, 60),
    (Object(3, "Wine glass", (0, 5, 4, 9)), Object(12, "cat", (6, 1, 9, 9)), Object(7, "cat", (1, 1, 3, 3))),
    ((3, "left of", 12), (7, "in front of", 3)),
    named=True,
)


@pytest.mark.parametrize(
    ("label", "name"),
    [("mug", "mug_4"), ("Wine  glass", "wine_glass_4"), ("TV-set", "tv_set_4"), ("boeing 747", "boeing_747_4"),
     ("чашка", "чашка_4"), ("_x_", "x_4"), ("!?", "object_4")],
)  # fmt: skip
def test_names(label, name):
    assert ids.name(4, label) == name


def write(twin=TWIN, answer=None):
    return transcript.compose(twin, "cat_12.", answer or Answer(objects=(12, 3)))


def read(written, task="grounding", **options):
    return transcript.parse(written, task=task, canvas=CANVAS, **options)


def test_a_twin_with_names():
    value = json.loads(text.dumps_twin(TWIN))
    assert [o["id"] for o in value["objects"]] == ["wine_glass_3", "cat_12", "cat_7"]
    assert value["relations"] == [["wine_glass_3", "left of", "cat_12"], ["cat_7", "in front of", "wine_glass_3"]]
    assert '<answer>{"objects":["cat_12","wine_glass_3"]}</answer>' in write()
    found = read(write())
    assert found.sound and found.twin == TWIN and found.answer == Answer(objects=(12, 3))
    numbers = read(write(dataclasses.replace(TWIN, named=False)))
    assert numbers.sound and not numbers.twin.named and '"objects":[12,3]' in numbers.text


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        (
            '"id":"cat_7"',
            '"id":7',
            "twin.objects[2].id",
            'expected a name such as "mug_1", as the ids before it, got 7',
        ),
        ('"id":"cat_7"', '"id":"dog_7"', "twin.objects[2].id", 'expected the name "cat_7" of object 7'),
        ('"id":"cat_7"', '"id":"cat_12"', "twin.objects[2].id", "expected ids that differ, got 12"),
        ('"id":"cat_7"', '"id":"cat"', "twin.objects[2].id", 'expected a name such as "mug_1", got the string'),
        ('"id":"cat_7"', '"id":"cat_07"', "twin.objects[2].id", "expected a name"),
        ('"id":"cat_7"', '"id":"cat_99999999999"', "twin.objects[2].id", "expected a name"),
        ('["cat_7",', '["wine_glass_7",', "twin.relations[1][0]", 'expected the name "cat_7" of object 7'),
        ('["cat_7",', '["cat_8",', "twin.relations[1][0]", "expected the id of an object of the twin, got 8"),
        ('["cat_12","wine', '[12,"wine', "answer.objects[0]", "expected a name such as"),
        ('["cat_12","wine', '["dog_12","wine', "answer.objects[0]", 'expected the name "cat_12" of object 12'),
        ('["cat_12","wine', '["cat_13","wine', "answer.objects[0]", "expected the id of an object of the twin, got 13"),
        ('["cat_12","wine', '["Cat_12","wine', None, ""),  # the case of letters does not matter
    ],
)
def test_faults(old, new, place, message):
    assert old in write()
    found = read(write().replace(old, new))
    if place is None:
        assert found.sound and found.answer.objects == (12, 3)
    else:
        assert [fault.where for fault in found.faults][:1] == [place]
        assert message in found.faults[0].message


def test_names_after_numbers_are_refused():
    written = write(dataclasses.replace(TWIN, named=False)).replace("[12,3]", '["cat_12","wine_glass_3"]')
    assert [f.message for f in read(written).faults] == [
        "expected a number, as the ids before it, got the string 'cat_12'",
        "expected a number, as the ids before it, got the string 'wine_glass_3'",
    ]


@pytest.mark.parametrize("written", ['["cat_12"]', "[12]"])
def test_the_answer_about_a_given_twin_has_either_form(written):
    reply = f'<think>x</think><answer>{{"objects":{written}}}</answer>'
    found = read(reply, constructor="given", given_twin=TWIN)
    assert found.sound and found.answer.objects == (12,)
    assert not read(reply.replace("12", "5"), constructor="given", given_twin=TWIN).sound
    assert not read(reply.replace("cat", "dog"), constructor="given", given_twin=TWIN).sound or "cat" not in written


@pytest.mark.parametrize(
    ("thought", "named"),
    [
        ("cat 2. left of 2 is 1 3.", "cat_2. left of cat_2 is dog_1 wine_glass_3."),
        ("alive: dog 1, cat 2. small none.", "alive: dog_1, cat_2. small none."),
        ("most material: wood 1 2. count: 2.", "most material: wood dog_1 cat_2. count: 2."),
        ("drink: wine glass 3. material: cloth.", "drink: wine_glass_3. material: cloth."),
        ("1 meets 2.", "dog_1 meets cat_2."),
        ("none.", "none."),
        ("", ""),
        ("there are 3 dogs.", "there are 3 dogs."),  # not in the form
        ("cat 2. left of 9.", "cat 2. left of 9."),  # no such object
        ("cat 2. it is 2m high 1.", "cat 2. it is 2m high 1."),
        ("count 2: 2.", "count 2: 2."),
        ("00000000000", "00000000000"),
        ("cat 2. dog 12345678901.", "cat 2. dog 12345678901."),
    ],
)
def test_thoughts(thought, named):
    assert ids.named_thought(thought, {1: "dog", 2: "cat", 3: "wine glass"}) == named


@pytest.mark.parametrize(
    ("thought", "other", "named"),
    [
        ("race: formula 1 car 3.", "race: formula 1 car 1.", "race: formula_1_car_3."),
        ("formula 1 car 1,3, 7 2.", "formula 1 car 1,2, 7 3.", "formula_1_car_1,formula_1_car_3, 7_2."),
        ("below 1 is none.", "below 2 is none.", "below formula_1_car_1 is none."),
        ("formula 1 car none.", "formula 1 car none.", "formula 1 car none."),
        ("in order 1 2 3.", "in order 2 3 1.", "in order formula_1_car_1 7_2 formula_1_car_3."),
        ("larger than 1 is 2 3.", "larger than 2 is 1 3.", "larger than formula_1_car_1 is 7_2 formula_1_car_3."),
        ("count: 2.", "count: 2.", "count: 2."),
    ],
)
def test_labels_with_numbers(thought, other, named):
    """Objects 1 and 3 are formula 1 cars, and object 2 has the label "7"."""
    labels = {1: "formula 1 car", 2: "7", 3: "formula 1 car"}
    assert ids.renumbered_thought(thought, {1: 2, 2: 3, 3: 1}, labels.values()) == other
    assert ids.named_thought(thought, labels) == named


@given(st.text(alphabet="ab 123,.:_n" + "one") | st.text())
def test_any_thought_is_taken(thought):
    ids.named_thought(thought, {1: "a", 2: "b 1"})
    ids.renumbered_thought(thought, {1: 2, 2: 1}, ["a", "b 1", "3"])


ANY_ID = (
    st.integers(-2, 5) | st.text(max_size=6) | st.sampled_from(["mug_1", "cat_2", "mug_2"]) | st.none() | st.booleans()
)


@given(st.lists(ANY_ID, max_size=4), st.sampled_from([None, True, False]))
def test_any_id_is_read(values, named):
    reader = ids.IdReader({1: "mug", 2: "cat"}, named)
    for value in values:
        number, fault = reader.read(value, 9)
        assert (number is None or 1 <= number <= 9) and (fault or number is not None)
        if not fault:
            assert value in (number, ids.name(number, {1: "mug", 2: "cat"}.get(number, ""))) or number > 2
