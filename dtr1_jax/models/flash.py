"""Attention whose memory is linear in the length, by the splash attention kernel that comes with JAX (Pallas, TPU).

The einsum of layers.py writes the score of each query and key to memory. This kernel goes over blocks of keys, and
keeps the scores of one block of queries inside the chip (FlashAttention, arXiv 2205.14135). Forward and backward it
skips blocks that the mask hides as a whole.

The G branches of a batch row and their shared prefix are one sequence for the kernel:

    queries  [branch 0 | branch 1 | ...]           rows of the mask
    keys     [prefix | branch 0 | branch 1 | ...]  columns of the mask

The mask (`Branches`) shows each branch the prefix and itself. So the prefix is read in place, one softmax covers both
parts, and the kernel's own gradient is the gradient; no sums of two kernels have to be joined. Padding is hidden by
numbers: a query sees a key of its own number.

Mosaic, the compiler of such kernels, takes head dimensions of 64, 72, 80 and 128 as they are.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as splash_mask

from dtr1_jax import layout

BLOCKS = (512, 256, 128)  # queries, and keys, that the kernel takes at once; multiples of the 128 lanes of a TPU


@dataclasses.dataclass(frozen=True)
class Branches(splash_mask.Mask):
    """The mask of `branches` sequences behind a prefix that they share, in blocks on demand.

    Example with two branches of two queries behind a prefix of one key, causal:

        1 | 1 0 | 0 0
        1 | 1 1 | 0 0
        1 | 0 0 | 1 0
        1 | 0 0 | 1 1

    Attributes:
      branches: number of branches.
      length: queries, and own keys, of each branch.
      prefix: keys of the prefix, which all queries see.
      causal: whether a query sees only the own keys up to its own place.
    """

    branches: int
    length: int
    prefix: int
    causal: bool

    @property
    def shape(self) -> tuple[int, int]:
        """(queries, keys)."""
        return self.branches * self.length, self.prefix + self.branches * self.length

    def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
        """bool[rows, columns] of two slices."""
        query, key = (np.arange(*part.indices(size)) for part, size in zip(index, self.shape))
        query, key = query[:, None], key[None] - self.prefix
        own = query // self.length == key // self.length
        return (key < 0) | (own & (key <= query) if self.causal else own)

    def blocks(self, size: int) -> int:
        """Blocks of `size` x `size` with a True; `size` divides both lengths."""
        own, prefix = self.length // size, self.prefix // size
        return self.branches * (own * prefix + (own * (own + 1) // 2 if self.causal else own * own))


def block_size(branches: int, length: int, prefix: int) -> int:
    """The largest of BLOCKS that fills up `branches` x `length` + `prefix` places by an eighth at most, or the last."""
    for size in BLOCKS:
        if 8 * (branches * (-length % size) + -prefix % size) <= branches * length + prefix:
            return size
    return BLOCKS[-1]


def scope(blocks: int, size: int) -> str:
    """Name of the kernel's operations in a compiled program: how many blocks of scores a head computes, of which size.

    program_cost.py reads it, because the text of a program does not say which blocks a kernel skips.
    """
    return f"flash_{blocks}_blocks_of_{size}"


def attend(
    q_bgqnh: jax.Array,
    own_kv: tuple[jax.Array, ...],
    number_bgq: jax.Array,
    prefix_kv: tuple[jax.Array, ...] | None = None,
    prefix_mask_bp: jax.Array | None = None,
    *,
    causal: bool,
    interpret: bool = False,
) -> jax.Array:
    """`layers.attend` of whole sequences by the kernel: [B, G, q, N * H].

    Over a mesh, each device runs the kernel on its own rows and heads (layout.py). A query that sees no key gets 0.

    Args:
      q_bgqnh: [B, G, q, N, H] queries, rotated.
      own_kv: keys and values [B, G, K, q, H] of each branch.
      number_bgq: int or bool[B or 1, G or 1, q]. Causal: positive at real keys, which all later queries see, as in
        [1 1 1 0]. Not causal: a query sees the keys that have its number, if that is positive, as in [1 1 2 0].
      prefix_kv: keys and values [B, K, P, H], or None; only where causal.
      prefix_mask_bp: bool[B, P], True at real keys; None without a prefix.
      causal: hides own keys behind the place of the query.
      interpret: computes what the kernel would do without a TPU, slowly.
    """
    assert causal or prefix_kv is None
    b, g, q, n, h = q_bgqnh.shape
    kv = own_kv[0].shape[2]
    if layout.parts("heads", n) != layout.parts("heads", kv):  # the mesh cuts the query heads alone
        own_kv = tuple(jnp.repeat(x, n // kv, 2) for x in own_kv)
        prefix_kv = prefix_kv and tuple(jnp.repeat(x, n // kv, 1) for x in prefix_kv)
    if prefix_kv is None or prefix_mask_bp is None:
        prefix_kv = tuple(jnp.zeros((b, x.shape[2], 0, h), x.dtype) for x in own_kv)
        prefix_mask_bp = jnp.zeros((b, 0), bool)
    own, shared = ("batch", None, "heads", None, None), ("batch", "heads", None, None)
    out = layout.on_each_device(
        functools.partial(_attend, causal=causal, interpret=interpret),
        (q_bgqnh, ("batch", None, None, "heads", None)),
        *((x, own) for x in own_kv),
        (jnp.broadcast_to(number_bgq, (b, g, q)).astype(jnp.int32), ("batch", None, None)),
        *((x, shared) for x in prefix_kv),
        (prefix_mask_bp.astype(jnp.int32), ("batch", None)),
    )
    return out.reshape(b, g, q, n * h)


def _attend(q_bgqnh, k_bgkqh, v_bgkqh, number_bgq, k_bkph, v_bkph, prefix_bp, *, causal, interpret):
    """`attend` on one device: [B, G, q, N, H]."""
    b, g, q, n, h = q_bgqnh.shape
    kv, p = k_bkph.shape[1:3]
    size = block_size(g, q, p)
    mask = Branches(g, q + -q % size, p + -p % size, causal)

    def keys(x_bkph, x_bgkqh):  # keys or values of one sequence, [B, K, P + G * q, H] with padding
        x_bkgqh = _padded(x_bgkqh, 3, size).swapaxes(1, 2)
        return jnp.concatenate([_padded(x_bkph, 2, size), x_bkgqh.reshape(b, kv, g * mask.length, h)], 2)

    # The numbers of padding are 0 for keys and -1 for queries: neither sees the other.
    number = _padded(number_bgq, 2, size).reshape(b, -1)
    key_number = jnp.concatenate([_padded(prefix_bp, 1, size), number], 1)
    query_number = jnp.ones_like(number) if causal else jnp.where(number > 0, number, -1)
    query = _padded((q_bgqnh * h**-0.5).transpose(0, 3, 1, 2, 4), 3, size).reshape(b, n, g * mask.length, h)
    parts = ("block_q", "block_kv", "block_q_dkv", "block_kv_dkv", "block_q_dq", "block_kv_dq")
    kernel = splash.make_splash_mha(
        splash_mask.MultiHeadMask([mask] * n), block_sizes=splash.BlockSizes(**dict.fromkeys(parts, size)),
        head_shards=1, q_seq_shards=1, interpret=interpret,
    )  # fmt: skip
    with jax.named_scope(scope(mask.blocks(size), size)):
        out = jax.vmap(lambda q, k, v, ids: kernel(q, k, v, segment_ids=ids))(
            query, keys(k_bkph, k_bgkqh), keys(v_bkph, v_bgkqh), splash.SegmentIds(query_number, key_number)
        )
    out = out.reshape(b, n, g, mask.length, h)[:, :, :, :q].transpose(0, 2, 3, 1, 4)
    # For a query without a visible key the kernel returns a mean of hidden values, with a wrong gradient.
    sees_bgq = (jax.lax.cummax(number_bgq, 2) if causal else number_bgq) > 0
    sees_bgq |= (prefix_bp.max(1, initial=0) > 0)[:, None, None]
    return jnp.where(sees_bgq[..., None, None], out, 0)


def _padded(x, axis, size):
    """`x` filled up with zeros to a multiple of `size` places of an axis."""
    return jnp.pad(x, [(0, -n % size if i == axis else 0) for i, n in enumerate(x.shape)])
