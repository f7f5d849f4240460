"""Small ONNX files, written as protobuf bytes by hand, so that tests need no package for it (onnx.proto3)."""

import numpy as np

FLOAT, INT64, BOOL = 1, 7, 9


def varint(number):
    number &= (1 << 64) - 1
    out = b""
    while number > 127:
        out += bytes([number & 127 | 128])
        number >>= 7
    return out + bytes([number])


def field(number, value):
    """A field of a message: an int, text or the bytes of a message."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def tensor(name, value, external=None):
    value = np.asarray(value)
    kind = {"f": FLOAT, "i": INT64, "b": BOOL}[value.dtype.kind]
    value = value.astype({FLOAT: np.float32, INT64: np.int64, BOOL: bool}[kind])
    out = b"".join(field(1, side) for side in value.shape) + field(2, kind) + field(8, name)
    if external is None:
        return out + field(9, value.tobytes())
    return out + field(13, field(1, "location") + field(2, external)) + field(14, 1)


def info(name, shape, kind=FLOAT):
    sides = b"".join(field(1, field(1, side) if isinstance(side, int) else field(2, side)) for side in shape)
    return field(1, name) + field(2, field(1, field(1, kind) + field(2, sides)))


def node(op, inputs, outputs, **attributes):
    out = b"".join(field(1, i) for i in inputs) + b"".join(field(2, o) for o in outputs) + field(4, op)
    for name, value in attributes.items():
        if isinstance(value, bytes):
            body = field(6, value) + field(20, 5)  # a graph
        elif isinstance(value, int):
            body = field(3, value) + field(20, 2)
        elif isinstance(value, str):
            body = field(4, value) + field(20, 3)
        else:
            body = b"".join(field(8, v) for v in value) + field(20, 7)
        out += field(5, field(1, name) + body)
    return out


def graph(nodes, inputs, outputs, tensors=()):
    return (
        b"".join(field(1, n) for n in nodes) + field(2, "g") + b"".join(field(5, t) for t in tensors)
        + b"".join(field(11, i) for i in inputs) + b"".join(field(12, o) for o in outputs)
    )  # fmt: skip


def model(body):
    return field(1, 8) + field(7, body) + field(8, field(1, "") + field(2, 13))


def mean_of_channels(height=4, width=6, external=None):
    """[1, 3, height, width] -> "depth" [1, 1, height, width], the mean of the colours plus 1."""
    nodes = [node("ReduceMean", ["x"], ["m"], axes=[1], keepdims=1), node("Add", ["m", "one"], ["depth"])]
    return model(graph(nodes, [info("x", [1, 3, height, width])], [info("depth", [1, 1, height, width])],
                       [tensor("one", [1.0], external)]))  # fmt: skip


def constants(arrays, height=8, width=8):
    """A model that gives the same arrays for every picture (plus 0 times the picture)."""
    nodes, tensors, outputs = [], [], []
    nodes.append(node("ReduceMean", ["x"], ["mean"], keepdims=0))
    nodes.append(node("Mul", ["mean", "zero"], ["z"]))
    tensors.append(tensor("zero", np.float32(0)))
    for name, value in arrays.items():
        tensors.append(tensor(f"value of {name}", np.asarray(value, np.float32)))
        nodes.append(node("Add", [f"value of {name}", "z"], [name]))
        outputs.append(info(name, np.shape(value)))
    return model(graph(nodes, [info("x", [1, 3, height, width])], outputs, tensors))


def endless():
    """A model whose loop has 2^62 rounds."""
    body = graph([node("Identity", ["c"], ["c2"]), node("Add", ["v", "one"], ["v2"])],
                 [info("i", [], INT64), info("c", [], BOOL), info("v", [1, 1, 4, 6])],
                 [info("c2", [], BOOL), info("v2", [1, 1, 4, 6])])  # fmt: skip
    nodes = [
        node("ReduceMean", ["x"], ["m"], axes=[1], keepdims=1),
        node("Loop", ["n", "go", "m"], ["depth"], body=body),
    ]
    return model(graph(nodes, [info("x", [1, 3, 4, 6])], [info("depth", [1, 1, 4, 6])],
                       [tensor("n", np.int64(2**62)), tensor("go", np.bool_(True)), tensor("one", [1.0])]))  # fmt: skip


def huge():
    """A model that asks for 4 TB of memory."""
    nodes = [node("ReduceMean", ["x"], ["m"], axes=[1], keepdims=1), node("Expand", ["m", "shape"], ["depth"])]
    return model(graph(nodes, [info("x", [1, 3, 4, 6])], [info("depth", ["a", "b", 4, 6])],
                       [tensor("shape", np.array([200_000, 200_000, 4, 6]))]))  # fmt: skip
