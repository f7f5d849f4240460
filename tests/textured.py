"""Videos of textured squares in front of a textured background, whose motion is known."""

import cv2
import numpy as np


def texture(height, width, seed, grain=3):
    """uint8[height, width, 3], smoothed noise with full contrast."""
    noise = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal((height, width, 3)), (0, 0), grain)
    noise = (noise - noise.min()) / (noise.max() - noise.min())
    return (255 * noise).astype(np.uint8)


def video(count, size, background_step, squares):
    """(frames, masks bool[n, T, h, w]): squares are (side, x, y, dx, dy) in pixels, the later ones in front."""
    height, width = size
    wide = texture(height + 200, width + 400, 0)
    frames, masks = [], np.zeros((len(squares), count, height, width), bool)
    for t in range(count):
        left, top = 100 + round(background_step[0] * t), 100 + round(background_step[1] * t)
        frame = wide[top : top + height, left : left + width].copy()
        for i, (side, x, y, dx, dy) in enumerate(squares):
            patch = texture(side, side, i + 1, 2) // 2 + np.array([[90, 0, 0], [0, 0, 90]], np.uint8)[i % 2]
            x1, y1 = round(x + dx * t), round(y + dy * t)
            a, b, c, d = max(y1, 0), min(y1 + side, height), max(x1, 0), min(x1 + side, width)
            if a < b and c < d:
                frame[a:b, c:d] = patch[a - y1 : b - y1, c - x1 : d - x1]
                masks[:, t, a:b, c:d] = False
                masks[i, t, a:b, c:d] = True
        frames.append(frame)
    return frames, masks
