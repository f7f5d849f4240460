"""The sizes of an OWLv2 model, from config.json, and how its pictures are prepared, from the processor's file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dtr1_jax.models.config_fields import SpecError, number, refuse, section, size
from dtr1_jax.models.weights import hf_checkpoint
from dtr1_jax.specialists.operations import ACTIVATIONS

_MOST_LAYERS = 1000
_MEAN = (0.48145466, 0.4578275, 0.40821073)  # of CLIP's training pictures
_STD = (0.26862954, 0.26130258, 0.27577711)
_STEPS = ("do_pad", "do_resize", "do_rescale", "do_normalize")


@dataclasses.dataclass(frozen=True)
class Tower:
    """Sizes of a transformer.

    Attributes:
      width, hidden, layers, heads: width of a token, hidden units of the MLP, number of layers and of heads.
      eps: epsilon of the LayerNorms.
      activation: activation of the MLP, a name in `operations.ACTIVATIONS`.
    """

    width: int
    hidden: int
    layers: int
    heads: int
    eps: float
    activation: str


@dataclasses.dataclass(frozen=True)
class Owlv2Spec:
    """An OWLv2 model.

    Attributes:
      text, vision: the two towers.
      vocabulary: rows of the token table.
      tokens: tokens of a phrase, with start and end.
      pad: id of the token that fills up short phrases.
      side: height and width of the picture that the model sees, in pixels.
      patch: side of a patch in pixels.
      mean, std: of each colour channel; pixels in [0, 1] are normalised by them.
      scale: factor from a byte to [0, 1].
    """

    text: Tower
    vision: Tower
    vocabulary: int
    tokens: int
    pad: int
    side: int
    patch: int
    mean: tuple[float, ...] = _MEAN
    std: tuple[float, ...] = _STD
    scale: float = 1 / 255

    @property
    def grid(self) -> int:
        """Patches along a side; the model predicts grid * grid boxes."""
        return self.side // self.patch


def read(folder: Path, config: Mapping[str, Any]) -> Owlv2Spec:
    """The model that config.json and preprocessor_config.json (or processor_config.json) in `folder` describe.

    Fields that config.json does not have are those of OWLv2 base, as transformers fills them in.

    Raises SpecError, or WeightsError if a file is not JSON; the message names file and field.
    """
    file = f"{folder / 'config.json'}: "
    try:
        text, vision = section(config, "text_config"), section(config, "vision_config")
    except SpecError as error:
        raise SpecError(f"{file}{error}") from None
    text_where, vision_where = f"{file}text_config.", f"{file}vision_config."
    refuse(vision, vision_where, {"num_channels": (None, 3)})
    spec = Owlv2Spec(
        text=_tower(text, text_where, width=512, hidden=2048, heads=8),
        vision=_tower(vision, vision_where, width=768, hidden=3072, heads=12),
        vocabulary=size(text, "vocab_size", 49408, text_where),
        tokens=size(text, "max_position_embeddings", 16, text_where),
        pad=_token(text, "pad_token_id", 0, text_where),
        side=size(vision, "image_size", 768, vision_where),
        patch=size(vision, "patch_size", 16, vision_where),
    )
    if spec.patch > spec.side:
        raise SpecError(f"{vision_where}patch_size: expected at most image_size = {spec.side}, got {spec.patch}")
    if spec.tokens < 2:
        raise SpecError(f"{text_where}max_position_embeddings: expected at least 2 (start and end), got {spec.tokens}")
    if spec.pad >= spec.vocabulary:
        raise SpecError(f"{text_where}pad_token_id: expected less than vocab_size, got {spec.pad}")
    joint = size(config, "projection_dim", 512, file)
    if joint != spec.text.width:
        raise SpecError(f"{file}projection_dim: expected the text tower's hidden_size {spec.text.width}, got {joint}")
    return _with_processor(spec, folder)


def _tower(config: Mapping[str, Any], where: str, width: int, hidden: int, heads: int) -> Tower:
    tower = Tower(
        width=size(config, "hidden_size", width, where),
        hidden=size(config, "intermediate_size", hidden, where),
        layers=size(config, "num_hidden_layers", 12, where, most=_MOST_LAYERS),
        heads=size(config, "num_attention_heads", heads, where),
        eps=number(config, "layer_norm_eps", where, 1e-5),
        activation=config.get("hidden_act") or "quick_gelu",
    )
    if tower.width % tower.heads:
        raise SpecError(f"{where}num_attention_heads: {tower.heads} does not divide hidden_size = {tower.width}")
    if not isinstance(tower.activation, str) or tower.activation not in ACTIVATIONS:
        raise SpecError(f"{where}hidden_act: expected one of {', '.join(ACTIVATIONS)}, got {tower.activation!r:.40}")
    return tower


def _token(config: Mapping[str, Any], name: str, default: int, where: str) -> int:
    value = config.get(name)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise SpecError(f"{where}{name}: expected a token id, got {value!r:.40}")
    return value


def _with_processor(spec: Owlv2Spec, folder: Path) -> Owlv2Spec:
    settings, where = {}, ""
    for name, inner in (("processor_config.json", "image_processor"), ("preprocessor_config.json", None)):
        if (folder / name).is_file():
            content = hf_checkpoint.read_json(folder / name, "the settings of the picture processor")
            settings = content if inner is None else section(content, inner)
            where = f"{folder / name}: "
        if settings:
            break
    for step in _STEPS:
        if settings.get(step, True) is not True:
            raise SpecError(f"{where}{step}: expected true, got {settings[step]!r:.40}")
    sides = settings.get("size")
    if sides is not None and sides != {"height": spec.side, "width": spec.side}:
        raise SpecError(f"{where}size: expected config.json's image_size {spec.side}, got {sides!r:.80}")
    return dataclasses.replace(
        spec,
        mean=_colours(settings, "image_mean", spec.mean, where),
        std=_colours(settings, "image_std", spec.std, where),
        scale=number(settings, "rescale_factor", where, spec.scale),
    )


def _colours(settings: Mapping[str, Any], name: str, default: tuple[float, ...], where: str) -> tuple[float, ...]:
    values = settings.get(name)
    if values is None:
        return default
    numbers = isinstance(values, list) and all(type(v) in (int, float) and 0 <= v < 1e6 for v in values)
    if not numbers or len(values) != 3 or (name == "image_std" and min(values) <= 0):
        raise SpecError(f"{where}{name}: expected three numbers (positive for image_std), got {values!r:.80}")
    return tuple(map(float, values))
