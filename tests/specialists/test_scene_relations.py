"""Relations of drawn scenes that are known by hand."""

import itertools

import numpy as np
import pytest

from dtr1_jax.specialists import scene_relations
from dtr1_jax.specialists.depth_order import ObjectDepth
from dtr1_jax.twin import masks
from dtr1_jax.types import Instance

H, W = 100, 200


def thing(number, *rectangles, without=()):
    """An object of rectangles (x1, y1, x2, y2) in pixels, less those in `without`."""
    mask = np.zeros((H, W), bool)
    for x1, y1, x2, y2 in rectangles:
        mask[y1:y2, x1:x2] = True
    for x1, y1, x2, y2 in without:
        mask[y1:y2, x1:x2] = False
    return Instance(number, f"thing{number}", masks.bbox(mask), mask)


def depths(*nearness, spread=0.0):
    return [ObjectDepth(value, spread) for value in nearness]


TABLE = thing(2, (20, 60, 180, 90))


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (thing(1, (80, 40, 100, 60)), TABLE, (1, "on", 2)),  # a cup that stands on a table
        (thing(1, (80, 70, 100, 80)), thing(2, (20, 60, 180, 90), without=[(80, 70, 100, 80)]), (1, "inside", 2)),
        (thing(1, (10, 40, 60, 80)), thing(2, (50, 30, 120, 85)), (1, "overlapping", 2)),
        (thing(1, (10, 20, 60, 80)), thing(2, (61, 20, 120, 85)), (1, "touching", 2)),
        (thing(1, (80, 5, 100, 20)), TABLE, (1, "above", 2)),  # a lamp far above the table
        (thing(1, (10, 20, 40, 80)), thing(2, (80, 20, 120, 85)), (1, "left of", 2)),
        (thing(1, (150, 20, 190, 80)), thing(2, (80, 20, 120, 85)), (1, "right of", 2)),
        (thing(1, (80, 85, 90, 99)), thing(2, (80, 20, 120, 60)), (1, "below", 2)),
    ],
)
def test_two_objects(one, other, expected):
    found = scene_relations.relations([one, other])
    assert found[0] == expected
    assert all(words in ("left of", "right of", "above", "below") for _, words, _ in found[1:])


def test_a_tie_is_at_no_side_of_its_wearer():
    tie, wearer = thing(1, (90, 40, 100, 60)), thing(2, (60, 10, 150, 95), without=[(90, 40, 100, 60)])
    assert scene_relations.relations([tie, wearer]) == [(1, "inside", 2)]


def test_a_car_behind_a_person_is_no_base():
    """Its outline meets the person's along the whole body, and not at the feet."""
    person, car = thing(1, (90, 10, 110, 80)), thing(2, (20, 30, 180, 85), without=[(90, 10, 110, 80)])
    words = [words for _, words, _ in scene_relations.relations([person, car])]
    assert "on" not in words


def test_round_things_that_touch_are_not_on_each_other():
    """Two rings seen from above: they meet at one point of the lower half, not along the width."""
    y, x = np.mgrid[:H, :W]
    rings = [np.hypot(x - 100, y - cy) <= 20 for cy in (30, 71)]
    things = [Instance(i, "donut", masks.bbox(mask), mask) for i, mask in enumerate(rings, 1)]
    assert scene_relations.relations(things)[0] == (1, "touching", 2)


def test_a_person_behind_a_dog_is_not_on_it():
    """The dog hides the person's feet and is half beside the person."""
    person, dog = thing(1, (90, 10, 150, 70)), thing(2, (60, 70, 120, 95))
    assert scene_relations.relations([person, dog])[0] == (2, "touching", 1)


def test_filled_boxes_do_not_touch():
    found = scene_relations.relations([thing(1, (80, 40, 100, 60)), TABLE], filled={2})
    assert [words for _, words, _ in found] == ["above"]


def test_depth_orders_objects_in_contact_alone():
    near, far, apart = thing(1, (10, 40, 60, 80)), thing(2, (50, 30, 120, 85)), thing(3, (150, 0, 160, 10))
    found = scene_relations.relations([near, far, apart], depths(0.9, 0.2, 0.5), tie=0.02)
    assert (1, "in front of", 2) in found
    assert [pair for pair in found if pair[1] == "in front of"] == [(1, "in front of", 2)]
    tied = scene_relations.relations([near, far], depths(0.5, 0.51), tie=0.02)
    assert "in front of" not in [words for _, words, _ in tied]
    spread = scene_relations.relations([near, far], depths(0.5, 0.9, spread=0.5), tie=0.02)
    unknown = scene_relations.relations([near, far], [None, ObjectDepth(0.5, 0.0)])
    assert "in front of" not in [words for _, words, _ in spread + unknown]


def test_a_thing_far_in_front_of_a_table_is_not_on_it():
    cup = thing(1, (80, 40, 100, 60))
    assert scene_relations.relations([cup, TABLE], depths(0.5, 0.45))[0] == (1, "on", 2)
    assert (1, "on", 2) not in scene_relations.relations([cup, TABLE], depths(0.9, 0.2))


def test_sides_are_said_of_objects_that_are_apart_alone():
    """For random rectangles: what is said holds for the boxes, and no pair has two sides."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        corners = [(x, y, x + rng.integers(5, 60), y + rng.integers(5, 40)) for x, y in rng.integers(0, 60, (6, 2))]
        things = [thing(i, box) for i, box in enumerate(corners, 1)]
        found = scene_relations.relations(things)
        sides = [pair for pair in found if pair[1] in ("left of", "right of", "above", "below")]
        assert len({frozenset((a, b)) for a, _, b in sides}) == len(sides)
        for a, words, b in sides:
            one, other = corners[a - 1], corners[b - 1]
            axis = 0 if words in ("left of", "right of") else 1
            first, second = (one, other) if words in ("left of", "above") else (other, one)
            size = (W, H)[axis]
            assert first[axis + 2] <= second[axis] + 0.01 * size


def test_bounds():
    many = [
        thing(i + 1, (x, y, x + 12, y + 12)) for i, (x, y) in enumerate(itertools.product(range(0, 180, 8), (5, 9)))
    ]
    assert (
        len(scene_relations.relations(many, depths(*[i / len(many) for i in range(len(many))]))) == scene_relations.MOST
    )
    empty = Instance(2, "nothing", (0.1, 0.1, 0.2, 0.2), np.zeros((H, W), bool))
    assert scene_relations.relations([]) == scene_relations.relations([TABLE]) == []
    assert scene_relations.relations([thing(1, (80, 40, 100, 60)), empty]) == [(1, "right of", 2)]
