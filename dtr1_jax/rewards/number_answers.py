"""The number that an answer states.

An answer states a number where it names one value, in digits of any script or in words, and claims it: "3", "−3",
"minus three", "There are twelve.", "a dozen", "no mugs" (0). It states none where

    it names several values         "2 or 3", "2-3", "between 2 and 3", "2 of 3"
    it denies the value             "not 2", "it isn't 2", "2 is wrong"
    it bounds the value             "less than 2", "2 or more", "at least 2", "2+", "almost 2"
    the value is vague or a part    "dozens", "a few", "2 and a half", "2/3"

An estimate states its number: "about 2", "roughly 2" and "I think 2" are 2.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
import unicodedata
from collections.abc import Iterator

from dtr1_jax.evaluation.benchmarks import vqa as benchmark
from dtr1_jax.rewards.text_metrics import CUT, clean

_LONGEST = 64  # digits of a number
_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen"
    " eighteen nineteen"
).split()
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_SMALL = (
    {word: float(value) for value, word in enumerate(_UNITS)}
    | {word: 10.0 * value for value, word in enumerate(_TENS, 2)}
    | {"fourty": 40.0, "nil": 0.0, "nought": 0.0, "naught": 0.0, "single": 1.0}
)
_LARGE = {"hundred": 1e2, "dozen": 12.0, "thousand": 1e3, "million": 1e6, "billion": 1e9}
# Words with which no single value is stated, wherever they stand.
_VAGUE = frozenset(
    "few several many some dozens hundreds thousands millions half halves quarter quarters thirds fourths fifths sixths"
    " sevenths eighths ninths tenths score scores".split()
)
_DENIALS = frozenset(
    "not never neither nor without cannot non except isnt arent dont doesnt wasnt werent cant doubt deny"
    " instead no".split()
)
_RIGHT = frozenset("right correct true answer number count it".split())
_WRONG = frozenset("wrong incorrect false untrue impossible".split())
# Words right before a number that bound it; "of", "to" and "the" may stand in between.
_BOUNDS = frozenset(
    "than least most under over above below beyond exceeds exceeding almost nearly barely minimum maximum upto upwards"
    " within max min past till until exceed".split()
)
_COMPARED = frozenset("< > \u2264 \u2265 \u2260 \u00b1 / or".split())
_BETWEEN = frozenset("of to the a an equal".split())
# Words behind a number that bound it.
_BOUNDS_AFTER = frozenset("minimum maximum least most upwards tops plus max min ish up above over more".split())
_NO_AMOUNT = frozenset("idea clue answer information way doubt question problem need longer more less fewer".split())
_CERTAIN = re.compile(r"\b(?:no|without(?: an?y?)?) doubts?\b", re.IGNORECASE)
_TOKEN = re.compile(r"\d+(?:,\d+)*(?:\.\d+)*(?:e[+-]?\d+(?!\w))?|\.\d+|[^\W\d_]+(?:'[^\W\d_]+)?|\S")
_DIGITS = re.compile(r"(?:\d+|\d{1,3}(?:,\d{3})+)?(?:\.\d+)?(?:e[+-]?\d{1,3})?")


@dataclasses.dataclass(frozen=True)
class _Token:
    """A word, number or mark: its text, its value if it is a number, and whether white space is before and after it."""

    text: str
    loose_before: bool
    loose_after: bool


def the_number(text: str) -> float | None:
    """The number that a text states, see above; None where it states none or more than one value."""
    tokens = _tokens(_CERTAIN.sub(" ", text))
    if any(token.text in _VAGUE or _is_part(token.text) for token in tokens) and not _is_half_dozen(tokens):
        return None
    values = set()
    pronouns = set()
    for value, start, end in _numbers(tokens):
        loose_minus = start == 1 and tokens[0].text == "-"  # "- 3": a list or a minus
        if value is None or loose_minus:
            return None
        if _is_denied(tokens, start, end):
            continue
        if _is_bounded(tokens, start, end):
            return None
        if value == 1 and tokens[start].text == "one" and start and tokens[start - 1].text in _POINTERS:
            pronouns.add(value)  # "the one on the left is 3"
        else:
            values.add(value)
        if len(values) > 1:
            return None
    values = values or pronouns
    return values.pop() if len(values) == 1 else None


_POINTERS = frozenset("the this that each every another any which".split())


def is_number(text: str) -> bool:
    """Whether a text is a number and nothing else, such as "12", "-3.5", "twelve", "two hundred", "none"."""
    if benchmark.number(text) is not None:
        return True
    tokens = [token for token in _tokens(text) if token.text not in (".", "%")]
    rest = [token.text for token in tokens if token.text not in ("a", "and", "-", "+", "minus", "negative")]
    spans = [(end - start) for value, start, end in _numbers(tokens) if value is not None]
    return bool(rest) and len(spans) == 1 and the_number(text) is not None and all(map(_is_amount, rest))


def _is_amount(word: str) -> bool:
    return word[0].isdigit() or word[0] == "." or word in _SMALL or word in _LARGE or word == "none"


def _tokens(text: str) -> list[_Token]:
    """The words, numbers and marks of a text in lower case, with digits of all scripts as 0 to 9."""
    # Digits come first, because `clean` puts blanks around the letters and digits of scripts without blanks.
    text = clean("".join(_ASCII.get(c) or str(unicodedata.decimal(c, c)) for c in text[:CUT])).lower()
    return [
        _Token(
            match[0],
            not match.start() or text[match.start() - 1].isspace(),
            text[match.end() : match.end() + 1].isspace(),
        )
        for match in _TOKEN.finditer(text)
    ]


# Minus signs, decimal and thousands separators, and apostrophes of other scripts.
_ASCII = (
    dict.fromkeys("\u2212\uff0d\ufe63\u207b", " minus ")
    | dict.fromkeys("\u066b\uff0e", ".")
    | dict.fromkeys("\u066c\uff0c", ",")
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014", "-")
    | {"\u2019": "'", "\uff0b": "+", "\uff05": "%"}
)


def _is_part(word: str) -> bool:
    """Whether a token is a fraction or a raised number, such as "½" or "²"."""
    return len(word) == 1 and not word.isdigit() and unicodedata.category(word) == "No"


def _is_half_dozen(tokens: list[_Token]) -> bool:
    words = [token.text for token in tokens]
    return "half" in words and "dozen" in words and words[words.index("half") :][:3] in (["half", "a", "dozen"],)


def _numbers(tokens: list[_Token]) -> Iterator[tuple[float | None, int, int]]:
    """(value, first token, token behind the last) of each number; None for a number that cannot be read.

    Only a whole number of a phrase is one: "two hundred and five" is 205, and neither 2 nor 5.
    """
    place = 0
    while place < len(tokens):
        value, end = _read(tokens, place)
        if end == place:
            place += 1
            continue
        sign = place
        if place and tokens[place - 1].text in ("minus", "negative"):
            sign, value = place - 1, None if value is None else -value
        elif place and tokens[place - 1].text in "+-" and _is_sign(tokens, place - 1):
            sign = place - 1
            value = -value if value is not None and tokens[sign].text == "-" else value
        yield value, sign, end
        place = end


def _is_sign(tokens: list[_Token], place: int) -> bool:
    """Whether a plus or minus belongs to the number behind it: it touches it, and touches nothing before."""
    before = not place or tokens[place].loose_before or tokens[place - 1].text in "([{:=$,"
    return before and not tokens[place].loose_after


def _read(tokens: list[_Token], place: int) -> tuple[float | None, int]:
    """The number that begins at a token, and the token behind it; (None, place) where none begins."""
    word = tokens[place].text
    if word[0].isdigit() or (word[0] == "." and len(word) > 1):
        return _in_digits(tokens, place)
    if word in ("none", "nobody", "nothing"):
        return 0.0, place + 1
    if word in ("no", "not", "cannot") or word.endswith("n't"):
        return _nothing(tokens, place)
    if word == "half" and _is_half_dozen(tokens):
        return 6.0, place + 3
    if word in _SMALL or word in _LARGE:
        return _in_words(tokens, place, None)
    return None, place


def _in_digits(tokens: list[_Token], place: int) -> tuple[float | None, int]:
    """A number in digits, and a word such as "hundred" behind it; a number that touches a word is none."""
    token = tokens[place]
    glued_before = (
        place and not token.loose_before and (tokens[place - 1].text[-1].isalnum() or tokens[place - 1].text in "._")
    )
    behind = tokens[place + 1] if place + 1 < len(tokens) else None
    glued_after = behind and not token.loose_after and (behind.text[0].isalnum() or behind.text[0] == "_")
    if glued_before or glued_after:
        # A name such as "x3" or "2nd" states no number, but does not spoil another one.
        return (None, place) if not (behind and behind.text == "ish") else (None, place + 1)
    if len(token.text) > _LONGEST or not _DIGITS.fullmatch(token.text):
        return None, place + 1
    value = float(token.text.replace(",", ""))
    if not math.isfinite(value):
        return None, place + 1
    if behind and behind.text in _LARGE:
        return _in_words(tokens, place + 1, value)
    return value, place + 1


def _in_words(tokens: list[_Token], place: int, first: float | None) -> tuple[float | None, int]:
    """A number in words: "twenty-two", "a hundred", "two thousand and five", and 3 million with `first` = 3."""
    total, part, place_of_last = 0.0, first, place
    step = math.inf if first is None else 0.0  # only smaller numbers may follow: "twenty two", but not "two twenty"
    scale = math.inf  # of the last "thousand" or "million"
    while place < len(tokens):
        word, after = tokens[place].text, tokens[place + 1].text if place + 1 < len(tokens) else ""
        if word == "-" and not tokens[place].loose_before and not tokens[place].loose_after:
            joins = 0 < _SMALL.get(after, 0.0) < step or after in _LARGE
        else:
            joins = word == "and" and step in (100.0, 1000.0) and 0 < _SMALL.get(after, 0.0)
        if joins and place > place_of_last:
            place += 1
            continue
        if word in _SMALL and _SMALL[word] < step and not (part and not _SMALL[word]):
            part = (part or 0.0) + _SMALL[word]
            step = 10.0 if _SMALL[word] >= 20 else 0.0
        elif word == "dozen":
            return total + (1.0 if part is None else part) * _LARGE[word], place + 1
        elif word in _LARGE and _LARGE[word] < scale and (part is None or part < _LARGE[word]):
            part, step = (1.0 if part is None else part) * _LARGE[word], min(_LARGE[word], 1000.0)
            if _LARGE[word] > 100:
                total, part, scale = total + part, None, _LARGE[word]
        else:
            break
        place += 1
    return total + (part or 0.0), place


def _nothing(tokens: list[_Token], place: int) -> tuple[float | None, int]:
    """0 for "no mugs", "no one", "do not see any", "isn't a single"; no number for "no," and "not 2"."""
    words = [token.text for token in tokens[place : place + 6]]
    if words[0] == "no":
        noun = words[1] if len(words) > 1 else ""
        empty = noun == "one" or (noun.isalpha() and not _is_amount(noun) and noun not in _NO_AMOUNT)
        return (0.0, place + 2) if empty else (None, place)
    if words[1:3] == ["a", "single"]:
        return 0.0, place + 3
    ahead = next((i for i, word in enumerate(words) if word == "any" or word in _STOPS), 0)
    if ahead and words[ahead] == "any" and words[ahead + 1 : ahead + 2] not in ([w] for w in _NO_AMOUNT):
        return 0.0, place + ahead + 1
    return None, place


def _is_denied(tokens: list[_Token], start: int, end: int) -> bool:
    """Whether the sentence denies the number: "not 2", "I do not think there are 2", "2 is wrong"."""
    for place in reversed(range(start)):
        token = tokens[place]
        if token.text in _STOPS or _states_number(token.text):
            break
        if token.text == "but":
            # "any number but 2" leaves 2 out; "not 3 but 2" and "hard to see, but 2" state it.
            before = itertools.takewhile(lambda token: token.text not in _STOPS, reversed(tokens[:place]))
            words = [token.text for token in before]
            return bool(words) and not any(map(_denies, words))
        if _denies(token.text):
            return True
    if [token.text for token in tokens[end : end + 2]] in (["?", "no"], ["?", "nope"], ["?", "not"]):
        return True
    for place, token in enumerate(tokens[end:], end):
        if token.text in ".;!" or _states_number(token.text):
            break
        negated = any(word.text == "not" or word.text.endswith("n't") for word in tokens[max(place - 2, end) : place])
        if (token.text in _WRONG and not negated) or (token.text in _RIGHT and negated):
            return True
    return False


_STOPS = frozenset(".,;:!?()")


def _denies(word: str) -> bool:
    return word in _DENIALS or word.endswith("n't")


def _states_number(word: str) -> bool:
    return word[0].isdigit() or (word in _SMALL and word != "one")


def _is_bounded(tokens: list[_Token], start: int, end: int) -> bool:
    """Whether the number is only a bound or one of several: "less than 2", "2 or more", "2+", "< 2"."""
    place = start - 1
    while place >= 0 and tokens[place].text in _BETWEEN:
        place -= 1
    before = tokens[place].text if place >= 0 else ""
    if before in _BOUNDS or before in _COMPARED or (before == "=" and place and tokens[place - 1].text in "!<>"):
        return True
    if place >= 1 and (tokens[place - 1].text, before) in (("up", "to"), ("as", "many"), ("as", "few")):
        return True
    words = [token.text for token in tokens[max(start - 3, 0) : start]]
    if words[-2:] == ["up", "to"] or words[-2:] in (["many", "as"], ["few", "as"]):
        return True
    behind = [token.text for token in tokens[end : end + 4]]
    if not behind:
        return False
    if behind[0] in _COMPARED:
        return True
    if behind[0] == "+" and not (len(behind) > 1 and _states_number(behind[1])):
        return True
    for word in (behind[0], behind[1] if behind[0] in ("and", "at", "as", "or") and len(behind) > 1 else ""):
        if word in _BOUNDS_AFTER:
            return not (word in ("over", "above", "up") and len(behind) > 2 and behind[0] not in ("and", "or"))
    return any(pair in (("at", "least"), ("at", "most")) for pair in itertools.pairwise(behind))
