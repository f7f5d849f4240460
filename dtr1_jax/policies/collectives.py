"""Counts the messages between devices in a compiled program, from its partitioned HLO text.

    text = jax.jit(f).lower(*shapes).compile().as_text()
    messages = collectives.read(text)
    collectives.total(messages)      # bytes that each device handles

A message in the body of a loop counts once for each trip. XLA writes the trip count of most loops beside them. The
others, such as a decode loop that ends when all rows have ended, have an unknown count: their messages are marked, so
that `bytes_each_trip` gives the bytes of one trip. Of the branches of a condition only the one with the most bytes
counts.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")

_ITEM = {
    "pred": 1, "s4": 0.5, "u4": 0.5, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s32": 4, "u32": 4,
    "f32": 4, "s64": 8, "u64": 8, "f64": 8, "c64": 8, "c128": 16,
}  # fmt: skip
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) (?:\([^\n]*\) -> [^\n]* )?\{\s*$")
_SHAPE = re.compile(r"\b(\w+)\[([\d,<=]*)\]")
_OPERATION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = (.*)$")
_CODE = re.compile(r"(?:^|[\s)}\]])([a-z][\w\-]*)\(")
_TRIPS = re.compile(r'"?known_trip_count"?\s*[:=]\s*\{\s*"?n"?\s*[:=]\s*"?(\d+)')
_CALLED = re.compile(r"(?:calls|to_apply|called_computations)=\{?%?([\w.\-]+)")
_BRANCHES = re.compile(r"(?:branch_computations=\{([^}]*)\}|(?:true|false)_computation=%?([\w.\-]+))")


@dataclasses.dataclass(frozen=True)
class Message:
    """One collective operation of a compiled program.

    Attributes:
      kind: one of KINDS.
      shape: type and sizes of what a device ends up with, such as "f32[8,128]"; several are joined by "+".
      bytes: bytes of the operand or of the result on one device, whichever is larger.
      trips: how often the operation runs, in all loops with a known trip count together.
      unknown: the innermost loop around it whose trip count is not known, or "" if there is none.
      source: name of the operation in the traced program, or "".
    """

    kind: str
    shape: str
    bytes: int
    trips: int = 1
    unknown: str = ""
    source: str = ""


def read(text: str) -> list[Message]:
    """All messages that the entry computation of an HLO module sends, directly or in what it calls.

    Raises ValueError if the text has no entry computation.
    """
    bodies, entry = _computations(text)
    if entry is None:
        raise ValueError('no entry computation: expected the text of a compiled program, with a line "ENTRY ... {"')
    return _of_computation(entry, bodies, {})


def total(messages: Iterable[Message]) -> int:
    """Bytes of all messages times their trips; a loop without known trip count counts one trip."""
    return sum(m.bytes * m.trips for m in messages)


def bytes_each_trip(messages: Iterable[Message]) -> int:
    """Bytes of the messages in one trip of the loops without known trip count, of all such loops together."""
    return total(m for m in messages if m.unknown)


def largest(messages: Iterable[Message]) -> Message | None:
    """The message with the most bytes in one execution; None if there are none."""
    return max(messages, key=lambda m: m.bytes, default=None)


def by_kind(messages: Iterable[Message]) -> dict[str, int]:
    """Bytes times trips of each kind that occurs."""
    sums: dict[str, int] = {}
    for m in messages:
        sums[m.kind] = sums.get(m.kind, 0) + m.bytes * m.trips
    return dict(sorted(sums.items()))


def _computations(text):
    """({name: lines of its body}, name of the entry computation or None)."""
    bodies, entry, lines = {}, None, None
    for line in text.splitlines():
        if lines is None:
            header = _HEADER.match(line)
            if header and not line.startswith("HloModule"):
                lines = bodies.setdefault(header[2], [])
                entry = header[2] if header[1] else entry
        elif line.startswith("}"):
            lines = None
        else:
            lines.append(line)
    return bodies, entry


def _of_computation(name, bodies, done):
    if name not in done:
        done[name] = []  # HLO has no recursion; an unknown name is a computation that the text leaves out
        done[name] = [m for line in bodies.get(name, ()) for m in _of_line(line, bodies, done)]
    return done[name]


def _of_line(line, bodies, done):
    """The messages of one operation and of what it calls."""
    match = _OPERATION.match(line)
    code = match and _CODE.search(_without_metadata(match[2]))
    if not code:
        return []
    name, rest, operation = match[1], match[2], code[1]
    kind = operation.removesuffix("-start")
    if kind in KINDS:
        return [_message(kind, rest[: code.start(1)], rest, asynchronous=kind != operation)]
    if operation == "while":
        return _of_loop(name, rest, bodies, done)
    if operation == "conditional":
        names = [n.strip(" %") for a, b in _BRANCHES.findall(rest) for n in (a.split(",") if a else [b])]
        return max((_of_computation(n, bodies, done) for n in names), key=total, default=[])
    return [m for called in _CALLED.findall(rest) for m in _of_computation(called, bodies, done)]


def _of_loop(name, rest, bodies, done):
    parts = [re.search(rf"{part}=%?([\w.\-]+)", rest) for part in ("condition", "body")]
    messages = [m for part in parts if part for m in _of_computation(part[1], bodies, done)]
    if trips := _trips(rest, bodies.get(parts[0][1], []) if parts[0] else []):
        return [dataclasses.replace(m, trips=m.trips * trips) for m in messages]
    return [dataclasses.replace(m, unknown=m.unknown or name) for m in messages]


def _trips(rest, condition):
    """Trip count of a loop, or 0 where it is not known.

    The TPU compiler does not write it down. There it is n where the condition is "counter < n" for a constant n: the
    loops of jax.lax.scan and fori_loop count from 0 in steps of 1.
    """
    if known := _TRIPS.search(rest):
        return int(known[1])
    text = "\n".join(condition)
    compared = re.search(r"ROOT %?[\w.\-]+ = pred\[\]\S* compare\(([^)]*)\), direction=(LT|GT)", text)
    counters = re.findall(r"%?([\w.\-]+) = s32\[\]\S* get-tuple-element\(", text)
    constants = dict(re.findall(r"%?([\w.\-]+) = s32\[\]\S* constant\((\d+)\)", text))
    if not compared:
        return 0
    names = re.findall(r"%([\w.\-]+)", compared[1])[:: 1 if compared[2] == "LT" else -1]
    return int(constants[names[1]]) if len(names) == 2 and names[0] in counters and names[1] in constants else 0


def _message(kind, result, rest, asynchronous):
    """The message of an operation whose result type is `result`."""
    shapes = _SHAPE.findall(result)
    if asynchronous and kind in ("all-gather", "collective-permute", "collective-broadcast"):
        shapes = [s for s in shapes if s not in (("u32", ""), ("s32", ""))]  # (operands, results, context ...)
        shapes = shapes[len(shapes) // 2 :]
    size = sum(_bytes(s) for s in shapes)
    if kind == "reduce-scatter":
        size *= _group_size(rest)  # the operand
    source = re.search(r'op_name="([^"]*)"', rest)
    shape = "+".join(f"{dtype}[{sizes}]" for dtype, sizes in shapes)
    return Message(kind, shape, int(size), source=source[1] if source else "")


def _bytes(shape):
    dtype, sizes = shape
    item = _ITEM.get(dtype, 1)  # the kinds of 8-bit floats
    return item * math.prod(int(n.removeprefix("<=")) for n in sizes.split(",") if n)


def _group_size(rest):
    """Devices that take part in a collective operation together."""
    if short := re.search(r"replica_groups=\[\d+,(\d+)\]<=", rest):
        return int(short[1])
    if groups := re.search(r"replica_groups=\{\{([\d,]*)\}", rest):
        return len(groups[1].split(","))
    if named := re.search(r"replica_groups=mesh\[([^\]]*)\] ?\{([^}]*)\}", rest):
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", named[1])}
        axes = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", named[2])  # an axis, or a part of it: 'a':(before)size
        return math.prod(int(part) if part else sizes[name] for name, part in axes)
    return 1


def _without_metadata(rest):
    return rest.split(", metadata=")[0]
