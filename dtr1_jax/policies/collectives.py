"""Counts the messages between devices in a compiled program, from its partitioned HLO text.

    text = jax.jit(f).lower(*shapes).compile().as_text()
    messages = collectives.read(text)
    collectives.total(messages)      # bytes that each device handles

A message in the body of a loop counts once for each trip, as hlo_text.py explains. In a loop without known trip count
it is marked, so that `bytes_each_trip` gives the bytes of one trip. Of the branches of a condition only the one with
the most bytes counts. A message that is cut into pieces counts once, and one among groups of one device does not count.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from dtr1_jax.policies import hlo_text
from dtr1_jax.policies.hlo_text import Computation, Instruction

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute", "collective-broadcast")


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
      group: devices that take part together; 0 where the text does not say it.
    """

    kind: str
    shape: str
    bytes: int
    trips: int = 1
    unknown: str = ""
    source: str = ""
    group: int = 0

    @property
    def sent_bytes(self) -> float:
        """Bytes that a device sends, at least, in one execution; `bytes` where the group is not known.

        Of n devices each has a part of what is gathered or exchanged, and keeps a part of what is summed up, so it
        sends (n - 1) / n of the whole. A sum that all devices get is a sum of parts and a gathering of the results.
        """
        if self.kind in ("collective-permute", "collective-broadcast"):
            return self.bytes
        share = (self.group - 1) / self.group if self.group else 1
        return (2 if self.kind == "all-reduce" else 1) * share * self.bytes


def read(text: str | hlo_text.Module) -> list[Message]:
    """All messages that the entry computation of an HLO module sends, directly or in what it calls.

    Raises ValueError if the text has no entry computation.
    """
    module = hlo_text.parse(text) if isinstance(text, str) else text
    found = hlo_text.uses(module, _messages, lambda message: message.bytes)
    return [dataclasses.replace(use.item, trips=use.trips, unknown=use.unknown) for use in found]


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


def lines(messages: Iterable[Message], count: int) -> list[str]:
    """Lines about the `count` operations with the most bytes."""
    order = sorted(messages, key=lambda m: -m.bytes * m.trips)[:count]
    return [
        f"  {m.bytes * m.trips:>16,} B = {m.kind} {m.shape} x {m.trips}{' each token' if m.unknown else ''}  {m.source}"
        for m in order
    ]


def _messages(instruction: Instruction, around: Computation) -> list[Message]:
    """The message that an instruction sends, in a list, or an empty one; `around` is the computation that it is in."""
    kind = instruction.code.removesuffix("-start")
    if kind not in KINDS or hlo_text.piece(instruction, around) == "later":
        return []
    shapes = list(instruction.shapes)
    if kind != instruction.code and kind in ("all-gather", "collective-permute", "collective-broadcast"):
        # The result of an asynchronous start is (operands, results, numbers of the context).
        shapes = [s for s in shapes if not (s.dtype in ("u32", "s32") and not s.sizes)]
        shapes = shapes[len(shapes) // 2 :]
    size, group = sum(s.bytes for s in shapes), hlo_text.group_size(instruction.text)
    if group == 1:  # Each device sums up what it has, along an axis of the mesh of size 1.
        return []
    if kind == "reduce-scatter":
        size *= group or 1  # the operand
    if kind == "all-reduce" and (kept := _kept_part(instruction, around)):
        kind, shapes = "reduce-scatter", list(kept.shapes)
    return [Message(kind, "+".join(s.text for s in shapes), int(size), source=instruction.source, group=group)]


def _kept_part(instruction: Instruction, around: Computation) -> Instruction | None:
    """The part of a sum that a device keeps, where the TPU compiler fused the sum with the choice of this part.

    It then sends what a reduce-scatter sends, and writes an all-reduce whose slice is the result of the fusion.
    """
    root = hlo_text.root(around)
    is_part = root is not None and root.code == "dynamic-slice" and root.operands[:1] == (instruction.name,)
    return root if is_part else None
