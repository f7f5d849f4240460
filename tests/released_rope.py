"""The rotary positions of the release of Qwen2.5-VL, written from its description and not from our own code.

As in the release and in the servers that run its weights: every stretch of text, and every picture or video, starts at
the largest position before it plus 1, whatever axis that position is on.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np


def positions(
    kinds: Sequence[int],
    image_grids: Sequence,
    video_grids: Sequence,
    seconds: Sequence[float],
    merge: int,
    rate: float,
) -> tuple[np.ndarray, int]:
    """(int[L, 3] time, row, column; the position of the first token of the completion).

    Args:
      kinds: kind of each token: 0 text, 1 picture, 2 video.
      image_grids, video_grids: (times, rows, columns) in patches, in the order of the prompt.
      seconds: seconds of a temporal patch of each video.
      merge: merge x merge patches are one token.
      rate: positions of a second.
    """
    grids = {1: iter(image_grids), 2: iter(video_grids)}
    second = iter(seconds)
    rows: list[tuple[int, int, int]] = []
    for kind, group in itertools.groupby(kinds):
        count, start = len(list(group)), 1 + max((max(row) for row in rows), default=-1)
        if kind == 0:
            rows += [(start + i,) * 3 for i in range(count)]
            continue
        t, h, w = (int(n) for n in next(grids[kind]))
        step = rate * next(second) if kind == 2 else 0
        new = [
            (start + int(np.float32(i) * np.float32(step)), start + j, start + k)
            for i, j, k in itertools.product(range(t), range(h // merge), range(w // merge))
        ]
        assert len(new) == count, "two pictures or videos without a token between them"
        rows += new
    return np.array(rows).reshape(-1, 3), 1 + max((max(row) for row in rows), default=-1)
