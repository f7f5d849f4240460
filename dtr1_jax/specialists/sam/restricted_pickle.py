"""Reads the tensors of a PyTorch checkpoint (.pt, .pth) without executing anything.

Such a file is a zip file with a pickle, data.pkl, and the bytes of each storage. A pickle is a program for a small
stack machine that may call any function. Here the machine knows only the instructions and the five kinds of names that
a dict of tensors needs; it looks up nothing, calls nothing, and refuses every other name. pickletools is used to split
the bytes into instructions, which executes none.
"""

from __future__ import annotations

import dataclasses
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from dtr1_jax.models.weights.native import WeightsError
from dtr1_jax.specialists.sam import stored_zip

MOST_BYTES = 1 << 30  # of the file, and of all tensors together
_PROGRAM = 16 << 20  # most bytes of data.pkl
_DICT, _TENSOR = "collections.OrderedDict", "torch._utils._rebuild_tensor_v2"
_STORAGES: dict[str, np.dtype] = {
    "torch.FloatStorage": np.dtype("<f4"), "torch.DoubleStorage": np.dtype("<f8"),
    "torch.HalfStorage": np.dtype("<f2"), "torch.BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "torch.LongStorage": np.dtype("<i8"), "torch.IntStorage": np.dtype("<i4"),
    "torch.ShortStorage": np.dtype("<i2"), "torch.CharStorage": np.dtype("i1"),
    "torch.ByteStorage": np.dtype("u1"), "torch.BoolStorage": np.dtype(bool),
}  # fmt: skip
_KNOWN = (_DICT, _TENSOR, *_STORAGES)


class PickleError(WeightsError):
    """A checkpoint is damaged, or it contains something else than tensors; the message names it."""


@dataclasses.dataclass(frozen=True)
class _Name:
    """A name that the pickle refers to; nothing is looked up."""

    name: str


@dataclasses.dataclass(frozen=True)
class StoredTensor:
    """A tensor whose values are not read yet: a view of a storage.

    Attributes:
      storage: name of the storage's entry.
      dtype: its numbers.
      offset: first number, counted in numbers.
      shape, strides: of the view, in numbers.
    """

    storage: str
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class _Storage:
    key: str
    dtype: np.dtype
    count: int


class TorchFile:
    """The tensors of an opened checkpoint.

    Attributes:
      path: the file.
      tensors: the tensors by name; no values are read yet.
    """

    def __init__(self, path: str | Path, most: int = MOST_BYTES):
        """Opens a checkpoint that holds one flat dict of tensors.

        Args:
          path: the .pt or .pth file.
          most: bytes that the file, and all its tensors together, may have.

        Raises PickleError or WeightsError: no such file, not a zip file, damaged, too large, names of anything but
        tensors, or another structure than a dict of tensors.
        """
        self.path = Path(path)
        self._entries = stored_zip.entries(self.path, most)
        programs = [name for name in self._entries if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(programs) != 1:
            raise PickleError(f"{path}: expected one entry NAME/data.pkl, found {len(programs)}; no PyTorch checkpoint")
        self._folder = programs[0].removesuffix("data.pkl")
        entry = self._entries[programs[0]]
        if entry.size > _PROGRAM:
            raise PickleError(f"{path}: data.pkl has {entry.size:,} bytes, expected at most {_PROGRAM:,}")
        order = self._entries.get(f"{self._folder}byteorder")
        if order is not None and (order.size > 16 or stored_zip.read(self.path, order).strip() != b"little"):
            raise PickleError(f"{path}: expected little-endian numbers")
        self.tensors = _tensors(self.path, stored_zip.read(self.path, entry))
        total = 0
        for name, tensor in self.tensors.items():
            total += self._checked(name, tensor)
        if total > most:
            raise PickleError(f"{path}: its tensors have {total:,} bytes, expected at most {most:,}")

    def _checked(self, name: str, tensor: StoredTensor) -> int:
        """The bytes of a tensor, whose view must lie inside its storage."""
        entry = self._entries.get(f"{self._folder}data/{tensor.storage}")
        if entry is None:
            raise PickleError(f"{self.path}: {name!r:.80} needs the storage {tensor.storage!r:.40}, which is missing")
        count = 1
        for side in tensor.shape:
            count *= side
        last = tensor.offset + sum((side - 1) * step for side, step in zip(tensor.shape, tensor.strides))
        stored = entry.size // tensor.dtype.itemsize
        if count > stored or (count and last >= stored):
            raise PickleError(
                f"{self.path}: {name!r:.80} has shape {list(tensor.shape)}, but its storage has only {stored} numbers"
            )
        return count * tensor.dtype.itemsize

    def read(self, name: str) -> np.ndarray:
        """The values of a tensor, contiguous. Raises WeightsError if the storage is damaged."""
        tensor = self.tensors[name]
        data = stored_zip.read(self.path, self._entries[f"{self._folder}data/{tensor.storage}"])
        width = tensor.dtype.itemsize
        flat = np.frombuffer(data[: len(data) // width * width], tensor.dtype)
        if 0 in tensor.shape:
            return np.zeros(tensor.shape, tensor.dtype)
        view = np.lib.stride_tricks.as_strided(
            flat[tensor.offset :], tensor.shape, [step * width for step in tensor.strides], writeable=False
        )
        return np.ascontiguousarray(view).reshape(tensor.shape)


def _tensors(path: Path, program: bytes) -> dict[str, StoredTensor]:
    machine = _Machine(path)
    try:
        for instruction, argument, _ in pickletools.genops(program):
            if instruction.name == "STOP":
                break
            machine.step(instruction.name, argument)
        value = machine.stack.pop()
    except PickleError:
        raise
    except (ValueError, IndexError, KeyError, OverflowError, UnicodeError) as error:
        raise PickleError(f"{path}: its pickle is damaged: {str(error)[:200]}; fetch the file again") from error
    if not isinstance(value, dict) or not value:
        raise PickleError(f"{path}: expected a dict of tensors, got {type(value).__name__}")
    for name, tensor in value.items():
        if not isinstance(tensor, StoredTensor):
            raise PickleError(
                f"{path}: expected a flat dict of tensors, but {name!r:.80} is {type(tensor).__name__};"
                " save the model's state_dict() alone"
            )
    return value


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_TUPLE": tuple, "EMPTY_DICT": dict,
}  # fmt: skip
_LITERALS = ("BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE")
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Machine:
    """The stack machine; each step handles one instruction and takes constant time and memory per byte read."""

    def __init__(self, path: Path):
        self.path = path
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in ("PROTO", "FRAME"):
            return
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _LITERALS:
            stack.append(argument)
        elif name == "MARK":
            self.marks.append(len(stack))
        elif name == "TUPLE":
            stack.append(tuple(self._since_mark()))
        elif name in _TUPLES:
            stack.append(tuple(self._popped(_TUPLES[name])))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self._top()
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = self._top()
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif name == "GLOBAL":
            stack.append(self._known(argument.replace(" ", ".")))
        elif name == "STACK_GLOBAL":
            stack.append(self._known(".".join(str(part) for part in self._popped(2))))
        elif name in ("SETITEM", "SETITEMS"):
            self._set_items(self._popped(2) if name == "SETITEM" else self._since_mark())
        elif name == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif name == "REDUCE":
            function, arguments = self._popped(2)
            stack.append(self._call(function, arguments))
        elif name == "BUILD":
            _, owner = stack.pop(), self._top()  # the state of a dict of tensors holds version numbers of its modules
            self._expect(isinstance(owner, dict), f"BUILD of {type(owner).__name__}")
        else:
            raise PickleError(f"{self.path}: refused: its pickle has the instruction {name}, which no tensors need")

    def _expect(self, condition: bool, thing: str) -> None:
        if not condition:
            raise PickleError(f"{self.path}: refused: its pickle has {thing}, which no tensors need")

    def _top(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ValueError("the stack is empty")
        return self.stack[-1]

    def _popped(self, count: int) -> list[Any]:
        if len(self.stack) - (self.marks[-1] if self.marks else 0) < count:
            raise ValueError("the stack is empty")
        values = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return values

    def _since_mark(self) -> list[Any]:
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def _known(self, name: str) -> _Name:
        if name not in _KNOWN:
            raise PickleError(
                f"{self.path}: refused: its pickle asks for {name!r:.120}, and a pickle can run any code; expected only"
                f" {_TENSOR}, {_DICT} and torch's storages"
            )
        return _Name(name)

    def _set_items(self, values: list[Any]) -> None:
        owner = self._top()
        self._expect(isinstance(owner, dict) and len(values) % 2 == 0, f"items of {type(owner).__name__}")
        for key, value in zip(values[::2], values[1::2]):
            self._expect(isinstance(key, str), f"a key that is {type(key).__name__}")
            owner[key] = value

    def _storage(self, value: Any) -> _Storage:
        match value:
            case ("storage", _Name(name), str(key), str(), int(count)) if name in _STORAGES and key.isalnum():
                return _Storage(key, _STORAGES[name], count)
        raise PickleError(f"{self.path}: refused: its pickle refers to {type(value).__name__} outside, no storage")

    def _call(self, function: Any, arguments: Any) -> Any:
        self._expect(isinstance(function, _Name) and isinstance(arguments, tuple), "a call of no known function")
        if function.name == _DICT:
            self._expect(arguments == (), "an OrderedDict made from a list")
            return {}
        self._expect(function.name == _TENSOR, f"a call of {function.name}")
        match arguments[:4]:
            case (_Storage() as storage, int(offset), tuple(shape), tuple(strides)):
                sizes = (offset, *shape, *strides)
                whole = all(isinstance(x, int) and not isinstance(x, bool) and 0 <= x < 2**40 for x in sizes)
                if whole and len(shape) == len(strides) <= 16:
                    return StoredTensor(storage.key, storage.dtype, offset, shape, strides)
        raise PickleError(f"{self.path}: its pickle describes a tensor with impossible sizes; fetch the file again")
