"""The words of a caption, their n-grams, and the longest common subsequence of two lists of words.

COCO's caption evaluation splits text by Stanford's PTBTokenizer (CoreNLP 3.4.1, Java) and drops punctuation.
`ptb_words` does the same in Python, by the rules of ptb_rules.py. Its tests compare it with stored results of the
tokenizer itself.
"""

from __future__ import annotations

import collections
import functools
import re
from collections.abc import Sequence

from dtr1_jax.evaluation.benchmarks.ptb_rules import ABBREVIATION, WINDOW, rules_of

# What COCO's code drops. Its brackets are in upper case and the words in lower case, so brackets stay.
_DROPPED = frozenset(("''", "'", "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"))
# Short cuts for most of a text: blanks and loose commas, and plain words before a blank, no rule but theirs can match.
_LOOSE = re.compile(r" +|[,;:](?=[ \n])|\.(?=\n)")
_PLAIN = re.compile(r"""[a-zA-Z]+(?=[,;:!?)"]?[ \n])|[a-zA-Z]{2,}(?=\.[ \n])""")
_SPLIT = frozenset(("cannot", "gonna", "gotta", "lemme", "gimme", "wanna"))
# The text behind a caption is the next line of the tokenizer's file.
_NEXT_LINE = "\nx"


def ptb_words(text: str) -> list[str]:
    """Splits a text into words as COCO's caption evaluation does: lower case, clitics split off, no punctuation.

    "A man's dog isn't here." -> [a, man, 's, dog, is, n't, here]. Brackets stay, as -lrb- and so on, because COCO's
    list of punctuation has them in upper case and is compared with words in lower case.
    """
    text = " ".join(text.splitlines()) + _NEXT_LINE
    words, place, end = [], 0, len(text) - len(_NEXT_LINE)
    while place < end:
        loose, plain = _LOOSE.match(text, place), _PLAIN.match(text, place)
        if loose:
            place = loose.end()
        elif plain and _is_plain(plain[0], text[plain.end()]):
            words.append(plain[0])
            place = plain.end()
        else:
            word, used = _longest(text, place)
            words += [word] if word else []
            place += used
    return [word for word in map(str.lower, words) if word not in _DROPPED]


@functools.lru_cache(1 << 14)
def _is_plain(word: str, mark: str) -> bool:
    """Whether a word of letters before `mark` is neither split into two nor an abbreviation."""
    return word.lower() not in _SPLIT and (mark != "." or not ABBREVIATION.fullmatch(word))


def _longest(text: str, place: int) -> tuple[str, int]:
    """The word at a place by the rule that reaches farthest, and how many characters it uses up."""
    best, farthest, end = ("", 1), place, place + WINDOW
    for rule in rules_of(text[place]):
        if rule.needs and text.find(rule.needs, place, end) < 0:
            continue
        match = rule.pattern.match(text, place, end)
        if match:
            reach = match.end("before") if "before" in rule.pattern.groupindex else match.end()
            if reach > farthest:
                best, farthest = rule.words(match["word"]), reach
    return best


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
