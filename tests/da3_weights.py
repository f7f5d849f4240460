"""Weights of a tiny Depth Anything 3 that any program can compute from their names, for the fixture and the test."""

from __future__ import annotations

import zlib

import numpy as np

WIDTH, LAYERS, HEADS = 24, 5, 3
NET = {"name": "vits", "out_layers": [0, 1, 3, 4], "cat_token": False, "alt_start": -1}
HEAD = {"dim_in": WIDTH, "features": 12, "out_channels": [6, 8, 10, 12], "output_dim": 1}


def weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32 values for the tensor `name` of the file: normal, and near 1 for scales."""
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    inputs = np.prod(shape[1:]) if len(shape) > 1 and "token" not in name and "pos_embed" not in name else 25
    values = rng.normal(0, inputs**-0.5, shape)
    scale = ("norm" in name and name.endswith("weight")) or "gamma" in name
    return (values + (1 if scale else 0)).astype(np.float32)


def pictures() -> list[np.ndarray]:
    """Random pictures uint8[h, w, 3] of odd sizes, small and large, wide and tall."""
    rng = np.random.default_rng(3)
    sizes = (61, 83), (45, 30), (150, 97)
    return [
        (0.6 * rng.uniform(0, 255, (-(-h // 9), -(-w // 9), 3)).repeat(9, 0).repeat(9, 1)[:h, :w]).astype(np.uint8)
        for h, w in sizes
    ]
