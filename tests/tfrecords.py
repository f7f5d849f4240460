"""TFRecord files written by hand: tf.train.Example in Protocol Buffers, and the framing."""

import struct

from dtr1_jax.data.readers import tfrecord


def varint(value):
    value %= 1 << 64
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number, raw):
    """A field that holds bytes or a message."""
    return varint(number << 3 | 2) + varint(len(raw)) + raw


def feature(values):
    """A Feature: bytes_list = 1, float_list = 2 (packed) or int64_list = 3 (packed)."""
    if not values:
        return b""
    if isinstance(values[0], bytes):
        return field(1, b"".join(field(1, value) for value in values))
    if isinstance(values[0], float):
        return field(2, field(1, struct.pack(f"<{len(values)}f", *values)))
    return field(3, field(1, b"".join(map(varint, values))))


def example(features):
    """A tf.train.Example; a value is a list, or (kind, bytes of the list message)."""
    entries = b""
    for name, values in features.items():
        raw = field(*values) if isinstance(values, tuple) else feature(values)
        entries += field(1, field(1, name.encode()) + field(2, raw))
    return field(1, entries)


def frame(raw):
    """A record with its length and checksums."""
    head = struct.pack("<Q", len(raw))
    crcs = (struct.pack("<I", tfrecord.masked_crc(part)) for part in (head, raw))
    return head + next(crcs) + raw + next(crcs)
