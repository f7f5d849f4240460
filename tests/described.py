"""A scene of three objects, its true twin and the columns of twins, for the tests of rewards/twin_truth.py."""

import dataclasses

import jax
import numpy as np

from dtr1_jax.rewards import twin_facts, twin_truth
from dtr1_jax.twin.coordinates import Canvas, Frame
from dtr1_jax.twin.schema import Object, Twin
from dtr1_jax.types import Example, Instance, Target

CANVAS = Canvas(Frame.NORM1000, (100, 100))
VIDEO = Canvas(Frame.NORM1000, (100, 100), (0, 1, 2, 3))
BLANK = np.zeros((4, 4), bool)
MUG = Instance(1, "mug", (0.0, 0.0, 0.2, 0.2), BLANK, 1, ("red", "small"))
KEY = Instance(2, "key", (0.4, 0.4, 0.6, 0.6), BLANK, 2, ("blue", "large"))
BOX = Instance(3, "box", (0.7, 0.0, 0.9, 0.4), BLANK, 3, ("green", "large"))
SCENE = (MUG, KEY, BOX)


def example(scene=SCENE):
    image = np.zeros((4, 4, 3), np.uint8)
    return Example("u", image, "?", "segmentation", Target(BLANK, np.zeros((0, 4), np.float32)), tuple(scene))


def objects(scene=SCENE):
    return [Object(i.id, i.label, tuple(round(v * 1000) for v in i.box), i.depth or None, i.attributes) for i in scene]


def columns(things, relations=(), scene=SCENE, canvas=CANVAS):
    """The columns of a twin of these objects."""
    twin = Twin((100, 100), tuple(things), tuple(relations), canvas.frames)
    frames, vocabulary = len(canvas.frames) or 1, {}
    sides = [twin_facts.of_twin(twin, canvas), twin_facts.of_example(example(scene), len(canvas.frames))]
    packed = [jax.tree.map(lambda x: x[0], twin_facts.pack([side], frames, vocabulary)) for side in sides]
    scores = jax.device_get(jax.jit(twin_truth.twin_columns)(*packed))
    return {name: float(value) for name, value in scores.items()}


MOVING = dataclasses.replace(
    MUG, boxes=np.array([(x, 0, x + 0.2, 0.2) for x in (0, 0.1, 0.2, 0.3)]), velocity=(0.1, 0.0)
)
LATE = dataclasses.replace(KEY, box=(0, 0, 0, 0), boxes=np.array([[0] * 4] * 2 + [[0.4, 0.4, 0.6, 0.6]] * 2))
