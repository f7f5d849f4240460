"""Examples of a data set as one picture: each with its target drawn, and the query and the answer under it."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dtr1_jax import draw
from dtr1_jax.types import POINTING, Example

COLUMNS = 6
WIDTH, HEIGHT = 384, 288  # of the picture in a tile, pixels
_PAD, _FONT, _LINE = 8, 14, 18  # pixels
_LINES = 7  # of text under a picture


def sheet(examples: Sequence[tuple[str, Example]]) -> np.ndarray:
    """Draws (split, example) pairs, at least one, in rows of COLUMNS tiles: uint8[h, w, 3]."""
    tiles = [_tile(split, example) for split, example in examples]
    columns = min(COLUMNS, len(tiles))
    tiles += [np.full_like(tiles[0], 255)] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[start : start + columns], 1) for start in range(0, len(tiles), columns)]
    return np.concatenate(rows)


def answer(example: Example) -> str:
    """The right answer in words: the references, or the objects, or the number of boxes."""
    target, frame = example.target, shown_frame(example)
    if example.task not in POINTING:
        return " | ".join(target.references)
    names = [f"{item.id} {item.label}" for item in example.scene if item.id in (example.answer_ids or ())]
    if names:
        return ", ".join(names)
    count = len(_boxes(example, frame))
    if count:
        return f"{count} box{'es' * (count > 1)}"
    return "a mask" if _mask(example, frame).any() else "nothing"


def shown_frame(example: Example) -> int:
    """The frame of a video with the largest target, the first of equals; 0 for a picture."""
    masks = example.target.masks
    return 0 if masks is None else int(masks.reshape(len(masks), -1).sum(1).argmax())


def _tile(split: str, example: Example) -> np.ndarray:
    frame = shown_frame(example)
    image = example.image if example.video is None else example.video.frames[frame]
    pointing = example.task in POINTING
    picture = draw.overlay(
        draw.shrink(image, WIDTH), mask=_mask(example, frame) if pointing else None,
        marked=_boxes(example, frame) if pointing else None,
    )  # fmt: skip
    scale = min(WIDTH / picture.shape[1], HEIGHT / picture.shape[0])
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    canvas = Image.new("RGB", (WIDTH + 2 * _PAD, HEIGHT + _LINES * _LINE + 2 * _PAD), "white")
    canvas.paste(Image.fromarray(picture).resize(size), (_PAD + (WIDTH - size[0]) // 2, _PAD))
    where = "" if example.video is None else f"frame {frame + 1} of {len(example.video.frames)}, "
    texts = (f"{split}: {example.task}, {where}{example.uid}", example.query, f"-> {answer(example)}")
    ImageDraw.Draw(canvas).multiline_text(
        (_PAD, 2 * _PAD + HEIGHT), "\n".join(_lines(texts)), font=ImageFont.load_default(size=_FONT), fill="black",
        spacing=_LINE - _FONT,
    )  # fmt: skip
    return np.asarray(canvas)


def _lines(texts: Sequence[str]) -> list[str]:
    """The texts in lines that fit: one line for the name, three for the query, two for the answer."""
    lines = []
    for text, most in zip(texts, (1, 3, 2)):
        plain = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
        wrapped = textwrap.wrap(plain, int(WIDTH / (0.52 * _FONT))) or [""]
        lines += wrapped[:most] if len(wrapped) <= most else [*wrapped[: most - 1], f"{wrapped[most - 1]} ..."]
    return lines


def _mask(example: Example, frame: int) -> np.ndarray:
    return example.target.mask if example.target.masks is None else example.target.masks[frame]


def _boxes(example: Example, frame: int) -> np.ndarray:
    target = example.target
    boxes = target.boxes if target.tracks is None else target.tracks[:, frame]
    return boxes[boxes[:, 2] > boxes[:, 0]]
