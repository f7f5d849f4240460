"""Small folders in the forms of the benchmarks of referring video segmentation, with squares that move."""

import json

import numpy as np
from PIL import Image

from dtr1_jax.twin import masks

H, W, T = 30, 40, 6


def square(t, x0=2, y0=5, step=3, size=8):
    """bool[H, W], a square whose left edge is at x0 + step * t."""
    mask = np.zeros((H, W), bool)
    mask[y0 : y0 + size, x0 + step * t : x0 + step * t + size] = True
    return mask


def rle(mask):
    """An RLE as pycocotools writes it into JSON."""
    found = masks.encode(mask)
    return {"size": [int(side) for side in found["size"]], "counts": found["counts"].decode()}


def names(count=T):
    return [f"{t:05d}" for t in range(count)]


def write_frames(folder, count=T, first=0):
    """Grey frames; the grey of a frame is its number."""
    folder.mkdir(parents=True, exist_ok=True)
    for t in range(first, first + count):
        Image.new("RGB", (W, H), (t, t, t)).save(folder / f"{t:05d}.jpg")


def write_palette(folder, values):
    """Palette PNGs of uint8[T, H, W]."""
    folder.mkdir(parents=True, exist_ok=True)
    for t, value in enumerate(values):
        image = Image.fromarray(value.astype(np.uint8), mode="P")
        image.putpalette([part for k in range(256) for part in (k, 255 - k if k else 0, 0)])
        image.save(folder / f"{t:05d}.png")


ONE = [rle(square(t)) for t in range(T)]
TWO = [None if t < 2 else rle(square(t, y0=18, step=1)) for t in range(T)]


def write_mevis(root, split="valid_u", expressions=None, mask_dict=None, videos=("a",)):
    """A split of MeViS; by default one video with a sentence for one object, for both, and for none."""
    part = root / split
    for video in videos:
        write_frames(part / "JPEGImages" / video)
    expressions = expressions or {
        "0": {"exp": "the square that moves fast", "obj_id": [0], "anno_id": [7]},
        "1": {"exp": "all squares", "obj_id": [0, 1], "anno_id": [7, 12]},
        "2": {"exp": "a circle", "obj_id": [], "anno_id": []},
    }
    meta = {"videos": {v: {"vid_id": i, "frames": names(), "expressions": expressions} for i, v in enumerate(videos)}}
    (part / "meta_expressions.json").write_text(json.dumps(meta))
    (part / "mask_dict.json").write_text(json.dumps({"7": ONE, "12": TWO} if mask_dict is None else mask_dict))
    return root


def write_revos(root, kinds=(0, 1, 2)):
    """ReVOS: a video with a query of each type; the foreground is both squares."""
    write_frames(root / "JPEGImages" / "a")
    expressions = {
        str(i): {"exp": f"query {i}", "type_id": kind, "obj_id": [0], "anno_id": [] if kind == 2 else [7]}
        for i, kind in enumerate(kinds)
    }
    meta = {"videos": {"a": {"vid_id": 0, "frames": names(), "expressions": expressions}}}
    (root / "meta_expressions_valid_.json").write_text(json.dumps(meta))
    (root / "mask_dict.json").write_text(json.dumps({"7": ONE, "12": TWO}))
    both = [rle(square(t) | (square(t, y0=18, step=1) & (t >= 2))) for t in range(T)]
    (root / "mask_dict_foreground.json").write_text(json.dumps({"a": {"masks_rle": both}}))
    return root
