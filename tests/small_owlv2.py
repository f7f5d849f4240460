"""Small OWLv2 models of transformers with random weights and a small tokenizer of CLIP's kind, saved to a folder."""

from __future__ import annotations

import json
import pathlib

import numpy as np

# What differs between the models. The second picture size is no multiple of the patch.
CONFIGS = {
    "base": {
        "text": {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3},
        "vision": {
            "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
            "image_size": 64, "patch_size": 16,
        },
    },
    "cut": {
        "text": {
            "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
            "hidden_act": "gelu", "max_position_embeddings": 12,
        },
        "vision": {
            "hidden_size": 40, "intermediate_size": 56, "num_hidden_layers": 1, "num_attention_heads": 2,
            "image_size": 50, "patch_size": 16, "hidden_act": "gelu", "layer_norm_eps": 1e-3,
        },
    },
    "deep": {
        "text": {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4},
        "vision": {
            "hidden_size": 48, "intermediate_size": 40, "num_hidden_layers": 4, "num_attention_heads": 6,
            "image_size": 84, "patch_size": 14,
        },
    },
}  # fmt: skip
PHRASES = ["a photo of a cat", "red  DOG", "the hat!", "猫", "naïve café 12", "кот"]


def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """The tokens and merges of a small tokenizer, ordered as CLIP's: bytes, bytes at a word's end, merges, specials."""
    from tokenizers.pre_tokenizers import ByteLevel

    letters = sorted(ByteLevel.alphabet())
    merges = [tuple(pair.split(" ")) for pair in "t h|th e</w>|c a|a t</w>|c at</w>|d o|do g</w>|o f</w>".split("|")]
    words = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    return {word: i for i, word in enumerate(words)}, merges


def torch_model(name: str, seed: int = 0):
    """An Owlv2ForObjectDetection whose every weight matters."""
    import torch
    from transformers import Owlv2Config, Owlv2ForObjectDetection

    torch.manual_seed(seed)
    tokens, _ = vocabulary()
    parts = CONFIGS[name]
    ids = {
        "vocab_size": len(tokens),
        "bos_token_id": tokens["<|startoftext|>"],
        "eos_token_id": tokens["<|endoftext|>"],
    }
    config = Owlv2Config(
        text_config=parts["text"] | ids, vision_config=parts["vision"], projection_dim=parts["text"]["hidden_size"]
    )
    reference = Owlv2ForObjectDetection(config).eval()
    with torch.no_grad():
        for key, value in reference.named_parameters():
            if value.ndim > 1:
                deviation = 1.0 if "embedding" in key else 1.2 * value[0].numel() ** -0.5
                value.copy_(torch.randn(value.shape) * deviation)
            elif "norm" in key and key.endswith("weight"):
                value.copy_(1 + 0.3 * torch.randn(value.shape))
            elif value.ndim == 1:
                value.copy_(0.3 * torch.randn(value.shape))
    return reference


def tokenizer(limit: int = 16):
    """transformers' CLIPTokenizer with the settings of OWLv2's checkpoints."""
    from transformers import CLIPTokenizer

    tokens, merges = vocabulary()
    return CLIPTokenizer(vocab=tokens, merges=merges, pad_token="!", model_max_length=limit)


def save(reference, folder: pathlib.Path) -> pathlib.Path:
    """Saves a model with its tokenizer and processor as a checkpoint."""
    from transformers.models.owlv2.image_processing_pil_owlv2 import Owlv2ImageProcessorPil

    side = reference.config.vision_config.image_size
    reference.save_pretrained(folder)
    tokenizer(reference.config.text_config.max_position_embeddings).save_pretrained(folder)
    Owlv2ImageProcessorPil(size={"height": side, "width": side}).save_pretrained(folder)
    return folder


def processor(reference):
    """The checkpoint's own picture processor, without torchvision."""
    from transformers.models.owlv2.image_processing_pil_owlv2 import Owlv2ImageProcessorPil

    side = reference.config.vision_config.image_size
    return Owlv2ImageProcessorPil(size={"height": side, "width": side})


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A random uint8[height, width, 3] with coarse and fine structure."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 200, (height // 8 + 1, width // 8 + 1, 3)).repeat(8, 0).repeat(8, 1)[:height, :width]
    return (coarse + rng.integers(0, 56, coarse.shape)).astype(np.uint8)


def write_slow_tokenizer(folder: pathlib.Path) -> None:
    """vocab.json and merges.txt in place of tokenizer.json, as the published checkpoints have them."""
    tokens, merges = vocabulary()
    (folder / "tokenizer.json").unlink(missing_ok=True)
    (folder / "vocab.json").write_text(json.dumps(tokens), "utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", "utf-8")
