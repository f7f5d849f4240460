"""Where a text ends inside sampled tokens, as a table that the device can follow.

Tokens cut a tag such as "</construct>" in many ways, and one token may hold its end and more. A table of transitions
follows the characters of every token: from the number of characters that the text so far has matched to the number
after the token (Knuth, Morris, Pratt 1977).
"""

from __future__ import annotations

import functools

import numpy as np

from dtr1_jax.data.tokenizer import Tokenizer


@functools.lru_cache(maxsize=8)
def closing_table(tokenizer: Tokenizer, vocab: int, text: str) -> np.ndarray:
    """int8[vocab, K], the transitions of a text of K characters, K < 128.

    After a token that comes where k characters are matched, table[token, k] are matched; K = the text is complete, and
    what the token holds behind it does not matter. Tokens are read one by one, so in tokenizers that drop the blank of
    a single token (SentencePiece) "</construct >" counts as complete too. The caller reads the whole text again.
    """
    size, step = len(text), _steps(text)
    table = np.zeros((vocab, size), np.int8)
    for token in range(min(vocab, tokenizer.size)):
        characters = tokenizer.decode([token])
        if not characters:
            table[token] = np.arange(size)
            continue
        table[token] = _walk(characters, 0, step) if text[0] in characters else 0
        first = characters[0]
        for start in range(1, size):
            if step[start].get(first, 0) != step[0].get(first, 0):  # else the walk is the one from 0
                table[token, start] = _walk(characters, start, step)
    table.flags.writeable = False
    return table


def _walk(characters: str, matched: int, step: list[dict[str, int]]) -> int:
    """The number of matched characters after some more; a complete text stays complete."""
    for character in characters:
        if matched == len(step):
            break
        matched = step[matched].get(character, 0)
    return matched


def _steps(text: str) -> list[dict[str, int]]:
    """For each number of matched characters: character -> the number after it; 0 for characters that are missing."""

    def longest(seen: str) -> int:
        return next(k for k in range(min(len(seen), len(text)), -1, -1) if seen.endswith(text[:k]))

    return [{c: longest(text[:k] + c) for c in set(text)} for k in range(len(text))]
