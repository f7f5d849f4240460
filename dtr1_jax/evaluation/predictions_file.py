"""Predictions on disk: predictions.jsonl with a line for each query, and pictures of the first of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dtr1_jax import draw, places
from dtr1_jax.evaluation.metrics import row
from dtr1_jax.evaluation.predict import Prediction
from dtr1_jax.run import atomic
from dtr1_jax.twin import tracks
from dtr1_jax.twin.coordinates import to_unit


def write_predictions(folder: Path, predictions: list[Prediction], pictures: int) -> None:
    """Writes predictions.jsonl into `folder`, and PNG files of the first `pictures` predictions beside it."""
    places.make_folder(folder)
    lines = []
    for i, prediction in enumerate(predictions):
        line = row(prediction)
        if i < pictures:
            line["pictures"] = {}
            for kind, image in draw_prediction(prediction):
                line["pictures"][kind] = f"{i:04d}_{kind}.png"
                places.write_bytes(folder / line["pictures"][kind], draw.to_png(image))
        lines.append(json.dumps(line) + "\n")  # ASCII, because a completion may hold lone surrogates
    with atomic.replacing(folder / "predictions.jsonl") as partial:
        partial.write_text("".join(lines), "utf-8")


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
