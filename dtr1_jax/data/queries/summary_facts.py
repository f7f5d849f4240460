"""Reads the facts of a summary back out of its text, by the grammar of summaries.py.

The reader takes any text. It looks for the phrases of all wordings, so a text may mix them, and skips all other words.
It never raises, and its time grows linearly with the text.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

from dtr1_jax.data.queries.attributes import COLOURS, MATERIALS, SIZES
from dtr1_jax.data.queries.phrases import ADJECTIVES
from dtr1_jax.data.queries.questions import NUMBERS
from dtr1_jax.data.queries.summaries import ACTIONS, NEAREST_AND_FARTHEST, PLACES

MAX_WORDS = 400  # of a text; later ones are not read
_NAME_WORDS = 3  # of a label, at most
_ATTRIBUTES = {word: word for word in (*COLOURS, *SIZES, *MATERIALS)} | {new: old for old, new in ADJECTIVES.items()}
_ENDS = {*",:", "and", "that", "which", "is", "are", "in", "on", "at", "to", "near", "a", "an", "the"}


@dataclasses.dataclass(frozen=True)
class Mention:
    """One object of a summary.

    Attributes:
      label: its name.
      colour: its colour; "" if none is stated.
      details: size, material, and place or actions, such as {"small", "wood", "on: left"}.
    """

    label: str
    colour: str = ""
    details: frozenset[str] = frozenset()


@dataclasses.dataclass(frozen=True)
class SummaryFacts:
    """The facts of a summary.

    Attributes:
      mentions: the objects that are described.
      count: the stated number of objects; None if none is stated.
      nearest, farthest: the object that is said to be it, as far as the text names it; None if none is said to be.
    """

    mentions: tuple[Mention, ...] = ()
    count: int | None = None
    nearest: Mention | None = None
    farthest: Mention | None = None


def read_facts(text: str) -> SummaryFacts:
    """The facts that a summary states; SummaryFacts() if it states none."""
    words = re.findall(r"[a-z]+|[.,:]", text[: 20 * MAX_WORDS].lower())[:MAX_WORDS]
    mentions: list[Mention] = []
    count, extremes = None, {}
    for sentence in _sentences(words):
        found = [(i, *_phrase_at(sentence, i, _EXTREMES)) for i in range(len(sentence))]
        if any(size for *_, size in found):
            names = _names(sentence)
            for i, (end, comes_after), _ in (row for row in found if row[2]):
                sides = [m for k, m in names if (k > i if comes_after else k < i)]
                if sides:
                    extremes.setdefault(end, sides[0] if comes_after else sides[-1])
            continue
        count = _count(sentence) if count is None else count
        mentions += _mentions(sentence)
    return SummaryFacts(tuple(mentions), count, extremes.get("nearest"), extremes.get("farthest"))


def _sentences(words: Sequence[str]) -> list[list[str]]:
    sentences: list[list[str]] = [[]]
    for word in words:
        if word == ".":
            sentences.append([])
        else:
            sentences[-1].append(word)
    return sentences


def _count(sentence: Sequence[str]) -> int | None:
    """The stated number of things; 0 for "no such thing"."""
    for i, word in enumerate(sentence):
        if sentence[i : i + 3] == ["no", "such", "thing"]:
            return 0
        if word in NUMBERS and sentence[i + 1 : i + 2] in (["thing"], ["things"]):
            return NUMBERS.index(word)
    return None


def _names(sentence: Sequence[str]) -> list[tuple[int, Mention]]:
    """(place, object) for each object that the sentence names after an article."""
    names = [(i, _name_at(sentence, i + 1)) for i, word in enumerate(sentence) if word in ("a", "an", "the")]
    return [(i, Mention(label, *_split(words))) for i, (label, words, _) in names if label]


def _mentions(sentence: Sequence[str]) -> list[Mention]:
    """The objects that a sentence describes: each begins with "a" or "an" and ends where the next begins."""
    starts, i = [], 0
    while i < len(sentence):
        _, size = _phrase_at(sentence, i, _DETAILS)  # "for a while" names no object
        if not size and sentence[i] in ("a", "an") and _name_at(sentence, i + 1)[0]:
            starts.append(i)
        i += max(size, 1)
    mentions = []
    for start, end in zip(starts, [*starts[1:], len(sentence)]):
        label, words, i = _name_at(sentence, start + 1)
        details = []
        while i < end:
            detail, size = _phrase_at(sentence, i, _DETAILS)
            if size:
                details.append(detail)
            elif sentence[i] in _ATTRIBUTES:
                words.append(_ATTRIBUTES[sentence[i]])
            i += max(size, 1)
        colour, rest = _split(words)
        mentions.append(Mention(label, colour, rest | frozenset(details)))
    return mentions


def _name_at(sentence: Sequence[str], i: int) -> tuple[str, list[str], int]:
    """(label, attributes before it, place behind it) of the name at place i; the label is "" if there is none."""
    words, label = [], []
    while i < len(sentence) and sentence[i] in _ATTRIBUTES:
        words.append(_ATTRIBUTES[sentence[i]])
        i += 1
    while i < len(sentence) and len(label) < _NAME_WORDS and sentence[i] not in _ENDS:
        label.append(sentence[i])
        i += 1
    return " ".join(label), words, i


def _split(words: Sequence[str]) -> tuple[str, frozenset[str]]:
    """The colour ("" if there is none) and the other attributes. Two colours are no colour: nothing is both."""
    colours = {word for word in words if word in COLOURS}
    return colours.pop() if len(colours) == 1 else "", frozenset(words) - frozenset(COLOURS)


def _phrase_at(sentence: Sequence[str], i: int, phrases: Mapping[tuple[str, ...], object]) -> tuple:
    """(value, number of words) of the longest phrase at place i; (None, 0) if there is none."""
    for size in range(min(_LONGEST, len(sentence) - i) if sentence[i] in _FIRST_WORDS else 0, 0, -1):
        value = phrases.get(tuple(sentence[i : i + size]))
        if value is not None:
            return value, size
    return None, 0


def _words(phrase: str) -> tuple[str, ...]:
    return tuple(re.findall(r"[a-z]+|[.,:]", phrase))


_DETAILS = {_words(phrase): f"on: {name}" for name, phrases in PLACES.items() for phrase in phrases}
_DETAILS |= {_words(phrase): f"does: {name}" for name, phrases in ACTIONS.items() for phrase in phrases}
# phrase -> (nearest or farthest, whether the name of the object comes after the phrase)
_EXTREMES = {
    _words(phrase.format("").strip()): (end, phrase.endswith("{}"))
    for wording in NEAREST_AND_FARTHEST
    for end, phrase in zip(("nearest", "farthest"), wording)
}
_LONGEST = max(map(len, (*_DETAILS, *_EXTREMES)))
_FIRST_WORDS = {phrase[0] for phrase in (*_DETAILS, *_EXTREMES)}
