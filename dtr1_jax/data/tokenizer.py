"""Tokenizers, and the few token ids that prompts and sampling need by name."""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import functools
import json
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dtr1_jax.data import end_tokens, sandbox
from dtr1_jax.data.json_files import DataError, read_json

IMAGE = "<|image_pad|>"  # placeholder of a vision token, in the Qwen-VL templates and in that of the tiny policy
VIDEO = "<|video_pad|>"  # placeholder of a video's vision token
START, STOP = "<|vision_start|>", "<|vision_end|>"  # around each picture or video
END = "<|im_end|>"

log = logging.getLogger(__name__)


class TokenizerError(ValueError):
    """A tokenizer that cannot be used; the message names its folder and the fault."""


@dataclasses.dataclass(frozen=True)
class Tokenizer:
    """A Hugging Face tokenizer with the ids that prompts and sampling need.

    Attributes:
      hf: the transformers tokenizer.
      pad, image, video: token ids; image and video are None for text-only tokenizers.
      end: id of the token that the chat template writes behind an answer; demonstrations end with it.
      ends: ids of all tokens that end a completion when they are sampled, `end` among them.
      size: number of token ids.
      banned: ids that the policy must never sample (special tokens other than the ends).
      template: the chat template.
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
    ends: tuple[int, ...] = ()
    template: str = ""

    def __post_init__(self):
        object.__setattr__(self, "ends", self.ends or (self.end,))

    def encode(self, text: str) -> list[int]:
        """Encodes text. Names of special tokens in it become their ids, and lone surrogates become "?".

        Raises TokenizerError if a regular expression of the tokenizer gives up on the text.
        """
        with _no_panic(self.where):
            return self.hf.encode(text.encode("utf-8", "replace").decode(), add_special_tokens=False)

    def decode(self, ids: Iterable[int]) -> str:
        """Decodes ids up to the first end token, without special tokens. Raises TokenizerError as `encode` does."""
        ids = list(map(int, ids))
        stop = next((i for i, token in enumerate(ids) if token in self.ends), len(ids))
        with _no_panic(self.where):
            return self.hf.decode(ids[:stop], skip_special_tokens=True, clean_up_tokenization_spaces=False)

    def render(self, messages: list[dict], add_generation_prompt: bool = True) -> str:
        """The chat by the template. Raises TokenizerError if the template fails, or takes too long."""
        try:
            return sandbox.render(self.template, messages, self.hf.special_tokens_map, add_generation_prompt)
        except sandbox.SandboxError as error:
            raise TokenizerError(f"{self.where}: its chat template fails: {error}") from error

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
    chat_template.json, else that of tokenizer_config.json. Of several named templates it is "default".

    Raises TokenizerError.
    """
    from transformers import AutoTokenizer

    path = Path(path)
    if not (path / "tokenizer.json").is_file():
        raise TokenizerError(f"{path}: no tokenizer.json; expected a folder as saved by a Hugging Face tokenizer")
    try:
        sandbox.try_tokenizer(path / "tokenizer.json")
    except sandbox.SandboxError as error:
        raise TokenizerError(
            f"{path / 'tokenizer.json'}: {error}; take the tokenizer files that were published with the checkpoint"
        ) from error
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
            hf.chat_template = _named(json.loads(legacy.read_text("utf-8"))["chat_template"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise TokenizerError(f'{legacy}: expected JSON with the key "chat_template" ({error!r})') from error
    try:
        listed = end_tokens.listed(*(_optional(path / name) for name in end_tokens.FILES))
    except ValueError as error:
        raise TokenizerError(f"{path}: {error}") from None
    return wrap(hf, path, listed)


def _optional(file: Path) -> dict:
    value = read_json(file) if file.is_file() else {}
    if not isinstance(value, dict):
        raise DataError(f"{file}: expected a JSON object, got {type(value).__name__}")
    return value


def _named(template: Any) -> Any:
    """{name: template} of a list of named templates; anything else as it is."""
    return {part["name"]: part["template"] for part in template} if isinstance(template, list) else template


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


def wrap(hf: Any, where: str | Path, listed: Sequence[int] = ()) -> Tokenizer:
    """Looks up the ids of a transformers tokenizer.

    Args:
      hf: the transformers tokenizer.
      where: its file or folder, for messages.
      listed: ids of the end tokens that generation_config.json or config.json lists.

    Raises TokenizerError if it has no chat template or no end token.
    """
    template = _template(hf.chat_template, where)
    known = hf.get_vocab()
    special, placeholders = _special(hf), {known[name] for name in (IMAGE, VIDEO) if name in known}
    ordinary = [i for i in listed if i not in special or i in placeholders]
    if ordinary:
        log.warning(
            "%s: eos_token_id %s in generation_config.json or config.json is no special token of the tokenizer, so it "
            "does not end completions; check that these files and tokenizer.json are of one checkpoint",
            where, ", ".join(map(str, ordinary)),
        )  # fmt: skip
    listed = [i for i in listed if i not in ordinary]
    try:
        end = end_tokens.of_template(template, hf, special - placeholders, {hf.eos_token_id, *listed})
    except sandbox.LimitError as error:
        raise TokenizerError(f"{where}: its chat template fails: {error}") from error
    candidates = (end, known.get(END), hf.eos_token_id, *listed)
    end = next((i for i in candidates if i is not None), None)
    if end is None:
        raise TokenizerError(f"{where}: neither {END} nor an eos token; a completion could never end")
    ends = {end, *listed} | ({hf.eos_token_id} - {None} - placeholders)
    pad = hf.pad_token_id if hf.pad_token_id is not None else end
    banned = tuple(sorted((special | placeholders) - ends))
    return Tokenizer(
        hf, pad, end, known.get(IMAGE), len(hf), banned, known.get(VIDEO), str(where), tuple(sorted(ends)), template
    )


def _template(template: Any, where: str | Path) -> str:
    if isinstance(template, dict):
        if not isinstance(template.get("default"), str):
            raise TokenizerError(
                f"{where}: expected a chat template with the name default, got those with the names "
                f"{', '.join(map(str, template))}; write the one that you want into chat_template.jinja"
            )
        template = template["default"]
    if not isinstance(template, str) or not template.strip():
        expected = "expected one in chat_template.jinja, chat_template.json or tokenizer_config.json"
        raise TokenizerError(f"{where}: no chat template; {expected}; take the files of an instruction-tuned model")
    return template


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
    with _no_panic(tokenizer.where):
        texts = [tokenizer.hf.decode([i]).strip() for i in range(tokenizer.size)]
    return np.array([re.fullmatch(pattern, text) is not None for text in texts])


def _special(hf) -> set[int]:
    return {*hf.all_special_ids, *(i for i, token in hf.added_tokens_decoder.items() if token.special)}


@contextlib.contextmanager
def _no_panic(where: str) -> Iterator[None]:
    """Turns the PanicException of the tokenizers library, which is no Exception, into a TokenizerError."""
    try:
        yield
    except Exception:
        raise
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise TokenizerError(
            f"{where}: the tokenizer gives up on a text ({error}): a regular expression in it takes exponential time; "
            "take the tokenizer files that were published with the checkpoint"
        ) from None
