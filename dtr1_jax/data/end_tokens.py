"""The tokens that end a completion, by the files of a checkpoint and by its chat template."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from dtr1_jax.data import sandbox

FILES = ("generation_config.json", "config.json")
_ANSWER = "yes4711"  # stands for an answer; no template writes it


def listed(generation: dict, config: dict) -> tuple[int, ...]:
    """The eos_token_id of generation_config.json, or of config.json where the former has none, as transformers reads.

    Raises ValueError if it is neither an id nor a list of ids.
    """
    text = config.get("text_config")
    for values in (generation, config, text if isinstance(text, dict) else {}):
        ids = values.get("eos_token_id")
        if ids is None:
            continue
        ids = ids if isinstance(ids, list) else [ids]
        if not all(type(i) is int and i >= 0 for i in ids):
            raise ValueError(f"eos_token_id: expected the id of a token or a list of ids, got {str(ids)[:80]}")
        if ids:
            return tuple(dict.fromkeys(ids))
    return ()


def of_template(template: str, hf: Any, special: Set[int], known: Set[int | None]) -> int | None:
    """The id of the special token that a chat template writes behind an answer; None if it writes none, or fails.

    Some templates write nothing behind the last answer. There it is the special token between an answer and the next
    turn of the user, if it is one of the `known` end tokens: it may as well be the first token of that turn.

    Args:
      template: the chat template.
      hf: the transformers tokenizer.
      special: ids of its special tokens.
      known: ids of end tokens that other files name.

    Raises sandbox.LimitError if the template takes too much time or memory.
    """
    question, answer = {"role": "user", "content": "x"}, {"role": "assistant", "content": _ANSWER}
    parts = answer | {"content": [{"type": "text", "text": _ANSWER}]}  # Some templates know no other form.
    for messages, allowed in (
        ([question, answer], special),
        ([question, answer, question], special & known),
        ([question | {"content": [{"type": "text", "text": "x"}]}, parts], special),
    ):
        try:
            chat = sandbox.render(template, messages, hf.special_tokens_map, add_generation_prompt=False)
        except sandbox.LimitError:
            raise
        except sandbox.SandboxError:
            continue
        _, found, tail = chat.rpartition(_ANSWER)
        ids = hf.encode(tail[:1000], add_special_tokens=False) if found else []
        first = next((i for i in ids if i in special), None)
        if first in allowed:
            return first
    return None
