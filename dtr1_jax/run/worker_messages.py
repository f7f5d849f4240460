"""Messages between the pool (run/worker_pool.py) and its worker processes (run/worker_process.py).

A message is 8 bytes with the length of its body (little-endian), and the body. A body is 8 bytes with the length of a
JSON text, the JSON text, and the raw bytes of the arrays that the JSON text refers to. Nothing is ever unpickled: bytes
from a worker that hostile input has taken over are never run as code in the parent.

Messages are made of None, bool, int, float, str, list, dict with str keys, and numeric numpy arrays. Tuples arrive as
lists, numpy scalars as Python numbers.
"""

from __future__ import annotations

import json
import math
import select
import socket
import time
from typing import Any

import numpy as np

MAX_MEMORY = 2 << 30  # bytes of address space that a worker may take for its items; a picture's patch takes few MB
OUT_OF_MEMORY = 70  # exit code of a worker that needed more
MAX_BYTES = 1 << 28  # of a body; a message that claims a longer one is refused as broken
MAX_JSON = 1 << 24  # bytes of the JSON text of a body: as Python values it takes ten times the memory
_MAX_AXES = 32  # of an array
_MAX_SIDE = 1 << 40  # of an array; the product of 32 sides is computed in no time
_CHUNK = 1 << 20  # bytes for which memory is taken at a time, so that a claimed length costs nothing


class MessageTooLongError(ValueError):
    """A value that is too large for a message."""


def encode(value: Any) -> bytes:
    """The body of a message that holds `value`.

    Raises TypeError for a value that a message cannot hold, MessageTooLongError for one that is too large.
    """
    arrays: list[np.ndarray] = []
    text = json.dumps(_pack(value, arrays)).encode()
    size = 8 + len(text) + sum(a.nbytes for a in arrays)
    if size > MAX_BYTES or len(text) > MAX_JSON:
        raise MessageTooLongError(
            f"expected a message of at most {MAX_BYTES} bytes with at most {MAX_JSON} bytes of JSON, got {size} with "
            f"{len(text)}"
        )
    return b"".join([len(text).to_bytes(8, "little"), text, *(a.tobytes() for a in arrays)])


def decode(body: bytes | bytearray) -> Any:
    """The value that `encode` put into a body. Raises ValueError for bytes that are not such a body."""
    start = 8 + int.from_bytes(body[:8], "little")
    if not 8 < start <= len(body) or start > 8 + MAX_JSON:
        raise ValueError(f"expected JSON of {start - 8} bytes, at most {MAX_JSON}, got {len(body) - 8}")
    try:
        value, end = _unpack(json.loads(body[8:start]), memoryview(body), start)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a message of a worker: {type(error).__name__}: {error}") from error
    if end != len(body):
        raise ValueError(f"expected arrays of {end - start} bytes, got {len(body) - start}")
    return value


def send(connection: socket.socket, body: bytes, end: float | None) -> None:
    """Sends one message.

    Args:
      connection: socket to the other process.
      body: bytes from `encode`.
      end: time in monotonic seconds by which all bytes must be taken; None = no limit.

    Raises TimeoutError after `end`, OSError if the other process is gone.
    """
    connection.settimeout(None if end is None else max(end - time.monotonic(), 1e-3))
    connection.sendall(len(body).to_bytes(8, "little") + body)


def receive(connection: socket.socket, end: float | None) -> bytearray:
    """The body of the next message; `connection` and `end` as in `send`.

    Raises TimeoutError after `end`, EOFError or OSError if the other process is gone, ValueError for a message that is
    longer than a worker may send.
    """
    size = int.from_bytes(_receive_bytes(connection, 8, end), "little")
    if size > MAX_BYTES:
        raise ValueError(f"expected a message of at most {MAX_BYTES} bytes, got {size}")
    return _receive_bytes(connection, size, end)


def has_bytes(connection: socket.socket) -> bool:
    """Whether bytes of the other process wait to be read, or it has closed the connection."""
    poll = select.poll()  # select() refuses the high numbers that sockets of a large process can have
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def _receive_bytes(connection: socket.socket, size: int, end: float | None) -> bytearray:
    data = bytearray()
    while len(data) < size:
        seconds = None if end is None else end - time.monotonic()
        if seconds is not None and seconds <= 0:
            raise TimeoutError
        connection.settimeout(seconds)
        part = connection.recv(min(size - len(data), _CHUNK))
        if not part:
            raise EOFError
        data += part
    return data


def _pack(value: Any, arrays: list[np.ndarray]) -> Any:
    """The JSON form of a value; its arrays are appended to `arrays`.

    A dict becomes {"dict": {...}}. An array becomes {"array": [dtype, shape]}, which stands for the next of `arrays`.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [_pack(v, arrays) for v in value]
    if isinstance(value, dict) and all(isinstance(k, str) for k in value):
        return {"dict": {k: _pack(v, arrays) for k, v in value.items()}}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        arrays.append(value)
        return {"array": [value.dtype.str, list(value.shape)]}
    raise TypeError(
        "expected None, bool, int, float, str, list, dict with str keys or a numeric array, got "
        + (f"an array of {value.dtype}" if isinstance(value, np.ndarray) else type(value).__name__)
    )


def _unpack(form: Any, body: memoryview, position: int) -> tuple[Any, int]:
    """The value of a JSON form whose arrays start at byte `position`, and the byte at which they end."""
    if isinstance(form, list):
        values = []
        for part in form:
            value, position = _unpack(part, body, position)
            values.append(value)
        return values, position
    if not isinstance(form, dict):
        return form, position
    if "dict" in form:
        items = {}
        for name, part in form["dict"].items():
            items[name], position = _unpack(part, body, position)
        return items, position
    name, shape = form["array"]
    dtype = np.dtype(name)
    if dtype.kind not in "biuf" or len(shape) > _MAX_AXES:
        raise ValueError(f"not a numeric array: {str(name)[:80]} with {len(shape)} axes")
    if any(type(n) is not int or not 0 <= n < _MAX_SIDE for n in shape):
        raise ValueError(f"not the shape of an array: {name}")
    end = position + math.prod(shape) * dtype.itemsize
    if end > len(body):
        raise ValueError(f"array {name} {shape} is cut off")
    return np.frombuffer(body[position:end], dtype).reshape(shape), end
