"""Examples of videos and of questions, and transcripts that answer them, for the tests of rewards and figures."""

import dataclasses

import numpy as np
from scored import CANVAS, example

from dtr1_jax.twin.coordinates import Canvas, Frame
from dtr1_jax.twin.schema import Answer, Object, Twin
from dtr1_jax.twin.transcript import compose, parse
from dtr1_jax.types import Example, Target, Video

VIDEO = Canvas(Frame.PIXEL, (8, 4), (0, 2, 4))


# It moves from left to right; frame 2 lies between its keyframes.
MOVING = Object(1, "mug", None, track=((0, (0, 0, 4, 4)), (4, (4, 0, 8, 4))), velocity=(2, 0))


LEAVING = Object(2, "key", None, track=((0, (0, 0, 4, 4)), (2, (0, 0, 4, 4))), velocity=(0, 0))


TWIN = Twin((8, 4), (MOVING, LEAVING), frames=(0, 2, 4))


PATH = np.array([[[0, 0, 0.5, 1], [0.25, 0, 0.75, 1], [0.5, 0, 1, 1]]], np.float32)


def tell(answer, task="segmentation", canvas=VIDEO, twin=TWIN):
    return parse(compose(twin, "because", answer), task=task, canvas=canvas)


def filled(track, h=4, w=8):
    out = np.zeros((len(track), h, w), bool)
    for mask, (x1, y1, x2, y2) in zip(out, track):
        mask[round(y1 * h) : round(y2 * h), round(x1 * w) : round(x2 * w)] = True
    return out


def video_query(tracks=PATH, task="segmentation", scene=(), **more):
    """A query about a video of 3 frames, whose target are these tracks, filled."""
    masks = np.any([filled(track) for track in tracks], 0) if len(tracks) else np.zeros((3, 4, 8), bool)
    target = Target(masks[0], tracks[:, 0][tracks[:, 0, 2] > 0], masks=masks, tracks=tracks, **more)
    video = Video(np.arange(3 * 4 * 8 * 3, dtype=np.uint8).reshape(3, 4, 8, 3), np.array(VIDEO.frames), 2.0, 5)
    return Example("video", video.frames[0], "which?", task, target, scene, visuals=(video,))


def question(*references, task="vqa"):
    return dataclasses.replace(example(task=task), target=dataclasses.replace(example().target, references=references))


def in_words(text, task="vqa", canvas=CANVAS):
    return parse(compose(Twin((8, 4), ()), "because", Answer(text=text)), task=task, canvas=canvas)
