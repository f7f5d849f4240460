"""The memory that an update or a rollout takes for a while on one device, counted from shapes (memory.py).

It is counted at the moment when the phase holds most, as rl/update.py and rl/rollout.py hold it, including the copies
that XLA makes of the optimizer's moments, of a frozen embedding that is also the output projection, and, for the decode
loop, of each layer's weights and of the prompts' keys.

Accuracy: tests/policies/test_phase_memory.py compares it with XLA's own analysis of the compiled programs. For
Qwen2.5-0.5B in float32 on the CPU, at 128 + 64 and at 512 + 512 tokens, trained whole and by LoRA, the
temporary memory was within 4 % of XLA's figure. In evaluations of 32 queries by LoRA, at 256 + 64 and at 512 + 256
tokens, it was within 2 %.
Where a minibatch is one part (micro_queries and micro_group cover it), XLA does not hold the sum of the gradients, and
the count is 23 % too high (11 % with the resident memory).

bfloat16 is counted as on devices that compute in bfloat16. XLA on the CPU makes float32 copies of all weights, so there
the temporary memory is 3.5 times the count. On a mesh, the count assumes that rows, heads and hidden units are split
evenly, and that the weights of a layer are gathered while the layer is computed. Updates of 2 layers of Qwen2.5-0.5B to
7B and Qwen3-0.6B by LoRA on 2 x 2, 4 and 8 CPU devices, with and without a KL, at 128 + 64 to 128 + 512 tokens, were
within 10 % of XLA's figure; whole 3B on 2 x 2 13 % below the count. A mesh with `data` alone gathers nothing, and there
7B needed a quarter more than is counted. A rollout on 4 CPU devices with fsdp needed 0.7 of the count. On TPUs an
update is counted with GAPS. With it, 38 of 39 updates of 2B to 32B on slices of 16 to 256 chips are within 15 % of what
the TPU compiler asks for at low effort, 31 within 10 %; rollouts with a copy of the weights are within 9 %
(docs/memory.md).
Communication buffers, host memory and the file that is read are not counted.
"""

from __future__ import annotations

import dataclasses
import math

from dtr1_jax import config
from dtr1_jax.models import decoder, layers, output_head
from dtr1_jax.models.spec import Spec
from dtr1_jax.policies import memory

FLOAT = 4  # bytes of an attention score, a logit or a trained weight: always float32
GAPS = 0.5  # of an update's arrays, which a TPU needs besides: its compiler places them with gaps (docs/memory.md)


@dataclasses.dataclass(frozen=True)
class DeviceShare:
    """The work of one device.

    Attributes:
      queries, group: a rollout samples queries x group completions at once.
      part_queries, part_group: one pass of the update holds part_queries x part_group of them.
      prompt, new: the most tokens of a prompt and of a completion.
      patches: patches of a query's pictures; 0 = none.
      branches: how many of the two projections to an MLP's hidden units have an adapter.
      item: bytes of a number of the compute dtype.
      shards: the number of parts into which the mesh cuts the rows.
      tensor: the number of parts into which heads, hidden units, and the inputs of layers are cut.
      gathers: whether weights are cut over devices and gathered for the update (`mesh.fsdp` above 1).
      rounded: whether the frozen weights are int8.
      inserted: tokens of a specialists' twin that pass the decoder at once in each row; 0 = there are none.
      platform: of the device; on "tpu" whole sequences attend by a kernel that writes no scores (layers.uses_kernel).
    """

    queries: int
    group: int
    part_queries: int
    part_group: int
    prompt: int
    new: int
    patches: int
    branches: int
    item: int
    shards: int = 1
    tensor: int = 1
    gathers: bool = False
    rounded: bool = False
    inserted: int = 0
    platform: str = "cpu"


def update_parts(
    c: config.Config, spec: Spec, share: DeviceShare, trained_bytes: int, used: int | None = None
) -> dict[str, int]:
    """The temporary bytes of an optimizer step, at the moment when it holds most.

    - `gradients`: the sum of the gradients, and the gradients of the current part, without the sum on a TPU where all
      completions are one part; for adapters on several batch shards besides the copies that the parts use.
    - `optimizer_copies`: XLA copies both moments and puts the sum of the gradients in the place of one of them.
    - `projection_copy`: where one CPU device scores chunks of tokens, a transposed copy of a frozen table that is also
      the output projection, and a float copy of one in int8.
    - `activations`: the input of each layer (without remat everything that a layer computes), the prompt's keys and
      values with their gradients, and the backward pass of one layer or of one slice of logits, whichever is larger.
      The constants of masks are included, and copies of the slice of the output projection: gathered, its gradient
      where it is trained, and that of the reference.
    - `pictures`: on a TPU those of the batch, and a copy of them.
    - `gaps`: on a TPU, GAPS of all this.

    Args:
      trained_bytes: bytes of the trainable weights on the device.
      used: bytes of them as the parts use them, from `used_bytes`; None = trained_bytes.
    """
    b, g, p = share.part_queries, share.part_group, share.prompt
    s = decoder.tokens_read(share.new, _token_parts(share, share.new), share.platform) if share.new > 1 else 1
    frozen = bool(c.lora.rank)
    branch, prompt = _Rows(b, g, s, p), _Rows(b, 1, p, 0)
    saved = sum(_saved(spec, share, rows) for rows in (branch, prompt))
    summed = share.platform == "tpu" and g < share.group  # over the parts of a group, besides the newest gradients
    saved += (2 + (c.grpo.beta > 0) + summed) * _kv(spec, share, b, p)
    masks = 0 if _by_kernel(spec, share, branch) else _scores(spec, share, branch) * 5 // 4  # as float32 and as bool
    mlp, attention = _mlp(spec, share, branch), _attention(spec, share, branch)
    layer = _slices(spec, share) + (mlp + attention if share.platform == "tpu" else max(mlp, attention)) + masks
    if c.lora.dropout:  # the random bits of the widest projection, and its masked input
        layer += _hidden(spec, share, branch) * (FLOAT + share.item) // share.item
    trains_tower = any(path.startswith("vision/") for path in memory.adapter_paths(c, spec))
    pictures, tower = _tower(spec, share, b, trained=trains_tower or not frozen)
    copied = share.rounded or share.gathers or (spec.tied and (frozen or c.grpo.beta > 0))
    copies = int(copied) + share.gathers * (int(not frozen) + int(c.grpo.beta > 0))
    projection, logits = _logits(spec, share, b * g, share.new, copies)
    whole = share.platform == "tpu" and (b, g) == (share.queries, share.group)  # one part needs no sum of gradients
    parts = {
        "gradients": (2 - whole + (frozen and share.shards > 1)) * (trained_bytes if used is None else used),
        "optimizer_copies": trained_bytes,
        "projection_copy": projection,
        "activations": pictures + max(saved + max(layer, logits), tower),
    }
    if share.platform == "tpu" and spec.vision:
        parts["pictures"] = 2 * FLOAT * share.queries * share.patches * spec.vision.values
    return parts | ({"gaps": int(GAPS * sum(parts.values()))} if share.platform == "tpu" else {})


def rollout_parts(spec: Spec, share: DeviceShare, layers_bytes: int, copied: int = 0) -> dict[str, int]:
    """The temporary bytes of sampling, at the moment when it holds most.

    - `weights_copy`: `copied`, the copy of the weights that is laid out for sampling (rollout_layout.py).
    - `kv_cache`: keys and values of the completions, and of the prompts that they share.
    - `weights_by_layer`: a second copy of the decoder's weights and adapters, which the decode loop reads by layer.
    - `projection_copy`: without a copy of the weights, the gathered output projection, and its table if it is that too.
    - `activations`: the largest of four: the prefill (the product of an adapter, and an int8 product before it is
      scaled, are held beside the layer's other arrays); a transposed copy of the prompts' keys, which TPUs do without;
      one step of sampling, with the logits and random bits of all rows; and the insertion of a part of a twin.
    """
    b, g, p = share.queries, share.group, share.prompt
    prompt = _Rows(b, 1, p, 0)
    hidden = (3 + share.branches + share.rounded) * _hidden(spec, share, prompt)
    prefill = _slices(spec, share) + max(hidden, _attention(spec, share, prompt))
    prompt_kv = _kv(spec, share, b, p)
    transposed = 0 if share.platform == "tpu" else prompt_kv // 2
    pictures, tower = _tower(spec, share, b, trained=False)
    sampling = 5 * FLOAT * b * g * spec.vocab // share.tensor
    if share.rounded and not spec.tied:  # the output projection as floats
        sampling += spec.vocab * spec.width * share.item // share.tensor
    twin = _Rows(b, g, share.inserted, p + share.new, cached=True)
    inserting = 3 * _hidden(spec, share, twin) + _attention(spec, share, twin) if share.inserted else 0
    gathered = share.gathers and not copied
    return {
        "weights_copy": copied,
        "projection_copy": gathered * (1 + spec.tied) * spec.vocab * spec.width * share.item // share.tensor,
        "kv_cache": _kv(spec, share, b * g, share.new) + prompt_kv,
        "weights_by_layer": layers_bytes,
        "activations": max(pictures + max(prefill, tower), transposed, sampling, inserting),
    }


@dataclasses.dataclass(frozen=True)
class _Rows:
    """Tokens that pass the decoder together: `queries` x `group` rows of `length` tokens behind `prefix` shared ones.

    `cached` rows see the keys of a cache besides, and not only each other.
    """

    queries: int
    group: int
    length: int
    prefix: int
    cached: bool = False

    @property
    def tokens(self) -> int:
        return self.queries * self.group * self.length


def _kv(spec, share, rows, length):
    """Bytes of the keys and values of all layers."""
    heads = spec.kv_heads
    if spec.heads % math.lcm(heads, share.tensor) == 0:  # repeated where tensor is larger (layout.kv_copies)
        heads = math.lcm(heads, share.tensor) // share.tensor
    return 2 * spec.layers * rows * length * heads * spec.head_dim * share.item


def _hidden(spec, share, rows):
    """Bytes of one array of an MLP's hidden units."""
    return rows.tokens * spec.hidden * share.item // share.tensor


def _mlp(spec, share, rows):
    """Bytes of the backward pass of an MLP. The products of adapters are arrays of their own."""
    states = rows.tokens * spec.width * share.item // _token_parts(share, rows.length)
    if share.platform == "tpu":
        return (5 + share.branches) * _hidden(spec, share, rows) + 6 * states
    return (5 + 3 * share.branches) * _hidden(spec, share, rows) + 3 * share.branches * states


def _own_keys(rows):
    """Own keys for which a token has scores, in the mean: blocks of layers.attend leave out those behind them."""
    blocks = layers.causal_blocks(rows.length)
    return rows.length * (blocks + 1) // (2 * blocks)


def _by_kernel(spec, share, rows):
    """Whether the rows attend by a kernel that writes no scores."""
    return not rows.cached and layers.uses_kernel(spec.attention, rows.length, share.platform)


def _kernel(tokens, heads, head_dim, share):
    """Bytes of what the kernel reads and writes beside keys and values: queries, outputs and the gradients of both, and
    two sums of each query, in 8 copies.
    """
    return tokens * heads // share.tensor * (4 * head_dim * share.item + 2 * 8 * FLOAT)


def _scores(spec, share, rows):
    """Bytes of the attention scores, own and prefix, of all tokens or of as many as layers.attend takes at once."""
    values = rows.tokens * spec.heads // share.tensor * (_own_keys(rows) + rows.prefix)
    return FLOAT * min(values, max(layers.SCORES, values * 16 // rows.length))


def _attention(spec, share, rows):
    """Bytes of attention: own and prefix scores while the mask is applied, and a copy of the larger ones."""
    if _by_kernel(spec, share, rows):
        return _kernel(rows.tokens, spec.heads, spec.head_dim, share)
    total, own = _scores(spec, share, rows), _own_keys(rows)
    return total + total * max(own, rows.prefix) // (own + rows.prefix)


def _saved(spec, share, rows):
    """Bytes that the backward pass keeps of the forward pass."""
    if spec.remat:
        return spec.layers * rows.tokens * spec.width * share.item // _token_parts(share, rows.length)
    scores = 0 if _by_kernel(spec, share, rows) else _scores(spec, share, rows)
    own = _own_keys(rows)
    each = 6 * _hidden(spec, share, rows) + scores + scores * own // (own + rows.prefix)
    each += rows.tokens * (5 * spec.width + 4 * spec.heads * spec.head_dim) * share.item
    return spec.layers * each


def _token_parts(share, length):
    """The number of parts into which the tokens between the products of a layer are cut ("sequence" in mesh.py)."""
    return share.tensor if length % share.tensor == 0 else 1


def _slices(spec, share):
    """Bytes of one layer's matrices, copied out of the stack; in int8 one matrix at a time is held as floats too."""
    attention = 2 * spec.width * spec.head_dim * (spec.heads + spec.kv_heads)
    values, widest = attention + 3 * spec.width * spec.hidden, spec.width * spec.hidden
    return (values + widest * share.item if share.rounded else values * share.item) // share.tensor


def _logits(spec, share, rows, length, copies):
    """(bytes of copies of the output projection that are held throughout, bytes of the backward pass of the logits) of
    `rows` completions of a device.

    Args:
      copies: of the output projection, or of the slice of it that is used at once (output_head.token_logprobs).
    """
    columns = spec.vocab // (share.tensor if spec.vocab % share.tensor == 0 else 1)
    if not output_head.in_slices(share.shards, share.platform):
        tokens = output_head.chunk_length(rows, length, columns)
        chunk = FLOAT * rows * tokens * columns
        waiting = chunk * 5 // 4 * (tokens < length) + chunk * (share.tensor > 1)  # the next one, and the choice
        return copies * columns * spec.width * share.item, 2 * chunk + waiting
    tokens = rows * length
    of_slice = output_head.slice_columns(tokens, columns, spec.width, share.gathers)
    total = FLOAT * tokens * spec.width * (of_slice < columns)  # of the gradient of the hidden states
    return 0, 3 * FLOAT * tokens * of_slice + copies * of_slice * spec.width * share.item + total


def _tower(spec, share, queries, trained):
    """(bytes that remain after the vision tower has run, further bytes while it runs, at most).

    The pictures' tokens remain. Where the tower is trained, the inputs of its layers remain too (without remat
    everything that the layers compute).
    """
    tower, n = spec.vision, queries * share.patches
    if tower is None or not n:
        return 0, 0
    levels = 1 + len(tower.deepstack)
    tokens = n // tower.merge**2 * spec.width * share.item * levels
    scores = FLOAT * min(n * tower.heads // share.tensor * share.patches, layers.SCORES)
    if layers.uses_kernel(spec.attention, share.patches, share.platform):
        windows = FLOAT * n * tower.heads // share.tensor * 3 * (tower.window * tower.merge) ** 2
        scores = max(_kernel(n, tower.heads, tower.width // tower.heads, share), windows)
    states = n * tower.width * share.item
    inputs = states // _token_parts(share, share.patches)
    hidden = n * tower.hidden * share.item // share.tensor
    if trained:
        kept = 14 * states + (9 if tower.gated else 5) * hidden + scores * (5 if tower.window else 4) // 2
        left = tokens + tower.layers * (inputs if spec.remat else kept)
        return left, levels * states + scores * 5 // 4 + max(5 * hidden, 2 * scores)
    return tokens, levels * states + max(3 * hidden, 2 * scores)
