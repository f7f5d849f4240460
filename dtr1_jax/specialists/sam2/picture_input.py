"""How a SAM 2 checkpoint wants its pictures: one square size, then mean and deviation of the colours."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from dtr1_jax.models.config_fields import SpecError, switch
from dtr1_jax.models.weights.hf_checkpoint import read_json
from dtr1_jax.specialists import pictures

FILES = ("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json")
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


@dataclasses.dataclass(frozen=True)
class PictureInput:
    """The rules of one checkpoint.

    Attributes:
      side: pictures are resized to side x side pixels; their aspect is not kept.
      resample: the filter, as pictures.RESAMPLING names it.
      scale, mean, std: the model reads (pixel * scale - mean) / std.
    """

    side: int
    resample: str = "BILINEAR"
    scale: float = 1 / 255
    mean: tuple[float, ...] = _MEAN
    std: tuple[float, ...] = _STD

    def resized(self, images: list[np.ndarray]) -> np.ndarray:
        """uint8[B, side, side, 3] of pictures uint8[h, w, 3]."""
        return np.stack([pictures.resized(image, self.side, self.side, self.resample) for image in images])


def read(folder: Path, side: int) -> PictureInput:
    """The rules in the checkpoint's folder; the published ones where it has no such file.

    Args:
      folder: the checkpoint.
      side: the size that config.json gives, pixels.

    Raises SpecError: a rule that is not supported, or another size than in config.json.
    """
    path = next((folder / name for name in FILES if (folder / name).is_file()), None)
    if path is None:
        return PictureInput(side)
    rules = read_json(path, "the rules for pictures")
    rules = next((rules[k] for k in ("image_processor", "video_processor") if isinstance(rules.get(k), dict)), rules)
    where = f"{path}: "
    expected = {"height": side, "width": side}
    if rules.get("size", expected) not in (expected, side):
        raise SpecError(f"{where}size: expected {side} x {side} as in config.json, got {rules['size']!r}")
    if not switch(rules, "do_resize", True, where):
        raise SpecError(f"{where}do_resize: expected true, got false")
    resample = rules.get("resample", 2)
    if resample not in pictures.RESAMPLING:
        raise SpecError(f"{where}resample: expected one of {sorted(pictures.RESAMPLING)}, got {resample!r}")
    mean, std, scale = _MEAN, _STD, 1 / 255
    if not switch(rules, "do_normalize", True, where):
        mean, std = (0.0,) * 3, (1.0,) * 3
    else:
        mean, std = _colours(rules, "image_mean", _MEAN, where), _colours(rules, "image_std", _STD, where)
    scale = rules.get("rescale_factor", scale) if switch(rules, "do_rescale", True, where) else 1.0
    if not isinstance(scale, int | float) or not 0 < scale <= 1 or min(std) <= 0:
        raise SpecError(f"{where}expected rescale_factor in (0, 1] and image_std above 0, got {scale!r} and {std!r}")
    return PictureInput(side, pictures.RESAMPLING[resample], float(scale), mean, std)


def _colours(rules: dict, name: str, default: tuple[float, ...], where: str) -> tuple[float, ...]:
    value = rules.get(name)
    value = default if value is None else value
    if not isinstance(value, list | tuple) or len(value) != 3 or not all(isinstance(x, int | float) for x in value):
        raise SpecError(f"{where}{name}: expected three numbers, got {value!r}")
    return tuple(float(x) for x in value)
