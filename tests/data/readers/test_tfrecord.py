"""TFRecord framing and tf.train.Example, by bytes written here and the check value of the checksum."""

import struct

import pytest
from tfrecords import example, feature, frame

from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import tfrecord


def test_checksum():
    """The check value of CRC-32C is 0xE3069283 for "123456789" (RFC 3720); masked as TensorFlow does."""
    crc = 0xE3069283
    assert tfrecord.masked_crc(b"123456789") == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32
    # The 32 bytes of zeros of RFC 3720, B.4: aa 36 91 8a.
    crc = 0x8A9136AA
    assert tfrecord.masked_crc(bytes(32)) == (((crc >> 15) | (crc << 17)) + 0xA282EAD8) % 2**32


def test_records_and_features(tmp_path):
    features = {"key": [b"k\xc3\xa9"], "ids": [0, 1, -1, 2**62, 300], "x": [0.5, -2.0], "none": [], "two": [b"", b"ab"]}
    first, second = example(features), example({"long": [b"x" * 70_000]})
    (tmp_path / "a").write_bytes(frame(first) + frame(b"") + frame(second))
    places = list(tfrecord.record_places(tmp_path / "a"))
    assert [length for _, length in places] == [len(first), 0, len(second)]
    found = [tfrecord.parse_example(tfrecord.read_record(tmp_path / "a", *place)) for place in places]
    assert found == [features, {}, {"long": [b"x" * 70_000]}]


def test_unpacked_integers_are_read():
    """Each value may stand for itself, as old writers do: field 1, kind 0."""
    raw = b"\x08\x05\x08\xac\x02"  # 5, 300
    assert tfrecord.parse_example(example({"ids": (3, raw)}))["ids"] == [5, 300]


@pytest.mark.parametrize(
    "change",
    [
        lambda raw: raw[:-1], lambda raw: raw[:7], lambda raw: b"\xff" + raw[1:], lambda raw: raw + b"x",
        lambda raw: struct.pack("<Q", 2**60) + struct.pack("<I", tfrecord.masked_crc(struct.pack("<Q", 2**60))) + raw,
    ],
)  # fmt: skip
def test_broken_framing(tmp_path, change):
    (tmp_path / "a").write_bytes(change(frame(b"abc")))
    with pytest.raises(DataError, match=r"a: (expected TFRecord|the record at 0 breaks off)"):
        list(tfrecord.record_places(tmp_path / "a"))
    with pytest.raises(DataError, match="cannot be read"):
        list(tfrecord.record_places(tmp_path / "none"))


def test_a_damaged_record_is_found(tmp_path):
    raw = bytearray(frame(b"abcdef"))
    raw[14] ^= 1
    (tmp_path / "a").write_bytes(raw)
    ((place, length),) = tfrecord.record_places(tmp_path / "a")
    with pytest.raises(tfrecord.RecordError, match="checksum"):
        tfrecord.read_record(tmp_path / "a", place, length)
    assert len(tfrecord.read_record(tmp_path / "a", place, length, check=False)) == 6
    with pytest.raises(tfrecord.RecordError, match="cannot be read"):
        tfrecord.read_record(tmp_path / "none", place, length)


@pytest.mark.parametrize(
    "raw",
    [b"\xff" * 20, b"\x0a", b"\x0a\x05ab", b"\x0b\x00", b"\x0a\x04\x0a\x02\x08\x01", b"\x08\x80",
     b"\x0a\x03\x0a\x01\xff",
     example({"ids": (3, b"\x0a\x01\xff")}), example({"x": (2, b"\x0a\x02ab")}), example({"b": (1, b"\x08\x01")})],
)  # fmt: skip
def test_other_bytes_are_no_example(raw):
    with pytest.raises(tfrecord.RecordError, match=r"no tf\.train\.Example"):
        tfrecord.parse_example(raw)


def test_a_feature_without_values():
    assert tfrecord.parse_example(example({"a": (1, b"")})) == {"a": []} and feature([]) == b""
