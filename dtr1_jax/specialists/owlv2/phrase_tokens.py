"""Token ids of phrases, by CLIP's byte-level BPE in lower case.

Only the vocabulary and the merges of a checkpoint's tokenizer are read. The rules around them (Unicode form NFC, lower
case, words by a regular expression) are those of transformers' `CLIPTokenizer`, which takes no others from the files
either. So no program of a foreign file runs.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtr1_jax.models.weights import hf_checkpoint
from dtr1_jax.models.weights.native import WeightsError
from dtr1_jax.specialists.owlv2.spec import Owlv2Spec

_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"  # CLIP's words
_START, _END = "<|startoftext|>", "<|endoftext|>"
_MOST_CHARACTERS = 1000  # of a phrase; about ten times as many as fit into 16 tokens
log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class PhraseTokenizer:
    """Makes token ids of phrases.

    Attributes:
      bpe: the tokenizer of the tokenizers library.
      tokens: ids of a phrase, with start, end and padding.
      pad: id of the padding.
    """

    bpe: Any
    tokens: int
    pad: int

    def encode(self, phrases: Sequence[str]) -> np.ndarray:
        """int32[n, tokens]: start, the phrase, end, padding.

        A phrase that is too long is cut so that start and end remain; one warning says how many were cut.
        """
        texts = [phrase[:_MOST_CHARACTERS].encode("utf-8", "replace").decode() for phrase in phrases]
        encodings = self.bpe.encode_batch(texts)
        ids = np.full((len(phrases), self.tokens), self.pad, np.int32)
        for row, encoding in zip(ids, encodings):
            row[: len(encoding.ids)] = encoding.ids
        long = [phrase for phrase, encoding in zip(phrases, encodings) if encoding.overflowing]
        if long:
            log.warning(
                "%d of %d phrases are longer than the %d tokens that OWLv2 reads, and were cut: %r: shorten them",
                len(long), len(phrases), self.tokens - 2, long[0][:60],
            )  # fmt: skip
        return ids


def load(folder: Path, spec: Owlv2Spec) -> PhraseTokenizer:
    """Reads tokenizer.json, or vocab.json and merges.txt, and the names of the special tokens.

    Raises WeightsError: a file is missing or broken, or does not fit the model's token table.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

    vocabulary, merges, where = _read(folder)
    settings = _optional(folder / "tokenizer_config.json")
    by_id = {index: word for word, index in vocabulary.items()}
    start, end = _name(settings, "bos_token", _START), _name(settings, "eos_token", _END)
    unknown, pad = _name(settings, "unk_token", end), _name(settings, "pad_token", by_id.get(spec.pad, end))
    missing = [word for word in (start, end, unknown, pad) if word not in vocabulary]
    if missing:
        raise WeightsError(f"{where}: no token {missing[0]!r}; expected CLIP's tokenizer")
    largest = max(vocabulary.values())
    if largest >= spec.vocabulary:
        raise WeightsError(f"{where}: token id {largest}, but the model's table has {spec.vocabulary} rows")
    if vocabulary[end] != largest:
        raise WeightsError(
            f"{where}: expected the largest id, {largest}, for {end!r}, by which the model finds the end of a phrase; "
            f"got {vocabulary[end]}"
        )
    try:
        bpe = Tokenizer(
            models.BPE(vocabulary, merges, continuing_subword_prefix="", end_of_word_suffix="</w>", unk_token=unknown)
        )
    except Exception as error:  # The library raises plain exceptions.
        raise WeightsError(f"{where}: the merges do not fit the vocabulary: {error}") from error
    bpe.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    words = pre_tokenizers.Split(Regex(_WORDS), behavior="removed", invert=True)
    bpe.pre_tokenizer = pre_tokenizers.Sequence([words, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    bpe.add_special_tokens([AddedToken(word, normalized=False, special=True) for word in (start, end, unknown, pad)])
    bpe.post_processor = processors.RobertaProcessing((end, vocabulary[end]), (start, vocabulary[start]), False, False)
    limit = settings.get("model_max_length")
    tokens = min(limit, spec.tokens) if type(limit) is int and limit > 2 else spec.tokens
    bpe.enable_truncation(tokens)
    return PhraseTokenizer(bpe, tokens, vocabulary[pad])


def _read(folder: Path) -> tuple[dict[str, int], list[tuple[str, str]], Path]:
    file = folder / "tokenizer.json"
    if file.is_file():
        model = hf_checkpoint.read_json(file, "the tokenizer").get("model")
        model = model if isinstance(model, dict) else {}
        vocabulary, lines = model.get("vocab"), model.get("merges")
    else:
        file = folder / "vocab.json"
        vocabulary = hf_checkpoint.read_json(file, "the token ids, or tokenizer.json beside it")
        try:
            lines = (folder / "merges.txt").read_text("utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise WeightsError(f"{folder / 'merges.txt'}: cannot be read: {error}") from error
        lines = [line for line in lines if line and not line.startswith("#version")]
    if not isinstance(vocabulary, dict) or not vocabulary or not isinstance(lines, list):
        raise WeightsError(f"{file}: expected the vocabulary and the merges of a BPE tokenizer")
    if not all(type(index) is int and index >= 0 for index in vocabulary.values()):
        raise WeightsError(f"{file}: expected a token id for every token")
    pairs = [tuple(line.split(" ") if isinstance(line, str) else line) for line in lines]
    if not all(len(pair) == 2 and all(isinstance(part, str) for part in pair) for pair in pairs):
        raise WeightsError(f"{file}: expected merges of two tokens each")
    return vocabulary, pairs, file


def _optional(file: Path) -> dict[str, Any]:
    return hf_checkpoint.read_json(file, "settings of the tokenizer") if file.is_file() else {}


def _name(settings: dict[str, Any], name: str, default: str) -> str:
    """The text of a special token, which files give as a string or as an object."""
    value = settings.get(name)
    value = value.get("content") if isinstance(value, dict) else value
    return value if isinstance(value, str) else default
