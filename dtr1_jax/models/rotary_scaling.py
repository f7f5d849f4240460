"""Rotary frequencies, and how they are scaled for sequences that are longer than those of the pretraining.

The formulas and defaults are those of transformers 5.23: linear (position interpolation, arXiv 2306.15595), dynamic
(NTK-aware interpolation that grows with the sequence), yarn (arXiv 2309.00071) and llama3 (Llama 3.1). The frequencies
are computed in float32 and in the order of transformers, because at position 100,000 one step of float32 in a frequency
is an angle of 0.006 radians.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax.models.config_fields import SpecError, number, refuse, section, switch

KINDS = ("linear", "dynamic", "llama3", "yarn")
_NAMES = ("rope_scaling", "rope_parameters")  # the older and the newer name of the object in config.json
_KNOWN = {  # fields that transformers knows; a kind ignores those of the others
    "type", "rope_type", "rope_theta", "factor", "original_max_position_embeddings", "attention_factor", "beta_fast",
    "beta_slow", "mscale", "mscale_all_dim", "truncate", "low_freq_factor", "high_freq_factor", "partial_rotary_factor",
    "mrope_section", "mrope_interleaved", "finetuned",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class RotaryScaling:
    """How the rotary frequencies are scaled.

    Attributes:
      kind: "linear" divides all frequencies by the factor. "dynamic" enlarges their base once a sequence is longer than
        `original`. "llama3" and "yarn" divide the low frequencies, keep the high ones and blend those between.
      factor: how many times longer sequences may become.
      original: length of the sequences before scaling, in positions; not used by "linear".
      low, high: "llama3" blends between original / low and original / high positions a turn; "yarn" between `low` and
        `high` turns in `original` positions (beta_slow and beta_fast).
      truncate: "yarn" rounds the ends of the blend outwards to whole frequencies.
      attention: factor on all rotated queries and keys ("yarn").
    """

    kind: str
    factor: float
    original: float = 0.0
    low: float = 1.0
    high: float = 1.0
    truncate: bool = True
    attention: float = 1.0


def frequencies(head_dim: int, theta: float, scaling: RotaryScaling | None = None) -> np.ndarray:
    """float32[head_dim / 2]: radians of each rotary frequency from one position to the next (Su et al. 2021).

    `theta` is the base. Of "dynamic" these are the frequencies of sequences of up to `scaling.original` positions.
    """
    exponent = np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim)
    period = (np.float64(theta) ** exponent.astype(np.float64)).astype(np.float32)
    frequency = np.float32(1) / period
    if scaling is None or scaling.kind == "dynamic":
        return frequency
    if scaling.kind == "linear":
        return frequency / np.float32(scaling.factor)
    if scaling.kind == "llama3":
        return _llama3(frequency, scaling)
    return _yarn(period, head_dim, theta, scaling)


def dynamic_stretch(length: jax.Array, head_dim: int, scaling: RotaryScaling) -> jax.Array:
    """float32[..., head_dim / 2]: factors on the frequencies of "dynamic" for sequences of int32[...] positions.

    They are 1 up to `scaling.original` positions. Further on they are those of the base theta x s ** (d / (d - 2)) with
    s = factor x length / original - (factor - 1) and d = head_dim.
    """
    longer = jnp.maximum(length, scaling.original).astype(np.float32)
    s = scaling.factor * longer / np.float32(scaling.original) - (scaling.factor - 1)
    return s[..., None] ** (-np.arange(0, head_dim, 2, dtype=np.float32) / np.float32(head_dim - 2))


class Rotary(NamedTuple):
    """The rotary positions that a config.json describes.

    Attributes:
      theta: base of the frequencies.
      scaling: how they are scaled, or None.
      fields: all fields of the object in config.json.
      where: the name of that object with a dot behind it, for messages.
    """

    theta: float
    scaling: RotaryScaling | None
    fields: dict[str, Any]
    where: str


def from_hf(text: Mapping[str, Any], head_dim: int, theta: float, positions: int, sections: bool) -> Rotary:
    """Reads the rotary positions of a decoder from the values of its config.json.

    Args:
      text: values of config.json about the decoder, with rope_scaling (older) or rope_parameters (newer).
      head_dim: values of an attention head.
      theta: the family's base, where config.json has none.
      positions: the family's max_position_embeddings, where config.json has none.
      sections: the model has rotary sections for time, row and column, which older files call the type "mrope".

    Raises SpecError, which names the field, for a kind that is not supported, and for a field that is missing, unknown
    or out of bounds.
    """
    objects = {name: values for name in _NAMES if (values := section(text, name))}
    name, rope = next(iter(objects.items()), (_NAMES[0], {}))
    outer = theta if text.get("rope_theta") is None else text["rope_theta"]
    if len(objects) == 2:
        old, new = ({"rope_theta": outer} | _plain(x, sections) for x in objects.values())
        if old != new:
            raise SpecError(f"rope_scaling and rope_parameters differ: {old} and {new}; keep the right one")
    where = f"{name}."
    refuse(text, "", {"partial_rotary_factor": (None, 1, 1.0)})
    refuse(rope, where, {"partial_rotary_factor": (None, 1, 1.0)})
    inside = rope.get("rope_theta") is not None
    base = number(rope, "rope_theta", where) if inside else number({"rope_theta": outer}, "rope_theta")
    for field, value in rope.items():
        if isinstance(value, dict):
            raise SpecError(f"{where}{field}: rotary positions that differ between layers are not supported")
    kind = _kind(rope, where, sections)
    scaling = None if kind == "default" else _scaling(kind, text, rope, where, head_dim, base, positions)
    return Rotary(base, scaling, rope, where)


def _plain(rope, sections):
    """The fields that are set, with one name for the kind."""
    kind = rope.get("rope_type", rope.get("type")) or "default"
    kind = "default" if kind == "mrope" and sections else kind
    return {k: v for k, v in rope.items() if v is not None and k not in ("type", "rope_type")} | {"rope_type": kind}


def _kind(rope, where, sections):
    allowed = (None, "default", *(("mrope",) if sections else ()), *KINDS)
    refuse(rope, where, {"rope_type": allowed, "type": allowed})
    kinds = {"default" if rope[n] == "mrope" else rope[n] for n in ("rope_type", "type") if rope.get(n) is not None}
    if len(kinds) == 2:
        raise SpecError(
            f"{where}rope_type = {rope['rope_type']!r} and {where}type = {rope['type']!r}: keep one of them"
        )
    return next(iter(kinds), "default")


def _scaling(kind, text, rope, where, head_dim, theta, positions):
    unknown = sorted(set(rope) - _KNOWN)
    if unknown:
        raise SpecError(f"{where}{unknown[0]} is not a known field of the rotary scaling {kind!r}; remove it")
    length = number(text, "max_position_embeddings", default=positions)
    if kind == "linear":
        return RotaryScaling(kind, number(rope, "factor", where))
    if kind == "dynamic":
        if head_dim == 2:
            raise SpecError(f"{where}rope_type = 'dynamic' is not defined for head_dim = 2")
        return RotaryScaling(kind, number(rope, "factor", where), length)
    inner = number(rope, "original_max_position_embeddings", where, default=length)
    original = number(text, "original_max_position_embeddings", default=inner)
    if kind == "llama3":
        low, high = (number(rope, n, where) for n in ("low_freq_factor", "high_freq_factor"))
        if high <= low:
            raise SpecError(f"{where}high_freq_factor = {high}: expected more than low_freq_factor = {low}")
        return RotaryScaling(kind, number(rope, "factor", where), original, low, high)
    if theta == 1:
        raise SpecError(f"{where}rope_type = 'yarn' is not defined for rope_theta = 1")
    # null stands for the ratio of the lengths; a missing field is an error, as in transformers
    factor = length / original if rope.get("factor", 0) is None else number(rope, "factor", where)
    slow, fast = (number({n: rope.get(n) or None}, n, where, d) for n, d in (("beta_slow", 1.0), ("beta_fast", 32.0)))
    if fast < slow:
        raise SpecError(f"{where}beta_fast = {fast}: expected at least beta_slow = {slow}")
    truncate = switch(rope, "truncate", True, where)
    return RotaryScaling(kind, factor, original, slow, fast, truncate, _attention(rope, where, factor))


def _attention(rope, where, factor):
    """YaRN's factor on queries and keys: given, or from the factor and two optional weights of its logarithm."""
    if rope.get("attention_factor") is not None:
        return number(rope, "attention_factor", where)
    weights = [rope.get(n) or None for n in ("mscale", "mscale_all_dim")]
    if None in weights:
        weights = [1.0]
    else:
        weights = [number(rope, n, where) for n in ("mscale", "mscale_all_dim")]
    terms = [0.1 * w * math.log(factor) + 1 if factor > 1 else 1.0 for w in weights]
    return terms[0] / terms[1] if len(terms) == 2 else terms[0]


def _llama3(frequency, scaling):
    factor, low, high = (np.float32(x) for x in (scaling.factor, scaling.low, scaling.high))
    wavelength = np.float32(2 * math.pi) / frequency
    smooth = (np.float32(scaling.original) / wavelength - low) / (high - low)
    blend = (1 - smooth) * frequency / factor + smooth * frequency
    longest, shortest = np.float32(scaling.original / scaling.low), np.float32(scaling.original / scaling.high)
    scaled = np.where(wavelength > longest, frequency / factor, frequency)
    return np.where((wavelength >= shortest) & (wavelength <= longest), blend, scaled).astype(np.float32)


def _yarn(period, head_dim, theta, scaling):
    def place(turns):  # of the frequency that makes so many turns in the original length
        return head_dim * math.log(scaling.original / (turns * 2 * math.pi)) / (2 * math.log(theta))

    first, last = place(scaling.high), place(scaling.low)
    if scaling.truncate:
        first, last = math.floor(first), math.ceil(last)
    first, last = max(first, 0), min(last, head_dim - 1)
    if first == last:
        last += 0.001  # as in transformers; without it, the ramp would divide by 0
    ramp = np.clip((np.arange(head_dim // 2, dtype=np.float32) - np.float32(first)) / np.float32(last - first), 0, 1)
    kept = 1 - ramp
    return (np.float32(1) / (np.float32(scaling.factor) * period)) * (1 - kept) + (np.float32(1) / period) * kept
