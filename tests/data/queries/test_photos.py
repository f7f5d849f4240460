import re

import numpy as np
import pytest
from photo_facts import facts, thing

from dtr1_jax.data.queries import photos
from dtr1_jax.data.queries.coco_uses import FAMILIES, SINGLES

SCENE = (
    thing(1, "dog", 0.1, 0.5, 0.1), thing(2, "person", 0.3, 0.5, 0.2), thing(3, "dog", 0.5, 0.3, 0.2),
    thing(4, "dog", 0.7, 0.8, 0.05), thing(5, "cat", 0.9, 0.1, 0.1),
)  # fmt: skip


def queries_about(picture, count=40):
    return [photos.photo_query(picture, seed=s, picture=s, k=k) for s in range(count) for k in range(4)]


def test_answers_by_hand():
    """What each thought ends in, for a scene of three dogs, a cat and a person."""
    dogs = {
        "leftmost": (1,), "rightmost": (4,), "topmost": (3,), "bottommost": (4,), "largest": (3,), "smallest": (4,),
        "left of 2": (1,), "right of 2": (3, 4), "above 5": None, "below 5": (1, 3, 4), "left of 5": (1, 3, 4),
    }  # fmt: skip
    checked = set()
    for query in queries_about(facts(SCENE), 150):
        how, _, ids = query.thought.removesuffix(".").split(". ")[-1].rpartition(": ")
        if query.labels == {"dog"} and how in dogs and query.level < 4:
            assert query.ids == dogs[how] and ids == ",".join(map(str, query.ids)), query
            checked.add(how)
    assert checked == set(dogs) - {"above 5"}


def test_all_sorts_and_levels_occur():
    queries = queries_about(facts(SCENE))
    assert {q.category for q in queries} == {"semantic", "spatial", "count"}
    assert {q.level for q in queries} == {1, 2, 3, 4}
    assert 0.05 < np.mean([not q.ids for q in queries]) < 0.3
    assert any(len(q.ids) > 1 for q in queries)


def test_a_query_is_a_pure_function_of_its_key():
    def queries(seed, picture):
        return [photos.photo_query(facts(SCENE), seed=seed, picture=picture, k=k) for k in range(8)]

    assert queries(3, "a") == queries(3, "a")
    assert queries(3, "a") != queries(4, "a") and queries(3, "a") != queries(3, "b")


def test_all_objects_that_share_a_use_are_targets():
    animals = tuple(label for label in next(iter(FAMILIES)))
    for query in queries_about(facts(SCENE, vocabulary=(*animals, "person"))):
        if query.category == "semantic" and any(p in query.text for p in FAMILIES[animals]):
            assert query.ids == (1, 3, 4, 5)
            break
    else:
        pytest.fail("no query for all animals")


def test_a_family_needs_all_its_labels_annotated():
    """Were cows not annotated, one of them could stand in the picture unseen, and "every animal" would be wrong."""
    assert {len(q.labels) for q in queries_about(facts(SCENE))} == {1}


def test_labels_with_objects_left_out_have_a_largest_object_only():
    for query in queries_about(facts(SCENE, counts={"dog": 9, "person": 1, "cat": 1})):
        if query.labels == {"dog"}:
            assert query.thought.endswith("largest: 3.") and query.ids == (3,)


def test_crowds_are_neither_absent_nor_compared():
    for query in queries_about(facts(SCENE, counts={"dog": 3, "person": 1, "cat": 1, "car": 0}, crowds={"dog", "car"})):
        assert query.labels.isdisjoint({"dog", "car"})


def test_a_label_with_a_tiny_object_is_not_asked_about():
    side = photos.TINY**0.5
    for share, asked in ((1.5, True), (0.5, False)):
        speck = thing(6, "dog", 0.2, 0.9, side * share)
        assert any("dog" in query.labels for query in queries_about(facts((*SCENE, speck)))) == asked


def test_kinds_are_not_counted_against_each_other():
    """A photo has things of kinds that no data set annotates: buttons, leaves, bricks."""
    asked = queries_about(facts(SCENE))
    assert not any("most kind" in q.thought or "the kind" in q.text or "which kind" in q.text for q in asked)


def test_an_outermost_object_is_so_by_centre_and_by_edge():
    left, right = thing(1, "dog", 0.2, 0.5, 0.2), thing(2, "dog", 0.3, 0.5, 0.38)
    assert not any("most: " in q.thought and "left" in q.text for q in queries_about(facts((left, right))))


def test_stuff_has_no_place():
    for query in queries_about(facts(SCENE, stuff={"dog"})):
        assert "dog" not in query.labels or query.level == 1


def test_objects_near_each_other_are_not_compared():
    twins = (thing(1, "dog", 0.5, 0.5), thing(2, "dog", 0.51, 0.51))
    assert {q.level for q in queries_about(facts(twins))} == {1}


def test_a_photo_without_a_clear_answer_still_has_a_query():
    crowded = facts((thing(1, "dog", 0.5, 0.5),), ("dog",), {"dog": 5}, crowds={"dog"})
    assert photos.photo_query(crowded, seed=0, picture=1, k=0).ids == (1,)
    with pytest.raises(ValueError, match="settles no query"):
        photos.photo_query(facts((), ("dog",), {"dog": 0}, crowds={"dog"}), seed=0, picture=1, k=0)
    with pytest.raises(ValueError, match="vocabulary"):
        photos.photo_query(facts((), ()), seed=0, picture=1, k=0)


def test_queries_with_and_without_an_answer_use_the_same_sentences():
    def sentences(has_answer):
        phrases = sorted((p for v in SINGLES.values() for p in v), key=len, reverse=True)
        texts = [
            q.text for q in queries_about(facts(SCENE), 80) if q.category == "semantic" and bool(q.ids) == has_answer
        ]
        return {re.sub("|".join(map(re.escape, phrases)), "X", text) for text in texts}

    assert sentences(True) == sentences(False) and sentences(True) == {t.format("X") for t in photos.FIND_ONE}


def test_a_sentence_in_the_singular_has_one_target_or_none():
    for query in queries_about(facts(SCENE), 80):
        if re.match("Where in the picture is the|Which is the", query.text):
            assert len(query.ids) <= 1, query


def sides_asked(*scene):
    """(direction, label that is asked for, answer) of the queries about the side of an anchor."""
    queries = [q for q in queries_about(facts(scene), 150) if q.level >= 3]
    return {(*re.findall(r"(left of|right of|above|below) \d", q.thought), *q.labels, q.ids) for q in queries}


def test_sides_are_asked_of_objects_that_are_apart():
    wearer, tie = thing(1, "person", 0.5, 0.5, 0.4), thing(2, "cat", 0.55, 0.6, 0.1)
    assert not sides_asked(wearer, tie), "one is inside the other"
    beside = thing(2, "cat", 0.76, 0.5, 0.1)  # right of 0.7 on one axis, inside on the other
    assert {side for side, *_ in sides_asked(wearer, beside)} == {"left of", "right of"}
    overlapping = thing(2, "cat", 0.72, 0.5, 0.1)
    assert not sides_asked(wearer, overlapping)
    mixed = sides_asked(wearer, beside, thing(3, "cat", 0.5, 0.5, 0.1))  # one cat beside, one in the person's arms
    assert ("right of", "cat", (2,)) not in mixed and not {s for s, label, _ in mixed if label == "cat"}


def test_the_farthest_object_is_farthest_by_its_edge_too():
    wide, narrow = thing(1, "dog", 0.5, 0.3, 0.6), thing(2, "dog", 0.35, 0.8, 0.1)  # 0.2 to 0.8, and 0.3 to 0.4
    thoughts = {q.thought.split(". ")[-1] for q in queries_about(facts((wide, narrow)), 150)}
    assert "rightmost: 1." in thoughts and not any("leftmost" in t for t in thoughts)


def test_partial_labels_are_not_asked_about():
    """Three dogs, a person and a cat; further dogs are known to be there, and nobody knows whether there are birds."""
    picture = facts(SCENE, partial={"dog", "bird"})
    queries = queries_about(picture)
    assert queries and not any({"dog", "bird"} & query.labels for query in queries)
    everything = facts(SCENE, vocabulary=("dog", "cat", "person"), partial={"dog", "cat", "person"})
    with pytest.raises(ValueError, match="settles no query"):
        photos.photo_query(everything, seed=0, picture=1, k=0)


def test_sizes_of_objects_with_a_box_only_are_not_compared():
    queries = queries_about(facts(SCENE, unsized={"dog"}))
    steps = [query.thought for query in queries if "dog" in query.labels]
    assert any("leftmost" in step for step in steps)
    assert not any("largest" in step or "smallest" in step for step in steps)
    assert any("largest" in query.thought for query in queries_about(facts(SCENE)) if "dog" in query.labels)
