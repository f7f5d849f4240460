"""Pixels and results equal transformers' DPTImageProcessorPil with the published settings."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the reference implementation needs torch")
import depth_models  # noqa: E402
from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil  # noqa: E402

from dtr1_jax.specialists.depth_anything import depth_preprocessing  # noqa: E402

# preprocessor_config.json of depth-anything/Depth-Anything-V2-Small-hf, without what says nothing about pixels.
PUBLISHED = {
    "do_normalize": True, "do_pad": False, "do_rescale": True, "do_resize": True, "ensure_multiple_of": 14,
    "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "keep_aspect_ratio": True, "resample": 3,
    "rescale_factor": 0.00392156862745098, "size": {"height": 518, "width": 518}, "size_divisor": None,
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [{}, {"keep_aspect_ratio": False, "resample": 2}, {"do_rescale": False}, {"do_normalize": False}],
    ids=["published", "stretched", "not rescaled", "not normalised"],
)
def test_pixels_equal_transformers(change):
    processor = DPTImageProcessorPil(**PUBLISHED | change)
    ours = depth_preprocessing.from_config(PUBLISHED | change, 14)
    for image in depth_models.pictures((480, 640), (333, 500), (701, 397), (20, 33), (518, 518), (1200, 511)):
        expected = processor(image, return_tensors="np").pixel_values[0].transpose(1, 2, 0)
        pixels = depth_preprocessing.prepared(image, ours.size(*image.shape[:2]), ours.resample)
        np.testing.assert_allclose(np.asarray(ours.scale(pixels)), expected, rtol=1e-6, atol=1e-6)


def test_sizes_equal_transformers():
    """Ties of rounding and of the two factors too: all sizes near them."""
    processor, ours = DPTImageProcessorPil(**PUBLISHED), depth_preprocessing.from_config(PUBLISHED, 14)
    size = processor.size
    from transformers.models.dpt import image_processing_pil_dpt as reference

    for height in range(20, 1400, 13):
        for width in (77, 259, 518, 519, 640, 1036, height):
            new = reference.get_resize_output_image_size(
                np.zeros((3, height, width), bool), (size["height"], size["width"]), True, 14
            )
            assert ours.size(height, width) == (new.height, new.width)


def test_result_equals_transformers():
    for size, own in (((56, 70), (61, 83)), ((56, 42), (13, 9)), ((14, 56), (2, 300)), ((28, 28), (28, 28))):
        depth = np.random.default_rng(0).normal(size=size).astype(np.float32)
        expected = torch.nn.functional.interpolate(torch.tensor(depth)[None, None], own, mode="bicubic")
        np.testing.assert_allclose(depth_preprocessing.at_own_size(depth, *own), expected[0, 0], atol=2e-5)


def test_extreme_pictures():
    ours = depth_preprocessing.from_config(PUBLISHED, 14)
    assert ours.size(1, 1) == (518, 518)
    assert ours.size(1, 10_000) == (14, 518)  # the reference would resize to 0 rows
    assert ours.size(10_000, 10_000) == (518, 518)
    long = np.zeros((518, 10_000, 3), np.uint8)
    with pytest.raises(ValueError, match=r"picture 3 of 10000 x 518 pixels: .* 9996 x 518 pixels, 26,418 patches"):
        depth_preprocessing.checked_size(ours.size(518, 10_000), long, 14, 3)
    fixed = depth_preprocessing.from_config(PUBLISHED | {"do_resize": False}, 14)
    with pytest.raises(ValueError, match="expected multiples of 14"):
        depth_preprocessing.checked_size(fixed.size(28, 30), long, 14, 0)
