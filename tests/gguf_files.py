"""Writes small GGUF files, for the tests that read them."""

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import small
from gguf import GGMLQuantizationType as Kind

from dtr1_jax.models import policy
from dtr1_jax.models.weights import gguf as reader
from dtr1_jax.models.weights import loading

WIDTH, HEADS, KV, HIDDEN, LAYERS = 64, 4, 2, 96, 2
WORDS = ["<|im_end|>", "<|im_start|>", *(chr(c) for c in range(33, 127)), "Ġ", "Ċ", "th", "the", "Ġthe", "12", "<tag>"]
MERGES = ["t h", "th e", "Ġ the", "1 2"]
VOCAB = len(WORDS)
TYPES = [3, 3] + [1] * (VOCAB - 3) + [4]


def tensors(family, seed=0):
    """Random weights of a model: {name in the file: float32 array}."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.normal(size=shape).astype(np.float32)

    out = {"token_embd.weight": normal(VOCAB, WIDTH), "output_norm.weight": normal(WIDTH)}
    for i in range(LAYERS):
        rows = {"attn_q": WIDTH, "attn_k": WIDTH * KV // HEADS, "attn_v": WIDTH * KV // HEADS}
        out |= {f"blk.{i}.{name}.weight": normal(n, WIDTH) for name, n in rows.items()}
        if family == "qwen2":
            out |= {f"blk.{i}.{name}.bias": normal(n) for name, n in rows.items()}
        if family == "qwen3":
            out |= {f"blk.{i}.{name}.weight": normal(WIDTH // HEADS) for name in ("attn_q_norm", "attn_k_norm")}
        out |= {f"blk.{i}.{name}.weight": normal(WIDTH) for name in ("attn_norm", "ffn_norm")}
        out |= {f"blk.{i}.{name}.weight": normal(HIDDEN, WIDTH) for name in ("ffn_gate", "ffn_up")}
        out |= {f"blk.{i}.attn_output.weight": normal(WIDTH, WIDTH), f"blk.{i}.ffn_down.weight": normal(WIDTH, HIDDEN)}
    return out


def write(
    path, family="llama", kinds=None, arrays=None, leave_out=(), pre="smollm", template="{{ 1 }}", words=WORDS,
    types=TYPES, merges=MERGES, tokens=None, **changes,
):  # fmt: skip
    """Writes a GGUF file. `kinds` are dtypes of tensors by name (default F32); an array of bytes is written as it is.

    `tokens` are ids of special tokens by their kind, and `changes` are other metadata.
    """
    out = gguf.GGUFWriter(path, family)
    values = {
        "embedding_length": WIDTH, "block_count": LAYERS, "feed_forward_length": HIDDEN, "context_length": 512,
        "attention.head_count": HEADS, "attention.head_count_kv": KV,
    } | {name.replace("__", "."): x for name, x in changes.items()}  # fmt: skip
    for name, value in values.items():
        if name in leave_out:
            continue
        (out.add_string if isinstance(value, str) else out.add_uint32)(f"{family}.{name}", value)
    if "eps" not in leave_out:
        out.add_float32(f"{family}.attention.layer_norm_rms_epsilon", 1e-5)
    out.add_float32(f"{family}.rope.freq_base", 1e5)
    out.add_tokenizer_model("gpt2")
    out.add_tokenizer_pre(pre)
    out.add_token_list(words)
    out.add_token_types(types)
    out.add_token_merges(merges)
    out.add_eos_token_id(0)
    for name, number in (tokens or {}).items():
        out.add_uint32(f"tokenizer.ggml.{name}_token_id", number)
    if template:
        out.add_chat_template(template)
    for name, array in (arrays or tensors(family)).items():
        kind = (kinds or {}).get(name, Kind.F32)
        if kind == Kind.F32 or array.dtype == np.uint8:
            out.add_tensor(name, array, raw_dtype=None if kind == Kind.F32 else kind)
        else:
            out.add_tensor(name, gguf.quants.quantize(array, kind), raw_dtype=kind)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return path


def template(family):
    """Tree of the shapes of our parameters for the model of `write`."""
    shape = small.Spec(
        vocab=VOCAB, width=WIDTH, layers=LAYERS, heads=HEADS, kv_heads=KV, head_dim=WIDTH // HEADS, hidden=HIDDEN,
        qk_norm=family == "qwen3", qkv_bias=family == "qwen2",
    )  # fmt: skip
    return jax.eval_shape(lambda: policy.init(jax.random.key(0), shape))


def load(path, family):
    """The weights of a file that `write` wrote."""
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
