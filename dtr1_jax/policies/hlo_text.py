"""Reads the text of a compiled program (HLO): its instructions, their shapes, and how often each runs.

    module = hlo_text.parse(jax.jit(f).lower(*shapes).compile().as_text())
    uses = hlo_text.uses(module, items_of, weight)

An instruction in the body of a loop counts once for each trip. XLA on the CPU writes the trip count of most loops
beside them, and the TPU compiler leaves it to the loop's condition. Other loops, such as a decode loop that ends when
all rows have ended, have an unknown count: their instructions are marked. Of the branches of a condition only the
heaviest counts, unless the caller knows how often each is taken.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

_ITEM = {
    "pred": 1, "s4": 0.5, "u4": 0.5, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s32": 4, "u32": 4,
    "f32": 4, "s64": 8, "u64": 8, "f64": 8, "c64": 8, "c128": 16,
}  # fmt: skip
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\([^\n]*\) -> [^\n]* )?\{\s*$")
_SHAPE = re.compile(r"\b(\w+)\[([\d,<=]*)\](?:\{([^}]*)\})?")
_TILE = re.compile(r"T\(([\d,]+)\)")
_OPERATION = re.compile(r"^\s*(ROOT )?%?([\w.\-]+) = (.*)$")
_NOTES = re.compile(r"kernel_metadata=\{\n.*?\n\}", re.DOTALL)  # of a Pallas kernel, over several lines
_CODE = re.compile(r"(?:^|[\s)}\]])([a-z][\w\-]*)\(")
_TRIPS = re.compile(r'"?known_trip_count"?\s*[:=]\s*\{\s*"?n"?\s*[:=]\s*"?(\d+)')
_CALLED = re.compile(r"(?:calls|to_apply|called_computations)=\{?%?([\w.\-]+)")
_BRANCHES = re.compile(r"(?:branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.\-]+))")


@dataclasses.dataclass(frozen=True)
class Shape:
    """Type and sizes of an array on one device.

    Attributes:
      dtype: as HLO writes it, such as "bf16".
      sizes: of its axes.
      on_chip: whether it lies in the memory inside the chip (VMEM) and not in its main memory.
      places: the values for which it has room, padding included; 0 = as many as it has. TPUs hold arrays in tiles.
    """

    dtype: str
    sizes: tuple[int, ...]
    on_chip: bool = False
    places: int = 0

    @property
    def bytes(self) -> float:
        """Bytes without padding; 4-bit numbers take half a byte."""
        return _ITEM.get(self.dtype, 1) * math.prod(self.sizes)  # 1: the kinds of 8-bit floats

    @property
    def held(self) -> float:
        """Bytes with padding."""
        return _ITEM.get(self.dtype, 1) * (self.places or math.prod(self.sizes))

    @property
    def text(self) -> str:
        """As HLO writes it."""
        return f"{self.dtype}[{','.join(map(str, self.sizes))}]"


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
      name: of the result.
      code: the operation, such as "fusion".
      operands: names of its operands.
      text: the line behind "=".
      is_root: whether it is the result of the computation.
    """

    name: str
    code: str
    operands: tuple[str, ...]
    text: str
    is_root: bool = False

    @functools.cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Shapes of the result, several for a tuple."""
        found = _SHAPE.findall(self.text[: _CODE.search(self.text).start(1)])
        return tuple(_shape(*one) for one in found)

    @property
    def called(self) -> list[str]:
        """Names of the computations that it calls, except those of loops and conditions."""
        return _CALLED.findall(self.text)

    @property
    def source(self) -> str:
        """Name of the operation in the traced program, or ""."""
        found = re.search(r'op_name="([^"]*)"', self.text)
        return found[1] if found else ""


Computation = dict[str, Instruction]  # by name, in order


@dataclasses.dataclass(frozen=True)
class Module:
    """A program: its computations by name, and the name of the first."""

    computations: dict[str, Computation]
    entry: str

    def inside(self, instruction: Instruction) -> Computation:
        """The computation that an instruction calls; empty if it calls none."""
        called = instruction.called
        return self.computations.get(called[0], {}) if called else {}


@dataclasses.dataclass(frozen=True)
class Use:
    """Something that an instruction does, and how often.

    Attributes:
      item: what `items_of` of `uses` returned.
      trips: how often the instruction runs, in all loops with a known trip count together; a mean where `shares` of
        `uses` are given.
      unknown: the innermost loop around it whose trip count is not known, or "" if there is none.
    """

    item: Any
    trips: float = 1
    unknown: str = ""


def _shape(dtype, sizes, layout):
    """A shape such as bf16[16,100]{1,0:T(8,128)(2,1)}: its axes from the innermost on, and the tile of these."""
    numbers = [int(n.removeprefix("<=")) for n in sizes.split(",") if n]
    order, tile = [int(n) for n in re.findall(r"\d+", layout.partition(":")[0])], _TILE.search(layout)
    padded = list(numbers)
    if tile and len(order) == len(numbers):
        for axis, size in zip(order, reversed([int(n) for n in tile[1].split(",")])):
            padded[axis] = -(-padded[axis] // size) * size
    return Shape(dtype, tuple(numbers), "S(1)" in layout, math.prod(padded))


def parse(text: str) -> Module:
    """The program. Raises ValueError if the text has no entry computation."""
    computations: dict[str, Computation] = {}
    entry, current = None, None
    for line in _NOTES.sub("kernel_metadata={}", text).splitlines():
        if current is None:
            header = _HEADER.match(line)
            if header and not line.startswith("HloModule"):
                current = computations.setdefault(header[2], {})
                entry = header[2] if header[1] else entry
        elif line.startswith("}"):
            current = None
        elif (instruction := _instruction(line)) is not None:
            current[instruction.name] = instruction
    if entry is None:
        raise ValueError('no entry computation: expected the text of a compiled program, with a line "ENTRY ... {"')
    return Module(computations, entry)


def uses(
    module: Module,
    items_of: Callable[[Instruction, Computation], Sequence[Any]],
    weight: Callable[[Any], float],
    shares: Callable[[Instruction], Sequence[float] | None] = lambda _: None,
) -> list[Use]:
    """All that the instructions of a program do, directly or in what they call.

    Args:
      module: the program.
      items_of: (an instruction, the computation that it is in) -> what it does. If that is empty, the computations that
        the instruction calls are read in its place.
      weight: of an item. The branch of a condition with the largest sum of weights counts.
      shares: of a condition, how often each of its branches is taken, as shares of 1; None = not known.
    """
    done: dict[str, list[Use]] = {}

    def of_computation(name):
        if name not in done:
            done[name] = []  # HLO has no recursion; an unknown name is a computation that the text leaves out
            body = module.computations.get(name, {})
            done[name] = [use for instruction in body.values() for use in of_instruction(instruction, body)]
        return done[name]

    def of_instruction(instruction, body):
        if items := items_of(instruction, body):
            return [Use(item) for item in items]
        if instruction.code == "while":
            return of_loop(instruction)
        if instruction.code == "conditional":
            branches = [of_computation(name) for name in branch_names(instruction)]
            if known := shares(instruction):
                return [
                    dataclasses.replace(use, trips=use.trips * share)
                    for branch, share in zip(branches, known, strict=True)
                    for use in branch
                ]
            return max(branches, key=lambda branch: total(branch, weight), default=[])
        return [use for called in instruction.called for use in of_computation(called)]

    def of_loop(loop):
        parts = [re.search(rf"{part}=%?([\w.\-]+)", loop.text) for part in ("condition", "body")]
        found = [use for part in parts if part for use in of_computation(part[1])]
        condition, body = (module.computations.get(part[1], {}) if part else {} for part in parts)
        if trips := _trips(loop.text, condition, body):
            return [dataclasses.replace(use, trips=use.trips * trips) for use in found]
        return [dataclasses.replace(use, unknown=use.unknown or loop.name) for use in found]

    return of_computation(module.entry)


def total(found: Iterable[Use], weight: Callable[[Any], float]) -> float:
    """Sum of weights times trips; a loop without known trip count counts one trip."""
    return sum(weight(use.item) * use.trips for use in found)


def branch_names(condition: Instruction) -> list[str]:
    """Names of the computations that a condition chooses from."""
    found = _BRANCHES.findall(condition.text)
    return [n.strip(" %") for several, one in found for n in (several.split(",") if several else [one])]


def group_size(text: str) -> int:
    """Devices that take part in a collective operation together, from its line; 0 where it does not say."""
    if short := re.search(r"replica_groups=\[\d+,(\d+)\]<=", text):
        return int(short[1])
    if groups := re.search(r"replica_groups=\{\{([\d,]+)\}", text):
        return len(groups[1].split(","))
    if named := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", text):
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", named[1])}
        axes = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", named[2])  # an axis, or a part of it: 'a':(before)size
        return math.prod(int(part) if part else sizes[name] for name, part in axes)
    return 0


def piece(instruction: Instruction, around: Computation) -> str:
    """Which piece it is of a message that is sent while products are computed: "first", "later", or "" for no piece.

    The TPU compiler puts the pieces into fusions with products, one after the other, and each piece looks like the
    whole message. The first begins it: an AsyncCollectiveStart in its computation `around` takes its result.
    """
    if "chain_id=" not in instruction.text:
        return ""
    starts = [x for x in around.values() if 'custom_call_target="AsyncCollectiveStart"' in x.text]
    return "first" if any(_takes(around, start, instruction.name) for start in starts) else "later"


def root(computation: Computation) -> Instruction | None:
    """The result of a computation; None where the text leaves it out."""
    return next((x for x in computation.values() if x.is_root), None)


def _takes(around, user, name):
    """Whether an instruction takes the value `name`, itself or through others."""
    taken, new = set(), set(user.operands)
    while new:
        taken |= new
        new = {operand for one in new if one in around for operand in around[one].operands} - taken
    return name in taken


def _instruction(line):
    match = _OPERATION.match(line)
    code = match and _CODE.search(match[3].split(", metadata=")[0])
    if not code:
        return None
    return Instruction(match[2], code[1], _operands(match[3][code.end() :]), match[3], bool(match[1]))


def _operands(text):
    """Names in the text up to the parenthesis that closes it."""
    depth = 1
    for i, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return tuple(re.findall(r"%([\w.\-]+)", text[:i]))
    return ()


def _trips(text, condition, body):
    """Trip count of a loop, or 0 where it is not known.

    The TPU compiler does not write it down. There it is n / step where the condition is "counter < n" for a constant n.
    The loops of jax.lax.scan and fori_loop count from 0 in steps of 1, and those that the compiler makes of a product
    and a message, which it sends in pieces, in steps of 1 or 2.
    """
    if known := _TRIPS.search(text):
        return int(known[1])
    test = root(condition)
    direction = test and re.search(r"direction=(LT|GT)", test.text)
    if not direction or test.code != "compare" or len(test.operands) != 2:
        return 0
    counter, limit = (condition.get(name) for name in test.operands[:: 1 if direction[1] == "LT" else -1])
    if counter is None or limit is None or counter.code != "get-tuple-element" or not (end := _number(limit)):
        return 0
    return -(-end // _step(body, int(re.search(r"index=(\d+)", counter.text)[1])))


def _number(instruction):
    """The value of a constant whole number, or 0."""
    number = re.search(r"^[su]32\[\]\S* constant\((\d+)\)", instruction.text) if instruction is not None else None
    return int(number[1]) if number else 0


def _step(body, place):
    """By how much the body of a loop raises its value number `place`; 1 where it does not say."""
    result = root(body)
    value = body.get(result.operands[place]) if result is not None and place < len(result.operands) else None
    while value is not None and value.code in ("copy", "bitcast"):
        value = body.get(value.operands[0])
    if value is None or value.code != "add":
        return 1
    return max((_number(body.get(name)) for name in value.operands), default=0) or 1
