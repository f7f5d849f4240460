"""A checkpoint is read strictly: every weight is there, of its shape, and nothing else but what is named."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from dtr1_jax import specialists
from dtr1_jax.models.weights.native import WeightsError
from dtr1_jax.specialists.sam2.spec import from_config
from dtr1_jax.specialists.sam2.weights import PICTURE_WAVES, PROMPT_WAVES, shapes

# The smallest sizes; every field that is not here has its published value.
CONFIG = {
    "model_type": "sam2_video", "image_size": 64, "memory_attention_rope_feat_sizes": [4, 4],
    "memory_attention_hidden_size": 64, "memory_encoder_hidden_size": 64, "mask_downsampler_embed_dim": 64,
    "memory_fuser_embed_dim": 64, "memory_attention_feed_forward_hidden_size": 8, "memory_fuser_intermediate_dim": 8,
    "vision_config": {
        "fpn_hidden_size": 64, "backbone_channel_list": [32, 16, 8, 4],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "backbone_config": {
            "image_size": 64, "hidden_size": 4, "embed_dim_per_stage": [4, 8, 16, 32],
            "num_attention_heads_per_stage": [1, 1, 1, 1], "blocks_per_stage": [1, 1, 1, 1],
            "global_attention_blocks": [],
        },
    },
    "prompt_encoder_config": {"hidden_size": 64, "image_size": 64},
    "mask_decoder_config": {"hidden_size": 64, "mlp_dim": 8},
}  # fmt: skip


def write(folder, config=CONFIG, **changes):
    """A random checkpoint; a change of None leaves the tensor out."""
    random = np.random.default_rng(0)
    wanted = shapes(from_config(CONFIG))
    tensors = {name: random.normal(size=shape).astype(np.float32) for name, shape in wanted.items()}
    tensors = {name: value for name, value in (tensors | changes).items() if value is not None}
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"no_object_pointer": None}, "missing no_object_pointer"),
        ({"more": np.zeros(3, np.float32)}, "left over more"),
        ({"no_object_pointer": np.zeros((1, 63), np.float32)}, r"expected shape \[1, 64\], got \[1, 63\]"),
        ({PROMPT_WAVES: None, PICTURE_WAVES: None}, "positional_embedding"),
    ],
)
def test_wrong_files_are_refused(tmp_path, changes, message):
    with pytest.raises(WeightsError, match=message):
        specialists.load(write(tmp_path, **changes))


def test_what_is_not_used_is_named(tmp_path):
    unused = {"no_memory_positional_encoding": (1, 1, 64), "memory_attention.rotary_emb.rope_embeddings_cos": (16, 64)}
    sam = specialists.load(write(tmp_path, **{name: np.zeros(shape, np.float32) for name, shape in unused.items()}))
    assert set(sam._params) == set(shapes(sam.spec))


@pytest.mark.parametrize("absent", [PROMPT_WAVES, PICTURE_WAVES])
def test_positions_may_be_stored_once(tmp_path, absent):
    params = specialists.load(write(tmp_path, **{absent: None}), dtype="bfloat16")._params
    np.testing.assert_array_equal(params[PROMPT_WAVES], params[PICTURE_WAVES])
    assert params[absent].dtype == np.float32 and params["no_object_pointer"].dtype != np.float32


def test_a_picture_model_ignores_the_memory(tmp_path):
    sam = specialists.load(write(tmp_path, CONFIG | {"model_type": "sam2"}))
    assert sam.spec.memory is None and not any(name.startswith(("memory_", "object_pointer")) for name in sam._params)
