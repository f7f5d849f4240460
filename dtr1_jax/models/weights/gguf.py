"""Opens GGUF files as Hugging Face checkpoints: weights, sizes, tokenizer and chat template.

The `gguf` package parses the files and dequantises tensors in numpy. The format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np

from dtr1_jax.models import published_sizes
from dtr1_jax.models.weights.hf_checkpoint import HfCheckpoint, Tensor
from dtr1_jax.models.weights.native import WeightsError, shortened
from dtr1_jax.models.weights.published_files import GET_WEIGHTS

ARCHITECTURES = ("llama", "qwen2", "qwen3")
# Everything that gguf.quants turns into floats; a test compares this list with the package.
DTYPES = (
    "F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ1_S",
    "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0", "MXFP4", "NVFP4",
)  # fmt: skip
# name in a GGUF block -> name in a Hugging Face layer
_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
# The expression by which Qwen2's tokenizer cuts text into pieces before it encodes them.
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PRETOKENIZERS = ("smollm", "qwen2", "gpt-2")  # values of tokenizer.ggml.pre: how text is cut into pieces
_CONTROL, _USER_DEFINED, _UNUSED = 3, 4, 5  # values of tokenizer.ggml.token_type


def open_file(path: str | Path) -> HfCheckpoint:
    """Opens a GGUF file. Tensors get their Hugging Face names, and rows of q and k their Hugging Face order.

    Raises WeightsError if the file is not GGUF or truncated, has another architecture or a dtype that is not in
    DTYPES, or if metadata are missing or of the wrong type.
    """
    path = Path(path)
    reader = _reader(path)
    config = _config(path, reader)
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    tensors, entries, faults = {}, {}, []
    for entry in reader.tensors:
        name, kind = _hf_name(entry.name), entry.tensor_type.name
        if kind not in DTYPES:
            faults.append(f"{entry.name}: the dtype {kind} is not supported; expected one of {', '.join(DTYPES)}")
        shape = tuple(int(n) for n in reversed(entry.shape))
        tensors[name] = Tensor(path, shape, kind, entry.name)
        order = None
        part = f".{entry.name}".split(".")[-2]
        if config["model_type"] == "llama" and part in heads:
            rows = shape[0] if shape else 1
            if rows % (2 * heads[part]):
                faults.append(f"{entry.name}: {rows} rows cannot be cut into {heads[part]} heads")
            else:
                order = _llama_order(rows, heads[part])
        entries[name] = (entry.data, entry.tensor_type, order)
    if faults:
        raise WeightsError(f"{path}: " + shortened(faults))

    @contextlib.contextmanager
    def reading(_):
        yield lambda name, rows, columns: _read(*entries[name], rows, columns)

    return HfCheckpoint(path, config, tensors, reading)


def tokenizer(path: str | Path) -> Any:
    """Builds the transformers tokenizer (PreTrainedTokenizerFast) that the file describes, with its chat template.

    Raises WeightsError if the file has no tokenizer, or a kind of tokenizer that is not supported.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    path = Path(path)
    data = _Metadata(path, _reader(path))
    model, pre = data.get("tokenizer.ggml.model", str), data.get("tokenizer.ggml.pre", str)
    if model != "gpt2" or pre not in PRETOKENIZERS:
        raise WeightsError(
            f"{path}: the tokenizer has the model {model!r} and the pre {pre!r}; expected gpt2 and one of "
            f"{', '.join(PRETOKENIZERS)}. Use the checkpoint's Hugging Face folder instead"
        )
    words = data.items("tokenizer.ggml.tokens", str)
    types = data.items("tokenizer.ggml.token_type", int, [1] * len(words))
    merges = [tuple(pair.split(" ")) for pair in data.items("tokenizer.ggml.merges", str)]
    if len(types) < len(words):
        raise WeightsError(
            f"{path}: tokenizer.ggml.token_type: expected {len(words)} types, one for each token, got {len(types)}"
        )
    while words and types[len(words) - 1] == _UNUSED:  # placeholders for the rows that pad the embedding
        words.pop()
    vocab = {word: i for i, word in enumerate(words)}
    try:
        if len(vocab) != len(words):
            raise ValueError(f"expected distinct tokens, got {len(vocab)} distinct of {len(words)}")
        fast = Tokenizer(models.BPE(vocab, merges, fuse_unk=False, byte_fallback=False, ignore_merges=False))
    except Exception as error:  # the library raises bare Exception for merges that do not fit
        raise WeightsError(f"{path}: the tokenizer's tokens and merges do not fit: {error}") from error
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=pre != "qwen2")
    splitters = {
        "smollm": [pre_tokenizers.Digits(individual_digits=True)],
        "qwen2": [pre_tokenizers.Split(Regex(_QWEN2), "isolated")],
        "gpt-2": [],
    }[pre]
    fast.pre_tokenizer = pre_tokenizers.Sequence([*splitters, byte_level])
    fast.decoder = decoders.ByteLevel()
    if pre == "qwen2":
        fast.normalizer = normalizers.NFC()
    fast.add_tokens(
        [
            AddedToken(word, special=kind == _CONTROL, normalized=False)
            for word, kind in zip(words, types)
            if kind in (_CONTROL, _USER_DEFINED)
        ]
    )
    special = {}
    for ours, theirs in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        number = data.get(f"tokenizer.ggml.{theirs}_token_id", int, None)
        if number is not None and 0 <= number < len(words):
            special[f"{ours}_token"] = words[number]
    template = data.get("tokenizer.chat_template", str, None)
    return PreTrainedTokenizerFast(
        tokenizer_object=fast, chat_template=template, clean_up_tokenization_spaces=False, **special
    )


@dataclasses.dataclass(frozen=True)
class _Metadata:
    """The metadata of an opened GGUF file, with checks that name the file and the field."""

    path: Path
    reader: Any

    def get(self, name: str, kind: type, default: Any = ...) -> Any:
        """A value of type `kind`. Raises WeightsError if it has another type, or is missing without a default."""
        field = self.reader.fields.get(name)
        if field is None:
            if default is ...:
                raise WeightsError(f"{self.path}: no {name} in the metadata")
            return default
        try:
            value = field.contents()
        except Exception as error:  # bytes that are not text, or types that do not fit
            raise WeightsError(f"{self.path}: {name} cannot be read: {error}") from error
        if kind is float and isinstance(value, int):
            value = float(value)
        if not isinstance(value, kind):
            raise WeightsError(f"{self.path}: {name}: expected {kind.__name__}, got {value!r:.80}")
        return value

    def items(self, name: str, kind: type, default: Any = ...) -> list:
        """A list of values of type `kind`. Raises WeightsError as `get` does, also for a value in the list."""
        values = self.get(name, list, default)
        for value in values:
            if not isinstance(value, kind):
                raise WeightsError(f"{self.path}: {name}: expected a list of {kind.__name__}, got {value!r:.80} in it")
        return values

    def size(self, name: str, default: Any = ...) -> int:
        """A positive integer. Raises WeightsError as `get` does, and where the value is less than 1."""
        value = self.get(name, int, default)
        if value < 1:
            raise WeightsError(f"{self.path}: {name}: expected at least 1, got {value}")
        return value


def _reader(path: Path):
    import gguf

    class Reader(gguf.GGUFReader):
        def _get(self, offset, dtype, count=1, **others):
            # Past the end of the file, gguf returns empty values and would loop over the items of an array for ever.
            end = int(offset) + np.dtype(dtype).itemsize * int(count)
            if end > len(self.data):
                raise ValueError(f"expected at least {end} bytes, got {len(self.data)}")
            return super()._get(offset, dtype, count, **others)

    if not path.is_file():
        found = "a folder" if path.is_dir() else "no such file"
        raise WeightsError(f"{path}: {found}; expected a .gguf file. {GET_WEIGHTS}")
    try:
        with np.errstate(all="ignore"):
            return Reader(path)
    except Exception as error:  # in a broken file the parser may raise any exception
        unknown = re.search(r"(\d+)\)? is not a valid GGMLQuantizationType", str(error))
        if unknown:
            raise WeightsError(
                f"{path}: a tensor has the dtype number {unknown[1]}, which the gguf package does not know; expected "
                f"one of {', '.join(DTYPES)}. Take a file with another quantisation, or the Hugging Face folder"
            ) from None
        raise WeightsError(
            f"{path}: cannot be read as GGUF ({type(error).__name__}: {error}); check that the file is complete"
        ) from error


def _config(path: Path, reader) -> dict[str, Any]:
    """The values of config.json for the file's metadata."""
    data = _Metadata(path, reader)
    family = data.get("general.architecture", str)
    if family not in ARCHITECTURES:
        raise WeightsError(f"{path}: unknown architecture {family!r}; expected one of {', '.join(ARCHITECTURES)}")
    scaling = data.get(f"{family}.rope.scaling.type", str, "none")
    if scaling != "none":
        raise WeightsError(f"{path}: rotary scaling {scaling!r} is not supported; expected none")
    width, heads = data.size(f"{family}.embedding_length"), data.size(f"{family}.attention.head_count")
    shapes = {t.name: [int(n) for n in t.shape] for t in reader.tensors}
    table = shapes.get("token_embd.weight")
    if table is None:
        raise WeightsError(f"{path}: missing token_embd.weight")
    vocab = data.get(f"{family}.vocab_size", int, table[-1] if table else 0)
    if table != [width, vocab]:
        raise WeightsError(
            f"{path}: token_embd.weight: expected shape {[vocab, width]} by the metadata, got {table[::-1]}"
        )
    eps = data.get(f"{family}.attention.layer_norm_rms_epsilon", float)
    return {
        "model_type": family,
        "architectures": [published_sizes.CLASSES[family]],
        "vocab_size": vocab,
        "hidden_size": width,
        "intermediate_size": data.get(f"{family}.feed_forward_length", int),
        "num_hidden_layers": data.get(f"{family}.block_count", int),
        "num_attention_heads": heads,
        "num_key_value_heads": data.size(f"{family}.attention.head_count_kv", heads),
        "head_dim": data.get(f"{family}.attention.key_length", int, width // heads),
        "hidden_act": "silu",
        "max_position_embeddings": data.get(f"{family}.context_length", int),
        "rms_norm_eps": float(f"{eps:.7g}"),  # stored in 32 bits
        "rope_theta": data.get(f"{family}.rope.freq_base", float, 10000.0),
        "tie_word_embeddings": "output.weight" not in shapes,
        "use_sliding_window": False,
        "bos_token_id": data.get("tokenizer.ggml.bos_token_id", int, None),
        "eos_token_id": _ends(data),
    }


def _ends(data: _Metadata) -> int | list[int] | None:
    """The end tokens: of a text, of a turn and of a message."""
    names = (f"tokenizer.ggml.{kind}_token_id" for kind in ("eos", "eot", "eom"))
    ids = [i for i in dict.fromkeys(data.get(name, int, None) for name in names) if i is not None]
    return ids[0] if len(ids) == 1 else ids or None


def _hf_name(name: str) -> str:
    """The Hugging Face name of a tensor. An unknown name stays as in the file, and is later reported as left over."""
    match = re.fullmatch(r"blk\.(\d+)\.(\w+)\.(weight|bias)", name)
    if match and match[2] in _BLOCK:
        return f"model.layers.{match[1]}.{_BLOCK[match[2]]}.{match[3]}"
    return _TOP.get(name, name)


def _llama_order(rows: int, heads: int) -> np.ndarray:
    """int[rows]: the row in the file for each row of a Hugging Face q or k projection.

    Rotary positions turn pairs of rows of a head. In llama files a pair is two neighbouring rows, in Hugging Face files
    rows i and i + half.
    """
    return np.arange(rows).reshape(heads, rows // heads // 2, 2).swapaxes(1, 2).reshape(-1)


def _read(data, kind, order, rows: slice, columns: slice) -> np.ndarray:
    import gguf

    part = np.ascontiguousarray(data[rows if order is None else order[rows]])
    part = gguf.quants.dequantize(part, kind)
    return part[:, columns] if part.ndim == 2 else part
