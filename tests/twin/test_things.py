"""Measures of moving and standing objects, by hand."""

import numpy as np
import pytest
from moving_squares import BACK, GONE, LATE, RIGHT, SLOW, STILL, instances_along

from dtr1_jax.data.queries.motion import measure_motion
from dtr1_jax.data.twinworld.video_scenes import sample_video_scene, video_instances
from dtr1_jax.twin import things
from dtr1_jax.twin.coordinates import Canvas, Frame
from dtr1_jax.twin.schema import Object, Twin


def test_motion_by_hand():
    paths = [(path, 0.1) for path in (RIGHT, SLOW, STILL, BACK, LATE, GONE)]
    right, slow, still, back, late, gone = things.things_of_scene(instances_along(*paths))
    assert (right.direction, slow.direction, still.direction) == ("right", "right", "")
    assert right.speed == pytest.approx(0.2) and slow.speed == pytest.approx(0.05) and still.speed == 0
    assert [x.moves for x in (right, slow, still, back)] == [True, True, False, True]
    assert [x.turns for x in (right, slow, still, back)] == [False, False, False, True]
    assert late.times == [2, 3] and gone.times == [0, 1]
    assert late.centres[0] == pytest.approx(late.centres[2]), "before it appears it has the place of its first box"


def test_measures_agree_with_the_generators_wherever_that_decides():
    rng, decided = np.random.default_rng(2), 0
    for _ in range(60):
        scene = video_instances(sample_video_scene(rng, "train", 4, 96, int(rng.integers(4, 12))))
        for thing, item in zip(things.things_of_scene(scene), scene, strict=True):
            motion = measure_motion(item)
            for ours, known in ((thing.moves, motion.moves), (thing.direction, motion.direction)):
                assert known is None or ours == known
                decided += known is not None
            assert motion.turns is None or thing.turns == (motion.turns > 0)
            assert thing.speed == pytest.approx(motion.speed) or motion.moves is None
            assert (thing.times[0], thing.times[-1]) == (motion.first, motion.last)
    assert decided > 300


def test_a_twins_objects_are_in_the_unit_frame():
    canvas = Canvas(Frame.PIXEL, (8, 4), (0, 2, 4))
    moving = Object(7, " Tea  Mug", None, 3, ("Red",), ((0, (0, 0, 4, 4)), (4, (4, 0, 8, 4))), (2, 1))
    standing = Object(8, "key", (0, 0, 4, 2))
    one, two = things.things_of_twin(Twin((8, 4), (moving, standing), frames=(0, 2, 4)), canvas)
    assert (one.id, one.label, one.depth, one.attributes) == (7, "tea mug", 3, ("red",))
    assert one.boxes == ((0, 0, 0.5, 1), (0.25, 0, 0.75, 1), (0.5, 0, 1, 1)) and one.velocity == (0.25, 0.25)
    assert two.boxes == ((0, 0, 0.5, 0.5),) * 3 and two.area == 0.25 and not two.moves


def test_objects_that_are_never_visible_are_left_out():
    assert [x.id for x in things.things_of_scene(instances_along(([None] * 4, 0.1), (STILL, 0.1)))] == [2]
