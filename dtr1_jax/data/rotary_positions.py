"""Rotary positions of prompts with pictures and videos (M-RoPE of Qwen2-VL, arXiv 2409.12191). numpy only."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Grid:
    """Vision tokens of a picture, a video, or one temporal patch of a video.

    Attributes:
      times, rows, columns: how many; the tokens stand time by time and row by row.
      step: positions from one time to the next; not an integer where a video's rate is none.
      resume: text goes on after the rows and columns ("grid") or after the times as well ("end").
    """

    times: int
    rows: int
    columns: int
    step: float = 1.0
    resume: str = "grid"

    @property
    def tokens(self) -> int:
        """How many tokens."""
        return self.times * self.rows * self.columns


def positions(parts: Sequence[int | Grid]) -> tuple[np.ndarray, int]:
    """Numbers the tokens of a prompt: so many tokens of text, or a Grid, one after the other.

    Text counts up in all three axes at once. A vision token is at the position where its grid starts, plus its time x
    step (in float32, rounded down, as the checkpoints' own code does), its row and its column. The text behind a grid
    starts after its larger side: three tokens of text around a grid of 2 x 2 are at 0, then (1,1,1) (1,1,2) (1,2,1)
    (1,2,2), then 3, 4.

    Returns:
      (int32[L, 3] time, row, column; the position of the token that follows the prompt: the largest of all, plus 1).
    """
    found, start = [np.zeros((0, 3), np.int64)], 0
    for part in parts:
        if isinstance(part, Grid):
            time, row, column = (x.ravel() for x in np.indices((part.times, part.rows, part.columns)))
            time = (time.astype(np.float32) * np.float32(part.step)).astype(np.int64)
            place = start + np.stack([time, row, column], -1)
            start = start + max(part.rows, part.columns) if part.resume == "grid" else int(place.max()) + 1
        else:
            place = np.repeat(np.arange(start, start + part)[:, None], 3, 1)
            start += part
        found.append(place)
    position = np.concatenate(found)
    return position.astype(np.int32), int(position.max(initial=-1)) + 1
