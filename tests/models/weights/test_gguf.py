"""GGUF files: the order of rows, metadata, the tokenizer, and broken files."""

import struct

import gguf
import numpy as np
import pytest
from gguf_files import HEADS, HIDDEN, KV, LAYERS, TYPES, VOCAB, WIDTH, WORDS, in_hf_order, load, tensors, write

from dtr1_jax.models.weights import gguf as reader
from dtr1_jax.models.weights import loading, native
from dtr1_jax.models.weights.native import WeightsError


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


def test_several_end_tokens(tmp_path):
    """Llama-3 ends a text, a turn and a message by different tokens."""
    path = tmp_path / "m.gguf"
    path = write(path, tokens={"eot": 5, "eom": 0})
    assert reader.open_file(path).config["eos_token_id"] == [0, 5]


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


def test_a_dtype_of_a_later_gguf_is_named(tmp_path):
    path = write(tmp_path / "m.gguf")
    whole = bytearray(path.read_bytes())
    name = b"blk.1.ffn_up.weight"
    dtype = whole.index(name) + len(name) + 4 + 2 * 8  # behind the number of axes and two axes
    whole[dtype : dtype + 4] = struct.pack("<I", 99)
    path.write_bytes(whole)
    with pytest.raises(WeightsError, match=r"m\.gguf: a tensor has the dtype number 99, .* expected one of F32, F16"):
        reader.open_file(path)


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
