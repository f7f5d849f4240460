"""Accuracy of visual question answering.

`soft_accuracy` is that of the VQA benchmark (Antol et al. 2015; vqaEval.py of GT-Vision-Lab/VQA), in which ten people
answered each question. Each of the ten is left out once, and

    accuracy = mean over the ten subsets of min(1, number of the other nine who gave this answer / 3)

Answers are compared after `normalise`, which does what the benchmark's code does. Its mistakes are repeated, because
they are in every published figure: if all ten people agree, nothing is normalised; at most 32 periods are removed; some
contractions are missing. `exact` is for data sets with one answer to a question. A failed sample (None) counts 0.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_PERIOD = re.compile(r"\.(?!\d)")  # a period that is not inside a number
_PERIODS = 32  # the benchmark's code passes re.UNICODE, which is 32, in place of the number of replacements
_THOUSANDS = re.compile(r"\d,\d")
_ARTICLES = ("a", "an", "the")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {word: str(value) for value, word in enumerate(NUMBERS)} | {"none": "0"}
# The contractions to which the benchmark's code adds a missing apostrophe. If a contraction has two apostrophes,
# exactly one may be missing.
_CONTRACTIONS = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've
    o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""


def _contraction_table() -> dict[str, str]:
    table = {}
    for right in _CONTRACTIONS.split():
        for i in [i for i, c in enumerate(right) if c == "'"]:
            table[right[:i] + right[i + 1 :]] = right
    return table | {"somebody'd": "somebodyd"}  # the benchmark's code has this pair the wrong way round


_CORRECTIONS = _contraction_table()


def normalise(answer: str) -> str:
    """An answer as the VQA benchmark compares it: lower case, no punctuation, no articles, small numbers as digits.

    A punctuation mark is removed if it stands next to a space anywhere in the answer, or if the answer has a number
    with a comma; otherwise it becomes a space.
    """
    answer = _one_line(answer)
    comma = _THOUSANDS.search(answer)
    text = answer
    for mark in _PUNCTUATION:
        loose = comma or f"{mark} " in answer or f" {mark}" in answer
        text = text.replace(mark, "" if loose else " ")
    text = _PERIOD.sub("", text, count=_PERIODS)
    words = [_DIGITS.get(word, word) for word in text.lower().split()]
    return " ".join(_CORRECTIONS.get(word, word) for word in words if word not in _ARTICLES)


def soft_accuracy(answer: str | None, people: Sequence[str]) -> float:
    """The VQA benchmark's accuracy of one answer, in [0, 1].

    Args:
      answer: any text; None for a failed sample, which counts 0.
      people: the annotators' answers, ten in that benchmark. With fewer than four the accuracy cannot reach 1: use
        `exact` if each question has one answer.

    Raises ValueError if `people` is empty.
    """
    if not people or isinstance(people, str):
        raise ValueError(f"expected a list of people's answers, got {people!r}")
    if answer is None:
        return 0.0
    answer, people = _one_line(answer), [_one_line(person) for person in people]
    if len(set(people)) > 1:
        answer, people = normalise(answer), [normalise(person) for person in people]
    return agreement(sum(person == answer for person in people), len(people))


def agreement(same: int, people: int) -> float:
    """The accuracy, in [0, 1], of an answer that `same` of `people` annotators gave."""
    # In `same` of the subsets, the person left out gave this answer; in the others not.
    return (same * min(1.0, (same - 1) / 3) + (people - same) * min(1.0, same / 3)) / people


def exact(answer: str | None, target: str) -> float:
    """1.0 if the answer equals the target after `normalise`, else 0.0."""
    return float(answer is not None and normalise(answer) == normalise(target))


def number(text: str) -> float | None:
    """Reads a number: digits with sign, point, thousands commas and percent sign, or a word from zero to ten.

    "1,000.5" -> 1000.5, "-3" -> -3.0, "two" -> 2.0, "45%" -> 45.0; None for any other text, such as "two dogs", "nan".
    """
    text = text.strip().lower().rstrip(".%").strip() if len(text) <= 64 else ""
    if text in _DIGITS:
        return float(_DIGITS[text])
    if not re.fullmatch(r"[+-]?(\d+|\d{1,3}(,\d{3})+)(\.\d+)?(e[+-]?\d{1,3})?|[+-]?\.\d+", text, re.ASCII):
        return None
    value = float(text.replace(",", ""))
    return value if math.isfinite(value) else None


def _one_line(answer: str) -> str:
    return answer.replace("\n", " ").replace("\t", " ").strip()
