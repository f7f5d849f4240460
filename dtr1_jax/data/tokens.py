"""Tokenizers, and the few ids that the rest of the code needs by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

IMAGE = "<|image_pad|>"  # where a vision token stands, in the Qwen-VL templates and in ours
END = "<|im_end|>"


class TokenizerError(ValueError):
    """A tokenizer that can not be used; the message names the folder and what is missing."""


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """A Hugging Face tokenizer with the ids that prompts and sampling need.

    Attributes:
      hf: the transformers tokenizer.
      pad, end, image: token ids; end closes a completion; image is None for text-only tokenizers.
      size: number of ids.
      banned: ids that the policy must never sample (special tokens other than the end).
    """

    hf: Any
    pad: int
    end: int
    image: int | None
    size: int
    banned: tuple[int, ...]

    def encode(self, text: str) -> list[int]:
        """Ids of a piece of text; names of special tokens in it become their ids, and lone surrogates "?"."""
        return self.hf.encode(text.encode("utf-8", "replace").decode(), add_special_tokens=False)

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ids up to the end token, which is left out."""
        ids = list(map(int, ids))
        if self.end in ids:
            ids = ids[: ids.index(self.end)]
        return self.hf.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def banned_v(self, vocab: int) -> np.ndarray:
        """bool[vocab], True at ids that must not be sampled: `banned` and the rows without a token."""
        mask = np.arange(vocab) >= self.size
        mask[list(self.banned)] = True
        return mask


def load(path: str | Path) -> Tokenizer:
    """Reads tokenizer.json and the chat template from a folder; no code in it is run. Raises TokenizerError."""
    from transformers import AutoTokenizer

    path = Path(path)
    if not (path / "tokenizer.json").is_file():
        raise TokenizerError(f"{path}: no tokenizer.json; expected a folder as saved by a Hugging Face tokenizer")
    try:
        hf = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False, local_files_only=True)
    except Exception as error:
        raise TokenizerError(f"{path}: the tokenizer does not load: {error}") from error
    if not hf.chat_template:
        raise TokenizerError(f"{path}: no chat template; expected one in tokenizer_config.json or chat_template.jinja")
    known = hf.get_vocab()
    end = known.get(END, hf.eos_token_id)
    if end is None:
        raise TokenizerError(f"{path}: neither {END} nor an eos token; a completion could never end")
    pad = hf.pad_token_id if hf.pad_token_id is not None else end
    banned = tuple(sorted({*hf.all_special_ids, *_added_special(hf)} - {end}))
    return Tokenizer(hf, pad, end, known.get(IMAGE), len(hf), banned)


def _added_special(hf) -> list[int]:
    return [i for i, token in hf.added_tokens_decoder.items() if token.special]
