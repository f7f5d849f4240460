"""Drawings of a prediction: the picture, its twin, the target and the answer."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from dtr1_jax import draw
from dtr1_jax.evaluation.predict import Prediction
from dtr1_jax.twin import tracks
from dtr1_jax.twin.coordinates import to_unit


def to_pngs(prediction: Prediction) -> dict[str, bytes]:
    """The drawings of `draw_prediction`: kind -> PNG file."""
    return {kind: draw.to_png(image) for kind, image in draw_prediction(prediction)}


def draw_prediction(prediction: Prediction) -> Iterator[tuple[str, np.ndarray]]:
    """Yields (kind, uint8[h, w, 3]) for each drawing that the prediction has; a video is drawn by its first frame.

    The kinds are "image", the bare picture; "twin", the predicted objects; "target" and "answer", the boxes or masks.
    """
    example, transcript, answer = prediction.example, prediction.transcript, prediction.outcome
    image, target = draw.shrink(example.image), example.target
    yield "image", draw.overlay(image)
    if transcript.twin:
        yield "twin", draw_twin(prediction, image)
    if example.task == "grounding":
        yield "target", draw.overlay(image, boxes=target.boxes)
        if transcript.sound:
            yield "answer", draw.overlay(image, boxes=answer.boxes)
    elif example.task == "segmentation":
        yield "target", draw.overlay(image, mask=target.mask)
        if answer.mask is not None:
            yield "answer", draw.overlay(image, mask=answer.mask, target=target.mask)


def draw_twin(prediction: Prediction, image: np.ndarray) -> np.ndarray:
    """uint8[h, w, 3]: the boxes and names of the predicted twin's objects over `image`, which is the first frame of a
    video. The prediction must have a twin.
    """
    objects = tracks.first_frame(prediction.transcript.twin).objects
    boxes = np.array([to_unit(o.box, prediction.canvas) for o in objects], np.float32).reshape(-1, 4)
    return draw.overlay(image, boxes=boxes, names=[f"{o.id} {o.label}" for o in objects])
