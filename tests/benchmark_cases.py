"""Inputs for which tests/fixtures/benchmarks.json has the figures of the benchmarks' own code."""

from __future__ import annotations

import numpy as np

SENTENCES = (
    "A man's dog isn't here, is it? (Two \"red\" cups.)",
    "Hello--world: 3.5% of $5 & the U.S.A. e.g. well-known",
    "naïve café שלום عالم 中文字",
    "The cat can't see what's behind it; they're gone!",
    'A sign that says "STOP" next to a 4-way intersection.',
    "I cannot believe you're gonna eat 1,000 apples at 10:30 a.m.",
    "Mr. Smith and Dr. Who went to St. Louis.",
    "it's 5 o'clock somewhere...",
    "A red/blue ball, and a half-eaten pizza - yum",
    "She said 'hello' to the children's toys",
    "The boys' bikes are in the '90s style [sic] {x}",
    "black & white photo of a couple @ the beach #fun",
    "He'd've gone if I'd known, wouldn't you?",
    "50% off! 3/4 of a cup + 2 = more",
    "a big dog .",
    "“Quoted” text — with dashes – and ‘single’ ones…",
    "شجرة كبيرة، وكلب صغير.",
    "собака бежит по траве",
)

# (answer, references)
CAPTIONS = (
    ("A man riding a wave on top of a surfboard.", ("A man rides a wave on a surfboard.", "A surfer on a big wave.")),
    ("a man riding a wave", ("A man rides a wave on a surfboard.", "The man is riding a wave in the ocean")),
    ("Two dogs play with a frisbee", ("Two dogs are playing with a Frisbee in the park", "dogs and a frisbee")),
    ("the the the the the", ("the cat sat on the mat", "there is a cat on the mat")),
    ("the cat sat on the mat", ("the cat sat on the mat", "there is a cat on the mat")),
    ("a cat", ("the cat sat on the mat near the door of the old house", "a cat")),
    ("kitchen", ("a kitchen with a stove and a sink", "a clean kitchen", "the kitchen of a small house")),
    ("", ("a bowl of soup", "soup in a bowl on the table")),
    ("a bowl of soup and a spoon, on a table!", ("a bowl of soup", "soup in a bowl on the table")),
    ("a very long answer that says a man rides a wave and a man rides a wave and a man rides a wave again and again",
     ("a man rides a wave",)),
    ("шар и кот", ("шар и кот", "кот и шар")),
    ("a red ball left of a blue cube", ("a blue cube right of a red ball", "the red ball is left of the blue cube")),
)  # fmt: skip

ANSWERS = (
    "Yes.", "no", "The Red ball!", "a dog and an apple", "two", "None", "ten", "2", "1,000", "1,000 dogs, 2 cats",
    "3.5", "v. good", "isnt it", "dont", "it's 5 o'clock", "oclock", "couldn'tve", "shouldn'tve", "shouldnt've",
    "somebody'd", "twas", "yall'd've", "Im here", "lets go", "theyd go", "left-hand", "left - hand", "red/blue",
    "red / blue", "what?", "what ? now", "a\nb\tc", "  spaces   here ", "", ".", "the", "A. B. C.", "U.S.A.",
    "." * 40 + "x", "naïve café", "שלום עולם", "مرحبا", "中文", "5 %", "(c)", "@home", "`tick`", "it\\'s", "_under_",
    "one two three", "zero", "She's", "ow's'at", "'ow'sat", "hed've", "he'dve", "don't", "10:30 am", "black & white",
)  # fmt: skip

# (answer, the answers of ten people)
QUESTIONS = (
    ("yes", ("yes",) * 10),
    ("Yes", ("yes",) * 10),
    ("Yes", ("yes",) * 9 + ("no",)),
    ("red", ("red",) * 3 + ("blue",) * 7),
    ("red", ("red",) * 4 + ("blue",) * 6),
    ("red", ("red",) * 2 + ("blue",) * 8),
    ("red", ("red",) + ("blue",) * 9),
    ("green", ("red",) * 5 + ("blue",) * 5),
    ("two", ("2",) * 4 + ("two", "Two.", "three", "3", "several", "2 dogs")),
    ("the dog", ("dog",) * 2 + ("a dog", "Dog!", "dogs", "puppy", "pup", "animal", "pet", "cat")),
    ("", ("",) * 3 + ("x",) * 7),
    ("isnt", ("isn't", "isnt") * 5),
    (" left-hand ", ("left hand", "left-hand", "left - hand", "lefthand", "right") * 2),
)

SIZES = ((48, 64), (60, 50), (33, 47), (120, 200))  # h, w; radii of 1, 1, 1 and 2 pixels


def _disc(h: int, w: int, x: float, y: float, radius: float) -> np.ndarray:
    rows, columns = np.mgrid[:h, :w]
    return (columns + 0.5 - x * w) ** 2 + (rows + 0.5 - y * h) ** 2 < (radius * min(h, w)) ** 2


def masks(h: int, w: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(answer, target, ignored), bool[h, w], of frames: shifted, touching the edge, thin, full, empty, ragged."""
    empty, full = np.zeros((h, w), bool), np.ones((h, w), bool)
    ring = _disc(h, w, 0.5, 0.5, 0.4) & ~_disc(h, w, 0.5, 0.5, 0.3)
    line = empty.copy()
    line[h // 2, 3:-3] = True
    corner = empty.copy()
    corner[-5:, -7:] = True
    ragged = np.indices((h, w)).sum(0) * 7 % 11 < 5
    strip = empty.copy()
    strip[:, : w // 5] = True
    disc = _disc(h, w, 0.5, 0.5, 0.3)
    return [
        (disc, disc, empty), (_disc(h, w, 0.52, 0.5, 0.3), disc, empty), (_disc(h, w, 0.8, 0.2, 0.3), disc, empty),
        (ring, disc, empty), (line, disc, empty), (line, line, empty), (corner, corner, empty), (corner, disc, empty),
        (empty, empty, empty), (empty, disc, empty), (disc, empty, empty), (full, full, empty),
        (full, disc, empty), (disc, full, empty), (full, empty, empty),
        (ragged & disc, disc, empty), (ragged, ~ragged, empty), (disc, _disc(h, w, 0.45, 0.55, 0.35), strip),
        (strip, empty, strip), (_disc(h, w, 0.0, 0.0, 0.5), _disc(h, w, 0.05, 0.0, 0.5), empty),
    ]  # fmt: skip
