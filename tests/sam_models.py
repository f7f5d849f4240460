"""Small SAM models of transformers with random weights, and what they answer through their own processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

CONFIGS: dict[str, dict[str, dict[str, Any]]] = {
    # windows that do not divide the grid, relative and absolute positions
    "windows": {
        "vision": {"hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 3, "image_size": 64,
                   "patch_size": 8, "window_size": 3, "global_attn_indexes": [1], "output_channels": 32},
        "prompt": {"mask_input_channels": 8},
        "decoder": {"mlp_dim": 40, "num_attention_heads": 2},
    },
    # no relative positions, another activation, two candidates, deep head
    "absolute": {
        "vision": {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 48,
                   "patch_size": 4, "window_size": 4, "global_attn_indexes": [0], "use_rel_pos": False,
                   "hidden_act": "gelu_pytorch_tanh", "output_channels": 16, "mlp_dim": 20, "layer_norm_eps": 1e-3},
        "prompt": {"mask_input_channels": 4, "layer_norm_eps": 1e-3},
        "decoder": {"mlp_dim": 24, "num_attention_heads": 4, "num_multimask_outputs": 2, "iou_head_depth": 4,
                    "iou_head_hidden_dim": 12, "layer_norm_eps": 1e-3, "num_hidden_layers": 3},
    },
    # every layer global, no bias, no absolute positions, wide cross-attention, shallow head
    "global": {
        "vision": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 80,
                   "patch_size": 16, "window_size": 0, "global_attn_indexes": [], "use_abs_pos": False,
                   "qkv_bias": False, "output_channels": 24, "mlp_ratio": 2.0},
        "prompt": {"mask_input_channels": 16},
        "decoder": {"mlp_dim": 16, "num_attention_heads": 3, "attention_downsample_rate": 1, "iou_head_depth": 2,
                    "hidden_act": "gelu", "num_hidden_layers": 1},
    },
}  # fmt: skip


def build(name: str, seed: int = 0) -> Any:
    """The model of CONFIGS, every weight random: biases, norms and positions as well."""
    import transformers

    parts = CONFIGS[name]
    vision, width = dict(parts["vision"]), parts["vision"]["output_channels"]
    vision["num_pos_feats"] = width // 2
    shared = {"hidden_size": width}
    config = transformers.SamConfig(
        vision_config=vision,
        prompt_encoder_config=shared | parts["prompt"] | {k: vision[k] for k in ("image_size", "patch_size")},
        mask_decoder_config=shared | parts["decoder"],
    )
    model = transformers.SamModel(config).eval()
    randomise(model, seed)
    return model


def randomise(model: Any, seed: int) -> None:
    """Random weights: matrices by their fan-in, norms around 1, the rest around 0; variances positive."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in list(model.named_parameters()) + list(model.named_buffers()):
            if not p.is_floating_point():
                continue
            noise = torch.randn(p.shape, generator=generator)
            if name.endswith("running_var"):
                p.copy_(0.5 + noise.abs())
            elif p.ndim <= 1 and name.endswith("weight"):
                p.copy_(1 + 0.3 * noise)
            elif p.ndim <= 1 or "embed" in name or "token" in name.rpartition(".")[0].rpartition(".")[2]:
                p.copy_(0.5 * noise)
            else:
                p.copy_(noise * (1.3 / p[0].numel() ** 0.5))


def processor(model: Any) -> Any:
    """The model's processor of pictures, without torchvision."""
    from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

    side = model.config.vision_config.image_size
    return SamImageProcessorPil(size={"longest_edge": side}, pad_size={"height": side, "width": side})


def save(model: Any, folder: Path) -> Path:
    """Writes the model and its processor's settings as transformers does."""
    model.save_pretrained(folder)
    processor(model).save_pretrained(folder)
    return folder


def answers(
    model: Any, image: np.ndarray, multimask: bool, **prompts: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(logits [n, m, low, low], expected IoU [n, m], masks [n, m, h, w]) of transformers' own pipeline.

    `prompts` are boxes [n, 4], points [n, k, 2] and labels [n, k] in the unit frame, and mask logits [1, low, low].
    """
    import torch

    own = processor(model)
    side = model.config.vision_config.image_size
    inputs = own(image, return_tensors="pt")
    height, width = image.shape[:2]
    rows, columns = own._get_preprocess_shape((height, width), side)
    given = {}
    for name, size in (("boxes", 4), ("points", 2)):
        if name in prompts:
            pixels = np.asarray(prompts[name], float) * np.tile([width, height], size // 2)
            pixels = pixels * np.tile([columns / width, rows / height], size // 2)
            given[f"input_{name}"] = torch.tensor(pixels, dtype=torch.float32)[None]
    if "labels" in prompts:
        given["input_labels"] = torch.tensor(prompts["labels"])[None]
    if "masks" in prompts:
        given["input_masks"] = torch.tensor(prompts["masks"])[None]
    with torch.no_grad():
        out = model(inputs["pixel_values"], multimask_output=multimask, **given)
    masks = own.post_process_masks(out.pred_masks, inputs["original_sizes"], inputs["reshaped_input_sizes"],
                                   pad_size={"height": side, "width": side})  # fmt: skip
    return out.pred_masks[0].numpy(), out.iou_scores[0].numpy(), np.asarray(masks[0])
