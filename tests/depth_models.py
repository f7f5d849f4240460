"""Random small Depth Anything and DINOv2 models of transformers (torch), saved as checkpoints."""

from __future__ import annotations

import numpy as np
import torch
import transformers
from transformers.models.dpt.image_processing_pil_dpt import DPTImageProcessorPil

# Sizes of a backbone, and of a head over it. The picture sizes that the models were trained with differ from those that
# the tests pass, patches differ from 14, and layers are left over after the last one that the head takes.
BACKBONES = {
    "plain": {"hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 4, "image_size": 70, "patch_size": 14},
    "gated": {
        "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 3, "image_size": 42, "patch_size": 14,
        "use_swiglu_ffn": True, "qkv_bias": False, "layer_norm_eps": 1e-5,
    },
    "wide": {
        "hidden_size": 40, "num_attention_heads": 2, "num_hidden_layers": 5, "image_size": 32, "patch_size": 8,
        "mlp_ratio": 2, "hidden_act": "relu",
    },
}  # fmt: skip
HEADS = {
    "plain": {"out_indices": [1, 2, 3, 4], "neck_hidden_sizes": [6, 8, 10, 12], "fusion_hidden_size": 10},
    "gated": {
        "out_indices": [0, 2, 3], "neck_hidden_sizes": [4, 6, 8], "reassemble_factors": [2, 1, 0.5],
        "fusion_hidden_size": 8, "head_hidden_size": 5, "depth_estimation_type": "metric", "max_depth": 20,
    },
    "wide": {
        "out_indices": [1, 2, 3, 4], "neck_hidden_sizes": [5, 6, 7, 8], "fusion_hidden_size": 12, "head_in_index": -2,
        "reassemble_factors": [4, 2, 1, 0.25], "max_depth": 3, "apply_layernorm": False,
    },
}  # fmt: skip


def randomised(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Gives every weight a random value, large enough that each part matters and small enough that values stay near 1;
    scales vary around 1."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            inputs = weight[0].numel() if weight.ndim > 1 and "token" not in name and "position" not in name else 25
            weight.normal_(0, inputs**-0.5, generator=generator)
            if ("norm" in name and name.endswith("weight")) or "lambda1" in name or "gamma" in name:
                weight.add_(1)
    return model.eval()


def backbone(name: str, folder, registers: int = 0) -> torch.nn.Module:
    """A DINOv2 in transformers, saved to the folder."""
    if registers:
        config = transformers.Dinov2WithRegistersConfig(**BACKBONES[name], num_register_tokens=registers)
        model = transformers.Dinov2WithRegistersModel(config)
    else:
        model = transformers.Dinov2Model(transformers.Dinov2Config(**BACKBONES[name]))
    randomised(model, len(name)).save_pretrained(folder)
    return model


def depth_anything(name: str, folder, side: int = 56) -> tuple[torch.nn.Module, DPTImageProcessorPil]:
    """A Depth Anything of transformers and its processor, saved to the folder."""
    head = dict(HEADS[name])
    sizes = BACKBONES[name] | {"out_indices": head.pop("out_indices"), "reshape_hidden_states": False}
    sizes["apply_layernorm"] = head.pop("apply_layernorm", True)
    config = transformers.DepthAnythingConfig(
        backbone_config=transformers.Dinov2Config(**sizes),
        reassemble_hidden_size=sizes["hidden_size"],
        patch_size=sizes["patch_size"],
        **head,
    )
    model = transformers.DepthAnythingForDepthEstimation(config)
    with torch.no_grad():
        randomised(model, len(name))
        if config.depth_estimation_type == "relative":
            model.head.conv3.bias.add_(1)  # most values pass the ReLU
    model.save_pretrained(folder)
    processor = DPTImageProcessorPil(
        size={"height": side, "width": side}, keep_aspect_ratio=True, ensure_multiple_of=sizes["patch_size"],
        image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225],
    )  # fmt: skip
    processor.save_pretrained(folder)
    return model, processor


def pictures(*sizes: tuple[int, int], seed: int = 0) -> list[np.ndarray]:
    """Random pictures uint8[h, w, 3] with structure at several scales."""
    rng = np.random.default_rng(seed)
    result = []
    for height, width in sizes:
        coarse = rng.uniform(0, 255, (-(-height // 7), -(-width // 7), 3)).repeat(7, 0).repeat(7, 1)[:height, :width]
        result.append((0.7 * coarse + 0.3 * rng.uniform(0, 255, (height, width, 3))).astype(np.uint8))
    return result
