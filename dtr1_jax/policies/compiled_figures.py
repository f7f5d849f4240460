"""The figures of a compiled update or rollout on one device: memory, operations, traffic and messages.

A rollout has the prefill, and the decode loops, whose figures are those of one token. Where a program does not fit the
memory of a device, there are no figures of it; `extrapolated` continues those of two small depths.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Sequence
from typing import Any

import jax

from dtr1_jax.policies import collectives, hlo_text, kernel_cost, program_cost
from dtr1_jax.policies.collectives import Message
from dtr1_jax.policies.roofline import Work

GIB = 2**30
log = logging.getLogger(__name__)
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class TooLargeError(ValueError):
    """The compiler found no way to run the program in the memory of a device.

    Attributes:
      needed: bytes that it would take, or 0 if the message does not say it.
      temporary: whether these are those besides its arguments and results.
    """

    def __init__(self, message: str):
        super().__init__(message)
        found = re.search(r"Used ([\d.]+)([KMGT]?)\w* of|temporaries \(([\d.]+)([KMGT]?)\w*\)", message)
        number, unit = (found[1] or found[3], found[2] or found[4] or "") if found else ("0", "")
        self.needed = int(float(number) * _UNITS[unit])
        self.temporary = bool(found and found[3])


@dataclasses.dataclass(frozen=True)
class Part:
    """What a device does in a part of a program, once: all of it, or one trip of its decode loop.

    Attributes:
      work: operations, traffic, and bytes that are sent.
      message_bytes: bytes of each kind of message, as `collectives.Message` counts them.
      message_count: number of messages.
      largest: the message with the most bytes in one execution; None = there are none.
    """

    work: Work
    message_bytes: dict[str, float]
    message_count: float
    largest: Message | None


@dataclasses.dataclass(frozen=True)
class Figures:
    """A compiled program on one device.

    Attributes:
      arguments, temporary, results: bytes of memory; results without those that take the place of arguments.
      once: everything outside of loops without known trip count.
      loops: one trip of each of these loops, in the order in which they run: of a rollout the decode loops.
    """

    arguments: float
    temporary: float
    results: float
    once: Part
    loops: tuple[Part, ...]

    @property
    def memory(self) -> float:
        """Bytes that the program needs while it runs, with its arguments."""
        return self.arguments + self.temporary + self.results


def compiled(lowered: Any, effort: float = 0.0, full: float | None = None) -> tuple[Any, Figures]:
    """(the compiled program, its figures).

    Args:
      lowered: from policies/ahead_of_time.py.
      effort: of the TPU compiler, from -1 (fast) to 1; 0 = as in training.
      full: share of the tower's layers with full attention, as `program_cost.read` takes it.

    Raises TooLargeError if the program does not fit the memory of a device.
    """
    options = {"exec_time_optimization_effort": effort} if effort else {}
    try:
        program = lowered.compile(options)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error):
            raise TooLargeError(str(error)) from error
        raise
    return program, figures(program.as_text(), program.memory_analysis(), full)


def figures(text: str, memory: Any, full: float | None = None) -> Figures:
    """The figures of a program from its HLO text and its `memory_analysis()`; `full` as in `compiled`.

    Warns of kernels whose operations it does not know.
    """
    module = hlo_text.parse(text)
    if unknown := kernel_cost.not_understood(module):
        log.warning(
            "%d kernel(s) of the compiled program count no operations, because their form is not known, so times are"
            " too low and the MFU is too high: %s. --config.policy.attention=einsum plans without kernels of ours",
            len(unknown), ", ".join(unknown[:5]),
        )  # fmt: skip
    costs, messages = program_cost.read(module, full), collectives.read(module)
    return Figures(
        arguments=memory.argument_size_in_bytes,
        temporary=memory.temp_size_in_bytes,
        results=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        once=_part(costs, messages, ""),
        loops=tuple(_part(costs, messages, loop) for loop in program_cost.loops(costs)),
    )


def _part(costs, messages, loop):
    cost = program_cost.together(costs, loop)
    messages = [m for m in messages if m.unknown == loop]
    sent = sum(m.sent_bytes * m.trips for m in messages)
    return Part(
        Work(cost.flops, cost.hbm_bytes, sent), collectives.by_kind(messages), sum(m.trips for m in messages),
        collectives.largest(messages),
    )  # fmt: skip


def weighted(parts: Sequence[Part], weights: Sequence[float]) -> Part:
    """The sum of all parts, each times its weight; the largest message is the largest of all."""

    def total(values):
        return sum(weight * value for weight, value in zip(weights, values, strict=True))

    names = ("flops", "hbm_bytes", "sent_bytes")
    kinds = sorted({kind for part in parts for kind in part.message_bytes})
    return Part(
        Work(*(total([getattr(part.work, name) for part in parts]) for name in names)),
        {kind: total([part.message_bytes.get(kind, 0) for part in parts]) for kind in kinds},
        total([part.message_count for part in parts]),
        collectives.largest(part.largest for part in parts if part.largest is not None),
    )


def extrapolated(first: Figures, second: Figures, depths: tuple[int, int], layers: int) -> Figures:
    """The figures of a program with `layers` layers, on the straight line through those of two depths.

    The largest message is the larger of the two: messages belong to a layer or to none, so their sizes do not grow.
    """
    share = (layers - depths[0]) / (depths[1] - depths[0])

    def line(a, b):
        return (1 - share) * a + share * b

    def part(a, b):
        return weighted((a, b), (1 - share, share))

    return Figures(
        line(first.arguments, second.arguments), line(first.temporary, second.temporary),
        line(first.results, second.results), part(first.once, second.once),
        tuple(part(a, b) for a, b in zip(first.loops, second.loops, strict=True)),
    )  # fmt: skip
