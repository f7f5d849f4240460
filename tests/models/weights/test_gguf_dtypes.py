"""GGUF files: the numbers of every quantised dtype."""

import struct

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from gguf_files import HEADS, in_hf_order, load, tensors, write

from dtr1_jax.models.weights import gguf as reader
from dtr1_jax.models.weights.native import WeightsError


def half(value):
    return np.float16(value).tobytes()


def f16(data):
    return np.frombuffer(data, np.float16)[0].astype(np.float32)


def q8_0(b):
    return [f16(b[:2]) * q for q in struct.unpack("32b", b[2:])]


def q4_0(b):
    return [f16(b[:2]) * ((b[2 + i % 16] >> (4 * (i // 16)) & 15) - 8) for i in range(32)]


def q4_1(b):
    return [f16(b[:2]) * (b[4 + i % 16] >> (4 * (i // 16)) & 15) + f16(b[2:4]) for i in range(32)]


def q4_k(b):
    """256 values: 8 groups of 32 with 6-bit scales and minima in 12 bytes, then 4 bits a value."""
    d, low, s = f16(b[:2]), f16(b[2:4]), b[4:16]
    out = []
    for i in range(256):
        group = i // 32
        if group < 4:
            scale, minimum = s[group] & 63, s[group + 4] & 63
        else:
            scale = s[group + 4] & 15 | (s[group - 4] >> 6) << 4
            minimum = s[group + 4] >> 4 | (s[group] >> 6) << 4
        q = b[16 + 32 * (group // 2) + i % 32] >> (4 * (group % 2)) & 15
        out.append(d * scale * q - low * minimum)
    return out


def q5_0(b):
    """A factor, 32 fifth bits, and the low 4 bits of values i and i + 16 in byte i."""
    fifth = int.from_bytes(b[2:6], "little")
    return [f16(b[:2]) * ((b[6 + i % 16] >> (4 * (i // 16)) & 15 | (fifth >> i & 1) << 4) - 16) for i in range(32)]


def q5_1(b):
    fifth = int.from_bytes(b[4:8], "little")
    return [
        f16(b[:2]) * (b[8 + i % 16] >> (4 * (i // 16)) & 15 | (fifth >> i & 1) << 4) + f16(b[2:4]) for i in range(32)
    ]


def q5_k(b):
    """As q4_k, with 32 bytes between scales and values: bit g of byte j is the fifth bit of value j of group g."""
    four = np.array(q4_k(b[:16] + b[48:176]), np.float64)
    one = np.array(q4_k(b[:16] + bytes([0x11]) * 128), np.float64) - np.array(q4_k(b[:16] + bytes(128)), np.float64)
    fifth = np.array([b[16 + i % 32] >> (i // 32) & 1 for i in range(256)])
    return list(four + 16 * fifth * one)


def iq4_nl(b):
    values = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
    return [f16(b[:2]) * values[b[2 + i % 16] >> (4 * (i // 16)) & 15] for i in range(32)]


def mxfp4(b):
    """A power of two and 32 numbers with 1 sign, 2 exponent and 1 fraction bit (OCP Microscaling Formats 1.0)."""
    size = (0, 0.5, 1, 1.5, 2, 3, 4, 6)
    codes = [b[1 + i % 16] >> (4 * (i // 16)) & 15 for i in range(32)]
    return [2.0 ** (b[0] - 127) * size[code & 7] * (-1 if code & 8 else 1) for code in codes]


def q6_k(b):
    """256 values: 4 low bits each in 128 bytes, 2 high bits in 64, 16 scales of 8 bits, one factor."""
    low, high, scales, d = b[:128], b[128:192], struct.unpack("16b", b[192:208]), f16(b[208:210])
    out = []
    for i in range(256):
        part, quarter, column = i // 128, i % 128 // 32, i % 32
        four = low[64 * part + 32 * (quarter % 2) + column] >> (4 * (quarter // 2)) & 15
        two = high[32 * part + column] >> (2 * quarter) & 3
        out.append(d * scales[8 * part + 2 * quarter + column // 16] * ((four | two << 4) - 32))
    return out


@pytest.mark.parametrize(
    ("kind", "by_hand", "values", "size", "factors"),
    [
        (Kind.Q8_0, q8_0, 32, 34, (0,)),
        (Kind.Q4_0, q4_0, 32, 18, (0,)),
        (Kind.Q4_1, q4_1, 32, 20, (0, 2)),
        (Kind.Q4_K, q4_k, 256, 144, (0, 2)),
        (Kind.Q6_K, q6_k, 256, 210, (208,)),
        (Kind.Q5_0, q5_0, 32, 22, (0,)),
        (Kind.Q5_1, q5_1, 32, 24, (0, 2)),
        (Kind.Q5_K, q5_k, 256, 176, (0, 2)),
        (Kind.IQ4_NL, iq4_nl, 32, 18, (0,)),
        (Kind.MXFP4, mxfp4, 32, 17, ()),
    ],
)
def test_quantised_blocks_by_hand(kind, by_hand, values, size, factors):
    """Random bits with sane factors, two rows of two blocks, decoded one value at a time."""
    rng = np.random.default_rng(1)
    data = rng.integers(0, 256, (2, 2 * size), np.uint8)
    for block in (0, size):
        for factor in factors:
            data[:, block + factor : block + factor + 2] = np.frombuffer(half(rng.normal()), np.uint8)
        if kind == Kind.MXFP4:  # the exponent
            data[:, block] = rng.integers(117, 137)
    got = reader._read(data, kind, np.array([1, 0]), slice(0, 1), slice(1, 2 * values))
    wanted = [v for block in (0, size) for v in by_hand(data[1, block : block + size].tobytes())]
    np.testing.assert_allclose(got, [wanted[1:]], rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("kind", [Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q5_0, Kind.Q5_1, Kind.Q4_0, Kind.Q4_1])
def test_quantised_files(tmp_path, kind):
    source = tensors("llama")
    names = [name for name in source if "norm" not in name and "down" not in name]
    got = load(write(tmp_path / "m.gguf", kinds=dict.fromkeys(names, kind)), "llama")
    for ours, theirs in (("q", "attn_q"), ("up", "ffn_up")):
        wanted = source[f"blk.1.{theirs}.weight"]
        wanted = in_hf_order(wanted, HEADS) if ours == "q" else wanted
        step = {Kind.F16: 2e-3, Kind.BF16: 1e-2, Kind.Q8_0: 0.02}.get(kind, 0.4)
        error = np.abs(got["decoder"][ours]["kernel"][1] - wanted.T).max()
        assert 0 < error < step


def known_to_gguf():
    """The dtypes that the package turns into floats, found by trying."""
    names = []
    for kind in Kind:
        _, size = gguf.GGML_QUANT_SIZES[kind]
        try:
            gguf.quants.dequantize(np.zeros((1, size), np.uint8), kind)
        except NotImplementedError:
            continue
        names.append(kind.name)
    return names


def test_every_dtype_that_gguf_knows_is_supported():
    assert sorted(reader.DTYPES) == sorted(known_to_gguf())


@pytest.mark.parametrize("name", sorted(set(reader.DTYPES) - {"F32"}))
def test_a_file_of_each_dtype(tmp_path, name):
    """Random bytes of 4 rows of 2 blocks: what the loader reads is what gguf makes of these bytes."""
    kind = Kind[name]
    values, size = gguf.GGML_QUANT_SIZES[kind]
    count = 64 // values or 2
    data = np.random.default_rng(3).integers(0, 128, (4, count * size), np.uint8)
    data[:, 1::2] &= 63  # no NaN and no infinity among the 16-bit factors
    arrays = tensors("llama") | {"blk.1.ffn_up.weight": data}
    opened = reader.open_file(write(tmp_path / "m.gguf", kinds={"blk.1.ffn_up.weight": kind}, arrays=arrays))
    tensor = opened.tensors["model.layers.1.mlp.up_proj.weight"]
    assert (tensor.dtype, tensor.shape) == (name, (4, count * values))
    with opened.reading(tensor.file) as read:
        got = read("model.layers.1.mlp.up_proj.weight", slice(1, 3), slice(1, None))
    wanted = gguf.quants.dequantize(data, kind)[1:3, 1:]
    assert got.dtype == np.float32 and np.isfinite(wanted).all() and wanted.std() > 0
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("name", ["Q8_1", "Q8_K", "I8", "I32", "F64", "Q1_0"])
def test_dtypes_that_are_no_weights(tmp_path, name):
    kind = Kind[name]
    _, size = gguf.GGML_QUANT_SIZES[kind]
    arrays = tensors("llama") | {"blk.1.ffn_up.weight": np.zeros((4, size), np.uint8)}
    path = write(tmp_path / "m.gguf", kinds={"blk.1.ffn_up.weight": kind}, arrays=arrays)
    with pytest.raises(WeightsError, match=rf"blk\.1\.ffn_up\.weight: the dtype {name} is not supported; expected"):
        reader.open_file(path)
