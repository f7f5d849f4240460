"""Answers about the videos of referred_folders.py: a twin of one moving square, and a segmenter that fills boxes."""

import dataclasses
import json

import numpy as np
from referred_folders import H, W

from dtr1_jax.data.readers import mevis
from dtr1_jax.twin.coordinates import Canvas, Frame
from dtr1_jax.twin.transcript import parse

SHOWN = (0, 2, 5)
CANVAS = Canvas(Frame.PIXEL, (W, H), SHOWN)


class Filled:
    """Fills boxes; counts the pictures that it is asked about."""

    def __init__(self, fails=()):
        self.pictures, self.fails = [], fails

    def __call__(self, images, boxes):
        found = []
        for image, rows in zip(images, boxes):
            number = int(image.mean().round())
            self.pictures.append(number)
            mask = np.zeros(image.shape[:2], bool)
            for x1, y1, x2, y2 in (rows * [W, H, W, H]).round().astype(int):
                mask[y1:y2, x1:x2] = True
            found.append(None if number in self.fails else mask)
        return found


def say(answer, track=(2, 5, 10, 13), last=(17, 5, 25, 13), numbers=(0, 5)):
    """A transcript whose twin has one square from a first to a last frame."""
    keys = {str(numbers[0]): list(track), str(numbers[1]): list(last)}
    twin = {"size": [W, H], "frames": list(SHOWN), "objects": [{"id": 1, "label": "square", "track": keys}]}
    text = f"<twin>{json.dumps(twin)}</twin> <think>it moves</think> <answer>{json.dumps(answer)}</answer>"
    return parse(text, task="segmentation", canvas=CANVAS)


def source(root, opened=mevis.open_mevis_source, split="valid_u"):
    return dataclasses.replace(opened(str(root), split, "segmentation"), frames=len(SHOWN))
