"""`--mode=plan`: does it fit? The memory of one device for a policy, a batch and lengths, before anything is loaded.

What stays (weights, adapters, optimizer, frozen copies) is counted leaf by leaf from shapes and the sharding table, and
is exact. What comes and goes is counted from what rl/update.py and rl/rollout.py hold at their widest moment, with the
copies that XLA was seen to make: of the optimizer's moments, of the embedding where it is frozen and tied, and of the
weights of each layer and the keys of the prompts for the decode loop. tests/modes/test_plan.py compares the programs
with XLA's own analysis. What comes and goes was within 4 % of it for Qwen2.5-0.5B in float32 on the CPU, at 128 + 64
and at
512 + 512 tokens, trained whole and by LoRA, and within 2 % in evaluations of 32 queries by LoRA, at 256 + 64 and at
512 + 256. Where a minibatch is one part (micro_queries and micro_group cover it), the sum of the gradients is not held:
the plan is then 23 % above it (11 % with what stays).

bfloat16 is counted as on devices that compute with it. XLA on the CPU makes float32 copies of all weights besides, and
so needs 3.5 times of what is said here to come and go.
Over a mesh the rows, heads and hidden units are taken as cut evenly and a layer's weights as gathered when it is used,
which is on the high side: on 4 CPU devices cut by fsdp, XLA kept the weights by layer and the embedding's copy cut, and
for a wide policy of few tokens needed 0.7 (rollout) and 0.4 (update) of what is said here to come and go. Buffers of
the communication on other devices, host memory and the file that is read are not counted.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from dtr1_jax import config, mesh
from dtr1_jax.data import sources
from dtr1_jax.models import int8, layers, policy, published, spec
from dtr1_jax.models.spec import Spec
from dtr1_jax.models.weights import hf_checkpoint, native
from dtr1_jax.modes import train
from dtr1_jax.policies import pretrained
from dtr1_jax.rl import optim

GIB = 2**30
FLOAT = 4  # bytes of attention scores, logits and trained weights, whatever the compute dtype


@dataclasses.dataclass(frozen=True)
class DeviceShare:
    """What one device has to do.

    Attributes:
      queries, group: rows that are sampled at once are queries x group.
      part_queries, part_group: of them, what one pass of the update holds.
      prompt, new: tokens of a prompt and of a completion, at most.
      patches: of the pictures of a query; 0 = none.
      branches: of the two projections to an MLP's hidden units, how many have an adapter.
      item: bytes of the compute dtype.
      tensor: into how many parts heads and hidden units are cut.
      rounded: the frozen weights are int8.
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
    tensor: int = 1
    rounded: bool = False


def run(c: config.Config) -> str:
    """A table for people, and as last line one JSON object with bytes: the memory of each device. Raises ConfigError,
    and the errors of reading config.json."""
    found = plan(c, sizes(c))
    return "\n".join([*_table(found), json.dumps(found)])


def sizes(c: config.Config) -> Spec:
    """The policy's spec by its name, or by config.json of the folder or hub repository config.policy.path. No weights
    are needed, nor fetched. Raises ConfigError, as training does where the folder is of another size than the name."""
    path, name = c.policy.path, c.policy.name
    if not path and name == pretrained.AUTO:
        raise config.ConfigError(f"config.policy.path: {name!r} takes the sizes of the files there, and it is empty")
    if not path or (pretrained.is_hub_id(path) and name != pretrained.AUTO):
        return published.get(name)
    folder = pretrained.download(path, ["config.json"]) if pretrained.is_hub_id(path) else Path(path).expanduser()
    if not (folder / "config.json").is_file():
        return pretrained.load_policy(c).spec
    try:
        found = spec.from_hf(hf_checkpoint.read_json(folder / "config.json", "the sizes of the model"))
    except ValueError as error:  # not JSON, or a policy that can not be run
        raise config.ConfigError(f"config.policy.path: {folder / 'config.json'}: {error}") from error
    pretrained.check_sizes(name, folder, found)
    return found


def plan(c: config.Config, shape: Spec) -> dict[str, Any]:
    """Bytes on each device: {"parameters", "resident", "update", "rollout", "evaluation", "peak", ...}; see README.

    The parts of `resident` stay for the whole run; those of `update`, `rollout` and `evaluation` (empty where
    train.eval_examples is 0) come on top of it, never two of them at once. Raises ConfigError where the batch can not
    be cut over config.mesh.
    """
    device_mesh, shape = abstract_mesh(c.mesh), pretrained.adjusted(c, shape)
    todo = device_share(c, shape, device_mesh)
    stays, count = resident(c, shape, device_mesh)
    trained_bytes = stays["adapters"] if c.lora.rank else stays["weights"]
    split = _split_bytes(c, shape, device_mesh)
    asked = evaluation(c, todo, device_mesh)
    parts = {
        "update": update_parts(c, shape, todo, trained_bytes),
        "rollout": rollout_parts(shape, todo, split),
        "evaluation": rollout_parts(shape, asked, split) if asked.queries else {},
    }
    totals = {name: sum(part.values()) for name, part in parts.items()}
    return {
        "policy": c.policy.name,
        "devices": math.prod(device_mesh.shape.values()),
        "mesh": dict(device_mesh.shape),
        "dtype": c.policy.dtype,
        "lora_rank": c.lora.rank,
        "per_device": dataclasses.asdict(todo),
        **count,
        "resident": stays,
        **parts,
        "peak": sum(stays.values()) + max(totals.values()),
    }


def abstract_mesh(wanted: config.Mesh) -> jax.sharding.AbstractMesh:
    """The mesh that the settings ask for, which may have more devices than are here; -1 = what is here and left."""
    shape = [wanted.data, wanted.fsdp, wanted.tensor]
    if -1 in shape:
        rest = math.prod(s for s in shape if s != -1)
        shape[shape.index(-1)] = max(1, jax.device_count() // rest)
    return jax.sharding.AbstractMesh(tuple(shape), mesh.AXES)


def device_share(c: config.Config, shape: Spec, device_mesh: Any) -> DeviceShare:
    """The share of one device. Raises ConfigError where the batch can not be cut evenly."""
    shares = mesh.shares(device_mesh)
    mesh.check_batch(device_mesh, "rollout.queries", c.rollout.queries)
    mesh.check_batch(device_mesh, "train.eval_batch", c.train.eval_batch)
    micro = train.micro_batch(c, device_mesh) or c.rollout.queries // c.grpo.minibatches
    group, most = c.rollout.group, c.grpo.micro_group or c.rollout.group
    return DeviceShare(
        queries=c.rollout.queries // shares,
        group=group,
        part_queries=micro // shares,
        part_group=max(n for n in range(1, group + 1) if group % n == 0 and n <= most),
        prompt=c.policy.prompt_tokens,
        new=c.rollout.new_tokens,
        patches=_patches(c, shape),
        branches=sum(f"decoder/{name}/a" in _adapted(c, shape) for name in ("gate", "up")),
        item=jnp.dtype(c.policy.dtype).itemsize,
        tensor=device_mesh.shape["tensor"],
        rounded=c.policy.weights_dtype == "int8",
    )


def evaluation(c: config.Config, todo: DeviceShare, device_mesh: Any) -> DeviceShare:
    """`todo` with the rows of an evaluation: train.eval_batch queries, or all where there are fewer, once each.

    As one process asks them. Of several each asks all of them, and the rows are as many times more.
    """
    rows = min(c.train.eval_batch, c.train.eval_examples)
    return dataclasses.replace(todo, queries=-(-rows // mesh.shares(device_mesh)), group=1)


def _patches(c, shape):
    """Of one picture, or the frames of a video, as large as they may be; their tokens must fit into the prompt. JSON
    lines may bring either."""
    tower = shape.vision
    if tower is None:
        return 0
    most, frames = c.policy.prompt_tokens * tower.merge**2, sources.max_frames(c.data)
    pixels = c.policy.max_pixels
    if frames > 1:
        pixels = pretrained.video_pixels(c.policy, tower) or pixels * (c.policy.name in spec.SPECS)
    if c.data.source == "jsonl" or not pixels:
        return most
    return min(most, frames * pixels // tower.patch**2)


def resident(c: config.Config, shape: Spec, device_mesh: Any) -> tuple[dict[str, int], dict[str, int]]:
    """(bytes on a device of what stays during the whole run, numbers of parameters); exact."""
    base = _base(c, shape)
    lora = _adapters(c, base)
    trainable = {"lora": lora} if c.lora.rank else {"base": base}
    opt = jax.eval_shape(optim.make(c.optim, c.train.steps).init, trainable)
    copy = {"reference": base} if c.grpo.beta and not c.lora.rank else {}
    stays = {
        "weights": held(device_mesh, {"base": base}),
        "adapters": held(device_mesh, {"lora": lora}) if c.lora.rank else 0,
        "optimizer": held(device_mesh, {"opt": opt}),
        "frozen_copies": held(device_mesh, copy),
    }
    return stays, {"parameters": _count(_whole(shape)), "trainable": _count(trainable)}


def held(device_mesh: Any, tree: Any) -> int:
    """Bytes of a tree of shapes on each device, cut as the sharding table says."""
    places = mesh.shardings(device_mesh, tree)
    each = jax.tree.map(lambda x, s: math.prod(s.shard_shape(x.shape)) * x.dtype.itemsize, tree, places)
    return sum(jax.tree.leaves(each))


def _base(c, shape):
    if c.policy.weights_dtype == "int8":
        return int8.template(_whole(shape), jnp.dtype(c.policy.dtype))
    return _as(_whole(shape), c.policy.weights_dtype)


def _as(tree, dtype):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.dtype(dtype)), tree)


@functools.cache  # tracing a large policy takes seconds
def _whole(shape):
    return jax.eval_shape(lambda: policy.init(jax.random.key(0), shape))


def _adapters(c, base):
    if not c.lora.rank:
        return {}
    return jax.eval_shape(lambda weights: train.adapters(c, weights), base)


def _adapted(c, shape):
    """Paths of the adapters' arrays."""
    return set(native.flatten(_adapters(c, _base(c, shape))))


def _split_bytes(c, shape, device_mesh):
    """Bytes on a device of the decoder's weights and adapters in the compute dtype (or int8)."""
    base = _base(c, shape)
    own = base["decoder"] if c.policy.weights_dtype == "int8" else _as(base["decoder"], c.policy.dtype)
    lora = _as(_adapters(c, base).get("decoder", {}), c.policy.dtype)
    return held(device_mesh, {"base": {"decoder": own}, "lora": {"decoder": lora}})


def _count(tree):
    return int(sum(math.prod(x.shape) for x in jax.tree.leaves(tree)))


def update_parts(c: config.Config, shape: Spec, todo: DeviceShare, trained_bytes: int) -> dict[str, int]:
    """Bytes that an optimizer step needs besides what stays, at its widest moment.

    `gradients`: their sum, and those of the part at hand. `optimizer_copies`: XLA copies both moments and lays the sum
    of the gradients where one of them was. `embedding_copy`: a frozen table that is also the output projection is laid
    down transposed, and an output projection in int8 as floats. `activations`: the states that each layer starts from
    (all that a layer computes without remat), the prompt's keys and values with their gradients, and the larger of one
    layer's or one chunk of logits' backward pass; constants of masks included.
    """
    b, g, p, s = todo.part_queries, todo.part_group, todo.prompt, max(todo.new - 1, 1)
    frozen = bool(c.lora.rank)
    branch, prompt = _Rows(b, g, s, p), _Rows(b, 1, p, 0)
    chunk = FLOAT * _chunk(shape, b * g, todo.new) // todo.tensor
    saved = sum(_saved(shape, todo, rows) for rows in (branch, prompt))
    saved += (3 if c.grpo.beta else 2) * _kv(shape, todo, b, p)
    masks = _scores(shape, todo, branch) * 5 // 4  # a float32 and a bool
    layer = _slices(shape, todo) + max(5 * _hidden(shape, todo, branch), _attention(shape, todo, branch)) + masks
    if c.lora.dropout:  # the random bits of the widest branch, and what is left of its input
        layer += _hidden(shape, todo, branch) * (FLOAT + todo.item) // todo.item
    inside = any(path.startswith("vision/") for path in _adapted(c, shape))
    seen, tower = _tower(shape, todo, b, trained=inside or not frozen)
    copied = todo.rounded or (shape.tied and (frozen or c.grpo.beta > 0))
    return {
        "gradients": 2 * trained_bytes,
        "optimizer_copies": trained_bytes,
        "embedding_copy": shape.vocab * shape.width * todo.item // todo.tensor if copied else 0,
        "activations": seen + max(saved + chunk * 5 // 4 + max(layer, 2 * chunk), tower),
    }


def rollout_parts(shape: Spec, todo: DeviceShare, split_bytes: int) -> dict[str, int]:
    """Bytes that sampling needs besides what stays, at its widest moment.

    `kv_cache`: of the completions, and of the prompts that they share. `weights_by_layer`: the decoder's weights and
    adapters once more, since a decode loop reads them layer by layer. `activations`: the largest of the pass over the
    prompts (the product of an adapter, and of int8 before it is scaled, lies beside the others of its layer), of the
    prompts' keys once more, turned for the decode loop, and of a step of sampling (logits and random bits of all rows).
    """
    b, g, p = todo.queries, todo.group, todo.prompt
    prompt = _Rows(b, 1, p, 0)
    hidden = (3 + todo.branches + todo.rounded) * _hidden(shape, todo, prompt)
    prefill = _slices(shape, todo) + max(hidden, _attention(shape, todo, prompt))
    prompt_kv = _kv(shape, todo, b, p)
    seen, tower = _tower(shape, todo, b, trained=False)
    sampling = 5 * FLOAT * b * g * shape.vocab // todo.tensor
    if todo.rounded and not shape.tied:  # the output projection as floats
        sampling += shape.vocab * shape.width * todo.item // todo.tensor
    return {
        "kv_cache": _kv(shape, todo, b * g, todo.new) + prompt_kv,
        "weights_by_layer": split_bytes,
        "activations": max(seen + max(prefill, tower), prompt_kv // 2, sampling),
    }


@dataclasses.dataclass(frozen=True)
class _Rows:
    """Tokens that go through the decoder together: `queries` x `group` rows of `length`, behind `prefix` tokens."""

    queries: int
    group: int
    length: int
    prefix: int

    @property
    def tokens(self) -> int:
        return self.queries * self.group * self.length


def _kv(shape, todo, rows, length):
    """Keys and values of all layers."""
    heads = shape.kv_heads // todo.tensor if shape.kv_heads % todo.tensor == 0 else shape.kv_heads
    return 2 * shape.layers * rows * length * heads * shape.head_dim * todo.item


def _hidden(shape, todo, rows):
    """One array of an MLP's hidden units."""
    return rows.tokens * shape.hidden * todo.item // todo.tensor


def _scores(shape, todo, rows):
    """The attention scores of all tokens at once, own and prefix, or of as many as attend() takes at once."""
    values = rows.tokens * shape.heads // todo.tensor * (rows.length + rows.prefix)
    return FLOAT * min(values, max(layers.SCORES, values * 16 // rows.length))


def _attention(shape, todo, rows):
    """Scores at the widest moment: the wider of own and prefix before and after its mask, and the other."""
    total = _scores(shape, todo, rows)
    return total + total * max(rows.length, rows.prefix) // (rows.length + rows.prefix)


def _saved(shape, todo, rows):
    """What the backward pass keeps of the forward pass."""
    if shape.remat:
        return shape.layers * rows.tokens * shape.width * todo.item
    scores = _scores(shape, todo, rows)
    each = 6 * _hidden(shape, todo, rows) + scores + scores * rows.length // (rows.length + rows.prefix)
    each += rows.tokens * (5 * shape.width + 4 * shape.heads * shape.head_dim) * todo.item
    return shape.layers * each


def _slices(shape, todo):
    """The matrices of one layer, cut out of the stack; of those in int8, the one at hand is floats too."""
    attention = 2 * shape.width * shape.head_dim * (shape.heads + shape.kv_heads)
    values, widest = attention + 3 * shape.width * shape.hidden, shape.width * shape.hidden
    return (values + widest * todo.item if todo.rounded else values * todo.item) // todo.tensor


def _chunk(shape, rows, length):
    """Logits that policy.logprobs makes at once, in values."""
    chunks = -(-rows * length * shape.vocab // policy.CHUNK)
    return rows * -(-length // min(max(chunks, 1), length)) * shape.vocab


def _tower(shape, todo, queries, trained):
    """(bytes that the pass over the pictures leaves behind, bytes at its widest moment besides).

    It leaves the pictures' tokens; where the tower is trained, the states that its layers start from as well (without
    remat all that they compute).
    """
    tower, n = shape.vision, queries * todo.patches
    if tower is None or not n:
        return 0, 0
    levels = 1 + len(tower.deepstack)
    tokens = n // tower.merge**2 * shape.width * todo.item * levels
    scores = FLOAT * min(n * tower.heads // todo.tensor * todo.patches, layers.SCORES)
    states = n * tower.width * todo.item
    hidden = n * tower.hidden * todo.item // todo.tensor
    if trained:
        kept = 14 * states + (9 if tower.gated else 5) * hidden + scores * (5 if tower.window else 4) // 2
        left = tokens + tower.layers * (states if shape.remat else kept)
        return left, levels * states + scores * 5 // 4 + max(5 * hidden, 2 * scores)
    return tokens, levels * states + max(3 * hidden, 2 * scores)


def _table(found):
    at = found["per_device"]
    yield f"{found['policy']}: {found['parameters']:,} parameters, {found['trainable']:,} of them trained" + (
        f" (LoRA of rank {found['lora_rank']})" if found["lora_rank"] else ""
    )
    yield (
        f"{found['devices']} device(s): " + ", ".join(f"{k} {v}" for k, v in found["mesh"].items()) + f"; on each "
        f"{at['queries']} queries x {at['group']} completions of {at['prompt']} + {at['new']} tokens, the update by "
        f"{at['part_queries']} x {at['part_group']}; {found['dtype']}"
    )
    yield ""
    yield "GiB on each device"
    for title in ("resident", "update", "rollout", "evaluation"):
        parts, shown = found[title], "stays" if title == "resident" else title
        for name, size in ({**parts, "together": sum(parts.values())} if parts else {}).items():
            yield f"  {shown:<10} {name.replace('_', ' '):<20} {size / GIB:9.2f}"
    yield f"  {'peak':<31} {found['peak'] / GIB:9.2f}"
    yield ""
