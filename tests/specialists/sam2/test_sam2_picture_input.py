"""Pictures are resized and normalised as the checkpoint's processor does it."""

import json

import numpy as np
import pytest

from dtr1_jax.models.config_fields import SpecError
from dtr1_jax.specialists.sam2 import picture_input

SIZE = {"height": 64, "width": 64}


@pytest.mark.parametrize("shape", [(37, 53), (301, 222), (64, 64), (1, 1), (500, 20)])
def test_resizing_is_that_of_the_processor(shape):
    """Sam2ImageProcessor calls torchvision's resize, and that is interpolate with antialiasing on uint8: equal to one
    step of 255, because both round to whole numbers between the axes."""
    torch = pytest.importorskip("torch", reason="the processor resizes in torch")
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    wanted = torch.nn.functional.interpolate(
        torch.tensor(image).permute(2, 0, 1)[None], size=(64, 64), mode="bilinear", antialias=True
    )[0]  # fmt: skip
    got = picture_input.PictureInput(64).resized([image])[0].astype(int)
    assert np.abs(got - wanted.permute(1, 2, 0).numpy()).max() <= 1


def write(folder, name, **rules):
    (folder / name).write_text(json.dumps(rules))
    return folder


def test_rules_are_read(tmp_path):
    assert picture_input.read(tmp_path, 64) == picture_input.PictureInput(64)
    write(tmp_path, "processor_config.json", image_processor={"size": SIZE, "image_mean": [0.5] * 3, "resample": 3})
    rules = picture_input.read(tmp_path, 64)
    assert rules.mean == (0.5,) * 3 and rules.resample == "BICUBIC" and rules.std == (0.229, 0.224, 0.225)
    write(tmp_path, "preprocessor_config.json", size=SIZE, do_normalize=False, do_rescale=False)
    rules = picture_input.read(tmp_path, 64)
    assert rules.mean == (0.0,) * 3 and rules.scale == 1.0


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"size": {"height": 32, "width": 64}}, "expected 64 x 64 as in config.json"),
        ({"do_resize": False}, "do_resize"),
        ({"resample": 9}, "resample"),
        ({"image_std": [1, 2]}, "image_std: expected three numbers"),
        ({"rescale_factor": -1}, "rescale_factor"),
        ({"image_std": [0, 1, 1]}, "image_std above 0"),
    ],
)
def test_rules_that_are_not_supported(tmp_path, rules, message):
    with pytest.raises(SpecError, match=message):
        picture_input.read(write(tmp_path, "preprocessor_config.json", **rules), 64)
