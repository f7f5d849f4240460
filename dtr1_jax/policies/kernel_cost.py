"""The arithmetic and the memory traffic of the attention kernels (models/flash.py) in a compiled program.

The text of a program says the shapes that such a kernel gets, but not what it does. How many blocks of scores it
computes is in the name of the operation (`flash.scope`). A head multiplies two matrices for each block forward, three
for the gradient of the queries, and four for those of keys and values: both backward kernels compute the scores again.

A kernel goes over blocks of queries and keeps each of them in the chip, while the keys and values of all blocks that it
sees pass by; the one for the gradients of keys and values has the roles changed. So what passes by is read once for
each block, and everything else once, as JAX 0.10 writes these kernels.
"""

from __future__ import annotations

import math
import re

from dtr1_jax.policies.hlo_text import Computation, Instruction, Module, Shape

_BLOCKS = re.compile(r"flash_(\d+)_blocks_of_(\d+)")
_KERNEL = re.compile(r"splash_mha_(fwd|dq|dkv)")
PRODUCTS = {"fwd": 2, "dq": 3, "dkv": 4}


def read(instruction: Instruction, body: Computation) -> tuple[float, float] | None:
    """(operations of matrix products, bytes of main memory) of a kernel on one device; None for other instructions."""
    blocks, kernel = _BLOCKS.search(instruction.source), _KERNEL.search(instruction.source)
    if instruction.code != "custom-call" or not blocks or not kernel:
        return None
    count, size = int(blocks[1]), int(blocks[2])
    shapes = [shape for name in instruction.operands if name in body for shape in body[name].shapes]
    start = next(i for i, shape in enumerate(shapes) if shape.dtype in ("bf16", "f32"))  # behind the tables of blocks
    query, key, value, query_number, key_number, *backward = shapes[start:]
    heads, head_dim = math.prod(query.sizes[:-2]), query.sizes[-1]
    if kernel[1] == "dkv":
        passing, kept, numbers = [query, query_number, *backward[:3]], [key, value], (key_number, 0)
    else:
        passing, kept, numbers = (
            [key, value, key_number],
            [query, *backward[:3]],
            (query_number, heads * query.sizes[-2]),
        )
    flops = 2.0 * PRODUCTS[kernel[1]] * heads * count * size**2 * head_dim
    read_bytes = heads * count * size * sum(_of_place(x) for x in passing) + sum(_held(x) for x in kept)
    read_bytes += _of_place(numbers[0]) * numbers[1] if numbers[1] else _held(numbers[0])
    return flops, read_bytes + sum(_held(x) for x in instruction.shapes)


def not_understood(module: Module) -> list[str]:
    """The names of the kernels in a program that `read` does not know, so that their operations count 0."""
    return [
        instruction.name
        for body in module.computations.values()
        for instruction in body.values()
        if 'custom_call_target="tpu_custom_call"' in instruction.text and read(instruction, body) is None
    ]


def _of_place(shape: Shape) -> float:
    """Bytes of one query or key of one head: [..., places, values], or [..., 8, places] and [..., 1, places]."""
    sizes = shape.sizes
    values = sizes[-2] if sizes[-2] == 8 or (len(sizes) > 2 and sizes[-2] == 1) else sizes[-1]
    return 0 if shape.on_chip else shape.bytes / math.prod(sizes) * values


def _held(shape: Shape) -> float:
    return 0 if shape.on_chip else shape.held
