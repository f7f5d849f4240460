"""Writes tiny Hugging Face checkpoints: random weights, config.json and the shipped tokenizer's files."""

import json
import shutil

import jax
import numpy as np

from dtr1_jax.data import tokenizer
from dtr1_jax.models import policy, spec
from dtr1_jax.models.weights import exporting
from dtr1_jax.policies import policy_files

TEXT = {
    "vocab_size": 1664, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 48, "rms_norm_eps": 1e-6, "rope_theta": 1e4, "tie_word_embeddings": True,
    "max_position_embeddings": 4096, "bos_token_id": None, "eos_token_id": 962,
}  # fmt: skip
TOWER = {
    "depth": 2, "hidden_size": 16, "num_heads": 2, "intermediate_size": 24, "out_hidden_size": 32,
    "temporal_patch_size": 2, "spatial_merge_size": 2,
}  # fmt: skip
TOKENS = {"image_token_id": 965, "video_token_id": 966, "vision_start_token_id": 963, "vision_end_token_id": 964}


def config(family: str, **changes) -> dict:
    """Values of config.json for a tiny model; vision-language families have the nested form of transformers."""
    if family == "qwen2_5_vl":
        tower = TOWER | {"patch_size": 14, "window_size": 56, "fullatt_block_indexes": [1], "tokens_per_second": 2}
        rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
        text = TEXT | {"model_type": "qwen2_5_vl_text", "rope_parameters": rope}
        classes = ["Qwen2_5_VLForConditionalGeneration"]
    elif family == "qwen3_vl":
        tower = TOWER | {"patch_size": 16, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]}
        rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1], "mrope_interleaved": True}
        text = TEXT | {"model_type": "qwen3_vl_text", "rope_parameters": rope, "head_dim": 8}
        classes = ["Qwen3VLForConditionalGeneration"]
    else:
        head = {"head_dim": 8} if family == "qwen3" else {}
        classes = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM"}[family]
        return {"model_type": family, "architectures": [classes], "dtype": "float32"} | TEXT | head | changes
    return {
        "model_type": family, "architectures": classes, "dtype": "float32", "text_config": text,
        "vision_config": tower, "tie_word_embeddings": True,
    } | TOKENS | changes  # fmt: skip


def params(values: dict, seed: int = 0) -> dict:
    """Random numpy weights for the values of a config.json. No norm is 1 and no bias is 0."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: policy.init(jax.random.key(0), spec.from_hf(values)))

    def leaf(path, x):
        noise = rng.normal(size=x.shape).astype(np.float32)
        scale = 0.3 if path[-1].key in ("kernel", "table") else 0.1
        return np.float32(path[-1].key == "scale") + np.float32(scale) * noise

    return jax.tree_util.tree_map_with_path(leaf, shapes)


def write(folder, family: str = "qwen3", seed: int = 0, dtype: str = "float32", shard: int = 2**30, **changes) -> dict:
    """Writes a folder with weights, config.json and tokenizer files; returns the weights."""
    folder.mkdir(parents=True, exist_ok=True)
    values = config(family, **changes)
    weights = params(values, seed)
    exporting.write_folder(folder, exporting.tensors(weights, None, 1.0, values), dtype, shard)
    (folder / "config.json").write_text(json.dumps(values))
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(policy_files.ASSETS / "tiny" / name, folder / name)
    known = tokenizer.load_tokenizer(folder).hf.get_vocab()
    assert (known[tokenizer.IMAGE], known[tokenizer.START]) == (965, 963)
    return weights
