"""Accuracy of visual question answering.

`soft_accuracy` is the VQA benchmark's (Antol et al. 2015; vqaEval.py of GT-Vision-Lab/VQA): each question has the
answers of ten people. Leaving out one of them at a time,

    accuracy = mean over the ten subsets of min(1, people of the other nine who gave this answer / 3)

after `normalise`, which restates what that code does, its slips included, since they are in every published figure:
where all ten agree, nothing is normalised; at most 32 periods are taken out; some contractions are not known.
`exact` and `numeric` are for data sets with one answer to a question. A failed sample (None) counts 0 and stays in the
denominator of `accuracy`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_PERIOD = re.compile(r"\.(?!\d)")  # one that is not inside a number
_PERIODS = 32  # the code passes re.UNICODE, which is 32, where the number of replacements belongs
_THOUSANDS = re.compile(r"\d,\d")
_ARTICLES = ("a", "an", "the")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_DIGITS = {word: str(value) for value, word in enumerate(NUMBERS)} | {"none": "0"}
# The contractions that it mends when an apostrophe is missing. Of those with two apostrophes it knows the forms that
# lack exactly one.
_CONTRACTIONS = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've
    he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've
    o'clock oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's
    someone'd someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've
    there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's
    what've when's where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've
    wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""


def _mended() -> dict[str, str]:
    table = {}
    for right in _CONTRACTIONS.split():
        for i in [i for i, c in enumerate(right) if c == "'"]:
            table[right[:i] + right[i + 1 :]] = right
    return table | {"somebody'd": "somebodyd"}  # the wrong way round in the code


_MENDED = _mended()


def normalise(answer: str) -> str:
    """An answer as the VQA benchmark compares it: lower case, no punctuation, no articles, small numbers as digits.

    A punctuation mark is taken out where it, anywhere in the answer, stands next to a space, or where the answer has a
    number with a comma; otherwise it becomes a space.
    """
    answer = answer.replace("\n", " ").replace("\t", " ").strip()
    comma = _THOUSANDS.search(answer)
    text = answer
    for mark in _PUNCTUATION:
        loose = comma or f"{mark} " in answer or f" {mark}" in answer
        text = text.replace(mark, "" if loose else " ")
    text = _PERIOD.sub("", text, count=_PERIODS)
    words = [_DIGITS.get(word, word) for word in text.lower().split()]
    return " ".join(_MENDED.get(word, word) for word in words if word not in _ARTICLES)


def soft_accuracy(answer: str | None, people: Sequence[str]) -> float:
    """The VQA benchmark's accuracy of one answer, in [0, 1].

    Args:
      answer: any text; None where there is no answer to judge (counts 0).
      people: the answers of the annotators, ten in that benchmark. Fewer than four can not give an accuracy of 1: use
        `exact` where each question has a single answer.

    Raises ValueError where `people` is empty.
    """
    if not people or isinstance(people, str):
        raise ValueError(f"expected a list of people's answers, got {people!r}")
    if answer is None:
        return 0.0
    answer, people = _flat(answer), [_flat(other) for other in people]
    if len(set(people)) > 1:
        answer, people = normalise(answer), [normalise(other) for other in people]
    return agreement(sum(other == answer for other in people), len(people))


def agreement(same: int, people: int) -> float:
    """The accuracy of an answer that `same` of so many people gave, in [0, 1]."""
    # Of the subsets, `same` lack one who gave this answer, and the rest lack none.
    return (same * min(1.0, (same - 1) / 3) + (people - same) * min(1.0, same / 3)) / people


def exact(answer: str | None, target: str) -> float:
    """1.0 where the answer is the target after `normalise`, else 0.0."""
    return float(answer is not None and normalise(answer) == normalise(target))


def numeric(answer: str | None, target: float, tolerance: float = 0.0) -> float:
    """1.0 where the answer is a number within `tolerance` of the target, else 0.0.

    `tolerance` is a share of the target's size: 0.05 is the relaxed accuracy of PlotQA and ChartQA (Masry et al. 2022).
    Raises ValueError where the target is not finite or the tolerance is below 0.
    """
    if not math.isfinite(target) or not tolerance >= 0:
        raise ValueError(f"expected a finite target and a tolerance of at least 0, got {target} and {tolerance}")
    value = None if answer is None else number(answer)
    # A little more than the tolerance, so that 95 is within 0.05 of 100 whatever the rounding.
    return float(value is not None and abs(value - target) <= tolerance * abs(target) * (1 + 1e-9))


def number(text: str) -> float | None:
    """The number that a text is: digits with sign, point, thousands commas and percent sign, or a word up to ten.

    "1,000.5" -> 1000.5, "-3" -> -3.0, "two" -> 2.0, "45%" -> 45.0; None for all else, such as "two dogs" or "nan".
    """
    text = text.strip().lower().rstrip(".%").strip() if len(text) <= 64 else ""
    if text in _DIGITS:
        return float(_DIGITS[text])
    if not re.fullmatch(r"[+-]?(\d+|\d{1,3}(,\d{3})+)(\.\d+)?(e[+-]?\d{1,3})?|[+-]?\.\d+", text, re.ASCII):
        return None
    value = float(text.replace(",", ""))
    return value if math.isfinite(value) else None


def accuracy(scores: Sequence[float]) -> float:
    """Mean of the samples' scores, in [0, 1]. Raises ValueError where there are none."""
    if len(scores) == 0:
        raise ValueError("no samples to measure; expected at least one")
    return float(sum(scores) / len(scores))


def _flat(answer: str) -> str:
    return answer.replace("\n", " ").replace("\t", " ").strip()
