"""Draws the pictures of the README and the docs: query, picture, twin, target and answer, one example a row.

From the oracle, whose twin is the annotation and whose masks come from the segmenter, as in training:
    python experiments/picture.py --out docs/example.png --index 47 44
From a policy, out of the gallery that a run or `--mode=eval` has written (without --index: its first two rows):
    python experiments/picture.py --out docs/example.png --gallery runs/demo/gallery/after --index 0 1
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dtr1_jax.data import demonstrations, image_files
from dtr1_jax.data.twinworld import picture_examples
from dtr1_jax.evaluation import drawings, predict, query_metrics
from dtr1_jax.rewards import answer_regions
from dtr1_jax.specialists.segmenter import grabcut
from dtr1_jax.twin import transcript
from dtr1_jax.twin.coordinates import Canvas, Frame

ORACLE = "Twin and answer: the annotation (no policy). Mask: GrabCut from the box of the answer."
POLICY = "Twin and answer: written by the policy. Mask: the segmenter from the boxes of the answer."
PANELS = {"image": "picture", "twin": "twin", "target": "target", "answer": "answer, target outlined"}
_SIDE, _GAP, _LINE = 280, 8, 22  # pixels: panel, space between panels, line of text


def oracle(index: int) -> predict.Prediction:
    """Held-out scene `index`, answered by its annotation."""
    example = picture_examples.example(0, "heldout", index)
    canvas = Canvas(Frame.PIXEL, example.image.shape[1::-1])
    parsed = transcript.parse(demonstrations.oracle(example, canvas), task=example.task, canvas=canvas)
    outcome = answer_regions.outcomes([[parsed]], [example], [canvas], _masks)[0][0]
    return predict.Prediction(example, canvas, parsed, outcome, {}, query_metrics.measure(example, parsed, outcome))


def gallery(folder: Path, index: int) -> tuple[str, dict[str, np.ndarray]]:
    """Reads row `index` of a gallery's predictions.jsonl: (caption, panels by kind).

    Raises SystemExit if there is no such row, or it has no pictures.
    """
    rows = (folder / "predictions.jsonl").read_text("utf-8").splitlines()
    row = json.loads(rows[index]) if index < len(rows) else {}
    if "pictures" not in row:
        raise SystemExit(
            f"{folder}: no row {index} with pictures; take a lower --index (config.train.gallery rows have pictures)"
        )
    panels = {kind: image_files.load_image(folder / Path(name).name) for kind, name in row["pictures"].items()}
    return _caption(row["query"], row["transcript"], row["iou"]), panels


def sheet(rows: list[tuple[str, dict[str, np.ndarray]]], note: str) -> Image.Image:
    """Draws all rows, (caption, panels by kind) each, as one picture with the note below."""
    font = ImageFont.load_default(size=15)
    width, height = len(PANELS) * (_SIDE + _GAP) + _GAP, _SIDE + 3 * _LINE + 2 * _GAP
    canvas = Image.new("RGB", (width, len(rows) * height + _LINE + 2 * _GAP), "white")
    pen = ImageDraw.Draw(canvas)
    for number, (caption, panels) in enumerate(rows):
        top = number * height + _GAP
        pen.text((_GAP, top), caption, fill="black", font=font, spacing=6)
        for column, (kind, name) in enumerate(PANELS.items()):
            x = _GAP + column * (_SIDE + _GAP)
            if kind in panels:
                canvas.paste(
                    Image.fromarray(panels[kind]).resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), (x, top + 48)
                )
            pen.text((x, top + 50 + _SIDE), name if kind in panels else f"no {kind}", fill="dimgray", font=font)
    pen.text((_GAP, len(rows) * height + _GAP), note, fill="black", font=font)
    return canvas


def _masks(pictures: list[np.ndarray], boxes: list[np.ndarray]) -> list[np.ndarray]:
    """The union of GrabCut's masks of each picture's boxes."""
    return [np.any([grabcut(picture, box) for box in rows], axis=0) for picture, rows in zip(pictures, boxes)]


def _caption(query: str, completion: str, iou: float) -> str:
    """The query, and on the next line the thought and answer of the completion and its IoU."""
    tail = " ".join("".join(c if c.isprintable() else "?" for c in completion[completion.find("<think>") :]).split())
    return f"Query: {query}\n{tail[:130]}   IoU {iou:.2f}"


def _rows(args: argparse.Namespace) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    for index in args.index:
        if args.gallery:
            yield gallery(args.gallery, index)
        else:
            p = oracle(index)
            yield (
                _caption(p.example.query, p.transcript.text, p.measures["iou"]),
                dict(drawings.draw_prediction(p)),
            )


def main() -> None:
    """Reads the command line and writes the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="PNG file to write")
    parser.add_argument(
        "--gallery", type=Path, help="folder with predictions.jsonl and its pictures; default: the oracle"
    )
    parser.add_argument(
        "--index", type=int, nargs="+", default=[0, 1], help="rows of the gallery, or held-out scenes of the oracle"
    )
    args = parser.parse_args()
    picture = sheet(list(_rows(args)), POLICY if args.gallery else ORACLE)
    picture.quantize(256, dither=Image.Dither.NONE).save(args.out, optimize=True)


if __name__ == "__main__":
    main()
