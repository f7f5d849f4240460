"""Facts of tracks by hand, and queries that the tracks settle."""

import dataclasses
import re

import numpy as np
import pytest

from dtr1_jax.data.queries import track_queries
from dtr1_jax.data.queries.track_queries import DETERMINERS, EXTREMES, GROWTH, SENTENCES, STATES, growth, presence
from dtr1_jax.twin import programs, things
from dtr1_jax.types import Instance

T, SIDE = 6, 100


def track(*boxes, number=1, label="dog"):
    """An object with these boxes in pixels of 100 x 100, None where it is not visible, and masks that fill them."""
    unit = np.array([box or (0, 0, 0, 0) for box in boxes], np.float64) / SIDE
    masks = np.zeros((len(boxes), SIDE, SIDE), bool)
    for mask, box in zip(masks, boxes):
        if box is not None:
            mask[box[1] : box[3], box[0] : box[2]] = True
    return Instance(number, label, tuple(unit[0]), masks[0], boxes=unit, masks=masks)


def square(side, x=50, y=50):
    return x - side // 2, y - side // 2, x + side // 2, y + side // 2


IN = (40, 40, 60, 60)  # in the middle of the picture
EDGE = (0, 40, 20, 60)  # at its left edge
ENTERS = (None, None, EDGE, (20, 40, 40, 60), IN, IN)


@pytest.mark.parametrize(
    ("boxes", "enters", "leaves", "stays", "hidden"),
    [
        ([IN] * T, False, False, True, False),
        (ENTERS, True, False, False, False),
        (ENTERS[::-1], False, True, False, False),
        ((None, None, IN, IN, IN, IN), None, False, None, False),  # it may have been behind something
        ((IN, IN, IN, IN, None, None), False, None, None, False),
        ((None, None, None, None, None, EDGE), None, False, None, False),  # one frame is little
        ((IN, IN, None, None, IN, IN), False, False, None, True),
        ((EDGE, IN, IN, None, EDGE, IN), False, False, None, None),  # it may have been out of the picture
        ((None, EDGE, None, IN, IN, IN), None, False, None, None),
    ],
)  # fmt: skip
def test_presence_by_hand(boxes, enters, leaves, stays, hidden):
    expected = {"enters": enters, "leaves": leaves, "stays": stays, "hidden": hidden}
    assert presence(track(*boxes), True, 1) == expected
    assert presence(track(*boxes), False, 1) == expected | {"hidden": None if hidden else hidden}


def test_a_specialist_must_miss_an_object_twice():
    once = track(None, EDGE, IN, IN, IN, IN)
    assert presence(once, True, 1)["enters"] is True and presence(once, False, 2)["enters"] is None


def wide(w, h):
    return 50 - w // 2, 50 - h // 2, 50 + w // 2, 50 + h // 2


@pytest.mark.parametrize(
    ("boxes", "grows", "nearer"),
    [
        ([square(s) for s in (20, 22, 24, 28, 30, 34)], True, True),
        ([square(s) for s in (20, 22, 24, 26, 28, 30)], True, None),  # larger by 1.5, which is not clearly nearer
        ([square(s) for s in (20, 22, 22, 24, 24, 24)], None, None),
        ([square(20)] * T, False, False),
        ([square(s) for s in (20, 30, 24, 28, 30, 34)], None, None),  # not steadily
        ([wide(w, 20) for w in (20, 24, 28, 32, 40, 48)], None, None),  # it turns: wider, but not higher
        ([square(s, x=15) for s in (20, 22, 24, 26, 28, 30)], None, None),  # cut by the edge at the end
        ([square(20), None, None, None, None, square(40)], None, None),  # too few frames
    ],
)
def test_growth_by_hand(boxes, grows, nearer):
    one = track(*boxes)
    facts = growth(one, one)
    backwards = track(*boxes[::-1])
    assert (facts["grows"], facts["nearer"]) == (grows, nearer)
    assert facts["shrinks"] is (None if grows is None else False)
    assert facts["farther"] is (None if nearer is None else False)
    assert growth(backwards, backwards) == {
        "grows": facts["shrinks"], "shrinks": facts["grows"], "nearer": facts["farther"], "farther": facts["nearer"]
    }  # fmt: skip


def test_what_the_camera_approaches_does_not_come_nearer_itself():
    one = track(*[square(s) for s in (20, 22, 24, 28, 30, 34)])
    placed = dataclasses.replace(one, boxes=np.tile(one.boxes[:1], (T, 1)))
    assert growth(one, placed) == {"grows": True, "shrinks": False, "nearer": None, "farther": None}
    assert growth(one, None) == {"grows": True, "shrinks": False, "nearer": None, "farther": None}
    still = track(*[square(20)] * T)
    assert growth(still, dataclasses.replace(still, boxes=one.boxes))["nearer"] is None
    assert growth(dataclasses.replace(one, masks=None), one)["grows"] is None


def video(*objects, world="same", exact=True):
    numbered = [dataclasses.replace(one, id=i) for i, one in enumerate(objects, 1)]
    return track_queries.tracked(numbered, numbered if world == "same" else world, world == "same", exact)


RIGHT = [(x, 70, x + 10, 80) for x in (10, 20, 30, 40, 50, 60)]
RUNS, WAITS, GROWS = (
    track(*RIGHT),
    track(*[(80, 10, 90, 20)] * T),
    track(*[square(s) for s in (20, 22, 24, 28, 30, 34)]),
)


def drawn(objects, names=(), count=60, split="train", **more):
    found = [track_queries.sample(np.random.default_rng(k), split, objects, names, **more) for k in range(count)]
    return {(query.text, query.ids, query.program) for query in found if query is not None}


def test_queries_ask_for_what_is_true_of_some_objects_of_a_label():
    for _, ids, program in drawn(video(RUNS, WAITS), ("moves right", "still", "moves left")):
        assert (program[0], ids) in {("moves right", (1,)), ("still", (2,))} and program[1] == ("label", "dog")
    assert {ids for _, ids, _ in drawn(video(RUNS, WAITS, GROWS), ("grows",))} == {(3,)}
    doubtful = track(None, None, IN, IN, IN, IN)
    assert not drawn(video(RUNS, WAITS, doubtful), ("enters", "stays"))
    other = dataclasses.replace(doubtful, label="cat")  # nobody asks for a cat, so its doubt costs nothing
    texts = drawn(video(track(*ENTERS), WAITS, other), ("enters", "stays"))
    assert texts and all("dog" in text and ids == ((1,) if p[0] == "enters" else (2,)) for text, ids, p in texts)


def test_the_first_to_enter():
    one, two = track(*ENTERS), track(None, None, None, EDGE, (20, 40, 40, 60), IN)
    assert {ids for _, ids, _ in drawn(video(one, two, WAITS), ("first to enter",))} == {(1,)}
    assert {ids for _, ids, _ in drawn(video(one, two, WAITS), ("last to enter",))} == {(2,)}
    assert not drawn(video(one, one), ("first to enter",)) and not drawn(video(one, WAITS), ("first to enter",))


@pytest.mark.parametrize("split", ["train", "heldout", "validation"])
def test_words_and_programs(split):
    ducks = [dataclasses.replace(one, label="duck") for one in (WAITS, GROWS)]
    cats = track(*ENTERS, label="cat"), track(*ENTERS[::-1], label="cat")
    objects, labels = video(RUNS, WAITS, *ducks, *cats), ("dog", "duck", "cat")
    scene = things.things_of_scene(tuple(objects.scene.values()))
    queries = drawn(objects, split=split, count=200)
    assert len(queries) > 12
    clauses = [c for pool in (GROWTH | STATES).values() for c in getattr(pool, split)]
    nouns = [f"{word} {noun} {c}" for word in ("the", *getattr(DETERMINERS, split)) for noun in labels for c in clauses]
    nouns += [e.format(noun) for pool in EXTREMES.values() for e in getattr(pool, split) for noun in labels]
    known = {sentence.format(noun) for sentence in getattr(SENTENCES, split) for noun in nouns}
    for text, ids, program in queries:
        assert text in known
        assert bool(program) != any(c in text for pool in GROWTH.values() for c in getattr(pool, split))
        if program:
            assert set(programs.execute(program, scene).ids) == set(ids)
        if re.search(rf"\\b({'|'.join(getattr(DETERMINERS, split))})\\b", text):
            assert len(ids) > 1


def test_a_moving_camera_has_no_programs_of_motion_and_an_unknown_one_no_motion():
    moving = dataclasses.replace(video(RUNS, WAITS), is_still=False)
    assert all(program == () for _, _, program in drawn(moving, ("moves right", "still")))
    assert not drawn(video(RUNS, WAITS, world=None), ("moves right", "still"))
    assert drawn(video(RUNS, WAITS, world=None), ("stays",))
    named = drawn(video(RUNS, WAITS), ("stays",), nouns={"dog": "main object"})
    assert all("every main object" in text and program == () for text, _, program in named) and named


def test_what_is_seen_once_or_loses_one_end_does_not_stand_still():
    once, sinks = track(None, None, None, IN, None, None), track(*[(60, 5 + 12 * t, 80, 90) for t in range(T)])
    for doubtful in (once, sinks, GROWS):
        objects = video(RUNS, WAITS, doubtful)
        assert [objects.facts[i]["still"] for i in (1, 2, 3)] == [False, True, None]
        assert objects.facts[3]["moves"] is None and not drawn(objects, track_queries.MOTION)
    assert drawn(video(RUNS, WAITS), ("still",))


def test_an_object_whose_own_motion_is_not_known_leaves_all_of_its_label_in_doubt():
    world = [dataclasses.replace(RUNS, id=1)]
    assert not drawn(video(RUNS, WAITS, world=world), track_queries.MOTION)
    assert drawn(video(RUNS, dataclasses.replace(WAITS, label="cat"), world=world), track_queries.MOTION)


def test_programs_that_read_a_doubtful_state_are_not_settled():
    clear, doubtful = video(track(*ENTERS), WAITS), video(track(None, None, IN, IN, IN, IN), WAITS)
    for program, needed in (
        (("enters", ("all",)), True), (("first to enter", ("all",)), True), (("still", ("all",)), False),
        (("after", ("all",), "enters", ("label", "dog"), "leaves"), True), (("moves", ("stays", ("all",))), True),
    ):  # fmt: skip
        assert track_queries.settles(program, clear)
        assert track_queries.settles(program, doubtful) != needed
    assert not video(track(*[None] * T)).facts
