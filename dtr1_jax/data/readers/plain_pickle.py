"""Reads a pickle of plain values (dicts, lists, texts, numbers) without executing anything.

The release of RefCOCO is a pickle, and a pickle is a program that may call any function. Python's own reader can be
kept from looking up names, but not from allocating memory that a few bytes ask for. Here a small machine knows the
instructions that plain values need, in all protocols from 0 on. It looks up nothing, calls nothing, and refuses every
other instruction by its name. Each byte of the file costs constant time and memory.

Texts of Python 2 are bytes: they are decoded as UTF-8, or else as cp1252.
"""

from __future__ import annotations

import pickletools
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dtr1_jax.data import json_files
from dtr1_jax.data.json_files import DataError

MOST_BYTES = 256 << 20
SECONDS = 300.0  # a file of 100 MB takes about half a minute
_CHECK = 1 << 16  # instructions between two looks at the clock
_NAMES = {ord(code.code): code.name for code in pickletools.opcodes}
_NAMED = {"GLOBAL", "STACK_GLOBAL", "INST"}  # instructions that look up a function or class


def read_pickle(path: Path, seconds: float = SECONDS) -> Any:
    """The value in a pickle of plain values.

    Args:
      path: the file, at most MOST_BYTES.
      seconds: of work, at most.

    Raises DataError: the file cannot be read, is too large, damaged, or holds anything but plain values.
    """
    try:
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); check the path") from None
    if size > MOST_BYTES:
        raise DataError(f"{path}: expected a pickle of at most {MOST_BYTES:,} bytes, got {size:,}; take the release's")
    raw = json_files.read_bytes(path)
    try:
        return _Machine(raw, time.monotonic() + seconds).run()
    except _RefusedError as error:
        raise DataError(
            f"{path}: refused: {error}, and a pickle can run any code; expected dicts, lists, texts and numbers; take "
            "the release's file, or write the value as JSON"
        ) from None
    except TimeoutError:
        raise DataError(f"{path}: reading the pickle takes more than {seconds:g} s; take the release's file") from None
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, struct.error) as error:
        raise DataError(
            f"{path}: expected a pickle, got a file that is damaged or cut off ({str(error)[:100]}); fetch it again"
        ) from None


class _RefusedError(ValueError):
    """The pickle has an instruction that plain values do not need."""


class _Machine:
    """The stack machine of one pickle."""

    def __init__(self, raw: bytes, deadline: float):
        self.raw, self.place, self.deadline = raw, 0, deadline
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The value of the pickle."""
        raw, steps, left = self.raw, _STEPS, _CHECK
        while True:
            code = raw[self.place]
            self.place += 1
            if code == 0x2E:  # STOP
                (value,) = self.stack
                if self.marks:
                    raise ValueError("it ends inside a list")
                return value
            step = steps.get(code)
            if step is None:
                raise _RefusedError(self.refusal(code))
            step(self)
            left -= 1
            if not left:
                left = _CHECK
                if time.monotonic() > self.deadline:
                    raise TimeoutError

    def refusal(self, code: int) -> str:
        """What an instruction that is not known asks for."""
        name = _NAMES.get(code, f"number {code}")
        if name in ("GLOBAL", "INST"):
            module, attribute = self.line()[:60], self.line()[:60]
            return f"the pickle asks for {module.decode('ascii', 'replace')}.{attribute.decode('ascii', 'replace')}"
        if name == "STACK_GLOBAL" and len(self.stack) >= 2:
            return f"the pickle asks for {self.stack[-2]!s:.60}.{self.stack[-1]!s:.60}"
        return f"the pickle has the instruction {name}"

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        end = self.place + count
        if end > len(self.raw) or count < 0:
            raise ValueError("it breaks off")
        self.place, start = end, self.place
        return self.raw[start:end]

    def line(self) -> bytes:
        """The bytes up to the end of the line."""
        end = self.raw.index(b"\n", self.place)
        self.place, start = end + 1, self.place
        return self.raw[start:end]

    def number(self, form: str) -> Any:
        """A number in the form of the struct module."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def since_mark(self) -> list[Any]:
        """The values above the last mark, which are removed with it."""
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def top(self, kind: type) -> Any:
        """The value on top, which must be of a kind."""
        value = self.stack[-1]
        if type(value) is not kind:
            raise ValueError(f"a {kind.__name__} is missing")
        return value

    def set_items(self, values: list[Any]) -> None:
        """Puts keys and values into the dict on top; a key must be plain, since hashing a deep tuple is unbounded."""
        owner = self.top(dict)
        for key, value in zip(values[::2], values[1::2], strict=True):
            if type(key) not in (str, int, float, bool):
                raise ValueError(f"a key is a {type(key).__name__}")
            owner[key] = value


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp1252", "replace")


def _quoted(line: bytes) -> str:
    """A text of Python 2 in quotes, with its escapes."""
    line = line.strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise ValueError("a text without quotes")
    return _text(line[1:-1].decode("unicode_escape").encode("latin-1"))


def _integer(line: bytes) -> int | bool:
    return {b"01": True, b"00": False}.get(line, 0) if line in (b"01", b"00") else int(line.removesuffix(b"L"))


def _pop_list(machine: _Machine, count: int) -> list[Any]:
    values = machine.stack[len(machine.stack) - count :]
    if len(values) < count or (machine.marks and len(machine.stack) - count < machine.marks[-1]):
        raise ValueError("the stack is empty")
    del machine.stack[len(machine.stack) - count :]
    return values


def _append(machine: _Machine) -> None:
    value = machine.stack.pop()
    machine.top(list).append(value)


def _extend(machine: _Machine) -> None:
    values = machine.since_mark()
    machine.top(list).extend(values)


def _make_dict(machine: _Machine) -> None:
    values = machine.since_mark()
    machine.stack.append({})
    machine.set_items(values)


def _remember(number: Callable[[_Machine], int]) -> Callable[[_Machine], None]:
    def step(machine: _Machine) -> None:
        machine.memo[number(machine)] = machine.stack[-1]

    return step


def _recall(number: Callable[[_Machine], int]) -> Callable[[_Machine], None]:
    return lambda machine: machine.stack.append(machine.memo[number(machine)])


def _push(value: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    return lambda machine: machine.stack.append(value(machine))


def _counted(form: str) -> Callable[[_Machine], bytes]:
    return lambda machine: machine.take(machine.number(form))


def _long(form: str) -> Callable[[_Machine], int]:
    return lambda machine: int.from_bytes(machine.take(min(machine.number(form), 1 << 20)), "little", signed=True)


def _tuple(count: int) -> Callable[[_Machine], tuple]:
    return lambda machine: tuple(_pop_list(machine, count))


_STEPS: dict[int, Callable[[_Machine], Any]] = {
    ord(code): step
    for code, step in {
        "(": lambda m: m.marks.append(len(m.stack)), "0": lambda m: m.stack.pop(), "1": lambda m: m.since_mark(),
        "2": _push(lambda m: m.stack[-1]), "N": _push(lambda m: None), "\x88": _push(lambda m: True),
        "\x89": _push(lambda m: False), "}": _push(lambda m: {}), "]": _push(lambda m: []), ")": _push(lambda m: ()),
        "I": _push(lambda m: _integer(m.line())), "L": _push(lambda m: _integer(m.line())),
        "F": _push(lambda m: float(m.line())), "G": _push(lambda m: m.number(">d")),
        "J": _push(lambda m: m.number("<i")), "K": _push(lambda m: m.take(1)[0]), "M": _push(lambda m: m.number("<H")),
        "\x8a": _push(_long("<B")), "\x8b": _push(_long("<i")),
        "S": _push(lambda m: _quoted(m.line())), "V": _push(lambda m: m.line().decode("raw_unicode_escape")),
        "U": _push(lambda m: _text(_counted("<B")(m))), "T": _push(lambda m: _text(_counted("<i")(m))),
        "C": _push(lambda m: _text(_counted("<B")(m))), "B": _push(lambda m: _text(_counted("<I")(m))),
        "\x8c": _push(lambda m: _text(_counted("<B")(m))), "X": _push(lambda m: _text(_counted("<I")(m))),
        "\x8d": _push(lambda m: _text(_counted("<Q")(m))),
        "t": _push(lambda m: tuple(m.since_mark())), "l": _push(lambda m: m.since_mark()), "d": _make_dict,
        "\x85": _push(_tuple(1)), "\x86": _push(_tuple(2)), "\x87": _push(_tuple(3)),
        "a": _append, "e": _extend, "s": lambda m: m.set_items(_pop_list(m, 2)),
        "u": lambda m: m.set_items(m.since_mark()),
        "p": _remember(lambda m: int(m.line())), "q": _remember(lambda m: m.take(1)[0]),
        "r": _remember(lambda m: m.number("<I")), "\x94": _remember(lambda m: len(m.memo)),
        "g": _recall(lambda m: int(m.line())), "h": _recall(lambda m: m.take(1)[0]),
        "j": _recall(lambda m: m.number("<I")),
        "\x80": lambda m: m.take(1), "\x95": lambda m: m.take(8),
    }.items()
}  # fmt: skip
