"""The figures of a compiled update or rollout on one device: memory, operations, traffic and messages.

A rollout has two parts: the prefill, and the decode loop, whose figures are those of one token. Its program grows with
the layers of the decoder, so that a deep policy takes long to compile. `extrapolated` continues the figures of two
small depths. The update and the tower loop over their layers, and compile as fast at any depth.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import jax

from dtr1_jax.policies import collectives, hlo_text, program_cost, roofline
from dtr1_jax.policies.collectives import Message
from dtr1_jax.policies.roofline import Work

GIB = 2**30
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class TooLargeError(ValueError):
    """The compiler found no way to run the program in the memory of a device.

    Attributes:
      needed: bytes that it would take, or 0 if the message does not say it.
    """

    def __init__(self, message: str):
        super().__init__(message)
        found = re.search(r"Used ([\d.]+)([KMGT]?)\w* of|temporaries \(([\d.]+)([KMGT]?)\w*\)", message)
        number, unit = (found[1] or found[3], found[2] or found[4] or "") if found else ("0", "")
        self.needed = int(float(number) * _UNITS[unit])


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
      each_token: one trip of these loops, which are decode loops.
    """

    arguments: float
    temporary: float
    results: float
    once: Part
    each_token: Part

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
    """The figures of a program from its HLO text and its `memory_analysis()`; `full` as in `compiled`."""
    module = hlo_text.parse(text)
    costs, messages = program_cost.read(module, full), collectives.read(module)
    return Figures(
        arguments=memory.argument_size_in_bytes,
        temporary=memory.temp_size_in_bytes,
        results=memory.output_size_in_bytes - memory.alias_size_in_bytes,
        once=_part(costs, messages, each_token=False),
        each_token=_part(costs, messages, each_token=True),
    )


def _part(costs, messages, each_token):
    cost = program_cost.together(costs, each_token)
    messages = [m for m in messages if bool(m.unknown) == each_token]
    sent = sum(m.sent_bytes * m.trips for m in messages)
    return Part(
        Work(cost.flops, cost.hbm_bytes, sent), collectives.by_kind(messages), sum(m.trips for m in messages),
        collectives.largest(messages),
    )  # fmt: skip


def extrapolated(first: Figures, second: Figures, depths: tuple[int, int], layers: int) -> Figures:
    """The figures of a program with `layers` layers, on the straight line through those of two depths.

    The largest message is the larger of the two: messages belong to a layer or to none, so their sizes do not grow.
    """

    def line(a, b):
        return roofline.at_depth(a, b, depths, layers)

    def part(a, b):
        names = ("flops", "hbm_bytes", "sent_bytes")
        return Part(
            Work(*(line(getattr(a.work, name), getattr(b.work, name)) for name in names)),
            {
                kind: line(a.message_bytes.get(kind, 0), b.message_bytes.get(kind, 0))
                for kind in sorted({*a.message_bytes, *b.message_bytes})
            },
            line(a.message_count, b.message_count),
            collectives.largest(m for m in (a.largest, b.largest) if m is not None),
        )

    return Figures(
        line(first.arguments, second.arguments), line(first.temporary, second.temporary),
        line(first.results, second.results), part(first.once, second.once), part(first.each_token, second.each_token),
    )  # fmt: skip
