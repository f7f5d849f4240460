"""Words of a caption, their n-grams, and the longest common subsequence of two lists of words.

COCO's caption evaluation splits text by Stanford's PTBTokenizer (CoreNLP 3.4.1, Java) and drops punctuation.
`ptb_words` restates in Python what that does to captions, and agrees with it on the cases of the test, which were
computed by running it. It does not know the longer lists of abbreviations, nor e-mail and web addresses.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Sequence

# Ends of words that are words of their own, and words that are two.
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
    r"|\w+(?:[-'/]\w+)*\.?"  # well-known, o'clock; a period that stays is looked at below
    r"|[^\w\s]"
)


def ptb_words(text: str) -> list[str]:
    """Words of `text` as COCO's caption evaluation sees them: lower case, clitics apart, without punctuation.

    "A man's dog isn't here." -> [a, man, 's, dog, is, n't, here]. Brackets stay, as -lrb- and so on: COCO's list of
    what to drop has them in upper case, which never matches the lower-cased words.
    """
    text = _CLITIC.sub(r" \1 ", text.lower().replace("\u2019", "'"))
    found = []
    for token in _TOKEN.findall(text):
        if token[0] in _BRACKET:
            found.append(_BRACKET[token])
        elif not any(c.isalnum() for c in token):
            if token not in _DROPPED:
                found.append(token)
        else:
            abbreviation = token in _KEEP_PERIOD or token.count(".") > 1 or not token.endswith(".")
            token = token if abbreviation else token[:-1]
            found += _TWO.get(token, (token,))
    return found


def ngrams(words: Sequence[str], most: int = 4) -> collections.Counter:
    """How often each run of 1 to `most` words occurs: tuple of words -> count."""
    return collections.Counter(tuple(words[i : i + n]) for n in range(1, most + 1) for i in range(len(words) - n + 1))


def lcs(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, in words.

    Bit-parallel (Hyyro 2004, "Bit-parallel LCS-length computation revisited"): one word of `b` costs a few operations
    on an integer of len(a) bits, so that texts of many thousand words do not hang.
    """
    if len(a) > len(b):
        a, b = b, a
    places: dict[str, int] = collections.defaultdict(int)
    for i, word in enumerate(a):
        places[word] |= 1 << i
    full = (1 << len(a)) - 1
    row = full  # a 0 at bit i: the subsequence grows by one at a[i]
    for word in b:
        common = row & places.get(word, 0)
        row = ((row + common) | (row - common)) & full
    return len(a) - row.bit_count()
