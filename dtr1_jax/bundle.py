"""A named policy made ready: its spec, its tokenizer, how it is prompted, and its weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax.config import Config, ConfigError
from dtr1_jax.data import prompts, tokens, vision
from dtr1_jax.models import policy, spec, weights
from dtr1_jax.twin.text import Frame

ASSETS = Path(__file__).parent / "assets"


@dataclasses.dataclass(frozen=True)
class Bundle:
    """What every mode needs to know of the policy, except its weights.

    Attributes:
      spec: sizes of the model.
      style: how examples become prompts.
      banned_v: bool[V], tokens that must never be sampled.
      dtype: compute dtype.
    """

    spec: spec.Spec
    style: prompts.Style
    banned_v: np.ndarray
    dtype: jnp.dtype


def load(config: Config) -> Bundle:
    """The policy that `config` names. Raises ConfigError, or TokenizerError where the shipped files are damaged."""
    shape = spec.get(config.policy.name)
    if config.lora.rank:
        shape = dataclasses.replace(shape, lora_scale=config.lora.alpha / config.lora.rank)
    tower = shape.vision
    try:
        geometry = vision.Geometry(tower.patch, tower.temporal_patch, tower.merge, tower.side, config.policy.max_pixels)
    except ValueError as error:
        raise ConfigError(f"config.policy.max_pixels: {error}") from None
    folder = ASSETS / config.policy.name
    tokenizer = tokens.load(folder)
    if tokenizer.size > shape.vocab:
        raise tokens.TokenizerError(f"{folder}: expected at most {shape.vocab} ids, got {tokenizer.size}")
    style = prompts.Style(tokenizer, geometry, Frame(shape.frame), config.policy.prompt, config.policy.prompt_tokens)
    return Bundle(shape, style, tokenizer.banned_v(shape.vocab), jnp.dtype(config.policy.dtype))


def weights_path(config: Config) -> Path:
    """The file of weights: config.policy.path, or what is shipped with the policy."""
    if not config.policy.path:
        return ASSETS / config.policy.name / "policy.safetensors"
    path = Path(config.policy.path).expanduser()
    return path / "policy.safetensors" if path.is_dir() else path


def read_weights(config: Config, bundle: Bundle) -> dict:
    """The weights as numpy float32. Raises WeightsError naming the file and what does not fit."""
    return weights.load(weights_path(config), template(bundle))


def template(bundle: Bundle) -> dict:
    """Shapes of the weights."""
    return jax.eval_shape(lambda: policy.init(jax.random.key(0), bundle.spec))
