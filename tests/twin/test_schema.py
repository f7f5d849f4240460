"""Twins and answers: sound ones are read, and every fault is listed with its place."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.twin import schema, strict_json
from dtr1_jax.twin.ids import IdReader
from dtr1_jax.twin.schema import Answer, Object, Twin, read_answer, read_twin

SIZE, LIMIT = (64, 48), (1000, 1000)


def twin_value():
    return {
        "size": [64, 48],
        "objects": [
            {"id": 1, "label": "mug", "box": [0, 0, 1000, 1000], "depth": 3, "attributes": ["red"]},
            {"id": 5, "label": "key", "box": [10, 20, 11, 21]},
        ],
        "relations": [[1, "left of", 5]],
    }


def places(value):
    twin, faults = read_twin(value, size=SIZE, limit=LIMIT)
    assert (twin is None) == bool(faults)
    return [fault.where for fault in faults]


def answer_places(value, task="segmentation", ids=(1, 5)):
    answer, faults = read_answer(value, task=task, limit=LIMIT, ids=IdReader(ids and dict.fromkeys(ids, "mug")))
    assert (answer is None) == bool(faults)
    return [fault.where for fault in faults]


def test_sound_twin():
    twin, faults = read_twin(twin_value(), size=SIZE, limit=LIMIT)
    assert not faults
    assert twin == Twin(
        (64, 48),
        (Object(1, "mug", (0, 0, 1000, 1000), 3, ("red",)), Object(5, "key", (10, 20, 11, 21))),
        ((1, "left of", 5),),
    )
    assert not places({"size": [64, 48], "objects": []})


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        ("size", [48, 64], "twin.size"),
        ("size", [64.0, 48], "twin.size"),
        ("size", "64x48", "twin.size"),
        ("objects", {}, "twin.objects"),
        ("objects.1", [5], "twin.objects[1]"),
        ("objects.1.id", "5", "twin.objects[1].id"),
        ("objects.1.id", 5.0, "twin.objects[1].id"),
        ("objects.1.id", True, "twin.objects[1].id"),
        ("objects.1.id", 0, "twin.objects[1].id"),
        ("objects.1.id", 1 << 31, "twin.objects[1].id"),
        ("objects.1.id", 10**4000, "twin.objects[1].id"),
        ("objects.1.id", 1, "twin.objects[1].id"),  # taken
        ("objects.1.label", "", "twin.objects[1].label"),
        ("objects.1.label", " \n", "twin.objects[1].label"),
        ("objects.1.label", "x" * 65, "twin.objects[1].label"),
        ("objects.1.label", 3, "twin.objects[1].label"),
        ("objects.1.label", "\ud800", "twin.objects[1].label"),
        ("objects.1.box", [10, 20, 30], "twin.objects[1].box"),
        ("objects.1.box", "10,20,30,40", "twin.objects[1].box"),
        ("objects.1.box", [10, 20, 10, 21], "twin.objects[1].box"),
        ("objects.1.box", [10, 20, 11, 19], "twin.objects[1].box"),
        ("objects.1.box", [-1, 20, 11, 21], "twin.objects[1].box[0]"),
        ("objects.1.box", [10, 20, 1001, 21], "twin.objects[1].box[2]"),
        ("objects.1.box", [10, 20, 11.0, 21], "twin.objects[1].box[2]"),
        ("objects.1.box", [10, 20, 11, float("nan")], "twin.objects[1].box[3]"),
        ("objects.1.depth", 0, "twin.objects[1].depth"),
        ("objects.1.depth", None, "twin.objects[1].depth"),
        ("objects.1.attributes", "red", "twin.objects[1].attributes"),
        ("objects.1.attributes", ["red", 1], "twin.objects[1].attributes[1]"),
        ("objects.1.attributes", ["a"] * 17, "twin.objects[1].attributes"),
        ("objects.1.colour", "red", "twin.objects[1]"),
        ("relations", None, "twin.relations"),
        ("relations.0", [1, "left of"], "twin.relations[0]"),
        ("relations.0", ["1", "left of", 5], "twin.relations[0][0]"),
        ("relations.0", [1, 2, 5], "twin.relations[0][1]"),
        ("relations.0", [1, "left of", 2], "twin.relations[0][2]"),
        ("masks", [], "twin"),
    ],
)
def test_one_fault_of_a_twin_and_its_place(path, value, where):
    twin = twin_value()
    if path.startswith("objects"):
        del twin["relations"]  # a broken id would leave a reference without its object, a second fault
    holder, keys = twin, [int(key) if key.isdigit() else key for key in path.split(".")]
    for key in keys[:-1]:
        holder = holder[key]
    holder[keys[-1]] = value
    assert places(twin) == [where]


@pytest.mark.parametrize("key", ["id", "label", "box"])
def test_missing_keys(key):
    twin = {"size": [64, 48], "objects": twin_value()["objects"]}
    del twin["objects"][1][key]
    assert places(twin) == [f"twin.objects[1].{key}"]
    assert places({}) == ["twin.size", "twin.objects"]


def test_every_fault_is_found():
    value = {
        "size": [1, 1],
        "objects": [{"id": "a", "label": "", "box": [5, 5, 5, 5], "x": 0}, {"id": 2, "label": "key", "box": [1]}],
        "relations": [[2, "", 9]],
    }
    assert set(places(value)) == {
        "twin.size", "twin.objects[0]", "twin.objects[0].id", "twin.objects[0].label", "twin.objects[0].box",
        "twin.objects[1].box", "twin.relations[0][1]", "twin.relations[0][2]",
    }  # fmt: skip


def test_too_many_objects():
    objects = [{"id": i + 1, "label": "a", "box": [0, 0, 1, 1]} for i in range(schema.MAX_OBJECTS + 1)]
    assert not places({"size": [64, 48], "objects": objects[:-1]})
    assert places({"size": [64, 48], "objects": objects}) == ["twin.objects"]


def test_messages_name_both_sides():
    twin = twin_value()
    twin["objects"][1]["box"] = [10, 20, 2000, 21]
    (fault,) = read_twin(twin, size=SIZE, limit=LIMIT)[1]
    assert fault.message == "expected an integer from 0 to 1000, got 2000"


@pytest.mark.parametrize(
    ("task", "value", "answer"),
    [
        ("segmentation", {"objects": [5, 1]}, Answer(objects=(5, 1))),
        ("segmentation", {"objects": []}, Answer(objects=())),
        ("grounding", {"objects": [1]}, Answer(objects=(1,))),
        ("grounding", {"boxes": [[1, 2, 3, 4]]}, Answer(boxes=((1, 2, 3, 4),))),
        ("vqa", {"text": "two"}, Answer(text="two")),
        ("summary", {"text": " A mug. "}, Answer(text=" A mug. ")),
    ],
)
def test_sound_answers(task, value, answer):
    assert read_answer(value, task=task, limit=LIMIT, ids=IdReader({1: "mug", 5: "cat"})) == (answer, ())


@pytest.mark.parametrize(
    ("task", "value", "where"),
    [
        ("segmentation", [1], ["answer"]),
        ("segmentation", {}, ["answer"]),
        ("segmentation", {"objects": 1}, ["answer.objects"]),
        ("segmentation", {"objects": [1, 1]}, ["answer.objects[1]"]),
        ("segmentation", {"objects": [1, 2]}, ["answer.objects[1]"]),
        ("segmentation", {"objects": ["1"]}, ["answer.objects[0]"]),
        ("segmentation", {"objects": [1], "text": "mug"}, ["answer"]),
        ("grounding", {"objects": [1], "boxes": [[1, 2, 3, 4]]}, ["answer"]),
        ("grounding", {"boxes": [[1, 2, 3, 4], [3, 2, 1, 4]]}, ["answer.boxes[1]"]),
        ("vqa", {"text": " "}, ["answer.text"]),
        ("vqa", {"text": 2}, ["answer.text"]),
        ("vqa", {"objects": [1]}, ["answer", "answer"]),  # a key too many, and one too few
    ],
)
def test_faults_of_answers(task, value, where):
    assert answer_places(value, task) == where


def test_references_are_not_judged_without_a_twin():
    assert not answer_places({"objects": [99]}, ids=None)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
    | st.builds(lambda: 10**5000)  # which raises where it is printed
    | st.just(strict_json.Refused("NaN")) | st.just(object()),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(
        st.sampled_from(["size", "objects", "relations", "id", "label", "box", "depth", "text", "boxes"])
        | st.integers() | st.none(), inner, max_size=6),
    max_leaves=30,
)  # fmt: skip


@settings(deadline=None, max_examples=200)
@given(ANYTHING, st.sampled_from(sorted(schema.FORMS)))
def test_no_value_raises(value, task):
    places(value)
    places({"size": [64, 48], "objects": value, "relations": value})
    places({"size": value, "objects": [value, {"id": value, "label": value, "box": value}]})
    answer_places(value, task)
    answer_places({"objects": value, "boxes": value, "text": value}, task)
