"""Operations that an update and a token of a completion need, whatever the program does: for MFU and bandwidth.

A matrix product has two operations for each weight and token, two more for the gradient of its input, and two more for
that of a trained weight. Attention has 4 x context for each value of a head (scores, and sums of values), where a token
sees half of its sequence on average, and twice that in the backward pass. Computing activations again counts 0, and so
do norms and other arithmetic by element. Prompts are read once for all their completions.
"""

from __future__ import annotations

import dataclasses

from dtr1_jax.models.spec import Spec, VisionSpec


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The completions of one update, or of one rollout.

    Attributes:
      queries, group: B queries with G completions each.
      prompt, new: tokens of a prompt (P) and of a completion (S).
      patches: patches of the pictures of a query; 0 = none.
    """

    queries: int
    group: int
    prompt: int
    new: int
    patches: int = 0


def layer_weights(spec: Spec) -> int:
    """Weights in the matrices of one layer of the decoder."""
    return spec.width * (2 * spec.heads * spec.head_dim + 2 * spec.kv_heads * spec.head_dim + 3 * spec.hidden)


def update(spec: Spec, sizes: Sizes, *, adapters: int = 0, reference: bool = False) -> float:
    """Operations of an update over all devices.

    Args:
      spec: sizes of the policy.
      sizes: its completions.
      adapters: number of LoRA weights, all of them in the decoder; 0 = all weights are trained, the tower's too.
      reference: the log-probabilities of a reference policy are computed as well.
    """
    products, attention = _forward(spec, sizes)
    seen = tower(spec, sizes.patches) * sizes.queries
    tokens = sizes.queries * (sizes.prompt + sizes.group * (sizes.new - 1))
    total = (2 if adapters else 3) * products + 3 * attention + (1 if adapters else 3) * seen + 6 * tokens * adapters
    return total + (products + attention + seen if reference else 0)


def _forward(spec, sizes):
    """(operations of the decoder's products with weights, those of attention) of a forward pass over everything."""
    rows, prompt = sizes.queries * sizes.group, sizes.queries * sizes.prompt
    inputs = rows * (sizes.new - 1)  # the last token of a completion is scored, but is no input
    head = 2 * rows * sizes.new * spec.width * spec.vocab
    context = prompt * (sizes.prompt + 1) / 2 + inputs * (sizes.prompt + sizes.new / 2)
    products = 2 * (prompt + inputs) * spec.layers * layer_weights(spec) + head
    return products, 4 * context * spec.heads * spec.head_dim * spec.layers


def tower(spec: Spec, patches: int) -> float:
    """Operations of the vision tower for the pictures of one query; their patches count as one picture."""
    v = spec.vision
    if v is None or not patches:
        return 0.0
    each = v.width * ((3 + 1) * v.width + (3 if v.gated else 2) * v.hidden)
    blocks = v.layers * 2 * patches * each + 4 * patches * v.width * _patches_seen(v, patches)
    block = v.merge**2 * v.width
    mergers = (1 + len(v.deepstack)) * 2 * (patches // v.merge**2) * block * (block + spec.width)
    return 2 * patches * v.values * v.width + blocks + mergers


def _patches_seen(v: VisionSpec, patches: int) -> int:
    """Patches that a patch sees, in all layers together."""
    if not v.window:
        return v.layers * patches
    return len(v.full_layers) * patches + (v.layers - len(v.full_layers)) * min(patches, (v.window * v.merge) ** 2)


def bytes_of_token(spec: Spec, sizes: Sizes, weights_bytes: float, tensor: int, item: int) -> float:
    """Bytes of memory that a device must read for each token of its completions, on average over a rollout.

    These are all weights of the device, the keys and values of the prompts, which a group shares, and those of the
    completions so far.

    Args:
      spec: sizes of the policy.
      sizes: the completions of the device.
      weights_bytes: bytes of the weights on the device, without the input embedding and the tower.
      tensor: parts into which heads are cut; where there are fewer kv heads, each device has one of them.
      item: bytes of a key's number.
    """
    heads = max(spec.kv_heads / tensor, 1)
    tokens = sizes.queries * (sizes.prompt + sizes.group * (sizes.new - 1) / 2)
    return weights_bytes + tokens * 2 * spec.layers * heads * spec.head_dim * item
