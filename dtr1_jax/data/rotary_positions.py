"""Rotary positions of prompts with pictures and videos (M-RoPE of Qwen2-VL, arXiv 2409.12191). numpy only."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Grid:
    """Vision tokens of a picture, a video, or one temporal patch of a video.

    Attributes:
      times, rows, columns: size of the grid in tokens; the tokens stand time by time and row by row.
      step: rotary positions from one time to the next, an integer or a fraction.
      resume: where the text behind the grid starts: "end", after the largest position of the grid on any axis, as in
        the release of Qwen2.5-VL and in vLLM and SGLang; or "grid", after the rows and columns only, as in
        transformers >= 5.3. They differ behind videos alone.
    """

    times: int
    rows: int
    columns: int
    step: float = 1.0
    resume: str = "end"

    @property
    def tokens(self) -> int:
        """Number of tokens in the grid."""
        return self.times * self.rows * self.columns


def positions(parts: Sequence[int | Grid]) -> tuple[np.ndarray, int]:
    """Computes the rotary positions of a prompt's tokens.

    Text counts up in all three axes at once. A vision token is at the position where its grid starts, plus its time x
    step (in float32, rounded down, as the checkpoints' own code does), its row and its column. `Grid.resume` says where
    the text behind a grid starts, and the completion goes on as text of the prompt would. Example: for 1 token of text,
    a grid of 2 x 2 and 2 tokens of text, the positions are 0, then (1,1,1) (1,1,2) (1,2,1) (1,2,2), then 3 and 4; the
    completion starts at 5.

    Args:
      parts: the parts of the prompt in order: a number of text tokens, or a Grid.

    Returns:
      (int32[L, 3] time, row, column; the position of the first token of the completion: behind text, the last position
      plus 1).
    """
    places, start = [np.zeros((0, 3), np.int64)], 0
    for part in parts:
        if isinstance(part, Grid):
            time, row, column = (x.ravel() for x in np.indices((part.times, part.rows, part.columns)))
            time = (time.astype(np.float32) * np.float32(part.step)).astype(np.int64)
            place = start + np.stack([time, row, column], -1)
            start = start + max(part.rows, part.columns) if part.resume == "grid" else int(place.max()) + 1
        else:
            place = np.repeat(np.arange(start, start + part)[:, None], 3, 1)
            start += part
        places.append(place)
    position = np.concatenate(places)
    return position.astype(np.int32), start
