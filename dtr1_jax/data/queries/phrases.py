"""The phrases from which queries are built, for each split; uses.py has the phrases for the uses of objects.

"{}" in a phrase is replaced by a noun phrase; in EXTREMES by a noun, in NEGATIONS and ONLY_ONE by an adjective. The
form of a sentence fits the form of its answer: SENTENCES ask to point, those of questions.py ask for words.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Phrases(NamedTuple):
    """Phrases that all mean the same, other ones in each split. Settings are chosen on the validation split."""

    train: tuple[str, ...]
    heldout: tuple[str, ...]
    validation: tuple[str, ...]


SENTENCES = Phrases(
    ("{}.", "find {}.", "show me {}.", "point to {}.", "select {}.", "look at {}.", "which pixels show {}?",
     "which one is {}?"),
    ("where is {}?", "please point at {}.", "mark {}.", "look for {}."),
    ("spot {}.", "please show {}.", "which thing is {}?", "point at {}, please."),
)  # fmt: skip
SINGULAR = ("which one", "which thing")  # sentences with this beginning need a noun phrase with "the"
DETERMINERS = Phrases(("every",), ("any",), ("each",))  # for any number of objects
NOUNS = ("thing", "object")
ADJECTIVES = {"wood": "wooden"}  # adjectives of attribute words that are no adjectives themselves
NEGATIONS = Phrases(
    (
        "that is not {}",
        "but not the {} one",
        "that is everything but {}",
        "except the {} one",
        "which is anything except {}",
    ),
    ("that is anything but {}", "other than the {} one"),
    ("which is not {}", "that is not the {} one"),
)

EXTREMES = {
    "nearest": Phrases(
        ("the nearest {}", "the closest {}", "the {} nearest to us", "the {}, the closest of all"),
        ("the {}, the nearest one", "the {}, the one closest to us"),
        ("the {} that is nearest", "the {}, the one that is closest to us"),
    ),
    "farthest": Phrases(
        ("the farthest {}", "the most distant {}", "the {} farthest from us", "the {}, the most distant of all"),
        ("the {}, the farthest one", "the {}, the most distant one"),
        ("the {} that is farthest", "the {}, the one that is most distant from us"),
    ),
    "leftmost": Phrases(
        ("the leftmost {}", "the far left {}", "the {} that is most to the left", "the {}, the leftmost of all"),
        ("the {}, the leftmost one", "the {}, the one most to the left"),
        ("the {} that is leftmost", "the {}, the one farthest to the left"),
    ),
    "rightmost": Phrases(
        ("the rightmost {}", "the far right {}", "the {} that is most to the right", "the {}, the rightmost of all"),
        ("the {}, the rightmost one", "the {}, the one most to the right"),
        ("the {} that is rightmost", "the {}, the one farthest to the right"),
    ),
    "highest": Phrases(
        ("the highest {}", "the topmost {}", "the {} that is highest up", "the {}, the topmost of all"),
        ("the {}, the highest one", "the {}, the topmost one"),
        ("the {} that is topmost", "the {}, the one that is highest"),
    ),
    "lowest": Phrases(
        ("the lowest {}", "the bottommost {}", "the {} that is lowest down", "the {}, the bottommost of all"),
        ("the {}, the lowest one", "the {}, the bottommost one"),
        ("the {} that is bottommost", "the {}, the one that is lowest"),
    ),
    "largest": Phrases(
        ("the largest {}", "the biggest {}", "the {} that is largest", "the {}, the biggest of all"),
        ("the {}, the largest one", "the {}, the biggest one"),
        ("the {} that is biggest", "the {}, the one that is largest"),
    ),
    "smallest": Phrases(
        ("the smallest {}", "the tiniest {}", "the {} that is smallest", "the {}, the tiniest of all"),
        ("the {}, the smallest one", "the {}, the tiniest one"),
        ("the {} that is tiniest", "the {}, the one that is smallest"),
    ),
}

RELATIONS = {
    "left of": Phrases(
        (
            "left of {}",
            "to the left of {}",
            "that is left of {}",
            "on the left side of {}",
            "farther to the left than {}",
        ),
        ("on the left of {}", "over to the left of {}"),
        ("that is to the left of {}", "more to the left than {}"),
    ),
    "right of": Phrases(
        (
            "right of {}",
            "to the right of {}",
            "that is right of {}",
            "on the right side of {}",
            "farther to the right than {}",
        ),
        ("on the right of {}", "over to the right of {}"),
        ("that is to the right of {}", "more to the right than {}"),
    ),
    "above": Phrases(
        ("above {}", "higher up than {}", "that is above {}", "that is higher up than {}", "up over {}"),
        ("that is higher than {}", "up above {}"),
        ("which is above {}", "over {}"),
    ),
    "below": Phrases(
        ("below {}", "lower down than {}", "that is below {}", "that is lower down than {}", "down under {}"),
        ("that is lower than {}", "down below {}"),
        ("which is below {}", "under {}"),
    ),
    "in front of": Phrases(
        ("in front of {}", "nearer than {}", "that is in front of {}", "nearer to us than {}", "closer than {}"),
        ("that is nearer than {}", "closer to us than {}"),
        ("which is in front of {}", "which is nearer to us than {}"),
    ),
    "behind": Phrases(
        (
            "behind {}",
            "farther away than {}",
            "that is behind {}",
            "that is farther away than {}",
            "at a more distant place than {}",
        ),
        ("that is farther than {}", "more distant than {}"),
        ("which is behind {}", "farther from us than {}"),
    ),
    "larger than": Phrases(
        ("larger than {}", "bigger than {}", "which is larger than {}", "which is bigger than {}"),
        ("that is larger than {}", "that is bigger than {}"),
        ("of a larger size than {}", "that has a larger size than {}"),
    ),
    "smaller than": Phrases(
        ("smaller than {}", "tinier than {}", "which is smaller than {}", "which is tinier than {}"),
        ("that is smaller than {}", "that is tinier than {}"),
        ("of a smaller size than {}", "that has a smaller size than {}"),
    ),
}

HALVES = {  # axis, sign of the half along the axis, phrases
    "left half": (
        0,
        -1,
        Phrases(
            ("in the left half", "left of the middle"),
            ("in the left half of the picture",),
            ("that is in the left half",),
        ),
    ),
    "right half": (
        0,
        1,
        Phrases(
            ("in the right half", "right of the middle"),
            ("in the right half of the picture",),
            ("that is in the right half",),
        ),
    ),
    "upper half": (
        1,
        -1,
        Phrases(
            ("in the upper half", "above the middle"),
            ("in the upper half of the picture",),
            ("that is in the upper half",),
        ),
    ),
    "lower half": (
        1,
        1,
        Phrases(
            ("in the lower half", "below the middle"),
            ("in the lower half of the picture",),
            ("that is in the lower half",),
        ),
    ),
}

SAME = {
    "colour": Phrases(
        (
            "of the same colour as {}",
            "with the colour of {}",
            "that has the colour of {}",
            "with the same colour as {}",
        ),
        ("that has the same colour as {}",),
        ("which has the colour that {} has",),
    ),
    "material": Phrases(
        (
            "of the same material as {}",
            "that has the material of {}",
            "with the same material as {}",
        ),
        ("that has the same material as {}",),
        ("which has the material that {} has",),
    ),
}

MOST_COMMON = {
    "colour": Phrases(
        ("of the most common colour", "whose colour appears most often", "with the most common colour of all"),
        ("that has the most common colour",),
        ("which has the most common colour",),
    ),
    "material": Phrases(
        ("of the most common material", "whose material appears most often", "with the most common material of all"),
        ("that has the most common material",),
        ("which has the most common material",),
    ),
}

UNSHARED = {
    "colour": Phrases(
        ("whose colour no other has", "of a colour that appears only once", "with a colour that no other has"),
        ("that has a colour no other has",),
        ("which alone has its colour",),
    ),
    "material": Phrases(
        ("whose material no other has", "of a material that appears only once", "with a material that no other has"),
        ("that has a material no other has",),
        ("which alone has its material",),
    ),
}

PAIR = Phrases(
    ("of the kind that appears twice", "that has one twin of its kind", "of a kind that is here exactly twice"),
    ("whose kind appears exactly twice",),
    ("of a kind that appears exactly twice",),
)
ONLY_ONE = Phrases(
    ("that is the only {} one", "alone in being {}", "that is alone in being {}"),
    ("that alone is {}",),
    ("which is the only {} one",),
)


def pools() -> Iterator[Phrases]:
    """Yields all phrases of this module, so that a test can check them."""
    for table in (EXTREMES, RELATIONS, SAME, MOST_COMMON, UNSHARED):
        yield from table.values()
    yield from (pool for _, _, pool in HALVES.values())
    yield from (SENTENCES, DETERMINERS, NEGATIONS, PAIR, ONLY_ONE)
