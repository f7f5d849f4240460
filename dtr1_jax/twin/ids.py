"""Ids of objects in the text: a number, or a name that carries the label, such as "mug_1" for object 1, a mug.

A pretrained language model copies a name from the twin far more reliably than it looks up a number. In Python every id
is its number. A transcript has one form of ids: if the twin says "mug_1", the answer does too.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

_NAME = re.compile(r"(.+)_([1-9][0-9]{0,9})", re.DOTALL)
_BREAKS = re.compile(r"[\W_]+")
_STEPS = re.compile(r"(?<=\.) ")
_SEPARATORS = re.compile(r"[ ,:]")
_NUMBER = re.compile(r"\d+")
_LIST = re.compile(r"\d+(?:([ ,])\d+)+")
_IN_ORDER = ("left to right", "in order")  # steps whose ids do not ascend
_PRIVATE = 0xE000  # the first character of the private use area, which no thought has
_DIGITS = 10  # that a number may have


def slug(label: str) -> str:
    """The label as a name carries it: lower case, with "_" for all that is neither letter nor digit; never empty."""
    return _BREAKS.sub("_", label.casefold()).strip("_") or "object"


def name(number: int, label: str) -> str:
    """The name of an object: "wine_glass_3" for object 3 with the label "wine glass"."""
    return f"{slug(label)}_{number}"


@dataclasses.dataclass
class IdReader:
    """Reads the ids of one transcript, in whichever form the first of them has.

    Attributes:
      labels: number -> label of the twin's objects; None = not known, and then labels in names are not compared.
      named: the form of the ids read so far: True = names, False = numbers, None = there was no id yet.
    """

    labels: Mapping[int, str] | None = None
    named: bool | None = None

    def read(self, value: Any, most: int, label: str | None = None) -> tuple[int | None, str]:
        """Reads one id.

        Args:
          value: any decoded JSON value.
          most: the largest number that an id may have.
          label: the label of the object that has this id; None = the one that `labels` knows.

        Returns (its number, ""), or (its number or None, the fault as "expected ..., got" without the value). A number
        that no object has is no fault here.
        """
        number, words, is_name = None, "", isinstance(value, str)
        if type(value) is int:  # a bool is an int to isinstance
            number = value
        elif isinstance(value, str) and (match := _NAME.fullmatch(value)):
            words, number = match[1], int(match[2])
        if number is None or not 1 <= number <= most:
            example = 'a name such as "mug_1"' if self.named else f"an integer from 1 to {most}"
            return None, f"expected {example}"
        if self.named is not None and self.named != is_name:
            forms = ("a number", 'a name such as "mug_1"')
            return number, f"expected {forms[self.named]}, as the ids before it"
        self.named = is_name
        label = (self.labels or {}).get(number) if label is None else label
        if is_name and label is not None and slug(words) != slug(label):
            return number, f'expected the name "{name(number, label)[:80]}" of object {number}'
        return number, ""


def named_thought(thought: str, labels: Mapping[int, str]) -> str:
    """A thought of the generated queries with names in place of numbers: "cat 2. left of 2 is 1." becomes "cat_2. left
    of cat_2 is dog_1."

    A label directly before its number becomes a part of the name. The answer in "count: 2." keeps its number. A thought
    with a step of another form, or with a number that no object has, is returned unchanged.

    Args:
      thought: steps "words ids." (data/queries/chains.py).
      labels: number -> label of the twin's objects.
    """
    return (
        " ".join(steps) if None not in (steps := [_named_step(s, labels) for s in _STEPS.split(thought)]) else thought
    )


def renumbered_thought(thought: str, new: Mapping[int, int], labels: Iterable[str]) -> str | None:
    """A thought of the generated queries with other numbers; ids that ascended in a step ascend again.

    None if a step has numbers in another form, or a number that no object has.

    Args:
      thought: as in `named_thought`.
      new: number -> new number of each of the twin's objects.
      labels: of the twin's objects; the number in "formula 1 car" is none of an object.
    """
    known = set(labels)
    steps = [_renumbered_step(step, new, known) for step in _STEPS.split(thought)]
    return None if None in steps else " ".join(steps)


def _renumbered_step(step: str, new: Mapping[int, int], labels: Iterable[str]) -> str | None:
    step, signs = _without_labels(step, labels)
    found = _step_with(step, lambda number: str(new[number]), set(new))
    if found is not None and not step.startswith(_IN_ORDER):
        found = _LIST.sub(lambda ids: ids[1].join(map(str, sorted(map(int, _NUMBER.findall(ids[0]))))), found)
    return found and _with_labels(found, signs)


def _named_step(step: str, labels: Mapping[int, str]) -> str | None:
    """One step with names; None if it is not in the form of the generated thoughts."""
    step, signs = _without_labels(step, labels.values())
    named = _step_with(step, lambda number: name(number, labels[number]), set(labels))
    if named is None or named == step:
        return named and _with_labels(named, signs)
    numbers = {int(digits) for digits in _NUMBER.findall(step)}
    named = _with_labels(named, signs)
    for number in numbers:
        named = named.replace(f"{labels[number]} {name(number, labels[number])}", name(number, labels[number]))
    return named


def _without_labels(step: str, labels: Iterable[str]) -> tuple[str, dict[str, str]]:
    """(the step with a sign in place of each label that has a number in it, {sign: label}).

    A label stands at the start of a step, or after ":" or ",", and before its ids.
    """
    signs: dict[str, str] = {}
    for label in sorted({x for x in labels if x in step and any(c.isdecimal() for c in x)}, key=len, reverse=True):
        sign = chr(_PRIVATE + len(signs))
        step, count = re.subn(rf"(^|[:,] ){re.escape(label)}(?= \d| none)", rf"\g<1>{sign}", step)
        signs |= {sign: label} if count else {}
    return step, signs


def _with_labels(step: str, signs: Mapping[str, str]) -> str:
    return "".join(signs.get(character, character) for character in step)


def _step_with(step: str, written: Callable[[int], str], known: set[int]) -> str | None:
    """One step with each id as `written` writes it; None if it is not in the form of the generated thoughts.

    A step without numbers, and the answer of a count, stay as they are.
    """
    words = [word for word in _SEPARATORS.split(step.rstrip(".")) if word]
    if not any(c.isdecimal() for c in step) or words[0] == "count":
        return step
    numbers = {int(word) for word in words if word.isdecimal() and len(word) <= _DIGITS}
    is_form = all(len(w) <= _DIGITS if w.isdecimal() else not any(c.isdecimal() for c in w) for w in words)
    if not is_form or not numbers <= known or not (words[-1].isdecimal() or words[-1] == "none"):
        return None
    return _NUMBER.sub(lambda match: written(int(match[0])), step)
