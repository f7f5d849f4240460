"""GGUF files: dequantised numbers, the order of rows, the tokenizer, and broken files."""

import struct

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Kind
from gguf_files import HEADS, HIDDEN, KV, LAYERS, TYPES, VOCAB, WIDTH, WORDS, template, tensors, write

from dtr1_jax.models.weights import gguf as reader
from dtr1_jax.models.weights import loading, native
from dtr1_jax.models.weights.native import WeightsError


def load(path, family):
    tree = template(family)
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return loading.load_weights(reader.open_file(path), tree, jax.tree.map(lambda _: here, tree), jnp.float32)


def in_hf_order(array, heads):
    """Rows of a llama file's q or k, put back by the definition: rows 2j and 2j + 1 of a head are j and j + half."""
    size = array.shape[0] // heads
    out = np.empty_like(array)
    for head in range(heads):
        for j in range(size // 2):
            out[head * size + j] = array[head * size + 2 * j]
            out[head * size + size // 2 + j] = array[head * size + 2 * j + 1]
    return out


@pytest.mark.parametrize("family", reader.ARCHITECTURES)
def test_every_tensor_comes_to_its_place(tmp_path, family, monkeypatch):
    monkeypatch.setattr(loading, "PART", 2000)
    source = tensors(family)
    got = load(write(tmp_path / "m.gguf", family), family)
    np.testing.assert_array_equal(got["embed"]["table"], source["token_embd.weight"])
    np.testing.assert_array_equal(got["norm"]["scale"], source["output_norm.weight"])
    names = {
        "attn_q": "q", "attn_k": "k", "attn_v": "v", "attn_output": "o", "ffn_gate": "gate", "ffn_up": "up",
        "ffn_down": "down",
    }  # fmt: skip
    for i in range(LAYERS):
        for theirs, ours in names.items():
            wanted = source[f"blk.{i}.{theirs}.weight"]
            if family == "llama" and theirs in ("attn_q", "attn_k"):
                wanted = in_hf_order(wanted, HEADS if theirs == "attn_q" else KV)
            np.testing.assert_array_equal(got["decoder"][ours]["kernel"][i], wanted.T)
            if f"blk.{i}.{theirs}.bias" in source:
                np.testing.assert_array_equal(got["decoder"][ours]["bias"][i], source[f"blk.{i}.{theirs}.bias"])
        norms = {"attn_norm": "attn_norm", "ffn_norm": "mlp_norm", "attn_q_norm": "q_norm", "attn_k_norm": "k_norm"}
        for theirs, ours in norms.items():
            if f"blk.{i}.{theirs}.weight" in source:
                np.testing.assert_array_equal(got["decoder"][ours]["scale"][i], source[f"blk.{i}.{theirs}.weight"])
    assert len(native.flatten(got)) == {"llama": 11, "qwen2": 14, "qwen3": 13}[family]


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
    ],
)
def test_quantised_blocks_by_hand(kind, by_hand, values, size, factors):
    """Random bits with sane factors, two rows of two blocks, decoded one value at a time."""
    rng = np.random.default_rng(1)
    data = rng.integers(0, 256, (2, 2 * size), np.uint8)
    for block in (0, size):
        for factor in factors:
            data[:, block + factor : block + factor + 2] = np.frombuffer(half(rng.normal()), np.uint8)
    got = reader._read(data, kind, np.array([1, 0]), slice(0, 1), slice(1, 2 * values))
    wanted = [v for block in (0, size) for v in by_hand(data[1, block : block + size].tobytes())]
    np.testing.assert_allclose(got, [wanted[1:]], rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("kind", [Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_0, Kind.Q4_1])
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


def test_metadata_become_the_values_of_config_json(tmp_path):
    got = reader.open_file(write(tmp_path / "m.gguf", "qwen3")).config
    assert got | {"bos_token_id": None} == {
        "model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "vocab_size": VOCAB, "hidden_size": WIDTH,
        "intermediate_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": KV, "head_dim": 16, "hidden_act": "silu", "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5, "rope_theta": 1e5, "tie_word_embeddings": True, "use_sliding_window": False,
        "bos_token_id": None, "eos_token_id": 0,
    }  # fmt: skip
    arrays = tensors("qwen3") | {"output.weight": np.zeros((VOCAB, WIDTH), np.float32)}
    assert not reader.open_file(write(tmp_path / "u.gguf", "qwen3", arrays=arrays)).config["tie_word_embeddings"]


def test_tokenizer(tmp_path):
    tokenizer = reader.tokenizer(write(tmp_path / "m.gguf", template="{{ messages[0].content }}<|im_end|>"))
    ids = tokenizer.encode("the12<|im_end|> the<tag>", add_special_tokens=False)
    # digits stand alone before the merges are looked at, so "12" is never one token
    assert [WORDS[i] for i in ids] == ["the", "1", "2", "<|im_end|>", "Ġthe", "<tag>"]
    assert tokenizer.decode(ids) == "the12<|im_end|> the<tag>"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "the12 the<tag>"
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.apply_chat_template([{"role": "user", "content": "hi"}], tokenize=False) == "hi<|im_end|>"
    assert reader.tokenizer(write(tmp_path / "n.gguf", template=None)).chat_template is None
    other = reader.tokenizer(write(tmp_path / "g.gguf", pre="gpt-2"))
    assert [WORDS[i] for i in other.encode("12")] == ["12"]
    qwen = reader.tokenizer(write(tmp_path / "q.gguf", pre="qwen2"))
    assert [WORDS[i] for i in qwen.encode("12 the")] == ["1", "2", "Ġthe"]


@pytest.mark.parametrize(
    ("pre", "fault"),
    [
        ("llama-bpe", "the pre 'llama-bpe'; expected gpt2 and one of smollm"),
        ("", r"no tokenizer\.ggml\.pre in the metadata"),
    ],
)
def test_tokenizers_that_are_not_known(tmp_path, pre, fault):
    with pytest.raises(WeightsError, match=fault):
        reader.tokenizer(write(tmp_path / "m.gguf", pre=pre))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"types": TYPES[:5]}, rf"tokenizer\.ggml\.token_type: expected {VOCAB} types, one for each token, got 5"),
        ({"types": ["3"] * VOCAB}, r"tokenizer\.ggml\.token_type: expected a list of int, got '3' in it"),
        ({"words": [7] * VOCAB}, r"tokenizer\.ggml\.tokens: expected a list of str, got 7 in it"),
        ({"words": ["!"] * VOCAB}, f"expected distinct tokens, got 1 distinct of {VOCAB}"),
        ({"merges": [7]}, r"tokenizer\.ggml\.merges: expected a list of str, got 7 in it"),
        ({"merges": ["the"]}, "tokens and merges do not fit"),
    ],
)
def test_tokens_that_do_not_fit(tmp_path, changes, fault):
    with pytest.raises(WeightsError, match=fault) as error:
        reader.tokenizer(write(tmp_path / "m.gguf", **changes))
    assert str(error.value).startswith(str(tmp_path / "m.gguf"))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"family": "gemma"}, "unknown architecture 'gemma'; expected one of llama, qwen2, qwen3"),
        ({"leave_out": ("embedding_length",)}, r"no llama\.embedding_length in the metadata"),
        ({"leave_out": ("eps",)}, r"no llama\.attention\.layer_norm_rms_epsilon"),
        ({"embedding_length": "64"}, r"llama\.embedding_length: expected int, got '64'"),
        ({"embedding_length": 0}, r"llama\.embedding_length: expected at least 1, got 0"),
        ({"attention__head_count_kv": 0}, r"llama\.attention\.head_count_kv: expected at least 1, got 0"),
        ({"vocab_size": 5}, rf"token_embd\.weight: expected shape \[5, 64\] by the metadata, got \[{VOCAB}, 64\]"),
        ({"rope__scaling__type": "yarn"}, "rotary scaling 'yarn' is not supported"),
        ({"attention__head_count": 48}, r"blk\.0\.attn_q\.weight: 64 rows cannot be cut into 48 heads"),
        (
            {"kinds": {"blk.1.ffn_up.weight": Kind.Q5_0}},
            r"blk\.1\.ffn_up\.weight: the dtype Q5_0 is not supported; expected",
        ),
    ],
)
def test_files_that_do_not_fit(tmp_path, changes, fault):
    arrays = tensors("llama") if changes.get("family") else None
    with pytest.raises(WeightsError, match=fault) as error:
        reader.open_file(write(tmp_path / "m.gguf", arrays=arrays, **changes))
    assert str(error.value).startswith(str(tmp_path / "m.gguf"))


def test_missing_and_unknown_tensors(tmp_path):
    arrays = tensors("llama")
    arrays["blk.9.magic.weight"] = arrays.pop("blk.1.ffn_up.weight")
    arrays["magic"] = np.zeros(2, np.float32)
    with pytest.raises(WeightsError, match=r"missing model\.layers\.1\.mlp\.up_proj\.weight") as error:
        load(write(tmp_path / "m.gguf", arrays=arrays), "llama")
    assert "left over blk.9.magic.weight in m.gguf" in str(error.value)
    assert "left over magic in m.gguf" in str(error.value)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("token_embd", r"token_embd\.weight: expected shape \[0, 64\] by the metadata, got \[\]"),
        ("blk.1.attn_k", r"blk\.1\.attn_k\.weight: 1 rows cannot be cut into 2 heads"),
    ],
)
def test_tensors_without_axes(tmp_path, name, fault):
    arrays = tensors("llama") | {f"{name}.weight": np.array(1, np.float32)}
    with pytest.raises(WeightsError, match=fault):
        reader.open_file(write(tmp_path / "m.gguf", arrays=arrays))


def test_truncated_and_foreign_files(tmp_path):
    path = write(tmp_path / "m.gguf")
    whole = path.read_bytes()
    for length in (0, 3, 20, 200, 3000, len(whole) // 2, len(whole) - 4000):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"m\.gguf: cannot be read as GGUF"):
            reader.open_file(path)
    path.write_bytes(b"PK\3\4" + bytes(500))
    with pytest.raises(WeightsError, match="GGUF magic invalid"):
        reader.open_file(path)
    with pytest.raises(WeightsError, match="no such file"):
        reader.open_file(tmp_path / "none.gguf")
    with pytest.raises(WeightsError, match="a folder"):
        reader.tokenizer(tmp_path)


def test_counts_beyond_the_file(tmp_path):
    path = write(tmp_path / "m.gguf")
    whole = bytearray(path.read_bytes())
    types = b"tokenizer.ggml.token_type"
    array = whole.index(types) + len(types) + 4
    assert struct.unpack_from("<IQ", whole, array) == (gguf.GGUFValueType.INT32, VOCAB)
    count = struct.pack("<Q", 2**62)
    # number of tensors, number of metadata, length of an array, an array of bytes: its items end where the file does
    for at, put in ((8, count), (16, count), (array + 4, count), (array, bytes(4) + count)):
        broken = whole.copy()
        broken[at : at + len(put)] = put
        path.write_bytes(broken)
        with pytest.raises(WeightsError, match="cannot be read as GGUF"):
            reader.open_file(path)
