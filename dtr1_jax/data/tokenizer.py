"""Tokenizers, and the few token ids that prompts and sampling need by name."""

from __future__ import annotations

import bisect
import dataclasses
import functools
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

IMAGE = "<|image_pad|>"  # placeholder of a vision token, in the Qwen-VL templates and in that of the tiny policy
VIDEO = "<|video_pad|>"  # placeholder of a video's vision token
START, STOP = "<|vision_start|>", "<|vision_end|>"  # around each picture or video
END = "<|im_end|>"


class TokenizerError(ValueError):
    """A tokenizer that cannot be used; the message names its folder and the fault."""


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """A Hugging Face tokenizer with the ids that prompts and sampling need.

    Attributes:
      hf: the transformers tokenizer.
      pad, end, image, video: token ids; end closes a completion; image and video are None for text-only tokenizers.
      size: number of token ids.
      banned: ids that the policy must never sample (special tokens other than the end).
      where: the file or folder of the tokenizer, for messages.
    """

    hf: Any
    pad: int
    end: int
    image: int | None
    size: int
    banned: tuple[int, ...]
    video: int | None = None
    where: str = "the tokenizer"

    def encode(self, text: str) -> list[int]:
        """Encodes text. Names of special tokens in it become their ids, and lone surrogates become "?"."""
        return self.hf.encode(text.encode("utf-8", "replace").decode(), add_special_tokens=False)

    def decode(self, ids: Iterable[int]) -> str:
        """Decodes ids up to the end token, without special tokens."""
        ids = list(map(int, ids))
        if self.end in ids:
            ids = ids[: ids.index(self.end)]
        return self.hf.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def until(self, ids: Sequence[int], text: str) -> int:
        """The number of leading ids whose decoded text first contains `text`; all of them if it never does."""
        return bisect.bisect_left(range(len(ids)), True, key=lambda count: text in self.decode(ids[:count]))

    def tokens_like(self, pattern: str) -> np.ndarray:
        """bool[size], True at ids whose whole text, without blanks around it, matches the regular expression."""
        return _tokens_like(self, pattern)

    def banned_v(self, vocab: int) -> np.ndarray:
        """bool[vocab], True at ids that must not be sampled: `banned`, and rows of the vocabulary without a token."""
        mask = np.arange(vocab) >= self.size
        mask[list(self.banned)] = True
        return mask


def load_tokenizer(path: str | Path) -> Tokenizer:
    """Loads tokenizer.json and the chat template from a folder, without running code from it.

    The template is the one that the checkpoint's own processor would take: chat_template.jinja, else
    chat_template.json, else that of tokenizer_config.json.

    Raises TokenizerError.
    """
    from transformers import AutoTokenizer

    path = Path(path)
    if not (path / "tokenizer.json").is_file():
        raise TokenizerError(f"{path}: no tokenizer.json; expected a folder as saved by a Hugging Face tokenizer")
    try:
        hf = AutoTokenizer.from_pretrained(str(path), trust_remote_code=False, local_files_only=True)
    except Exception as error:
        cause = f"({type(error).__name__}: {error})"  # with the type, since a KeyError's message is only the key
        if not _reads_config(path):
            raise TokenizerError(
                f"{path / 'config.json'}: transformers cannot read it {cause}, but needs it for the tokenizer; "
                "fetch it again"
            ) from error
        raise TokenizerError(
            f"{path}: the tokenizer does not load {cause}; fetch tokenizer.json and the files beside it again"
        ) from error
    legacy = path / "chat_template.json"
    if legacy.is_file() and not (path / "chat_template.jinja").is_file():
        try:
            template = json.loads(legacy.read_text("utf-8"))["chat_template"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise TokenizerError(f'{legacy}: expected JSON with the key "chat_template" ({error!r})') from error
        hf.chat_template = template
    return wrap(hf, path)


def _reads_config(path: Path) -> bool:
    """Whether transformers can read config.json, or there is none. It reads that file before the tokenizer's own."""
    from transformers import AutoConfig

    if not (path / "config.json").is_file():
        return True
    try:
        AutoConfig.from_pretrained(str(path), trust_remote_code=False, local_files_only=True)
    except Exception:
        return False
    return True


def wrap(hf: Any, where: str | Path) -> Tokenizer:
    """Looks up the ids of a transformers tokenizer. `where` names its file or folder in messages.

    Raises TokenizerError if it has no chat template or no end token.
    """
    if not isinstance(hf.chat_template, str) or not hf.chat_template.strip():
        expected = "expected one in chat_template.jinja, chat_template.json or tokenizer_config.json"
        raise TokenizerError(f"{where}: no chat template; {expected}; take the files of an instruction-tuned model")
    known = hf.get_vocab()
    end = known.get(END, hf.eos_token_id)
    if end is None:
        raise TokenizerError(f"{where}: neither {END} nor an eos token; a completion could never end")
    pad = hf.pad_token_id if hf.pad_token_id is not None else end
    placeholders = {known[name] for name in (IMAGE, VIDEO) if name in known}
    banned = tuple(sorted({*hf.all_special_ids, *_added_special(hf), *placeholders} - {end}))
    return Tokenizer(hf, pad, end, known.get(IMAGE), len(hf), banned, known.get(VIDEO), str(where))


@functools.lru_cache(maxsize=8)  # called for every prompt, and get_vocab copies the whole vocabulary
def require_images(tokenizer: Tokenizer) -> None:
    """Raises TokenizerError if the tokenizer of a policy with a vision tower has no vision tokens."""
    missing = [n for n in (IMAGE, START, STOP) if n not in tokenizer.hf.get_vocab()]
    if missing:
        raise TokenizerError(
            f"{tokenizer.where}: no {', '.join(missing)} among its {tokenizer.size} tokens, but the policy sees "
            "pictures; take the tokenizer files of the vision-language checkpoint"
        )


@functools.lru_cache(maxsize=8)
def _tokens_like(tokenizer: Tokenizer, pattern: str) -> np.ndarray:
    texts = (tokenizer.hf.decode([i]).strip() for i in range(tokenizer.size))
    return np.array([re.fullmatch(pattern, text) is not None for text in texts])


def _added_special(hf) -> list[int]:
    return [i for i, token in hf.added_tokens_decoder.items() if token.special]
