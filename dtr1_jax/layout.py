"""Where the arrays of a jitted function live on the mesh: activations are placed, weights are gathered by layer.

    with layout.use(mesh):                                  # inside the jitted function
        x_bgqd = layout.place(x_bgqd, "batch", None, "sequence", None)
        weights = layout.gathered(weights, spec.head_counts, x_bgqd.dtype)

The compiler guesses badly. Where weights are cut over `fsdp` and activations are free, it follows the cut of the
weights: it keeps all rows on all devices, and sums up activations and logits over the devices. So each layer says where
its activations live. The names of their axes, and how the mesh cuts these, are in mesh.py.

`mesh.fsdp` then works as ZeRO-3 (arXiv 1910.02054). A device holds a part of each weight. It gathers the weights of a
layer when it computes the layer, forward and again backward, and the gradients are summed up and cut again in one
operation. Between the products of a layer, `mesh.tensor` cuts the tokens, so each device keeps a part of the states.
Without a mesh, or with one device, all functions here do nothing to their argument.
"""

from __future__ import annotations

import contextlib
import contextvars
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import Mesh, NamedSharding

from dtr1_jax import mesh as mesh_lib

GATHERED = "gathered"  # name of gathered weights, for the policy of jax.checkpoint


@dataclasses.dataclass(frozen=True)
class _Layout:
    """The mesh, and whether the weights are whole on each batch shard (`mesh.shardings` with resident = True)."""

    mesh: Mesh
    resident: bool


_current: contextvars.ContextVar[_Layout | None] = contextvars.ContextVar("layout", default=None)
_platform: contextvars.ContextVar[str | None] = contextvars.ContextVar("platform", default=None)


@contextlib.contextmanager
def use(mesh: Mesh | None, resident: bool = False) -> Iterator[None]:
    """The functions of this module act for `mesh` in the block; None, or one device: only `platform` does.

    The block must be inside the jitted function, and the mesh one of its static arguments.

    Args:
      mesh: the devices.
      resident: each batch shard holds whole weights, as in a rollout, so that nothing is gathered.
    """
    token = _current.set(None if mesh is None or mesh.size == 1 else _Layout(mesh, resident))
    before = _platform.set(None if mesh is None else mesh.devices.flat[0].platform)
    try:
        yield
    finally:
        _platform.reset(before)
        _current.reset(token)


def platform() -> str:
    """Platform of the devices that the program is compiled for: "cpu", "gpu" or "tpu".

    It is that of the mesh of `use`, whose devices this machine need not have, or else that of JAX's default device.
    """
    return _platform.get() or jax.default_backend()


def place(x: jax.Array, *names: str | tuple[str, int] | None) -> jax.Array:
    """Tells the compiler how `x` is cut over the mesh.

    Args:
      x: any array.
      names: for each axis of `x` a name of mesh.ACTIVATIONS, or None for an axis that stays whole. ("heads", 28) means
        that the axis holds 28 heads, and may be cut between heads only. An axis that the mesh does not divide stays
        whole.
    """
    current = _current.get()
    if current is None:
        return x
    assert x.ndim == len(names), (x.shape, names)
    return jax.lax.with_sharding_constraint(x, mesh_lib.of_activation(current.mesh, x.shape, names))


def gather_tokens(x: jax.Array, *names: str | None) -> jax.Array:
    """States as a product reads them: their axis "sequence", which the mesh cuts, is whole on each device.

    The gradient is cut again. Each device then keeps its tokens of a sum over `tensor`, and the sum is sent once and
    not twice (arXiv 2205.05198). `names` are as in `place`.
    """
    shardings = _of_tokens(x, names)
    return x if shardings is None else _gather(x, *shardings)


def scatter_tokens(x: jax.Array, *names: str | None) -> jax.Array:
    """The result of a product whose sum over `tensor` is cut along the axis "sequence"; its gradient is gathered."""
    shardings = _of_tokens(x, names)
    return x if shardings is None else _scatter(x, *shardings)


def token_at(states: jax.Array, index: jax.Array) -> jax.Array:
    """The state [B, ..., D] of one token of each row; where the mesh cuts the tokens, only this state is sent.

    Args:
      states: [B, ..., N, D], of N tokens.
      index: int32[B, ...], in [0, N).
    """
    if parts("sequence", states.shape[-2]) == 1:
        state = jnp.take_along_axis(states, index[..., None, None], -2)[..., 0, :]
    else:
        state = jnp.where((jnp.arange(states.shape[-2]) == index[..., None])[..., None], states, 0).sum(-2)
    return place(state, "batch", *(None,) * (state.ndim - 1))


def _of_tokens(x, names):
    """The shardings of states with their tokens cut, and whole; None without a mesh."""
    current = _current.get()
    if current is None:
        return None
    whole = tuple(None if name == "sequence" else name for name in names)
    return tuple(mesh_lib.of_activation(current.mesh, x.shape, each) for each in (names, whole))


def place_tree(tree: Any) -> Any:
    """`place` for trees of arrays whose first axis is the batch and whose other axes stay whole."""
    return jax.tree.map(lambda x: place(x, "batch", *(None,) * (x.ndim - 1)), tree)


def parts(name: str, size: int) -> int:
    """The number of parts into which the mesh cuts an axis of this name and size; 1 without a mesh."""
    current = _current.get()
    return 1 if current is None else mesh_lib.parts(current.mesh, name, size)


def kv_copies(heads: int, kv_heads: int) -> int:
    """How often each kv head is repeated, so that `tensor` cuts the kv heads as it cuts the query heads; mostly 1.

    Where tensor is larger than the number of kv heads, several devices compute the same kv head, and each keeps the
    one that its query heads use.
    """
    tensor = parts("heads", heads)
    return math.lcm(kv_heads, tensor) // kv_heads if heads % math.lcm(kv_heads, tensor) == 0 else 1


def gathers() -> bool:
    """Whether `gathered` sends anything: the weights are cut over fsdp."""
    current = _current.get()
    return current is not None and not current.resident and current.mesh.shape["fsdp"] > 1


def gathered(tree: Any, heads: dict[str, int], dtype: Any = None) -> Any:
    """Weights as a layer uses them: gathered over fsdp. Their gradients are cut as the weights are stored.

    Args:
      tree: weights, by the paths of mesh.RULES.
      heads: as in `mesh.shardings`.
      dtype: kernels are converted to it first, because the layer would do so anyway, and fewer bytes are sent then.
    """
    current = _current.get()
    if current is None:
        return tree

    def gather(path, x):
        if dtype is not None and path[-1].key == "kernel" and jnp.issubdtype(x.dtype, jnp.floating):
            x = x.astype(dtype)
        used = mesh_lib.sharding(current.mesh, path, x, heads, resident=True)
        stored = used if current.resident else mesh_lib.sharding(current.mesh, path, x, heads)
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return jax.lax.with_sharding_constraint(x, used)
        return checkpoint_name(_gather(x, stored, used), GATHERED)

    return jax.tree_util.tree_map_with_path(gather, tree)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gather(x: jax.Array, stored: NamedSharding, used: NamedSharding) -> jax.Array:
    # The first constraint keeps the cut of the stack of all layers from following the second one.
    return jax.lax.with_sharding_constraint(jax.lax.with_sharding_constraint(x, stored), used)


# The gradient is never placed as `used`: it would be summed up whole on each device, and cut only afterwards.
_gather.defvjp(
    lambda x, stored, used: (_gather(x, stored, used), None),
    lambda stored, used, _, dy: (jax.lax.with_sharding_constraint(dy, stored),),
)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _scatter(x: jax.Array, stored: NamedSharding, used: NamedSharding) -> jax.Array:
    """The transpose of `_gather`."""
    return jax.lax.with_sharding_constraint(x, stored)


_scatter.defvjp(
    lambda x, stored, used: (_scatter(x, stored, used), None),
    lambda stored, used, _, dy: (_gather(dy, stored, used),),
)


def checkpointed(layer: Any, remat: bool) -> Any:
    """jax.checkpoint(layer) where remat is set; otherwise the backward pass computes no more than the gathering again.

    Without this, the forward pass would keep the gathered weights of all layers for the backward pass.
    """
    if remat:
        return jax.checkpoint(layer)
    if not gathers():
        return layer
    return jax.checkpoint(layer, policy=jax.checkpoint_policies.save_anything_except_these_names(GATHERED))


def spread(tree: Any, heads: dict[str, int]) -> Any:
    """Matrices [..., i, o] as [..., shards, i, o]: a copy for each batch shard, which gets its own gradient.

    The gradients of a shard then add up on its own devices over all parts of a minibatch, and over the shards once, in
    the sum that is the gradient of the copying. Arrays of one axis, and all without a mesh, stay as they are.

    Args:
      tree: weights or adapters, by the paths of mesh.RULES.
      heads: as in `mesh.shardings`.
    """
    current = _current.get()
    if current is None:
        return tree
    shards = mesh_lib.batch_shards(current.mesh)

    def copies(x, path):
        x = jnp.broadcast_to(x[..., None, :, :], (*x.shape[:-2], shards, *x.shape[-2:]))
        return jax.lax.with_sharding_constraint(x, mesh_lib.spread_sharding(current.mesh, path, x, heads))

    return jax.tree_util.tree_map_with_path(lambda path, x: copies(x, path) if x.ndim > 1 else x, gathered(tree, heads))


def by_shard(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """x[B, ..., i] @ kernel[shards, i, o] of `spread`: each batch shard uses its own copy."""
    product = jnp.matmul(x.reshape(kernel.shape[0], -1, x.shape[-1]), kernel)
    return product.reshape(*x.shape[:-1], kernel.shape[-1])


def on_each_device(function: Callable, *arrays: tuple[jax.Array, tuple[str | None, ...]]) -> jax.Array:
    """Calls `function` on each device with its parts of the arrays. The compiler cannot cut a kernel by itself.

    Args:
      function: its result has the shape of the first array, and is cut in the same way.
      arrays: (an array, the names of its axes as in `place`). Without a mesh, `function` gets them whole.
    """
    current, values = _current.get(), [x for x, _ in arrays]
    if current is None:
        return function(*values)
    places = tuple(mesh_lib.of_activation(current.mesh, x.shape, names).spec for x, names in arrays)
    mapped = jax.shard_map(function, mesh=current.mesh, in_specs=places, out_specs=places[0], check_vma=False)
    return mapped(*values)


def by_vocab(function: Callable, x_rv: jax.Array, id_v: jax.Array, *rows: jax.Array) -> Any:
    """Calls `function(join, gather, x_rv, id_v, *rows)` on each device with its part of the vocabulary and of the rows.

    `join(y)` sums up y over the parts of the vocabulary, and `gather(y)` puts them behind each other on the last axis.

    Args:
      function: its results have the rows on their first axis, and are equal on all parts of the vocabulary.
      x_rv: [R, V], cut over rows and vocabulary.
      id_v: int32[V], the ids of the columns.
      rows: arrays [R, ...], cut over rows.
    """
    mesh = _current.get().mesh
    axis = mesh_lib.ACTIVATIONS["vocab"]
    join = functools.partial(jax.lax.psum, axis_name=axis)

    def gather(y):
        return jax.lax.all_gather(y, axis, axis=y.ndim - 1, tiled=True)

    def spec(x, *names):
        return mesh_lib.of_activation(mesh, x.shape, (*names, *(None,) * (x.ndim - len(names)))).spec

    places = (spec(x_rv, "batch", "vocab"), spec(id_v, "vocab"), *(spec(x, "batch") for x in rows))
    mapped = jax.shard_map(
        functools.partial(function, join, gather), mesh=mesh, in_specs=places, out_specs=spec(x_rv[:, 0], "batch"),
        check_vma=False,
    )  # fmt: skip
    return mapped(x_rv, id_v, *rows)
