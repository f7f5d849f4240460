"""Finds the files that an ONNX file refers to, by reading its protobuf bytes; nothing of it is executed.

A message is a sequence of fields: a varint with the field's number and wire type, then a varint (type 0), 8 bytes (1),
a length and so many bytes (2), or 4 bytes (5). Source: protobuf.dev/programming-guides/encoding. The numbers of the
fields are those of onnx.proto3.
"""

from __future__ import annotations

from collections.abc import Iterator

# Message -> {field: message of the field}, for the fields that lead to a tensor.
_FIELDS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},  # external_data, key and value
}
_MOST_MESSAGES = 10_000_000


def external_locations(data: bytes) -> set[str]:
    """The files that hold values of the model's tensors, as the model names them.

    Args:
      data: the bytes of an ONNX file.

    Raises ValueError: the bytes are no ONNX model.
    """
    view, found, count = memoryview(data), set(), 0
    waiting = [("model", view)]  # a list and not a recursion, because graphs can be nested without end
    while waiting:
        kind, message = waiting.pop()
        for field, value in _fields(message):
            count += 1
            if count > _MOST_MESSAGES:
                raise ValueError(f"the model has more than {_MOST_MESSAGES} fields")
            inner = _FIELDS[kind].get(field)
            if inner == "entry" and value is not None:
                pair = {f: bytes(v).decode("utf-8", "replace") for f, v in _fields(value) if v is not None}
                if pair.get(1) == "location":
                    found.add(pair.get(2, ""))
            elif inner is not None and value is not None:
                waiting.append((inner, value))
    return found


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | None]]:
    """(number, bytes) of each field; None for a field that is a number."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        field, wire = key >> 3, key & 7
        value = None
        if wire == 0:
            _, position = _varint(message, position)
        elif wire in (1, 5):
            position += 8 if wire == 1 else 4
        elif wire == 2:
            size, position = _varint(message, position)
            value = message[position : position + size]
            position += size
        else:
            raise ValueError(f"wire type {wire} at byte {position}: the bytes are no ONNX model")
        if position > len(message) or not field:
            raise ValueError("the bytes are no ONNX model, or it is cut off")
        yield field, value


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    number = 0
    for i in range(10):
        if position >= len(message):
            raise ValueError("the bytes are no ONNX model, or it is cut off")
        byte = message[position]
        position += 1
        number |= (byte & 127) << (7 * i)
        if byte < 128:
            return number, position
    raise ValueError("the bytes are no ONNX model: a number has more than 10 bytes")
