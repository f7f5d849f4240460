"""Draws a sheet of TwinWorld examples for a person to look at.

python experiments/contact_sheet.py --out sheet.png --n 24 --split heldout --seed 0
python experiments/contact_sheet.py --out sheet.png --n 8 --video --frames 8 --task vqa
"""

import argparse
import textwrap

import cv2
import numpy as np
from PIL import Image, ImageDraw

from dtr1_jax import types
from dtr1_jax.data.twinworld import picture_examples, tasks

_SCALE, _TEXT_LINES, _PAD = 3, 8, 6  # screen pixels per picture pixel, lines under a picture, pixels around a tile
_VIDEO_SCALE, _VIDEO_LINES = 2, 4  # the same for a video, whose frames stand in a row
_LINE = 12  # height of a line of text, pixels
_LETTER = 5.8  # width of a letter, pixels


def tile(example: types.Example) -> np.ndarray:
    """Draws an example as uint8[h, w, 3]: its picture or frames with the target's outline and ids, and its texts."""
    target = example.target
    if not example.visuals:
        pictures = [(example.image, target.mask, [(t.id, t.depth, t.box) for t in example.scene])]
        scale, max_lines = _SCALE, _TEXT_LINES
    else:
        frames = example.visuals[0].frames
        masks = target.masks if target.masks is not None else np.zeros(frames.shape[:3], bool)
        pictures = [
            (frame, masks[t], [(item.id, item.depth, item.boxes[t]) for item in example.scene if item.boxes[t].any()])
            for t, frame in enumerate(frames)
        ]
        scale, max_lines = _VIDEO_SCALE, _VIDEO_LINES
    side = example.image.shape[0] * scale
    width = len(pictures) * (side + _PAD) + _PAD
    canvas = Image.new("RGB", (width, side + max_lines * _LINE + 2 * _PAD), "white")
    pen = ImageDraw.Draw(canvas)
    for t, (picture, mask, objects) in enumerate(pictures):
        left = _PAD + t * (side + _PAD)
        canvas.paste(Image.fromarray(_draw_outline(picture, mask, scale)), (left, _PAD))
        for number, depth, box in objects:
            corner = (left + box[0] * side, _PAD + box[1] * side)
            caption = f"{number} d{depth}" if len(pictures) == 1 else str(number)
            pen.text(corner, caption, fill="white", stroke_width=1, stroke_fill="black")
    answer = " | ".join(target.references) or ", ".join(map(str, example.answer_ids or ())) or "nothing"
    texts = [f"{example.category} {example.level}: {example.query}", example.thought, f"answer: {answer}"]
    lines = [line for text in texts for line in textwrap.wrap(text, int((width - 2 * _PAD) / _LETTER))]
    pen.text((_PAD, _PAD + side), "\n".join(lines[:max_lines]), fill="black", spacing=0)
    return np.asarray(canvas)


def _draw_outline(picture: np.ndarray, mask: np.ndarray, scale: int) -> np.ndarray:
    """The picture enlarged, with the outline of the mask."""
    size = (picture.shape[1] * scale, picture.shape[0] * scale)
    large = cv2.resize(picture, size, interpolation=cv2.INTER_NEAREST)
    inside = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    outlines, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(large, outlines, -1, (255, 0, 255), 2)
    return large


def main() -> None:
    """Reads the command line and writes the sheet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", required=True, help="PNG file to write")
    parser.add_argument("--n", type=int, default=24, help="number of examples")
    parser.add_argument("--split", choices=picture_examples.SPLITS, default="heldout")
    parser.add_argument("--task", choices=types.TASKS, default="segmentation")
    parser.add_argument("--video", action="store_true", help="videos in place of pictures")
    parser.add_argument("--frames", type=int, default=8, help="frames of a video")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=96, help="side of a picture, pixels")
    args = parser.parse_args()
    if args.n < 1:
        parser.error(f"--n: expected at least 1, got {args.n}")
    video_sizes = {"video": True, "frames": args.frames, "max_objects": 5} if args.video else {}
    tiles = [
        tile(tasks.example(args.task, args.seed, args.split, index, size=args.size, **video_sizes))
        for index in range(args.n)
    ]
    columns = 1 if args.video else int(np.ceil(np.sqrt(len(tiles))))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[start : start + columns], 1) for start in range(0, len(tiles), columns)]
    Image.fromarray(np.concatenate(rows)).save(args.out)


if __name__ == "__main__":
    main()
