"""Sizes of DINOv2 from config.json: published ones, and fields that are wrong."""

import numpy as np
import pytest

from dtr1_jax.models.config_fields import SpecError
from dtr1_jax.specialists.dinov2 import spec, weights


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        ({"hidden_size": 384, "num_attention_heads": 6}, 22.1),
        ({}, 86.6),
        ({"hidden_size": 1024, "num_attention_heads": 16, "num_hidden_layers": 24}, 304.4),
        ({"hidden_size": 1536, "num_attention_heads": 24, "num_hidden_layers": 40, "use_swiglu_ffn": True}, 1136.5),
    ],
)
def test_published_sizes(config, millions):
    """Numbers of parameters as on the model cards of facebook/dinov2-*, whose positions are for 518 pixels."""
    sizes = spec.from_config({"model_type": "dinov2", "image_size": 518} | config)
    count = sum(np.prod(shape) for shape in weights.shapes(sizes).values())
    assert count / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "vit"}, "x.model_type: expected one of dinov2"),
        ({"hidden_size": 100}, "x.hidden_size: expected a multiple of num_attention_heads = 12, got 100"),
        ({"hidden_act": "swish2"}, "x.hidden_act"),
        ({"patch_size": [14, 16]}, "x.patch_size: expected a square"),
        ({"image_size": 8}, "x.image_size: expected at least patch_size = 14, got 8"),
        ({"num_hidden_layers": 5000}, "x.num_hidden_layers: expected at most 1,000 layers"),
        ({"mlp_ratio": 0}, "x.mlp_ratio: expected a positive number"),
    ],
)
def test_wrong_fields(change, message):
    with pytest.raises(SpecError, match=message.replace(".", r"\.")):
        spec.from_config({"model_type": "dinov2"} | change, "x.")
