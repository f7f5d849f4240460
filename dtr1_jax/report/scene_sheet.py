"""Perceived scenes as one picture to look at: each with its masks, boxes and labels drawn, and its objects in words."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dtr1_jax import draw
from dtr1_jax.specialists.perceived import PerceivedScene

COLUMNS = 4
WIDTH, HEIGHT = 480, 360  # of the picture in a tile, pixels
_PAD, _FONT, _LINE, _LINES = 8, 13, 17, 6


def sheet(tiles: Sequence[np.ndarray]) -> np.ndarray:
    """Puts tiles of one size, at least one, into rows of COLUMNS: uint8[h, w, 3]."""
    columns = min(COLUMNS, len(tiles))
    tiles = [*tiles, *[np.full_like(tiles[0], 255)] * (-len(tiles) % columns)]
    return np.concatenate([np.concatenate(tiles[i : i + columns], 1) for i in range(0, len(tiles), columns)])


def tile(name: str, image: np.ndarray, scene: PerceivedScene) -> np.ndarray:
    """One scene. Of a video the first frame is shown.

    Args:
      name: of the picture.
      image: uint8[h, w, 3], the picture or the first frame.
      scene: what was perceived.
    """
    boxes = np.array([one.box for one in scene.instances], np.float64).reshape(-1, 4)
    names = [f"{one.id} {one.label}" for one in scene.instances]
    picture = draw.overlay(_tinted(draw.shrink(image, WIDTH), scene), boxes=boxes, names=names)
    scale = min(WIDTH / picture.shape[1], HEIGHT / picture.shape[0])
    size = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    canvas = Image.new("RGB", (WIDTH + 2 * _PAD, HEIGHT + _LINES * _LINE + 2 * _PAD), "white")
    canvas.paste(Image.fromarray(picture).resize(size), (_PAD + (WIDTH - size[0]) // 2, _PAD))
    ImageDraw.Draw(canvas).multiline_text(
        (_PAD, 2 * _PAD + HEIGHT), "\n".join(_lines(name, scene)), font=ImageFont.load_default(size=_FONT),
        fill="black", spacing=_LINE - _FONT,
    )  # fmt: skip
    return np.asarray(canvas)


def _tinted(image: np.ndarray, scene: PerceivedScene) -> np.ndarray:
    """The picture with each mask in the colour of its object."""
    canvas = image.copy()
    for one in scene.instances:
        size = canvas.shape[1::-1]
        mask = cv2.resize(one.mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        canvas[mask] = (0.55 * canvas[mask] + 0.45 * np.array(draw.color(one.id))).astype(np.uint8)
    return canvas


def _lines(name: str, scene: PerceivedScene) -> list[str]:
    """The name, the objects, the relations and the first failure, as many lines as fit."""
    words = []
    for one in scene.instances:
        score = scene.provenance.get(one.id, {}).get("label", {}).get("score")
        facts = [f"{score:.2f}"] if score is not None else []
        facts += [f"depth {one.depth}"] if one.depth else []
        words.append(f"{one.id} {one.label} ({', '.join([*facts, *one.attributes])})")
    relations = [f"{a} {relation} {b}" for a, relation, b in scene.relations]
    texts = (name, "; ".join(words) or "no objects", ", ".join(relations), "; ".join(scene.failures))
    lines = []
    for text, most in zip(texts, (1, 3, 1, 1)):
        plain = "".join(c if c.isprintable() else "?" for c in " ".join(text.split()))
        wrapped = textwrap.wrap(plain, int(WIDTH / (0.52 * _FONT)))
        lines += wrapped[:most] if len(wrapped) <= most else [*wrapped[: most - 1], f"{wrapped[most - 1]} ..."]
    return lines
