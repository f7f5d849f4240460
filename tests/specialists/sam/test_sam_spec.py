"""config.json of SAM: published sizes, and what is refused."""

import json
import math

import jax
import pytest
from safetensors.numpy import save_file

from dtr1_jax import specialists
from dtr1_jax.models.config_fields import SpecError
from dtr1_jax.models.weights.native import WeightsError
from dtr1_jax.specialists import tensors
from dtr1_jax.specialists.sam import spec, weights

SIZES = {
    "base": ({}, 93_735_472),
    "large": ({"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16,
               "global_attn_indexes": [5, 11, 17, 23]}, 312_342_832),
    "huge": ({"hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16,
              "global_attn_indexes": [7, 15, 23, 31]}, 641_090_608),
}  # fmt: skip
TINY = {
    "model_type": "sam",
    "vision_config": {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "image_size": 16,
                      "patch_size": 8, "output_channels": 16, "num_pos_feats": 8},
    "prompt_encoder_config": {"hidden_size": 16, "image_size": 16, "patch_size": 8},
    "mask_decoder_config": {"hidden_size": 16, "mlp_dim": 8, "num_attention_heads": 2},
}  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_published_sizes(name):
    vision, count = SIZES[name]
    shapes = weights.shapes(spec.from_config({"vision_config": vision}, {}))
    assert sum(math.prod(shape) for shape in shapes.values()) == count + 256  # the positions' matrix is no parameter


def test_mobile_sam_has_its_size():
    """10.13 million parameters, of which 321,640 are the classifier that it never runs; statistics do not count."""
    shapes = weights.shapes(spec.MOBILE_SAM)
    trained = [math.prod(s) for n, s in shapes.items() if "running" not in n and "positional" not in n]
    assert sum(trained) + 321_640 == 10_130_092


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("vision_config", {"hidden_size": 0}, r"vision_config\.hidden_size: expected a positive integer"),
        ("vision_config", {"num_attention_heads": 3}, r"vision_config\.hidden_size, image_size"),
        ("vision_config", {"global_attn_indexes": "all"}, r"vision_config\.global_attn_indexes"),
        ("vision_config", {"window_size": -1}, r"vision_config\.window_size"),
        ("vision_config", {"num_channels": 4}, r"vision_config\.num_channels"),
        ("vision_config", {"num_pos_feats": 128}, r"vision_config\.num_pos_feats"),
        ("vision_config", {"hidden_act": "tanhh"}, r"vision_config\.hidden_act"),
        ("vision_config", {"num_hidden_layers": 10**9}, "at most 200 layers"),
        ("prompt_encoder_config", {"image_size": 32}, r"prompt_encoder_config\.image_size"),
        ("prompt_encoder_config", {"num_point_embeddings": 5}, r"num_point_embeddings: expected 4, got 5"),
        ("prompt_encoder_config", {"mask_input_channels": 3}, "multiple of 4, got 3"),
        ("mask_decoder_config", {"hidden_size": 32}, r"mask_decoder_config\.hidden_size"),
        ("mask_decoder_config", {"num_attention_heads": 16}, "a multiple of 8"),
        ("mask_decoder_config", {"iou_head_depth": 1}, "at least 2, got 1"),
        ("mask_decoder_config", {"layer_norm_eps": 0}, "positive number"),
    ],
)
def test_bad_configs(part, change, message):
    with pytest.raises(SpecError, match=message):
        spec.from_config(TINY | {part: TINY[part] | change}, {})


@pytest.mark.parametrize(
    ("preprocessor", "message"),
    [
        ({"size": {"longest_edge": 512}}, "longest_edge"), ({"image_std": [0, 1, 1]}, "above 0"),
        ({"image_mean": [0.5]}, "three numbers"), ({"resample": 3}, "resample"), ({"do_pad": False}, "do_pad"),
    ],
)  # fmt: skip
def test_bad_preprocessors(preprocessor, message):
    with pytest.raises(SpecError, match=message):
        spec.from_config(TINY, preprocessor)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("mask_decoder.iou_token.weight"), "missing mask_decoder.iou_token.weight"),
        (lambda t: t.update(extra=t["mask_decoder.iou_token.weight"]), "left over extra"),
        (lambda t: t.update({"vision_encoder.pos_embed": t["mask_decoder.iou_token.weight"]}), "expected shape"),
    ],
)
def test_wrong_weights(tmp_path, change, message):
    params = tensors.random_params(weights.shapes(spec.from_config(TINY, {})), jax.random.key(0))
    values = {name: jax.device_get(x) for name, x in params.items()}
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    save_file(values, tmp_path / "model.safetensors")
    assert specialists.load(tmp_path).spec.grid == 2
    change(values)
    save_file(values, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=message):
        specialists.load(tmp_path)
