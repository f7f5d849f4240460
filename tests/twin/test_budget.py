"""Estimates of tokens, and the objects that a long twin loses."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.twin import budget
from dtr1_jax.twin.schema import Object, Twin, read_twin
from dtr1_jax.twin.text import dumps_twin

SIZE = (100, 100)


def square(number, side, label="cup", **more):
    return Object(number, label, (0, 0, side, side), **more)


MANY = Twin(
    SIZE,
    (square(1, 10), square(2, 50), square(3, 5, "key", attributes=("red",)), square(4, 30), square(9, 20)),
    ((1, "near", 2), (2, "near", 4), (3, "on", 4)),
)


def room(*ids, more, relations=()):
    """Tokens of the twin with these objects and relations alone."""
    objects = tuple(o for o in MANY.objects if o.id in ids)
    return budget.estimate_tokens(dumps_twin(Twin(SIZE, objects, relations, more=more)))


def ids(twin):
    return [item.id for item in twin.objects]


def test_tokens_by_hand():
    assert budget.estimate_tokens("") == 0
    assert budget.estimate_tokens("abcd 12") == 1 + 2
    assert budget.estimate_tokens("bottle") == 2
    assert budget.estimate_tokens('{"id":12,') == len(['{"', "id", '":', "1", "2", ","])
    assert budget.estimate_tokens("\u05e9\u05dc\u05d5\u05dd") == 4


def test_a_twin_that_fits_is_unchanged():
    assert budget.fit(MANY, budget.estimate_tokens(dumps_twin(MANY))) is MANY


def test_the_largest_objects_are_kept_and_the_others_counted():
    cut = budget.fit(MANY, room(2, 4, more=3))
    assert ids(cut) == [2, 4] and cut.more == 3 and cut.relations == ()
    assert ids(budget.fit(MANY, room(2, 4, more=3) - 1)) == [2]
    assert '"more":3}' in dumps_twin(cut)
    assert read_twin(json.loads(dumps_twin(cut)), size=SIZE, limit=SIZE)[0] == cut


def test_relations_go_before_objects_and_those_of_named_objects_last():
    everything = (1, 2, 3, 4, 9)
    assert budget.fit(MANY, room(*everything, more=0)).relations == ()
    first, named = ((1, "near", 2),), ((3, "on", 4),)
    kept = budget.fit(MANY, room(*everything, more=0, relations=first))
    assert ids(kept) == [1, 2, 3, 4, 9] and kept.relations == first and kept.more == 0
    assert budget.fit(MANY, room(*everything, more=0, relations=named), query="the key").relations == named
    both = budget.fit(MANY, room(*everything, more=0, relations=first + named), query="the key")
    assert both.relations == first + named  # in the twin's order
    of_cut = budget.fit(MANY, room(2, 4, more=3, relations=((2, "near", 4),)))
    assert of_cut.relations in ((), ((2, "near", 4),)) and len(of_cut.objects) >= 2


def test_objects_that_the_query_names_come_before_larger_ones():
    assert ids(budget.fit(MANY, room(2, 3, more=3), query="Where are the keys?")) == [2, 3]
    assert ids(budget.fit(MANY, room(2, 3, more=3), query="a RED one")) == [2, 3]
    assert ids(budget.fit(MANY, room(1, 2, more=3), first_ids=(1,))) == [1, 2]


def test_no_room_for_any_object_and_objects_that_were_missing_before():
    empty = budget.fit(Twin(SIZE, MANY.objects, more=7), 1)
    assert ids(empty) == [] and empty.more == 12
    assert budget.fit(Twin(SIZE, ()), 1) == Twin(SIZE, ())


def test_tracks_count_by_their_largest_box():
    grows = Object(7, "car", None, track=((0, (0, 0, 1, 1)), (1, None), (2, (0, 0, 90, 90))))
    twin = Twin(SIZE, (square(1, 40), grows), frames=(0, 1, 2))
    assert ids(budget.fit(twin, budget.estimate_tokens(dumps_twin(twin)) - 1)) == [7]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 99), max_size=30), st.integers(-5, 900), st.sampled_from([budget.estimate_tokens, len]))
def test_the_budget_is_kept_where_anything_can_be_left_out(sides, most, count):
    twin = Twin(SIZE, tuple(square(i, side) for i, side in enumerate(sides, 1)))
    cut = budget.fit(twin, most, count=count)
    assert count(dumps_twin(cut)) <= most or not cut.objects
    assert len(cut.objects) + cut.more == len(sides)
    left = [o.box[2] for o in twin.objects if o.id not in ids(cut)]
    assert not left or not cut.objects or max(left) <= min(o.box[2] for o in cut.objects)
