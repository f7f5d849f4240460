"""The names and shapes of an OWLv2 checkpoint's tensors."""

from __future__ import annotations

from dtr1_jax.specialists.owlv2.spec import Owlv2Spec, Tower

# Tensors that no output of the detector depends on: stored constants, and CLIP's comparison of whole pictures.
IGNORED = r".*\.position_ids|box_bias|owlv2\.(logit_scale|visual_projection\.weight)"


def shapes(spec: Owlv2Spec) -> dict[str, tuple[int, ...]]:
    """The shape of every weight that the model uses, by its name in the checkpoint."""
    text, vision = spec.text, spec.vision
    t, v = "owlv2.text_model", "owlv2.vision_model"
    return {
        f"{t}.embeddings.token_embedding.weight": (spec.vocabulary, text.width),
        f"{t}.embeddings.position_embedding.weight": (spec.tokens, text.width),
        **_layers(f"{t}.encoder", text),
        **_norm(f"{t}.final_layer_norm", text.width),
        "owlv2.text_projection.weight": (text.width, text.width),
        f"{v}.embeddings.class_embedding": (vision.width,),
        f"{v}.embeddings.patch_embedding.weight": (vision.width, 3, spec.patch, spec.patch),
        f"{v}.embeddings.position_embedding.weight": (spec.grid**2 + 1, vision.width),
        **_norm(f"{v}.pre_layernorm", vision.width),
        **_layers(f"{v}.encoder", vision),
        **_norm(f"{v}.post_layernorm", vision.width),
        **_norm("layer_norm", vision.width),
        **_linear("class_head.dense0", text.width, vision.width),
        **_linear("class_head.logit_shift", 1, vision.width),
        **_linear("class_head.logit_scale", 1, vision.width),
        **_head("box_head", 4, vision.width),
        **_head("objectness_head", 1, vision.width),
    }


def _layers(name: str, tower: Tower) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = {}
    for i in range(tower.layers):
        layer = f"{name}.layers.{i}"
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            found |= _linear(f"{layer}.self_attn.{part}", tower.width, tower.width)
        found |= _norm(f"{layer}.layer_norm1", tower.width) | _norm(f"{layer}.layer_norm2", tower.width)
        found |= _linear(f"{layer}.mlp.fc1", tower.hidden, tower.width)
        found |= _linear(f"{layer}.mlp.fc2", tower.width, tower.hidden)
    return found


def _head(name: str, outputs: int, width: int) -> dict[str, tuple[int, ...]]:
    hidden = _linear(f"{name}.dense0", width, width) | _linear(f"{name}.dense1", width, width)
    return hidden | _linear(f"{name}.dense2", outputs, width)


def _linear(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}
