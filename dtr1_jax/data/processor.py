"""Reads from a checkpoint's JSON files how its own processor cuts pictures and videos."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from dtr1_jax.data.json_files import DataError, read_json
from dtr1_jax.data.patches import Geometry, VideoRule

_CLIP = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
# The settings of the released checkpoints, for folders without processor files.
DEFAULTS = {
    "qwen2_5_vl": Geometry(
        14, 2, 2, 0, 12_845_056, 3136, "smart", **_CLIP,
        video=VideoRule(3136, 12_845_056, spread="steps", stamped=False, time_scale=2.0),
    ),
    "qwen3_vl": Geometry(
        16, 2, 2, 48, 16_777_216, 65_536, "smart", video=VideoRule(4096, 25_165_824, whole=True),
    ),
}  # fmt: skip
_Settings = tuple[dict[str, Any], str]  # settings, and the file and section that they come from

_FILES = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")
_FIXED = {
    "resample": 3,
    "do_resize": True,
    "do_rescale": True,
    "do_normalize": True,
}  # no other values are supported


def geometry(
    folder: str | Path | None, family: str, *, side: int, window: int = 0, time_scale: float | None = None,
    max_pixels: int = 0, video_pixels: int = 0, fps: float = 0, max_frames: int = 0,
) -> Geometry:  # fmt: skip
    """Reads the geometry of a checkpoint, with some settings replaced.

    Args:
      folder: has the checkpoint's files; None = the settings of the family's released checkpoints.
      family: "qwen2_5_vl" or "qwen3_vl".
      side, window: as in Geometry; they are in config.json, not in the processor's files.
      time_scale: config.json's `tokens_per_second`; None = that of the family.
      max_pixels: limit of a picture; 0 = the processor's own. A 0 in the arguments below has the same meaning.
      video_pixels: limit of a video (Qwen3-VL) or of each of its frames (Qwen2.5-VL).
      fps, max_frames: frames sampled per second of a video, and their largest number.

    Raises DataError: a file is not a JSON object, or has a setting that is not supported.
    """
    base = DEFAULTS[family]
    merged, image, video = (_read(folder, name) for name in _FILES)
    image = _section(merged, "image_processor") or image
    # Without a file for videos, transformers reads their settings from the file for pictures.
    video = _section(merged, "video_processor") or (video if video[0] else image)
    low, high = _limits(image, base.min_pixels, base.max_pixels)
    video_low, video_high = _limits(video, base.video.min_pixels, base.video.max_pixels)
    for source in (image, video):
        _check_fixed(source)
    for key in ("patch_size", "temporal_patch_size", "merge_size"):
        of_picture, of_video = (
            _number(source, key, getattr(base, key.removesuffix("_size"))) for source in (image, video)
        )
        if of_picture != of_video:
            raise DataError(f"{video[1]}: {key}: expected that of pictures, {of_picture}, got {of_video}")
    high, video_high = max_pixels or high, video_pixels or video_high
    try:
        rule = dataclasses.replace(
            base.video, min_pixels=min(video_low, video_high), max_pixels=video_high,
            fps=float(fps or _number(video, "fps", base.video.fps)),
            min_frames=min(_number(video, "min_frames", base.video.min_frames), max_frames or math.inf),
            max_frames=max_frames or _number(video, "max_frames", base.video.max_frames),
            time_scale=base.video.time_scale if time_scale is None else float(time_scale),
        )  # fmt: skip
        return Geometry(
            _number(image, "patch_size", base.patch), _number(image, "temporal_patch_size", base.temporal_patch),
            _number(image, "merge_size", base.merge), side, high, min(low, high), base.rule,
            _colours(image, "image_mean", base.mean), _colours(image, "image_std", base.std), window, rule,
        )  # fmt: skip
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{folder}: the processor's settings cannot be used: {error}") from None


def _read(folder: str | Path | None, name: str) -> _Settings:
    """The settings in a file, empty if there is no such file."""
    if folder is None:
        return {}, name
    path = Path(folder) / name
    if not path.is_file():
        return {}, str(path)
    values = read_json(path)
    if not isinstance(values, dict):
        raise DataError(f"{path}: expected a JSON object, got {type(values).__name__}")
    return values, str(path)


def _section(source: _Settings, key: str) -> _Settings | None:
    """The section of processor_config.json about pictures or videos, or None if there is none."""
    part = source[0].get(key)
    return (part, f"{source[1]}: {key}") if isinstance(part, dict) and part else None


def _limits(source: _Settings, low: int, high: int) -> tuple[int, int]:
    """The (smallest, largest) number of pixels, from `size` or, in older files, from min_pixels and max_pixels."""
    size = source[0].get("size")
    size = size if isinstance(size, dict) else {}
    limits = []
    for old, new, default in (("min_pixels", "shortest_edge", low), ("max_pixels", "longest_edge", high)):
        key = old if source[0].get(old) is not None else new
        values = source[0] if key == old else size
        limits.append(_number((values, source[1]), key, default))
    return limits[0], limits[1]


def _number(source: _Settings, key: str, default: float) -> float:
    value = source[0].get(key)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 2**40:
        raise DataError(f"{source[1]}: {key}: expected a number above 0, got {value!r}")
    return int(value) if isinstance(default, int) else float(value)


def _colours(source: _Settings, key: str, default: tuple[float, float, float]) -> tuple[float, float, float]:
    value = source[0].get(key)
    if value is None:
        return default
    numbers = isinstance(value, list) and len(value) == 3 and all(isinstance(x, int | float) for x in value)
    if not numbers or not all(0 < x <= 1 for x in value):
        raise DataError(f"{source[1]}: {key}: expected three numbers in (0, 1], got {value!r}")
    return tuple(float(x) for x in value)


def _check_fixed(source: _Settings) -> None:
    for key, expected in _FIXED.items():
        value = source[0].get(key)
        if value is not None and value != expected:
            raise DataError(f"{source[1]}: {key}: expected {expected}, got {value!r}, which is not supported")
