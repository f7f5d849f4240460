"""The choice that an answer names, by its letter, by its words, or by both where they agree.

"B", "**B**", "(b)", "B. the dog", "the answer is B", "I think it's the dog" name choice B, "the dog". Nothing is named
by two letters ("A or B"), by a letter with the words of another choice or of none ("B) a fish"), and by a choice that
is denied ("not B", "B is wrong").
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from dtr1_jax.rewards.open_answers import answer_words, core, plain

# "B", "(b)", "B.", "b) the cat", "B: the cat", "B - the cat"; not "A cat".
_LETTER = re.compile(r"[(\[{<]?([A-Za-z])(?:[)\]}>]|\s*[.:,;/]|\s+[-\u2013\u2014]+\s|\s*$)[)\].:,\s-]*(.*)", re.DOTALL)
# "the answer is B", "option (b)"; not "the answer is a cat".
_ANSWER_IS = re.compile(
    r"\b(?i:answer|option|choice|letter|choose|chose|pick|select|go with|going with)\s*(?i:is|would be|must be|:|=)?\s*"
    r"(?i:option|choice|letter)?\s*[(\[{]?([A-Z](?![\w'])|[a-z](?![\w'])(?!\s+\w))[)\]}]?"
    r"|^[(\[]?([B-HJ-Z])[)\]]? (?=(?:is|would be) (?:the )?(?:correct|right|best|answer|final)\b)"
)
_MARKED = re.compile(r"[(\[{<]?[A-Za-z]\s*[)\]}>.:,;]")  # a letter with a mark behind it is no article
_OTHER_LETTER = re.compile(r"(?:(?:and|or|&|/|,)\s*)?[(\[{]?[A-Z](?:[)\].,]|\s*$|\s+(?:and|or)\b|\s*,)")
_REASON = frozenset(
    "because since as due for it its this that these those which there here the so i we given based reason reasoning"
    " explanation correct right is final".split()
)
_DENIED = re.compile(
    r"\b(?:not|never|isn't|aren't|wasn't|cannot|can't|don't|doesn't|neither|nor|wrong|incorrect|false|except|unlikely"
    r"|instead)\b"
)


def choice_index(text: str, choices: Sequence[str] = ()) -> int | None:
    """Index of the choice that a text names, see above; None if it names none. Without `choices` any letter is one."""
    text = unicodedata.normalize("NFKC", plain(text))
    same = [i for i, c in enumerate(choices) if unicodedata.normalize("NFKC", plain(c)).lower() == text.lower()]
    if len(same) == 1 and len(text) > 1:  # "a dog" beside "the dog"; a single character may be a letter
        return same[0]
    words_of = [answer_words(choice) for choice in choices]
    marked = _MARKED.match(text) and not same
    for form in () if marked else (text, core(text)):
        words = answer_words(form)
        same = [i for i, choice in enumerate(words_of) if choice == words]
        if words and len(same) == 1:
            return same[0]
    letters = {(letter[1] or letter[2]).lower() for letter in _ANSWER_IS.finditer(text)}
    if len(letters) > 1:
        return None
    for form in dict.fromkeys((text, core(text))):
        letter = _LETTER.match(form)
        if letter:
            index = _index(letter[1], len(choices))
            return index if index is not None and _agrees(letter[2], index, words_of) else None
    if letters:
        index = _index(letters.pop(), len(choices))
        rest = text[[*_ANSWER_IS.finditer(text)][-1].end() :]
        if _DENIED.search(re.split(r"[.,;]", rest)[0].lower()):
            return None
        return index if index is not None and _agrees(rest.lstrip(" .:,)-"), index, words_of) else None
    return _by_words(text, words_of)


def _index(letter: str, choices: int) -> int | None:
    index = ord(letter.lower()) - ord("a")
    return index if index < (choices or 26) else None


def _agrees(rest: str, index: int, words_of: Sequence[list[str]]) -> bool:
    """Whether the text behind a letter fits it: nothing, the words of its choice, or a reason without other choices."""
    if not rest.strip(" .!?,;:"):
        return True
    if _OTHER_LETTER.match(rest):
        return False
    words = answer_words(rest)
    if not words_of:
        return words[:1] not in (["or"], ["and"], ["not"])
    own = words_of[index]
    others = [choice for choice in words_of if choice != own and _has(words, choice) and not _has(own, choice)]
    denied = _DENIED.search(rest.lower())
    if own and _has(words, own):
        # "the dog, not the cat" names the dog, "the dog or the cat" both, and "not the dog" neither.
        before = rest.lower()[: max(rest.lower().find(own[0]), 0)]
        return not _DENIED.search(before) and (not others or bool(denied))
    if others:
        return False
    return bool(set(words) <= set(own)) or rest.split()[0].lower().strip(",.:") in _REASON


def _by_words(text: str, words_of: Sequence[list[str]]) -> int | None:
    """The only choice whose words stand in a text that denies nothing; a choice inside another one does not count."""
    if _DENIED.search(text.lower()):
        return None
    words = answer_words(text)
    there = [i for i, choice in enumerate(words_of) if choice and _has(words, choice)]
    largest = [
        i
        for i in there
        if not any(j != i and len(words_of[j]) > len(words_of[i]) and _has(words_of[j], words_of[i]) for j in there)
    ]
    if len(largest) != 1:
        return None
    # "B cat" contradicts itself where B is another choice; "a" and "I" are words.
    letter = words[0] if words and len(words[0]) == 1 and words[0].isalpha() and words[0] not in "ai" else ""
    index = _index(letter, len(words_of)) if letter.isascii() and letter else None
    return largest[0] if index in (None, largest[0]) else None


def _has(words: Sequence[str], part: Sequence[str]) -> bool:
    """Whether `part` stands in `words` as it is, in one piece."""
    return bool(part) and any(list(words[i : i + len(part)]) == list(part) for i in range(len(words) - len(part) + 1))
