"""Is a twin true: by hand, and the property that a true fact made false never raises a column."""

import dataclasses

import pytest
from described import BLANK, KEY, LATE, MOVING, MUG, VIDEO, columns, objects
from hypothesis import given, settings, strategies

from dtr1_jax.rewards import twin_truth
from dtr1_jax.twin.schema import Object
from dtr1_jax.types import Instance


def change(index, **fields):
    things = objects()
    things[index] = dataclasses.replace(things[index], **fields)
    return things


def test_the_true_twin_has_all_of_every_column():
    assert columns(objects()) == pytest.approx(dict.fromkeys(twin_truth.COLUMNS, 1.0), abs=1e-6)


def test_an_empty_twin_has_none_of_the_objects_facts():
    scores = columns([])
    assert {name: scores[name] for name in ("twin_iou", "twin_labels", "twin_attributes", "twin_depth")} == {
        "twin_iou": 0, "twin_labels": 0, "twin_attributes": 0, "twin_depth": 0,
    }  # fmt: skip


def test_labels_by_hand():
    assert columns(change(0, label="cat"))["twin_labels"] == pytest.approx(2 / 3)
    assert columns(objects()[:2])["twin_labels"] == pytest.approx(2 / 3)
    surplus = [*objects(), Object(9, "cat", (0, 800, 200, 1000))]
    assert columns(surplus)["twin_labels"] == pytest.approx(3 / 4)
    # A quarter of the mug's box: half of MATCH_IOU.
    assert columns(change(0, box=(0, 0, 100, 100)))["twin_labels"] == pytest.approx((2 + 0.5) / 3, abs=1e-5)
    assert columns(change(0, box=(0, 0, 200, 150)))["twin_labels"] == pytest.approx(1)


def test_attributes_by_hand():
    assert columns(change(0, attributes=("red",)))["twin_attributes"] == pytest.approx(2 * 5 / (5 + 6))
    assert columns(change(0, attributes=("black", "small")))["twin_attributes"] == pytest.approx(5 / 6)
    assert columns(change(0, attributes=("red", "small", "old")))["twin_attributes"] == pytest.approx(12 / 13)
    repeated = change(0, attributes=("red", "small", "red", "red"))
    assert columns(repeated)["twin_attributes"] == pytest.approx(1)
    assert columns([])["twin_attributes"] == 0
    grey = [dataclasses.replace(MUG, attributes=("gray", "wood"))]
    thing = dataclasses.replace(objects([MUG])[0], attributes=("grey", "wooden"))
    assert columns([thing], scene=grey)["twin_attributes"] == 1


def test_depth_by_hand():
    # One of three ordered pairs is turned around; equal depths order nothing; no depth orders nothing.
    assert columns(change(0, depth=2))["twin_depth"] == pytest.approx(2 / 3)
    assert columns(change(2, depth=1))["twin_depth"] == pytest.approx(1 / 3)
    assert columns(change(2, depth=None))["twin_depth"] == pytest.approx(1 / 3)
    assert columns(objects()[:2])["twin_depth"] == pytest.approx(1 / 3)
    assert columns(change(2, depth=30))["twin_depth"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("relation", "true"),
    [
        ((1, "left of", 2), True), ((2, "left of", 1), False), ((2, "right of", 1), True), ((1, "above", 2), True),
        ((2, "below", 1), True), ((1, "in front of", 3), True), ((1, "behind", 3), False), ((3, "behind", 2), True),
        ((1, "to the left of", 3), True), ((1, "overlapping", 2), False), ((1, "inside", 3), False),
        ((1, "above", 3), True), ((1, "below", 3), False), ((1, "dreams of", 2), False), ((1, "left of", 1), False),
    ],
)  # fmt: skip
def test_relations_by_hand(relation, true):
    assert columns(objects(), [relation])["twin_relations"] == true


def test_inside_around_and_overlapping():
    tray = Instance(4, "tray", (0.3, 0.3, 0.8, 0.8), BLANK, 4, ("red",))
    scene = [KEY, tray]
    for name, ids, true in (
        ("inside", (2, 4), 1), ("inside", (4, 2), 0), ("contains", (4, 2), 1), ("overlaps", (2, 4), 1),
    ):  # fmt: skip
        assert columns(objects(scene), [(ids[0], name, ids[1])], scene)["twin_relations"] == true


CUP = Instance(1, "cup", (0.4, 0.3, 0.5, 0.5), BLANK, 1)
TABLE = Instance(2, "table", (0.2, 0.49, 0.9, 0.9), BLANK, 1)
LAMP = Instance(3, "lamp", (0.56, 0.3, 0.58, 0.48), BLANK)  # no depth is annotated
FLY = Instance(4, "fly", (0.585, 0.3, 0.605, 0.33), BLANK, 2)


@pytest.mark.parametrize(
    ("relation", "true"),
    [
        # The boxes meet, so nobody knows whether the things do; a false relation beside it decides alone.
        ((1, "on", 2), None), ((1, "on top of", 2), None), ((1, "touching", 2), None), ((2, "touches", 1), None),
        ((2, "on", 1), False),  # the table's centre is far below the cup's
        ((1, "on", 3), False), ((1, "touching", 3), False), ((3, "touching", 1), False),  # 0.06 apart
        ((3, "touching", 4), None),  # 0.005 apart
        ((3, "on", 4), False), ((4, "on", 3), None), ((4, "on", 1), False),  # the lamp's centre is 0.075 lower
        # Depth: the cup and the table share a rank, so neither is nearer; that of the lamp is not known.
        ((1, "in front of", 2), False), ((1, "behind", 2), False), ((1, "in front of", 4), True),
        ((4, "in front of", 1), False), ((1, "in front of", 3), None), ((3, "behind", 1), None),
        # Two thin things side by side: their centres are 0.025 apart.
        ((3, "left of", 4), True), ((4, "right of", 3), True), ((4, "left of", 3), False), ((3, "above", 4), False),
        ((1, "above", 2), True), ((1, "overlapping", 2), True), ((1, "overlapping", 3), False),
        ((1, "dreams of", 2), False),
    ],
)  # fmt: skip
def test_relations_that_specialists_state_by_hand(relation, true):
    """True and false ones count; those that boxes and depths cannot check count neither way (None)."""
    scene = [CUP, TABLE, LAMP, FLY]

    def score(*relations):
        return columns(objects(scene), relations, scene)["twin_relations"]

    right, wrong = (1, "left of", 3), (3, "left of", 1)
    assert score(relation) == (1 if true is None else true)
    assert score(relation, wrong) == (0 if not true else 0.5)
    assert score(relation, right, wrong) == pytest.approx(0.5 if true is None else (1 + true) / 3)


def test_what_nobody_can_check_gains_nothing_for_things_that_are_not_there():
    scene = [CUP, TABLE]
    things = [*objects(scene), Object(8, "cat", (0, 800, 100, 1000))]
    assert columns(things, [(8, "on", 2)], scene)["twin_relations"] == 0
    assert columns([], [], scene)["twin_relations"] == 0
    assert columns(things, [(1, "on", 1)], scene)["twin_relations"] == 0


def test_an_invented_relation_costs():
    true, invented = (1, "left of", 2), (2, "left of", 1)
    assert columns(objects())["twin_relations"] == 1
    assert columns(objects(), [true, invented])["twin_relations"] == pytest.approx(0.5)
    assert columns(objects(), [true] + [invented] * 199)["twin_relations"] == pytest.approx(1 / 200)


def test_a_relation_between_objects_that_are_not_there_is_false():
    things = [*objects(), Object(8, "cat", (0, 800, 200, 1000))]
    assert columns(things, [(8, "left of", 3)])["twin_relations"] == 0


def moving(velocity=None, track=((0, (0, 0, 200, 200)), (3, (300, 0, 500, 200)))):
    return Object(1, "mug", None, 1, ("red", "small"), track, velocity)


def late(first=2):
    return Object(2, "key", None, 2, ("blue", "large"), ((first, (400, 400, 600, 600)), (3, (400, 400, 600, 600))))


def test_tracks_by_hand():
    def of(*things, scene=(MOVING,)):
        return columns(things, scene=scene, canvas=VIDEO)

    assert of(moving())["twin_iou"] == pytest.approx(1, abs=1e-5)
    assert of(moving())["twin_tracks"] == pytest.approx(1, abs=1e-5)
    assert of(moving((100, 0)))["twin_tracks"] == pytest.approx(1, abs=1e-5)
    # The error of the velocity is 0.05 of 0.1 + SLOW.
    assert of(moving((50, 0)))["twin_tracks"] == pytest.approx(1 - 0.05 / 0.12, abs=1e-5)
    assert of(moving((-100, 0)))["twin_tracks"] == 0
    both = (MOVING, LATE)
    assert of(moving(), late(), scene=both)["twin_tracks"] == pytest.approx(1, abs=1e-5)
    assert of(moving(), scene=both)["twin_tracks"] == pytest.approx(0.5, abs=1e-5)
    # The key is visible in one frame too many: 2 of 3 frames.
    assert of(moving(), late(1), scene=both)["twin_tracks"] == pytest.approx((1 + 2 / 3) / 2, abs=1e-5)


LABELS = ("mug", "key", "box", "cat")
WORDS = ("red", "blue", "small", "large")


@strategies.composite
def scenes(draw):
    """Two to five objects that do not overlap, each in its cell."""
    n = draw(strategies.integers(2, 5))
    depths = draw(strategies.permutations(range(1, n + 1)))
    return [
        Instance(
            i + 1, draw(strategies.sampled_from(LABELS)), (i / 5 + 0.02, 0.1, i / 5 + 0.18, 0.1 + 0.15 * (i + 1)),
            BLANK, depths[i], tuple(draw(strategies.sets(strategies.sampled_from(WORDS), min_size=1))),
        )
        for i in range(n)
    ]  # fmt: skip


def true_relations(scene):
    pairs = [(a, b) for a in scene for b in scene if a.id < b.id]
    return [(a.id, "left of", b.id) for a, b in pairs]


@settings(max_examples=60, deadline=None)
@given(scenes(), strategies.data())
def test_a_true_fact_made_false_never_raises_a_column(scene, data):
    """From a twin in which some facts are false already, one more true fact becomes false."""
    things, relations = objects(scene), true_relations(scene)
    drawn = strategies.integers(0, len(scene) - 1)

    def falsified(things, relations, kind, i):
        thing, truth = things[i], scene[i]
        if kind == "label":
            return [*things[:i], dataclasses.replace(thing, label="lie"), *things[i + 1 :]], relations
        if kind == "attribute":
            words = ("lie", *(w for w in thing.attributes if w != truth.attributes[0]))
            return [*things[:i], dataclasses.replace(thing, attributes=words), *things[i + 1 :]], relations
        if kind == "box":
            moved = dataclasses.replace(thing, box=(i * 10, 960, i * 10 + 9, 1000))
            return [*things[:i], moved, *things[i + 1 :]], relations
        if kind == "missing":
            left = [*things[:i], *things[i + 1 :]]
            return left, [r for r in relations if thing.id not in (r[0], r[2])]
        r = i % len(relations)
        a, words, b = relations[r]
        return things, [*relations[:r], (b, "left of", a) if a < b else (a, words, b), *relations[r + 1 :]]

    for _ in range(data.draw(strategies.integers(0, 3))):
        kind = data.draw(strategies.sampled_from(("label", "attribute", "box", "relation")))
        things, relations = falsified(things, relations, kind, data.draw(drawn))
    before = columns(things, relations, scene)
    kind = data.draw(strategies.sampled_from(("label", "attribute", "box", "relation", "missing")))
    i = data.draw(drawn)
    if kind == "missing" and things[i] != objects(scene)[i]:
        kind = "label"  # Leaving out an object that is described wrongly takes false facts away too.
    after = columns(*falsified(things, relations, kind, i), scene)
    for name in twin_truth.COLUMNS:
        if name == "twin_relations" and kind == "missing":
            continue  # With an object its relations go, true ones and false ones.
        assert after[name] <= before[name] + 1e-5, (kind, name)
        assert 0 <= after[name] <= 1 + 1e-5


@settings(max_examples=40, deadline=None)
@given(scenes(), strategies.data())
def test_a_wrong_order_of_depths_never_beats_the_right_one(scene, data):
    depths = data.draw(strategies.permutations([i.depth for i in scene]))
    things = [dataclasses.replace(o, depth=d) for o, d in zip(objects(scene), depths)]
    pairs = [(a, b) for a in range(len(scene)) for b in range(len(scene)) if scene[a].depth < scene[b].depth]
    agreed = sum(depths[a] < depths[b] for a, b in pairs)
    assert columns(things, scene=scene)["twin_depth"] == pytest.approx(agreed / len(pairs), abs=1e-5)
