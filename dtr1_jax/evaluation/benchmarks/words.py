"""The words of a caption, their n-grams, and the longest common subsequence of two lists of words.

COCO's caption evaluation splits text by Stanford's PTBTokenizer (CoreNLP 3.4.1, Java) and drops punctuation.
`ptb_words` does the same for captions, in Python. Its tests compare it with stored results of the tokenizer itself. It
does not have the tokenizer's longer lists of abbreviations, nor its rules for e-mail and web addresses.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Sequence

# Endings that are split off as words of their own, and words that are split into two.
_CLITIC = re.compile(r"(?<=\w)(n't|'(?:s|m|d|re|ve|ll))(?!\w)")
_TWO = {"cannot": ("can", "not"), "gonna": ("gon", "na"), "gotta": ("got", "ta"), "wanna": ("wan", "na"),
        "gimme": ("gim", "me"), "lemme": ("lem", "me")}  # fmt: skip
_KEEP_PERIOD = {"mr.", "mrs.", "ms.", "dr.", "st.", "jr.", "sr.", "vs.", "etc.", "no.", "inc.", "ltd.", "co."}
_DROPPED = set("'`\".?!,:;-\u2026\u2013\u2014\u2018\u201c\u201d")
_BRACKET = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_TOKEN = re.compile(
    r"(?:[^\W\d_]\.){2,}"  # u.s.a. and e.g.
    r"|n't|'(?:s|m|d|re|ve|ll)(?!\w)|'\d\ds?(?!\w)|#\w+"  # clitics, '90s, #fun
    r"|\d+(?:[.,:/]\d+)+"  # 3.5 and 1,000 and 10:30
    r"|\w+(?:[-'/]\w+)*\.?"  # well-known, o'clock; ptb_words decides whether the period stays
    r"|[^\w\s]"
)


def ptb_words(text: str) -> list[str]:
    """Splits a text into words as COCO's caption evaluation does: lower case, clitics split off, no punctuation.

    "A man's dog isn't here." -> [a, man, 's, dog, is, n't, here]. Brackets stay, as -lrb- and so on, because COCO's
    list of punctuation has them in upper case and is compared with words in lower case.
    """
    text = _CLITIC.sub(r" \1 ", text.lower().replace("\u2019", "'"))
    words = []
    for token in _TOKEN.findall(text):
        if token[0] in _BRACKET:
            words.append(_BRACKET[token])
        elif not any(c.isalnum() for c in token):
            if token not in _DROPPED:
                words.append(token)
        else:
            keeps_period = token in _KEEP_PERIOD or token.count(".") > 1 or not token.endswith(".")
            token = token if keeps_period else token[:-1]
            words += _TWO.get(token, (token,))
    return words


def ngrams(words: Sequence[str], order: int = 4) -> collections.Counter[tuple[str, ...]]:
    """Counts the n-grams of 1 to `order` words: tuple of words -> number of times it occurs."""
    return collections.Counter(tuple(words[i : i + n]) for n in range(1, order + 1) for i in range(len(words) - n + 1))


def lcs(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, in words.

    The method is bit-parallel (Hyyro 2004, "Bit-parallel LCS-length computation revisited"): each word of `b` costs a
    few operations on an integer of len(a) bits, so that texts of many thousand words take little time.
    """
    if len(a) > len(b):
        a, b = b, a
    positions: dict[str, int] = collections.defaultdict(int)
    for i, word in enumerate(a):
        positions[word] |= 1 << i
    full = (1 << len(a)) - 1
    row = full  # bit i is 0 if the subsequence grows by one word at a[i]
    for word in b:
        common = row & positions.get(word, 0)
        row = ((row + common) | (row - common)) & full
    return len(a) - row.bit_count()
