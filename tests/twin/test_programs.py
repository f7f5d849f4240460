"""Programs of generated queries: the oracle's answer on the annotation, and an answer on any other twin."""

import dataclasses
import functools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from photo_facts import NAMES, facts, thing

from dtr1_jax.data.queries import photos, pointing, temporal
from dtr1_jax.data.twinworld import tasks
from dtr1_jax.data.twinworld.scenes import picture_instances, sample_picture_scene
from dtr1_jax.data.twinworld.video_scenes import sample_video_scene, video_instances
from dtr1_jax.twin import programs, text, things
from dtr1_jax.twin.coordinates import Canvas, Frame
from dtr1_jax.twin.schema import Object, Twin
from dtr1_jax.twin.things import Thing

SPLITS = ("train", "heldout")


def answer_of(program, scene):
    return programs.execute(program, things.things_of_scene(scene))


@functools.cache
def examples(task, video, count=80):
    return [
        tasks.example(task, 3, s, i, video=video, max_objects=6, min_objects=1) for s in SPLITS for i in range(count)
    ]


@pytest.mark.parametrize("video", [False, True])
@pytest.mark.parametrize("task", ["grounding", "vqa", "summary"])
def test_every_example_has_a_program_with_the_oracles_answer(task, video):
    for e in examples(task, video):
        result = answer_of(e.program, e.scene)
        assert result.executable, e.program
        if task == "grounding":
            assert set(result.ids) == set(e.answer_ids), (e.query, e.program)
        elif task == "vqa":
            assert result.texts[0] == e.target.references[0], (e.query, e.program)
            assert set(result.texts) <= set(e.target.references)
        elif e.thought.startswith(("left to right", "in order")):
            assert len(result.ids) == len(e.scene)
        else:  # the last filter of the thought says which objects the summary describes
            last = e.thought.partition(" nearest ")[0].rstrip(".").split(". ")[-1].replace(",", "")
            ids = {int(w) for w in last.rpartition(" is ")[2].split() if w.isdigit()}
            assert set(result.ids) <= ids if ids else not result.ids, (e.query, e.thought, e.program)


@pytest.mark.parametrize("cell", pointing.KINDS, ids=str)
@pytest.mark.parametrize("split", SPLITS)
def test_queries_of_each_category_and_level(cell, split):
    rng, checked = np.random.default_rng(8), 0
    while checked < 40:
        scene = picture_instances(sample_picture_scene(rng, split, int(rng.integers(2, 9)), 96))
        query = pointing.sample_query(rng, split, scene, *cell, ("none", "one", "many")[checked % 3])
        if query is not None:
            result = answer_of(query.program, scene)
            assert result.executable and set(result.ids) == set(query.ids), query
            checked += 1


@pytest.mark.parametrize("bare", [False, True])
@pytest.mark.parametrize("level", temporal.KINDS)
def test_queries_about_time_of_each_level(level, bare):
    rng, checked = np.random.default_rng(9), 0
    while checked < 40:
        scene = video_instances(sample_video_scene(rng, "train", int(rng.integers(4, 7)), 96, int(rng.integers(6, 12))))
        for answer_count in ("none", "one", "many"):
            query = temporal.sample_temporal_query(rng, "train", scene, level, answer_count, bare=bare)
            if query is not None:
                result = answer_of(query.program, scene)
                assert result.executable and set(result.ids) == set(query.ids), query
                checked += 1


def test_queries_about_photos():
    rng, names = np.random.default_rng(4), set()
    for seed in range(60):
        scene = [
            dataclasses.replace(thing(k, NAMES[rng.integers(5)], *rng.uniform(0.1, 0.9, 2), rng.uniform(0.05, 0.2)))
            for k in range(1, 8)
        ]
        for k in range(4):
            query = photos.photo_query(facts(scene, stuff={"boat"}), seed=seed, picture=1, k=k)
            result = answer_of(query.program, scene)
            assert result.executable and set(result.ids) == set(query.ids), query
            names.add(query.program[0])
    assert {"label", "left of", "highest", "most pixels", "fewest pixels"} <= names


@pytest.mark.parametrize("video", [False, True])
def test_the_oracles_twin_implies_the_oracles_answer(video):
    """Integers and keyframes lose so little that the answer stays the same."""
    canvas = Canvas(Frame.NORM1000, (96, 96), tuple(range(8)) if video else ())
    for e in examples("vqa", video) + examples("grounding", video):
        described = things.things_of_twin(text.from_scene(e.scene, canvas), canvas)
        on_twin, on_scene = programs.execute(e.program, described), answer_of(e.program, e.scene)
        assert (set(on_twin.ids), on_twin.texts) == (set(on_scene.ids), on_scene.texts), (e.query, e.program)


def test_labels_are_compared_without_case():
    """A data set's labels may have capitals, a policy's may not."""
    for label in ("Traffic Light", "traffic  light"):
        lights = [Thing(1, things.plain(label), box(0.5))]
        assert programs.execute(("label", "Traffic light"), lights).ids == (1,)
        assert programs.execute(("most common label", "Traffic light"), lights).ids == ()


def box(x, y=0.5, side=0.1):
    return ((x - side / 2, y - side / 2, x + side / 2, y + side / 2),)


MUG = Thing(1, "mug", box(0.5), 2, ("red", "small"))
KEY = Thing(2, "key", box(0.2), 1, ("red", "large"))
HAT = Thing(3, "hat", box(0.8), None, ("blue",))
ROOM = [MUG, KEY, HAT]
LEFT_OF_MUG = ("left of", ("all",), ("label", "mug"))


@pytest.mark.parametrize(
    ("program", "ids"),
    [
        (LEFT_OF_MUG, (2,)), (("right of", ("all",), ("label", "mug")), (3,)),
        (("in front of", ("all",), ("label", "mug")), (2,)), (("nearest", ("all",)), (2,)),
        (("farthest", ("all",)), (1,)),  # the hat has no depth
        (("without", ("all",), "red"), (3,)), (("sharing", ("label", "key"), "red", "blue"), (1,)),
        (("most common", "red", "blue"), (1, 2)), (("unshared", "red", "blue"), (3,)), (("twice",), ()),
        (("both", LEFT_OF_MUG, ("word", ("all",), "large")), (2,)), (("largest", ("label", "cup")), ()),
    ],
)  # fmt: skip
def test_answers_by_hand(program, ids):
    result = programs.execute(program, ROOM)
    assert result.ids == ids and result.executable and not result.texts


def test_what_is_missing_makes_a_program_not_executable():
    for program in (
        LEFT_OF_MUG, ("number", LEFT_OF_MUG), ("any", LEFT_OF_MUG), ("name", ("label", "mug")),
        ("both", ("label", "key"), LEFT_OF_MUG), ("whether it moves", ("label", "mug")),
        ("before", ("all",), "enters", ("label", "key"), "leaves"),  # the key does not leave
        ("sharing", ("label", "hat"), "red"), ("which word", ("label", "hat"), ("metal",), ("wood", "wooden")),
        ("direction", ("label", "key")),
    ):  # fmt: skip
        result = programs.execute(program, [KEY, HAT])
        assert (result.executable, result.ids, result.texts) == (False, (), ()), program


def test_several_objects_where_one_is_meant():
    """The largest one is taken; one that contradicts itself has no answer."""
    large = Thing(4, "mug", box(0.1, side=0.3), attributes=("blue",))
    assert programs.execute(LEFT_OF_MUG, [MUG, KEY, large]).ids == ()
    assert programs.execute(("which word", ("label", "mug"), ("red",), ("blue",)), [MUG, large]).texts == ("blue",)
    both = dataclasses.replace(MUG, attributes=("red", "blue"))
    assert not programs.execute(("which word", ("label", "mug"), ("red",), ("blue",)), [both]).executable


def test_questions_by_hand():
    assert programs.execute(("number", ("word", ("all",), "red")), ROOM).texts == ("2",)
    assert programs.execute(("any", ("word", ("all",), "green")), ROOM).texts == ("no",)
    assert programs.execute(("name", ("leftmost", ("all",))), ROOM).texts == ("key",)
    wooden = ("which word", ("label", "mug"), ("metal",), ("wood", "wooden"))
    assert programs.execute(wooden, [Thing(1, "mug", box(0.5), attributes=("wood",))]).texts == ("wood", "wooden")


def test_evidence_is_what_was_found_or_compared():
    assert programs.execute(("label", "mug"), ROOM).evidence == {1}
    assert programs.execute(LEFT_OF_MUG, ROOM).evidence == {1, 2}
    assert programs.execute(("leftmost", ("all",)), ROOM).evidence == {1, 2, 3}
    assert programs.execute(("label", "cup"), ROOM).evidence == {1, 2, 3}, "all must be known to say that none fits"
    assert programs.execute(("number", ("label", "mug")), ROOM).evidence == {1}


def test_fields_that_a_program_reads():
    assert programs.reads(LEFT_OF_MUG) == frozenset()
    assert programs.reads(("nearest", ("word", ("all",), "red"))) == {"attributes", "depth"}
    assert programs.reads(("which word", ("label", "mug"), ("red",))) == {"attributes"}
    assert programs.reads(("number", ("both", ("label", "mug"), ("behind", ("all",), ("label", "key"))))) == {"depth"}


def test_an_unknown_operation_is_refused():
    with pytest.raises(ValueError, match="'beside'"):
        programs.execute(("beside", ("all",)), ROOM)


WORDS = st.sampled_from(("mug", "Mug ", "key", "hat", "dog", "red", "blue", "large", "metal", "wood", "", "\u0130"))


@st.composite
def twins(draw, frames):
    def corners():
        x1, y1 = draw(st.integers(0, 999)), draw(st.integers(0, 999))
        return x1, y1, draw(st.integers(x1 + 1, 1000)), draw(st.integers(y1 + 1, 1000))

    objects = []
    for i in range(draw(st.integers(0, 5))):
        words = {"depth": draw(st.none() | st.integers(1, 3)), "attributes": tuple(draw(st.lists(WORDS, max_size=3)))}
        if frames and draw(st.booleans()):
            keys = sorted(draw(st.sets(st.sampled_from(frames), min_size=1)))
            inner = [(k, corners() if draw(st.booleans()) else None) for k in keys[1:-1]]
            track = ((keys[0], corners()), *inner, *(((keys[-1], corners()),) if len(keys) > 1 else ()))
            velocity = draw(st.none() | st.tuples(st.integers(-1000, 1000), st.integers(-1000, 1000)))
            objects.append(Object(i + 1, draw(WORDS) or "x", None, track=track, velocity=velocity, **words))
        else:
            objects.append(Object(i + 1, draw(WORDS) or "x", corners(), **words))
    return Twin((96, 96), tuple(objects), frames=frames)


@pytest.mark.parametrize("frames", [(), (0, 3, 4, 9)])
def test_no_twin_makes_a_program_raise(frames):
    canvas = Canvas(Frame.NORM1000, (96, 96), frames)
    both = [(task, video) for task in ("grounding", "vqa", "summary") for video in (False, True)]
    known = tuple(dict.fromkeys(e.program for task, video in both for e in examples(task, video)))

    @settings(max_examples=200, deadline=None)
    @given(twins(frames), st.sampled_from(known))
    def check(twin, program):
        described = things.things_of_twin(twin, canvas)
        result = programs.execute(program, described)
        assert result == programs.execute(program, described)
        assert set(result.ids) <= {o.id for o in twin.objects} and result.evidence <= {o.id for o in twin.objects}
        assert result.executable or not (result.ids or result.texts)
        if program[0] in ("number", "any", "name", "which word", "whether it moves", "direction"):
            assert bool(result.texts) == result.executable

    check()


def test_programs_are_told_from_other_values():
    sound = [
        ("all",), ("label", "a", "b"), ("most common label",), ("left of", ("all",), ("label", "a")),
        ("before", ("all",), "enters", ("label", "a"), "leaves"), ("number", ("word", ("all",), "red")),
        ("which word", ("all",), ("red",), ("blue", "navy")), ("sharing", ("all",), "red", "blue"),
    ]  # fmt: skip
    for program in sound:
        assert programs.is_program(program)
        programs.execute(program, [])
    deep = ("all",)
    for _ in range(50):
        deep = ("moves", deep)
    for value in (
        None, 3, "all", [], (), ("all", "x"), ("label",), ("label", 3), ("left of", ("all",)), ("moves", "a"),
        ("number", ("number", ("all",))), ("before", ("all",), "flies", ("all",), "enters"), ("which word", ("all",)),
        ("which word", ("all",), "red"), ("nonsense", ("all",)), (("all",),), deep, ("sharing", ("all",)),
    ):  # fmt: skip
        assert not programs.is_program(value)
