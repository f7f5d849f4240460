"""Counts the arithmetic and the memory traffic of one device in a compiled program, from its partitioned HLO text.

XLA's own analysis counts the body of a loop once, whatever its trip count. Here it counts for each trip, as
hlo_text.py explains.

Operations are those of matrix products, two for each multiplication with its addition. Everything else is left out: a
chip has other units for it, and it is much less. Memory traffic is what each instruction reads and writes, where the
compiler has joined many operations into one instruction (a fusion). A fusion that reads a slice of an array, or
writes into a part of it, counts the slice. Arrays count with the padding of their tiles, and those inside the chip
(VMEM) count 0. The attention kernels are counted by kernel_cost.py.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable

import numpy as np

from dtr1_jax.policies import hlo_text, kernel_cost
from dtr1_jax.policies.hlo_text import Computation, Instruction, Module, Shape, Use

# They move nothing: names, parts and views of arrays that exist, and the ends of what another instruction starts.
_FREE = (
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "add-dependency", "partition-id",
    "replica-id", "opt-barrier", "domain",
)  # fmt: skip
_LOOK_INSIDE = ("while", "conditional", "call", "async-start")
_VIEWS = ("bitcast", "reshape", "transpose", "copy", "get-tuple-element")


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one instruction, or a program, does on one device.

    Attributes:
      flops: operations of matrix products.
      hbm_bytes: bytes that are read from and written to the main memory.
    """

    flops: float = 0.0
    hbm_bytes: float = 0.0

    def times(self, count: float) -> Cost:
        """The cost of doing it `count` times."""
        return Cost(self.flops * count, self.hbm_bytes * count)

    def plus(self, other: Cost) -> Cost:
        """The cost of doing both."""
        return Cost(self.flops + other.flops, self.hbm_bytes + other.hbm_bytes)


def read(module: Module, full: float | None = None) -> list[Use]:
    """The `Cost` of each instruction that runs, with its trips. Of the branches of a condition the one with the most
    bytes counts.

    Args:
      module: the program.
      full: share of the tower's layers that attend to whole pictures; the others attend within windows, which is
        another branch (models/vision.py). None = count as any other condition.
    """

    def shares(condition):
        return (1 - full, full) if full is not None and _of_tower(module, condition) else None

    return hlo_text.uses(
        module, lambda instruction, body: _costs(module, instruction, body), lambda cost: cost.hbm_bytes, shares
    )


def _of_tower(module, condition):
    """Whether a condition chooses between windows and full attention. The TPU compiler renames some of them."""
    if condition.source != "conditional":
        return condition.source.endswith("TowerBlock/cond")
    inside = [x for name in hlo_text.branch_names(condition) for x in module.computations.get(name, {}).values()]
    return any("TowerBlock/cond/" in x.source for x in inside)


def together(found: Iterable[Use], loop: str = "") -> Cost:
    """The cost of all instructions outside of the loops without known trip count; or of one trip of such a `loop`."""
    cost = Cost()
    for use in found:
        if use.unknown == loop:
            cost = cost.plus(use.item.times(use.trips))
    return cost


def loops(found: Iterable[Use]) -> list[str]:
    """The loops without known trip count, in the order in which they run."""
    return list(dict.fromkeys(use.unknown for use in found if use.unknown))


def _costs(module, instruction, body):
    """[the cost of an instruction]; empty where `hlo_text.uses` must look into what it calls."""
    code = instruction.code
    if code in _LOOK_INSIDE:
        return []
    if (
        code in _FREE
        or code.endswith(("-done", "-update"))
        or 'custom_call_target="AllocateBuffer"' in instruction.text
    ):
        return [Cost()]
    if of_kernel := kernel_cost.read(instruction, body):
        return [Cost(*of_kernel)]
    return [Cost(_flops(module, instruction, body), _bytes(module, instruction, body))]


def _flops(module: Module, instruction: Instruction, body: Computation) -> float:
    """Operations of the products of an instruction and of all that it calls."""
    if instruction.code == "dot":
        return _dot_flops(instruction, body)
    if instruction.code == "convolution":
        return _convolution_flops(instruction, body)
    if instruction.code != "fusion":
        return 0.0
    inside = module.inside(instruction)
    return sum(_flops(module, inner, inside) for inner in inside.values())


def _dot_flops(instruction, body):
    contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.text)
    left = body[instruction.operands[0]].shapes[0]
    axes = [int(n) for n in contracted[1].split(",") if n] if contracted else []
    return 2.0 * math.prod(instruction.shapes[0].sizes) * math.prod(left.sizes[axis] for axis in axes)


def _convolution_flops(instruction, body):
    """A matrix product as the TPU compiler writes it, whose batch axes and further summed axes are axes of a window.

    Only places of the window that meet a value of the input count. The others lie in the padding or between values.
    """
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.text)
    left, right = (body[name].shapes[0].sizes for name in instruction.operands[:2])
    out = instruction.shapes[0].sizes
    axes = [letter for letter in labels[3] if letter.isdigit()]
    window = re.search(r"window=\{([^}]*)\}", instruction.text)
    fields = dict(part.split("=") for part in window[1].split()) if window else {}

    def of_axis(name, default):
        values = fields[name].split("x") if name in fields else [default] * len(axes)
        return dict(zip(sorted(axes, key=int), values))

    sizes, strides, pads = of_axis("size", "1"), of_axis("stride", "1"), of_axis("pad", "0_0")
    dilated, spread = of_axis("lhs_dilate", "1"), of_axis("rhs_dilate", "1")
    met = 1
    for axis in axes:
        low = int(pads[axis].split("_")[0])
        n_out, n_in = out[labels[3].index(axis)], left[labels[1].index(axis)]
        place = np.arange(n_out)[:, None] * int(strides[axis]) - low
        place = place + np.arange(int(sizes[axis])) * int(spread[axis])
        step = int(dilated[axis])
        met *= int(((place >= 0) & (place % step == 0) & (place // step < n_in)).sum())
    batch, features = out[labels[3].index("b")], out[labels[3].index("f")]
    return 2.0 * batch * features * right[labels[2].index("i")] * met


def _bytes(module: Module, instruction: Instruction, body: Computation) -> float:
    """Bytes of main memory that an instruction reads and writes."""
    operands = [body[name] for name in instruction.operands if name in body]
    code = instruction.code.removesuffix("-start")
    if code in ("dynamic-slice", "slice", "gather"):
        # Of a slice-start the result is (operands, part, number of the context).
        part = instruction.shapes[0 if code == instruction.code else -2]
        return part.held * sum(not shape.on_chip for shape in (operands[0].shapes[0], part))
    if code == "dynamic-update-slice":
        return 2 * _held(operands[1].shapes)
    if code == "copy" and code != instruction.code:  # copy-start has the copy, the operand and a number of the context
        return _held(instruction.shapes[:2])
    if code != instruction.code:  # a message that starts: the operands and results are both in the result
        return _held(instruction.shapes)
    if code != "fusion":
        return _held(instruction.shapes) + sum(_held(x.shapes) for x in operands)
    inside = module.inside(instruction)
    not_read, not_written = _passed_on(instruction, inside)
    read = sum(_read(module, inside, i, x.shapes) for i, x in enumerate(operands) if i not in not_read)
    return read + _written(module, inside, instruction.shapes, not_written)


def _passed_on(instruction, inside):
    """({numbers of operands}, {numbers of results}) that a piece of a message hands to the next piece, unchanged.

    The first piece reads the message's operand and writes the place of its result.
    """
    pieces = {hlo_text.piece(x, inside) for x in inside.values()} - {""}
    if not pieces:
        return set(), set()
    # {number of the result}: (number of the operand, {}), where {} is the only result
    pairs = re.findall(r"\{(\d*)\}: \((\d+), \{[^}]*\}\)", instruction.text)
    operands = set() if pieces == {"first"} else {int(operand) for _, operand in pairs}
    return operands, {int(result or 0) for result, _ in pairs}


def _held(shapes: Iterable[Shape]) -> float:
    return sum(0 if s.on_chip else s.held for s in shapes)


def _read(module, inside, number, shapes):
    """Bytes that a fusion reads of its operand `number`."""
    parameter = next(
        (x for x in inside.values() if x.code == "parameter" and re.search(rf" parameter\({number}\)", f" {x.text}")),
        None,
    )
    whole = _held(shapes)
    if not whole or parameter is None:
        return whole
    part = _part_read(module, inside, parameter.name)
    return whole if part is None else min(whole, part)


def _part_read(module, inside, name):
    """Bytes of the parts of a value that a fused computation reads; None = all of it.

    It reads the place that it writes a part into not at all, because the result takes that place.
    """
    bytes_read = 0.0
    for user in inside.values():
        if name not in user.operands:
            continue
        if user.code in ("dynamic-slice", "slice", "gather") and user.operands[0] == name:
            part = sum(s.held for s in user.shapes)
        elif user.code == "dynamic-update-slice" and user.operands[0] == name:
            part = 0.0
        elif user.code == "pad" and user.operands[0] == name and not user.is_root:
            part = _part_read(module, inside, user.name)  # the part of it that is padding is not read
            if part is not None:
                part *= inside[name].shapes[0].held / user.shapes[0].held
        elif user.code in _VIEWS and not user.is_root:
            part = _part_read(module, inside, user.name)
        elif user.code == "fusion":
            inner = module.inside(user)
            parts = [
                _part_read(module, inner, x.name)
                for number in (i for i, operand in enumerate(user.operands) if operand == name)
                for x in inner.values()
                if x.code == "parameter" and re.search(rf" parameter\({number}\)", f" {x.text}")
            ]
            part = None if None in parts or not parts else sum(parts)
        else:
            part = None
        if part is None:
            return None
        bytes_read += part
    return bytes_read


def _written(module, inside, shapes, without=frozenset()):
    """Bytes that a fusion writes, but for the results `without`: of an array with a new part, the part."""
    root = hlo_text.root(inside)
    results = [inside.get(name) for name in root.operands] if root is not None and root.code == "tuple" else [root]
    if root is None or len(results) != len(shapes):
        return _held(shape for i, shape in enumerate(shapes) if i not in without)
    pairs = [pair for i, pair in enumerate(zip(results, shapes)) if i not in without]
    return sum(_result_bytes(module, inside, result, shape) for result, shape in pairs)


def _result_bytes(module, inside, result, shape):
    if shape.on_chip or result is None:
        return 0 if shape.on_chip else shape.held
    if result.code in ("bitcast", "reshape") and result.operands[0] in inside:
        return _result_bytes(module, inside, inside[result.operands[0]], shape)
    if result.code == "dynamic-update-slice" and result.operands[1] in inside:
        return min(shape.held, sum(s.held for s in inside[result.operands[1]].shapes))
    if result.code == "fusion" and len(result.shapes) == 1:
        return min(shape.held, _written(module, module.inside(result), result.shapes))
    return shape.held
