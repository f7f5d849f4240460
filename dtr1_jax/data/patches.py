"""Pictures and videos become patches: resize, normalise, cut, and put in the order of the tower. numpy only."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from dtr1_jax import types
from dtr1_jax.data import patch_layout

RATIO = 200  # Qwen's processors refuse a picture whose longer side is more than this many times the shorter


@dataclasses.dataclass(frozen=True)
class VideoRule:
    """How a policy samples, resizes and writes out videos.

    Attributes:
      min_pixels, max_pixels: limits on the pixels after resizing.
      whole: the limits are on all frames together (Qwen3-VL) instead of on each frame (Qwen2.5-VL).
      fps: frames sampled per second.
      min_frames, max_frames: limits on the number of sampled frames; a shorter video has fewer.
      repeats: a video of fewer frames than min_frames is sampled min_frames times all the same, so frames repeat.
      spread: how the sampled frames are spread over the video: "ends" from the first to the last, rounded (Qwen3-VL),
        or "steps" of equal length from the first, rounded down, filling whole temporal patches (Qwen2.5-VL).
      stamped: the text has each temporal patch between <|vision_start|> and <|vision_end|>, and its time before it, as
        "<3.0 seconds>" (Qwen3-VL).
      wrapped: keep the <|vision_start|> and <|vision_end|> of the chat template around the stamped patches, as
        transformers >= 5.12 does. The release of Qwen3-VL, and vLLM, drop them.
      time_scale: positions per second on the rotary time axis (Qwen2.5-VL); 0 = one position for each temporal patch.
        Not used where `stamped`.
      resume: rotary position of the text behind a video: "end", after its time as well, as the weights of Qwen2.5-VL
        were trained and are served, or "grid", after its rows and columns only, as in transformers >= 5.3. It makes no
        difference where `stamped`.
    """

    min_pixels: int
    max_pixels: int
    whole: bool = False
    fps: float = 2.0
    min_frames: int = 4
    max_frames: int = 768
    repeats: bool = False
    spread: str = "ends"
    stamped: bool = True
    wrapped: bool = False
    time_scale: float = 0.0
    resume: str = "end"

    def __post_init__(self):
        if self.fps <= 0 or not 1 <= self.min_frames <= self.max_frames:
            raise ValueError(f"expected fps above 0 and 1 <= min_frames <= max_frames, got {self}")
        if self.spread not in ("ends", "steps") or self.resume not in ("grid", "end"):
            raise ValueError(f'expected spread "ends" or "steps" and resume "grid" or "end", got {self}')


@dataclasses.dataclass(frozen=True)
class Geometry:
    """How a policy resizes pictures and cuts them into patches.

    Attributes:
      patch: side of a patch, pixels.
      temporal_patch: frames in a patch; a still picture is repeated.
      merge: merge x merge patches become one token.
      side: the learned position table has side x side rows; 0 = there is none.
      max_pixels: a picture is shrunk to about this many pixels at most.
      min_pixels: a picture is enlarged to about this many pixels at least; used by the rule "smart" only.
      rule: "square" makes every picture, whatever its shape, the largest square of whole tokens within max_pixels, and
        every frame of a video the largest within `video.max_pixels`; "smart" keeps the shape and resizes only pictures
        outside the limits (Qwen-VL).
      mean, std: of red, green and blue in [0, 1], used to normalise.
      window: side of an attention window of the tower in tokens; 0 = none.
      video: how videos are taken; None = the policy takes no videos.
    """

    patch: int
    temporal_patch: int
    merge: int
    side: int
    max_pixels: int
    min_pixels: int = 0
    rule: str = "square"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    window: int = 0
    video: VideoRule | None = None

    @property
    def factor(self) -> int:
        """Pixels along the side of one token."""
        return self.patch * self.merge

    @property
    def patches(self) -> int:
        """Number of patches in a picture of `max_pixels`."""
        if self.rule == "square":
            return (_side(self.max_pixels, self.factor) // self.patch) ** 2
        return self.max_pixels // self.factor**2 * self.merge**2

    def __post_init__(self):
        if min(self.patch, self.temporal_patch, self.merge) < 1 or min(self.side, self.window) < 0:
            raise ValueError(f"expected sizes of at least 1, got {self}")
        if self.max_pixels < self.factor**2:
            raise ValueError(
                f"max_pixels = {self.max_pixels} is less than one token of {self.factor} x {self.factor} pixels"
            )
        if self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels = {self.min_pixels} is more than max_pixels = {self.max_pixels}")
        if self.rule not in ("square", "smart"):
            raise ValueError(f'expected rule "square" or "smart", got {self.rule!r}')


@dataclasses.dataclass(frozen=True)
class Piece:
    """A picture or video, cut into patches.

    Attributes:
      patch_nc: float32[n, c], its patches: time by time, the merge x merge patches of a token together, tokens in
        reading order. The values of a patch are ordered channel, frame, row, column.
      grid: (times, rows, columns), in patches.
      size: (w, h) of the resized picture, pixels.
    """

    patch_nc: np.ndarray
    grid: tuple[int, int, int]
    size: tuple[int, int]


def picture_size(width: int, height: int, geometry: Geometry) -> tuple[int, int]:
    """The (width, height) in pixels to which a picture is resized: multiples of `factor`, at least one token a side.

    By the rule "square", all pictures get one size. By the rule "smart" (`smart_resize` of Qwen2-VL), a picture gets
    the nearest multiples, unless they are outside the limits.

    Raises ValueError if the rule is "smart" and one side is more than RATIO times the other.
    """
    if geometry.rule == "square":
        return (_side(geometry.max_pixels, geometry.factor),) * 2
    return _smart(width, height, geometry.factor, geometry.min_pixels, geometry.max_pixels)


def video_size(frames: int, width: int, height: int, geometry: Geometry) -> tuple[int, int]:
    """The (width, height) in pixels to which the frames of a video are resized.

    Raises ValueError as `picture_size` does, and where the policy takes no videos.
    """
    rule, factor = _rule(geometry), geometry.factor
    if geometry.rule == "square":
        return (_side(rule.max_pixels, factor),) * 2
    if not rule.whole:
        return _smart(width, height, factor, rule.min_pixels, rule.max_pixels)
    if min(width, height) < factor:
        scale = max(factor / width, factor / height)
        width, height = int(width * scale), int(height * scale)
    return _smart(width, height, factor, rule.min_pixels, rule.max_pixels, frames, geometry.temporal_patch)


def _side(pixels: int, factor: int) -> int:
    """The side of the largest square of whole tokens, at least one, that has at most `pixels` pixels."""
    return max(math.isqrt(pixels) // factor, 1) * factor


def _smart(
    width: int, height: int, factor: int, low: int, high: int, frames: int = 1, step: int = 1
) -> tuple[int, int]:
    """`smart_resize` of Qwen2-VL and, with `frames` and `step`, of Qwen3-VL's videos: limits on all frames together."""
    if max(width, height) > RATIO * min(width, height):
        raise ValueError(
            f"expected a picture at most {RATIO} times as long as wide, got {width} x {height} pixels; crop it"
        )
    columns, rows = round(width / factor), round(height / factor)
    area = round(frames / step) * step * columns * rows * factor**2
    if area > high:
        shrink = math.sqrt(frames * height * width / high)
        columns, rows = (max(1, math.floor(side / shrink / factor)) for side in (width, height))
    elif area < max(low, 1):  # 0 for a picture that is thinner than half a token
        grow = math.sqrt(max(low, 1) / (frames * height * width))
        columns, rows = (math.ceil(side * grow / factor) for side in (width, height))
    return columns * factor, rows * factor


def cut_picture(image: np.ndarray, geometry: Geometry) -> Piece:
    """Resizes a picture uint8[h, w, 3] and cuts it into patches. Raises ValueError as `picture_size` does."""
    return _cut(image[None], picture_size(image.shape[1], image.shape[0], geometry), geometry)


def cut_video(video: types.Video, geometry: Geometry) -> Piece:
    """Resizes the frames of a video and cuts them into patches; the last frame is repeated to fill a temporal patch.

    Raises ValueError as `video_size` does.
    """
    _, height, width, _ = video.frames.shape
    count = max(len(video.frames), geometry.temporal_patch)
    return _cut(video.frames, video_size(count, width, height, geometry), geometry)


def gather(pieces: Sequence[Piece], geometry: Geometry, count: int | None = None) -> tuple[dict, np.ndarray]:
    """Puts the pictures and videos of one query together, in the order in which the tower reads the patches.

    Returns:
      A tuple: the fields of types.Images without the batch axis, padded to `count` patches unless it is None; and
      int[m], the index that each vision token has among the tower's tokens, in the order of the pieces.
    """
    layout = patch_layout.layout(
        [p.grid for p in pieces], merge=geometry.merge, side=geometry.side, window=geometry.window, patches=count
    )
    patch_nc = pieces[0].patch_nc if len(pieces) == 1 else np.concatenate([p.patch_nc for p in pieces])
    patch_nc = patch_nc[layout.order]
    if count is not None:
        patch_nc = np.pad(patch_nc, [(0, count - len(patch_nc)), (0, 0)])
    return {"patch_bnc": patch_nc, **layout.fields}, layout.place


def token_grid(grid: tuple[int, int, int], geometry: Geometry) -> tuple[int, int, int]:
    """The size (times, rows, columns) in decoder tokens of a grid of patches."""
    return grid[0], grid[1] // geometry.merge, grid[2] // geometry.merge


def _rule(geometry: Geometry) -> VideoRule:
    if geometry.video is None:
        raise ValueError("the policy takes no videos; give it single frames as pictures")
    return geometry.video


def _cut(frames: np.ndarray, size: tuple[int, int], geometry: Geometry) -> Piece:
    """Resizes uint8[T, h, w, 3] to `size` (w, h) and cuts the frames into patches."""
    if (frames.shape[2], frames.shape[1]) != size:
        frames = np.stack([Image.fromarray(f).resize(size, Image.Resampling.BICUBIC) for f in frames])
    std, mean = np.asarray(geometry.std), np.asarray(geometry.mean)
    pixels = frames.astype(np.float32) / (255 * std).astype(np.float32) - (mean / std).astype(np.float32)
    p, m, f = geometry.patch, geometry.merge, geometry.temporal_patch
    if missing := -len(pixels) % f:
        pixels = np.concatenate([pixels, np.repeat(pixels[-1:], missing, 0)])
    times, rows, columns = len(pixels) // f, size[1] // p, size[0] // p
    x = pixels.reshape(times, f, rows // m, m, p, columns // m, m, p, 3)
    x = x.transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)  # time, token row, token column, row, column in it | values
    return Piece(x.reshape(times * rows * columns, -1), (times, rows, columns), size)
