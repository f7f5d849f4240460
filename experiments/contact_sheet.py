"""Draws a sheet of TwinWorld examples for a person to look at.

python experiments/contact_sheet.py --out sheet.png --n 24 --split heldout --seed 0
"""

import argparse
import textwrap

import cv2
import numpy as np
from PIL import Image, ImageDraw

from dtr1_jax.data.twinworld import generate

_SCALE, _TEXT_LINES, _PAD = 3, 8, 6  # screen pixels per picture pixel, lines under a picture, pixels around a tile
_LINE = 12  # height of a line of text, pixels


def tile(example) -> np.ndarray:
    """uint8[h, w, 3]: the picture enlarged, the target outlined, ids in place, and the words under it."""
    size = example.image.shape[0] * _SCALE
    picture = cv2.resize(example.image, (size, size), interpolation=cv2.INTER_NEAREST)
    mask = cv2.resize(example.target.mask.astype(np.uint8), (size, size), interpolation=cv2.INTER_NEAREST)
    outlines, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, (255, 0, 255), 2)
    canvas = Image.new("RGB", (size + 2 * _PAD, size + _TEXT_LINES * _LINE + 2 * _PAD), "white")
    canvas.paste(Image.fromarray(picture), (_PAD, _PAD))
    pen = ImageDraw.Draw(canvas)
    for thing in example.scene:
        corner = (_PAD + thing.box[0] * size, _PAD + thing.box[1] * size)
        pen.text(corner, f"{thing.id} d{thing.depth}", fill="white", stroke_width=1, stroke_fill="black")
    answer = ", ".join(map(str, example.answer_ids)) or "nothing"
    words = [f"{example.category} {example.level}", example.query, example.thought, f"answer: {answer}"]
    lines = [line for text in words for line in textwrap.wrap(text, 50)]
    pen.text((_PAD, _PAD + size), "\n".join(lines[:_TEXT_LINES]), fill="black", spacing=0)
    return np.asarray(canvas)


def main() -> None:
    """Reads the command line and writes the sheet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="PNG file to write")
    parser.add_argument("--n", type=int, default=24, help="number of examples")
    parser.add_argument("--split", choices=generate.SPLITS, default="heldout")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=96, help="side of a picture, pixels")
    args = parser.parse_args()
    if args.n < 1:
        parser.error(f"--n: expected at least 1, got {args.n}")
    tiles = [tile(generate.example(args.seed, args.split, index, size=args.size)) for index in range(args.n)]
    columns = int(np.ceil(np.sqrt(len(tiles))))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[start : start + columns], 1) for start in range(0, len(tiles), columns)]
    Image.fromarray(np.concatenate(rows)).save(args.out)


if __name__ == "__main__":
    main()
