"""Checkpoints that do not fit are refused with the names of the tensors."""

import json

import numpy as np
import pytest
import small_owlv2
from safetensors.numpy import save_file

from dtr1_jax import specialists
from dtr1_jax.models.weights.native import WeightsError
from dtr1_jax.specialists.owlv2 import spec, weights

TEXT = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION = TEXT | {"image_size": 32, "patch_size": 16}


def write(folder, change):
    """A checkpoint of zeros, after `change(tensors, config)`."""
    tokens, _ = small_owlv2.vocabulary()
    config = {"model_type": "owlv2", "projection_dim": 8, "text_config": TEXT | {"vocab_size": len(tokens)}}
    config["vision_config"] = VISION
    tensors = {k: np.zeros(s, np.float32) for k, s in weights.shapes(spec.read(folder, config)).items()}
    change(tensors, config)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    small_owlv2.write_slow_tokenizer(folder)
    return folder


def test_unused_tensors_are_ignored(tmp_path):
    def add(tensors, config):
        tensors["owlv2.logit_scale"] = np.array(1, np.float32)
        tensors["owlv2.visual_projection.weight"] = np.zeros((8, 8), np.float32)
        tensors["owlv2.text_model.embeddings.position_ids"] = np.zeros((1, 16), np.int64)
        tensors["box_bias"] = np.zeros((4, 4), np.float32)

    owl = specialists.load(write(tmp_path, add))
    assert "box_bias" not in owl.params
    (found,) = owl.detect(np.zeros((5, 9, 3), np.uint8), ["cat"], threshold=0)
    assert np.isfinite(found.scores).all()  # embeddings of zeros have no direction


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, c: t.pop("layer_norm.bias"), r"missing layer_norm.bias \[8\]"),
        (lambda t, c: t.update(more=np.zeros(3, np.float32)), "left over more"),
        (
            lambda t, c: t.update({"box_head.dense2.weight": np.zeros((5, 8), np.float32)}),
            r"box_head.dense2.weight: expected shape \[4, 8\], got \[5, 8\]",
        ),
        (
            lambda t, c: t.update({"box_head.dense2.bias": np.zeros(4, np.int32)}),
            "box_head.dense2.bias: expected floats",
        ),
        (lambda t, c: c.update(model_type="owlvit"), "model_type 'owlvit' is no specialist"),
        (lambda t, c: c.update(vision_config=VISION | {"num_hidden_layers": 2}), "missing owlv2.vision_model.encoder"),
    ],
)
def test_refused(tmp_path, change, message):
    with pytest.raises(WeightsError, match=message):
        specialists.load(write(tmp_path, change))
