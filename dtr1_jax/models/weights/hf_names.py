"""Maps our parameter paths to the tensor names of Hugging Face checkpoints, for every family.

Our leaves are stacked on the layer axis, and our kernels are [inputs, outputs]. A Hugging Face file has one tensor for
each layer, and its matrices are [outputs, inputs]. The names on disk are the names in the published checkpoints. For
Qwen2.5-VL they differ from the names of transformers' modules, which name the adapters.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

SAME, TRANSPOSED, PATCH = (
    "same",
    "transposed",
    "patch",
)  # PATCH: on disk a convolution [outputs, 3, T, p, p], also transposed


class NamingError(ValueError):
    """The family is unknown, or has no name for a leaf."""


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One leaf of our parameters and its tensors on disk.

    Attributes:
      path: our path, such as "decoder/q/kernel".
      names: names on disk: one for each layer where `stacked`, else a single name.
      stacked: whether the first axis of the leaf counts layers (or mergers).
      kind: layout on disk compared to ours: SAME, TRANSPOSED or PATCH.
    """

    path: str
    names: tuple[str, ...]
    stacked: bool
    kind: str


# family (model_type of config.json) -> prefixes: decoder on disk, tower on disk, decoder's modules, tower's modules
_PREFIXES = {
    "llama": ("model.", None, "model.", None),
    "qwen2": ("model.", None, "model.", None),
    "qwen3": ("model.", None, "model.", None),
    "qwen2_5_vl": ("model.", "visual.", "model.language_model.", "model.visual."),
    "qwen3_vl": ("model.language_model.", "model.visual.", "model.language_model.", "model.visual."),
}
FAMILIES = tuple(_PREFIXES)

_DECODER = {
    "embed/table": "embed_tokens.weight",
    "norm": "norm",
    "decoder/attn_norm": "layers.{}.input_layernorm",
    "decoder/mlp_norm": "layers.{}.post_attention_layernorm",
    "decoder/q_norm": "layers.{}.self_attn.q_norm",
    "decoder/k_norm": "layers.{}.self_attn.k_norm",
    "decoder/q": "layers.{}.self_attn.q_proj",
    "decoder/k": "layers.{}.self_attn.k_proj",
    "decoder/v": "layers.{}.self_attn.v_proj",
    "decoder/o": "layers.{}.self_attn.o_proj",
    "decoder/gate": "layers.{}.mlp.gate_proj",
    "decoder/up": "layers.{}.mlp.up_proj",
    "decoder/down": "layers.{}.mlp.down_proj",
}
HEAD = "lm_head"
_TOWER = {
    "patch": "patch_embed.proj",
    "position/table": "pos_embed.weight",
    "blocks/norm1": "blocks.{}.norm1",
    "blocks/norm2": "blocks.{}.norm2",
    "blocks/qkv": "blocks.{}.attn.qkv",
    "blocks/out": "blocks.{}.attn.proj",
}
_TOWERS = {
    "qwen2_5_vl": _TOWER
    | {f"blocks/{name}": f"blocks.{{}}.mlp.{name}_proj" for name in ("gate", "up", "down")}
    | {"merger/norm": "merger.ln_q", "merger/fc1": "merger.mlp.0", "merger/fc2": "merger.mlp.2"},
    "qwen3_vl": _TOWER
    | {"blocks/up": "blocks.{}.mlp.linear_fc1", "blocks/down": "blocks.{}.mlp.linear_fc2"}
    | {"merger/norm": "merger.norm", "deepstack/norm": "deepstack_merger_list.{}.norm"}
    | {f"merger/{name}": f"merger.linear_{name}" for name in ("fc1", "fc2")}
    | {f"deepstack/{name}": f"deepstack_merger_list.{{}}.linear_{name}" for name in ("fc1", "fc2")},
}
_ENDINGS = {"kernel": "weight", "scale": "weight", "bias": "bias"}


def leaf(path: str, shape: tuple[int, ...], family: str) -> Leaf:
    """Finds the tensors on disk of one leaf of ours. Raises NamingError if the family has no such weight."""
    pattern = _pattern(path, family)
    stacked = "{}" in pattern
    names = tuple(pattern.format(i) for i in range(shape[0])) if stacked else (pattern,)
    kind = SAME
    if path.endswith("/kernel"):
        kind = PATCH if path == "vision/patch/kernel" else TRANSPOSED
    return Leaf(path, names, stacked, kind)


def leaves(shapes: Mapping[str, tuple[int, ...]], family: str) -> tuple[Leaf, ...]:
    """`leaf` for every path of {path: shape}. Raises NamingError for a weight that the family lacks."""
    return tuple(leaf(path, tuple(shape), family) for path, shape in shapes.items())


def module(path: str, family: str) -> str:
    """The module in transformers of a projection path of ours, such as "model.layers.{}.mlp.up_proj" for "decoder/up".

    {} stands for the number of the layer.

    Raises NamingError if the family has no such projection.
    """
    disk_decoder, disk_tower, decoder, tower = _prefixes(family)
    name = _pattern(f"{path}/kernel", family).removesuffix(".weight")
    if disk_tower and name.startswith(disk_tower):
        return tower + name.removeprefix(disk_tower)
    return decoder + name.removeprefix(disk_decoder) if name.startswith(disk_decoder) else name


# Prefixes under which checkpoints of others hold the same tensors: of wrappers, of the decoder and of the tower.
_WRAPPED = re.compile(r"((module|_orig_mod|base_model\.model)\.)*")
_OTHER_DECODERS = re.compile(r"(model\.)?(language_model\.)?(model\.)?(?=(layers|embed_tokens|norm)\.)")
_OTHER_HEADS = re.compile(rf"(model\.)?(language_model\.)?(?={HEAD}\.)")
_OTHER_TOWERS = re.compile(r"(model\.)?visual\.")
# Tables that older versions of transformers saved. They follow from config.json, and transformers leaves them out too.
_BUFFER = re.compile(r"(.+\.)?rotary(_pos)?_emb\.(inv_freq|original_inv_freq|cos_cached|sin_cached)")


def canonical(name: str, family: str) -> str:
    """Renames a tensor of a checkpoint to its name in the published checkpoints of the family.

    Other checkpoints have the names of modules ("model.language_model.layers..."), no prefix at all ("layers..."),
    the prefix of older vision-language models ("language_model.model.layers...") or that of a wrapper ("module.").
    """
    decoder, tower, _, _ = _prefixes(family)
    bare = name[_WRAPPED.match(name).end() :]
    for pattern, prefix in ((_OTHER_DECODERS, decoder), (_OTHER_HEADS, ""), (_OTHER_TOWERS, tower)):
        match = pattern.match(bare)
        if match and prefix is not None:
            return prefix + bare[match.end() :]
    return bare


def is_buffer(name: str) -> bool:
    """Whether the tensor is a table of rotary frequencies, which follows from config.json, and no weight."""
    return bool(_BUFFER.fullmatch(name))


def _prefixes(family):
    if family not in _PREFIXES:
        raise NamingError(f"unknown architecture {family!r}; known: {', '.join(FAMILIES)}")
    return _PREFIXES[family]


def _pattern(path: str, family: str) -> str:
    """The name on disk; it contains {} for the layer where the leaf is stacked."""
    decoder, tower, _, _ = _prefixes(family)
    prefix, table, key = decoder, _DECODER, path
    if path == "head/kernel":
        return f"{HEAD}.weight"
    if path.startswith("vision/") and tower:
        prefix, table, key = tower, _TOWERS[family], path.removeprefix("vision/")
    parent, _, last = key.rpartition("/")
    if key in table:
        return prefix + table[key]
    if parent in table and last in _ENDINGS:
        return f"{prefix}{table[parent]}.{_ENDINGS[last]}"
    raise NamingError(f"the weight {path} has no name in a {family} checkpoint")
