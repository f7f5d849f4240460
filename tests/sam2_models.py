"""Random tiny SAM 2 models of transformers (torch, float32) and their folders, to compare with ours."""

from __future__ import annotations

import numpy as np
import torch
import transformers


def _config(image_size, width, backbone, decoder=None, levels=(2, 3), **video) -> dict:
    maps = [[image_size // s] * 2 for s in (4, 8, 16)]
    backbone = {"image_size": [image_size] * 2, "hidden_size": backbone["embed_dim_per_stage"][0], **backbone}
    sizes = {
        "vision_config": {
            "backbone_config": {"model_type": "sam2_hiera_det_model", **backbone}, "fpn_hidden_size": width,
            "backbone_channel_list": backbone["embed_dim_per_stage"][::-1], "backbone_feature_sizes": maps,
            "fpn_top_down_levels": list(levels),
        },
        "prompt_encoder_config": {"hidden_size": width, "image_size": image_size, "mask_input_channels": 8},
        "mask_decoder_config": {"hidden_size": width, **(decoder or {})},
    }  # fmt: skip
    if not video:
        return sizes
    same = ("memory_attention_hidden_size", "memory_encoder_hidden_size", "mask_downsampler_embed_dim")
    return sizes | {
        "image_size": image_size, "memory_attention_rope_feat_sizes": maps[-1], "memory_fuser_embed_dim": width,
        **dict.fromkeys(same, width), **video,
    }  # fmt: skip


def _backbone(widths, heads, blocks, windows, global_blocks, background, **more) -> dict:
    return {
        "embed_dim_per_stage": widths, "num_attention_heads_per_stage": heads, "blocks_per_stage": blocks,
        "window_size_per_stage": windows, "global_attention_blocks": global_blocks,
        "window_positional_embedding_background_size": background, **more,
    }  # fmt: skip


_A = _backbone([8, 16, 32, 64], [1, 2, 4, 8], [1, 2, 3, 1], [4, 2, 6, 3], [4, 5], [7, 7])
_B = _backbone([12, 24, 36, 48], [1, 2, 3, 4], [1, 1, 2, 2], [6, 4, 4, 3], [3, 5], [5, 4], mlp_ratio=2.0)
_C = _backbone([8, 12, 16, 24], [2, 2, 4, 4], [2, 1, 2, 1], [8, 4, 14, 7], [], [9, 9], patch_kernel_size=[5, 5],
               patch_padding=[2, 2])  # fmt: skip
_SMALL = {"mlp_dim": 40, "num_attention_heads": 4, "iou_head_hidden_dim": 24}
# Windows that do and do not divide the maps, with and without attention over the whole map, three decoders.
PICTURES = {
    "a": _config(64, 32, _A, _SMALL),
    "b": _config(96, 64, _B, _SMALL | {"attention_downsample_rate": 1, "iou_head_depth": 2}, (1, 2, 3)),
    "c": _config(128, 48, _C, {"mlp_dim": 24, "num_attention_heads": 2, "num_hidden_layers": 3,
                               "dynamic_multimask_stability_thresh": 0.5}, (2,)),
}  # fmt: skip
# transformers fixes the channels of a memory at 64, and needs more channels elsewhere.
VIDEOS = {
    "a": _config(64, 128, _A, _SMALL, memory_attention_num_layers=2, memory_attention_feed_forward_hidden_size=48,
                 memory_fuser_intermediate_dim=40, num_maskmem=4),
    "b": _config(96, 192, _B, _SMALL, memory_attention_num_layers=1, memory_attention_feed_forward_hidden_size=40,
                 memory_attention_num_attention_heads=2, memory_fuser_num_layers=1, memory_fuser_intermediate_dim=32,
                 num_maskmem=3, max_object_pointers_in_encoder=3, memory_attention_feed_forward_hidden_act="gelu",
                 sigmoid_scale_for_mem_enc=4.0, sigmoid_bias_for_mem_enc=-1.5),
    "c": _config(64, 128, _A, _SMALL, memory_attention_num_layers=1, memory_attention_feed_forward_hidden_size=24,
                 memory_attention_downsample_rate=2, memory_fuser_num_layers=1, memory_fuser_intermediate_dim=16,
                 memory_fuser_kernel_size=5, memory_fuser_padding=2, enable_occlusion_spatial_embedding=False,
                 enable_temporal_pos_encoding_for_object_pointers=False, multimask_output_for_tracking=False),
}  # fmt: skip


def randomise(model: torch.nn.Module, seed: int) -> torch.nn.Module:
    """Fills every parameter and buffer, so that each part matters: norms about 1, matrices by their fan-in."""
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in [*model.named_parameters(), *model.named_buffers()]:
            if not value.is_floating_point() or "inv_freq" in name:
                continue
            noise = torch.randn(value.shape, generator=random)
            if "norm" in name and name.endswith("weight"):
                value.copy_(1 + 0.3 * noise)
            elif value.ndim >= 2 and "embed" not in name.rpartition(".")[0] and "encoding" not in name:
                value.copy_(noise / max(1, value[0].numel()) ** 0.5)
            else:
                value.copy_(0.4 * noise)
    return model.eval()


def picture_model(size: str, seed: int = 0) -> transformers.Sam2Model:
    """A random model of pictures."""
    return randomise(transformers.Sam2Model(transformers.Sam2Config(**PICTURES[size])), seed)


# Seed and bias of the object score, with which the objects of `moving` are now seen and now hidden.
_SCORES = {"a": (1, 27.25), "b": (2, -15.57), "c": (1, 4.95)}


def video_model(size: str) -> transformers.Sam2VideoModel:
    """A random model of videos. Its object scores are spread widely and have both signs."""
    seed, bias = _SCORES[size]
    model = randomise(transformers.Sam2VideoModel(transformers.Sam2VideoConfig(**VIDEOS[size])), seed)
    head = model.mask_decoder.pred_obj_score_head.proj_out
    with torch.no_grad():
        head.weight.mul_(30)
        head.bias.fill_(bias)
    return model


def moving(size: str, count: int = 6) -> np.ndarray:
    """uint8[count, S, S, 3]: noise that moves and grows brighter; frame 4 is black."""
    side = VIDEOS[size]["image_size"]
    random = np.random.default_rng(_SCORES[size][0])
    base = random.integers(0, 256, (side, side, 3))
    frames = [np.roll(base, 3 * i, 1) * (0.4 + 0.1 * i) + random.integers(0, 40, (side, side, 3)) for i in range(count)]
    frames = np.clip(frames, 0, 255).astype(np.uint8)
    frames[4:5] = 0
    return frames


def pixel_values(pictures: np.ndarray, rules) -> torch.Tensor:
    """float32[B, 3, S, S] of uint8[B, S, S, 3], with the colours normalised as `rules` say."""
    values = (pictures * rules.scale - np.array(rules.mean)) / np.array(rules.std)
    return torch.tensor(values.astype(np.float32)).permute(0, 3, 1, 2)


def session(frames: np.ndarray, rules) -> transformers.Sam2VideoInferenceSession:
    """A session of transformers over uint8[F, S, S, 3] frames that have the model's own size."""
    height, width = frames.shape[1:3]
    return transformers.Sam2VideoInferenceSession(
        video=pixel_values(frames, rules), video_height=height, video_width=width, dtype=torch.float32
    )


def ask(state, frame: int, prompts: dict[int, tuple | np.ndarray]) -> None:
    """Adds prompts {object: (points in pixels, labels) or mask} to a frame of a session, as its processor does."""
    for name, prompt in prompts.items():
        index = state.obj_id_to_idx(name)
        if isinstance(prompt, tuple):
            points, labels = (torch.tensor(np.asarray(x))[None, None] for x in prompt)
            state.add_point_inputs(index, frame, {"point_coords": points.float(), "point_labels": labels.int()})
        else:
            state.add_mask_inputs(index, frame, torch.tensor(prompt)[None, None].float())
    state.obj_with_new_inputs = list(prompts)
