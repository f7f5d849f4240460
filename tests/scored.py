"""Examples, transcripts and a stand-in for the segmenter, for the tests of rewards and figures."""

import dataclasses

import numpy as np

from configs import default
from dtr1_jax import config
from dtr1_jax.rewards import columns
from dtr1_jax.twin.coordinates import Canvas, Frame
from dtr1_jax.twin.schema import Answer, Object, Twin
from dtr1_jax.twin.transcript import compose, parse
from dtr1_jax.types import Example, Target

CANVAS = Canvas(Frame.PIXEL, (8, 4))


LEFT, RIGHT = Object(1, "mug", (0, 0, 4, 4)), Object(7, "key", (4, 0, 8, 4))


TWIN = Twin((8, 4), (LEFT, RIGHT))


def settings(mask_size=16, **weights):
    """Reward settings with these weights in each task that has the column."""
    weights = weights or {"structure": 0.5, "mask_iou": 1.0, "box_iou": 0.25}
    of_task = {task: {n: w for n, w in weights.items() if n in known} for task, known in columns.TASK_COLUMNS.items()}
    shipped = config.from_configdict(default.get_config()).reward
    return dataclasses.replace(shipped, weights=of_task, segmenter="box", mask_size=mask_size)


def say(*ids, twin=TWIN, canvas=CANVAS):
    return parse(compose(twin, "because", Answer(objects=ids)), task="segmentation", canvas=canvas)


def say_boxes(*boxes):
    return parse(compose(TWIN, "because", Answer(boxes=boxes)), task="grounding", canvas=CANVAS)


def example(*boxes, task="segmentation", ignore=None, size=(4, 8)):
    """A query whose target are these boxes, unit frame, filled."""
    image = np.zeros((*size, 3), np.uint8)
    boxes = np.reshape(boxes, (-1, 4)).astype(np.float32)
    return Example("uid", image, "which?", task, Target(fill(image, boxes), boxes, ignore))


def fill(image, boxes):
    h, w = image.shape[:2]
    mask = np.zeros((h, w), bool)
    for x1, y1, x2, y2 in boxes * np.array([w, h, w, h]):
        mask[round(y1) : round(y2), round(x1) : round(x2)] = True
    return mask


class Segmenter:
    """Fills boxes and records its calls."""

    def __init__(self):
        self.calls = []

    def __call__(self, images, boxes):
        self.calls.append(boxes)
        return [fill(image, b) for image, b in zip(images, boxes)]


WANT_LEFT = (0, 0, 0.5, 1)
