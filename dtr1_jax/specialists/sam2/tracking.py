"""One frame of tracking as one program: R objects read their memories, get a mask, and remember it."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from dtr1_jax.specialists.operations import Weights, conv, resize_bilinear
from dtr1_jax.specialists.resize_matrices import resize_antialiased
from dtr1_jax.specialists.sam2 import memory_attention, memory_encoder, prompt_tokens, two_way_decoder
from dtr1_jax.specialists.sam2.mask_sizes import GIVEN_BIAS, GIVEN_SCALE
from dtr1_jax.specialists.sam2.model import Features, MaskPrompts
from dtr1_jax.specialists.sam2.spec import Sam2Spec
from dtr1_jax.types import pytree

HIDDEN = -1024.0  # mask logit of an object that cannot be seen


@pytree
class Bank:
    """The memories of R objects; memories are bfloat16, as the reference keeps them.

    Attributes:
      memory: bfloat16[R, S, g * g, channels]
      pointer: float32[R, P, d]
    """

    memory: jax.Array
    pointer: jax.Array


@pytree
class Step:
    """What the host decides about R objects on one frame.

    Attributes:
      points, labels: float32[R, P, 2] and int32[R, P], prompts as prompt_tokens documents them.
      several: bool[R], whether the best of several masks is taken.
      fresh: bool[R], whether memories are left unread, because the object is prompted anew.
      binary: bool[R], whether the memory encoder reads the mask as 0 and 1.
      age, distance: the slots that are read, as memory_attention.Remembered documents them.
      memory_slot, pointer_slot: int32[R], the slots that are written; a number past the last one writes nothing.
      previous: logits of an earlier mask of this frame as prompts, float32[R, 4g, 4g]; None = of no object.
      given: masks that a user gives, float32[R, S, S] of 0 and 1, and bool[R]; None = of no object.
    """

    points: jax.Array
    labels: jax.Array
    several: jax.Array
    fresh: jax.Array
    binary: jax.Array
    age: jax.Array
    distance: jax.Array
    memory_slot: jax.Array
    pointer_slot: jax.Array
    previous: MaskPrompts | None = None
    given: MaskPrompts | None = None


@pytree
class Tracked:
    """The masks of R objects on one frame.

    Attributes:
      logits: float32[R, 4g, 4g], above 0 inside the object; HIDDEN everywhere for an object that cannot be seen.
      ious: float32[R], the expected IoU with the truth; 1 for a given mask.
      present: float32[R], the logit that the object can be seen.
      pointer: float32[R, d], the object pointer.
    """

    logits: jax.Array
    ious: jax.Array
    present: jax.Array
    pointer: jax.Array


def empty_bank(spec: Sam2Spec, rows: int, memories: int, pointers: int) -> Bank:
    """A bank without memories."""
    area = spec.grid**2
    return Bank(
        jnp.zeros((rows, memories, area, spec.memory.channels), jnp.bfloat16),
        jnp.zeros((rows, pointers, spec.width), jnp.float32),
    )


def advance(w: Weights, spec: Sam2Spec, features: Features, bank: Bank, step: Step) -> tuple[Tracked, Bank]:
    """Masks of R objects on one frame, and the bank with what they remember of it.

    Args:
      w: weights by their names in the checkpoint.
      spec: sizes.
      features: of the frame, B = 1.
      bank: memories of earlier frames.
      step: prompts and slots.
    """
    tracked, full = _masked(w, spec, features, bank, step)
    sizes = spec.memory
    soft = jnp.where(step.binary[:, None, None], (full > 0).astype(jnp.float32), jax.nn.sigmoid(full))
    memory = memory_encoder.encode(w, spec, features.coarse, soft * sizes.scale + sizes.bias, tracked.present > 0)
    rows = jnp.arange(len(memory))
    return tracked, Bank(
        bank.memory.at[rows, step.memory_slot].set(memory.astype(bank.memory.dtype), mode="drop"),
        bank.pointer.at[rows, step.pointer_slot].set(tracked.pointer, mode="drop"),
    )


def _masked(w: Weights, spec: Sam2Spec, features: Features, bank: Bank, step: Step) -> tuple[Tracked, jax.Array]:
    """The result of the frame, and its masks at full size, float32[R, S, S]."""
    coarse = features.coarse.reshape(1, -1, spec.width)
    past = memory_attention.Remembered(bank.memory, step.age, bank.pointer, step.distance)
    image = memory_attention.attend(w, spec, coarse, past)
    image = jnp.where(step.fresh[:, None, None], coarse + w["no_memory_embedding"][0], image)
    several = step.several
    if step.given is not None:
        image = jnp.where(step.given.used[:, None, None], coarse, image)
        several = several | step.given.used
    tokens = prompt_tokens.of_points(w, spec, step.points, step.labels)
    candidates = two_way_decoder.decode(
        w, spec, (image + _dense(w, spec, step))[:, None], features.fine, features.middle,
        prompt_tokens.of_picture(w, spec), tokens[:, None], (step.labels != prompt_tokens.UNUSED)[:, None],
    )  # fmt: skip
    chosen = jax.tree.map(lambda x: x[:, 0], two_way_decoder.choose(spec.decoder, candidates, several[:, None]))
    seen = chosen.present > 0
    logits = jnp.where(seen[:, None, None], chosen.logits.astype(jnp.float32), HIDDEN)
    pointer = two_way_decoder.mlp(w, "object_pointer_proj", chosen.tokens, 3)
    pointer = jnp.where(seen[:, None], pointer, w["no_object_pointer"])
    full = resize_bilinear(logits[..., None], spec.image_size, spec.image_size)[..., 0]
    tracked = Tracked(logits, chosen.ious, chosen.present, pointer.astype(jnp.float32))
    return (tracked, full) if step.given is None else _with_given(w, spec, tracked, full, step.given)


def _dense(w: Weights, spec: Sam2Spec, step: Step) -> jax.Array:
    """Maps of the mask prompts, float[R, g * g, d], or float[d] where no object has one.

    A given mask is shrunk by a learned convolution, and its object pointer is made from what the decoder says about it.
    """
    dense = prompt_tokens.without_mask(w)
    logits = used = None
    if step.previous is not None:
        logits, used = step.previous.logits, step.previous.used
    if step.given is not None:
        dtype = w["mask_downsample.weight"].dtype
        shrunk = conv(w, "mask_downsample", step.given.logits[..., None].astype(dtype), stride=4)[..., 0]
        mine = step.given.used
        logits = shrunk if logits is None else jnp.where(mine[:, None, None], shrunk, logits)
        used = mine if used is None else used | mine
    if logits is None:
        return dense
    embedded = prompt_tokens.of_masks(w, spec, logits)
    return jnp.where(used[:, None, None], embedded.reshape(len(embedded), -1, spec.width), dense)


def _with_given(
    w: Weights, spec: Sam2Spec, tracked: Tracked, full: jax.Array, given: MaskPrompts
) -> tuple[Tracked, jax.Array]:  # fmt: skip
    """A given mask is the result as it is; the object can be seen if the mask has a pixel."""
    mask = given.logits * GIVEN_SCALE + GIVEN_BIAS
    size = spec.mask_size
    any_pixel = jnp.any(given.logits > 0, axis=(1, 2))
    used = given.used
    pointer = jnp.where(any_pixel[:, None], tracked.pointer, w["no_object_pointer"].astype(jnp.float32))
    return Tracked(
        logits=jnp.where(used[:, None, None], resize_antialiased(mask, size, size), tracked.logits),
        ious=jnp.where(used, 1.0, tracked.ious),
        present=jnp.where(used, any_pixel * GIVEN_SCALE + GIVEN_BIAS, tracked.present),
        pointer=jnp.where(used[:, None], pointer, tracked.pointer),
    ), jnp.where(used[:, None, None], mask, full)
