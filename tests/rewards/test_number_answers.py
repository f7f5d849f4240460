"""The number that an answer states, by hand: what states one value, and what denies, bounds or scatters it."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.rewards.number_answers import is_number, the_number

CASES = [
    ('3', 3), ('There are 3 dogs.', 3), ('three', 3), ('there are three dogs', 3), ('3 or 4', None),
    ('3, 3', 3), ('the one on the left is 3', 3), ('none', 0), ('no dogs', 0), ('-2.5 m', -2.5),
    ('1,200 people', 1200), ('1.2.3', None), ('x3', None), ('', None), ('two or three', None), ('45%', 45),
    ('no mugs', 0), ('There are no mugs.', 0), ('twelve', 12), ('\uff12', 2), ('\u0662', 2), ('\u22123', -3),
    ('\u2212 3', -3), ('minus 3', -3), ('minus three', -3), ('negative 3', -3), ('two hundred', 200),
    ('twenty two', 22), ('twenty-two', 22), ('not 2', None), ('less than 2', None), ('2 or more', None),
    ('a dozen', 12), ('two dozen', 24), ('half a dozen', 6), ('dozens', None), ('2-3', None),
    ('2\u20133', None), ('2 - 3', None), ('2\u22123', None), ('between 2 and 3', None), ('2 to 3', None),
    ('from 2 to 3', None), ('about 2', 2), ('approximately 2', 2), ('~2', 2), ('at least 2', None),
    ('at most 2', None), ('up to 2', None), ('more than 2', None), ('fewer than 2', None), ('2+', None),
    ('2 +', None), ('> 2', None), ('>2', None), ('<2', None), ('\u22652', None), ('\u2265 2', None),
    ('not two', None), ("isn't 2", None), ('It is not 2.', None), ('I do not think there are 2', None),
    ('2, not 3', 2), ('not 2 but 3', 3), ('No, there are 3 mugs.', 3), ('no idea', None), ('No.', None),
    ('no', None), ('no one', 0), ('nobody', 0), ('not any', 0), ("There aren't any mugs.", 0),
    ('There is not a single mug.', 0), ('zero', 0), ('zero mugs', 0), ('nonzero', None), ('non-zero', None),
    ('2 is wrong', None), ('2 is not correct', None), ('2.0', 2), ('2.', 2), ('two (2)', 2), ('2 two', 2),
    ('2 and a half', None), ('2\u00bd', None), ('\u00bd', None), ('two thirds', None), ('2/3', None),
    ('2 out of 3', None), ('2 of 3', None), ('one hundred and five', 105), ('two thousand and five', 2005),
    ('a hundred', 100), ('hundred', 100), ('hundreds', None), ('3 hundred', 300), ('1.5 million', 1500000.0),
    ('1,000', 1000), ('1,00', None), ('2nd', None), ('second', None), ('neither 2 nor 3', None),
    ('2 or so', None), ('a mug or two', None), ('one or two', None), ('one two three', None),
    ('1 2 3 4 5', None), ('0 1 2 3', None), ('10:30', None), ('$5', 5), ('5 dollars', 5), ('+3', 3),
    ('2ish', None), ('almost 2', None), ('nearly 2', None), ('over 2', None), ('under 2', None),
    ('There are 3 over the table', 3), ('3 above', None), ('no more than 2', None), ('no less than 2', None),
    ('not more than 2', None), ('2 at most', None), ('2 maximum', None), ('2 at least', None),
    ('exactly 2', 2), ('only 2', 2), ('just two', 2), ('I think 2', 2), ('I see two mugs.', 2),
    ('The answer is 2.', 2), ('**2**', 2), ("'2'", 2), ('"two"', 2), ('(2)', 2), ('2!', 2), ('2?', 2),
    ('1e3', 1000), ('1e400', None), ('two million three hundred thousand', 2300000), ('two two', 2),
    ('five hundred twelve', 512), ('ninety-nine', 99), ('nineteen ninety', None), ('-', None), ('minus', None),
    ('5 minus 3', None), ('2+3', None), ('2 + 1 = 3', None), ('\u2212', None), ('eleven', 11),
    ('fourteen mugs', 14), ('Fourteen.', 14), ('several', None), ('a few', None), ('many', None),
    ('a couple', None), ('Nil', 0), ('anything but 2', None), ('other than 2', None), ('rather than 2', None),
    ('instead of 2', None), ('without 2', None), ('never 2', None), ("can't be 2", None), ('no 2', None),
    ('none of them', 0), ('None.', 0), ('there are none', 0), ("I don't see any", 0),
    ('I do not see any mugs', 0), ("I don't have any idea", None), ('0', 0), ('00', 0), ('02', 2),
    ('\uff11\uff12', 12), ('\u0967\u0968', 12), ('2 hundred', 200), ('two-hundred', 200), ('twenty  two', 22),
    ('twentytwo', None), ('five thousand', 5000), ('two point five', None), ('2,3', None), ('2, 3', None),
    ('2 and 3', None), ('2 & 3', None), ('two, maybe three', None), ('at least two', None),
    ('less than two', None), ('two or more', None), ('greater than or equal to 2', None), ('2 or fewer', None),
    ('two plus', None), ('as many as 2', None), ('not exactly 2', None), ('There are 2 that are not red', 2),
    ('2 are not red', 2), ('2 dogs and no cats', None), ('one', 1), ('One.', 1), ('a single mug', 1),
    ('one mug', 1), ('just the one', 1), ('one hundred', 100), ('one hundred and one', 101),
    ('one and two', None), ('two and three', None), ('twenty and two', None), ('a thousand', 1000),
    ('two twenty', None), ('zero zero', 0), ('one hundred thousand', 100000), ('two hundred fifty', 250),
    ('hundred two', 102), ('2 dozen', 24), ('12 dozen', 144), ('two hundred mugs', 200),
    ('3.5 thousand', 3500), ('three hundred 5', None), ('2 twenty', None), ('20 two', None),
    ('well over 2', None), ('2 is the number', 2), ('the number 2', 2), ('number 2', 2), ("It's 2.", 2),
    ('I count 2.', 2), ('I counted two cups, no more.', 2), ('two.', 2), ('2 mugs, I am not sure', 2),
    ('maybe 2', 2), ('probably 2', 2), ('could be 2', 2), ('2 or 3 or 4', None), ('not sure', None),
    ('2 mugs?', 2), ('less than 2 hundred', None), ('2k', None), ('no, 2', 2), ('No: 2', 2), ('2 (two)', 2),
    ('2 / two', None), ('two mugs and two cups', 2), ("the answer isn't 2", None), ('definitely not 2', None),
    ('hardly 2', 2), ("it can't be 2, it must be 3", 3), ('50 %', 50), ('- 3', None), ('(-3)', -3),
    ('= -3', -3), ('is -3', -3), ('answer:-3', -3), ('minus  3', -3), ('3-', 3), ('three-', 3),
]  # fmt: skip


@pytest.mark.parametrize(("text", "want"), CASES)
def test_the_number_of_a_text(text, want):
    assert the_number(text) == want


@pytest.mark.parametrize(("text", "want"), [
    ("12", True), ("-3.5", True), ("twelve", True), ("two hundred", True), ("none", True), ("a dozen", True),
    ("1,000", True), ("45%", True), ("one", True), ("minus three", True), ("\u0662", True), ("3 dogs", False),
    ("no", False), ("yes", False), ("", False), ("2-3", False), ("not 2", False), ("a", False), ("no dogs", False),
    ("half", False), ("the one", False), ("2 3", False), ("b", False), ("less than 2", False),
])  # fmt: skip
def test_a_reference_that_is_a_number(text, want):
    assert is_number(text) is want


UNITS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()
UNITS += "seventeen eighteen nineteen".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()


def in_words(number, joint=" ", link=" and "):
    if number < 20:
        return UNITS[number]
    if number < 100:
        return TENS[number // 10 - 2] + (joint + UNITS[number % 10] if number % 10 else "")
    size, name = (1000, "thousand") if number >= 1000 else (100, "hundred")
    rest = number % size
    tail = "" if not rest else (link if rest < 100 else " ") + in_words(rest, joint, link)
    return f"{in_words(number // size, joint, link)} {name}{tail}"


@pytest.mark.parametrize("joint", [" ", "-"])
@pytest.mark.parametrize("link", [" ", " and "])
def test_all_numbers_in_words(joint, link):
    for number in [*range(1200), 1999, 2000, 2005, 12_345, 99_999, 100_000, 123_456, 999_999]:
        words = in_words(number, joint, link)
        assert the_number(words) == number and is_number(words), words
        assert the_number(f"There are {words} mugs.") == number
        assert the_number(f"minus {words}") == -number
        for wrong in ("not {}", "less than {}", "{} or more", "at least {}", "{} or {} more", "{}+"):
            assert the_number(wrong.format(words, words)) is None, (wrong, words)


@pytest.mark.parametrize("zero", ["0", "\u0660", "\u06f0", "\u0966", "\u09e6", "\u0e50", "\uff10", "\U0001d7ce"])
def test_the_digits_of_every_script(zero):
    for number in (0, 2, 7, 10, 45, 1234):
        assert the_number("".join(chr(ord(zero) + int(digit)) for digit in str(number))) == number


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(codec=None), max_size=40) | st.text("0123456789 .,-+aenotwhrdu'/", max_size=40))
def test_any_text_is_read(text):
    assert the_number(text) is None or isinstance(the_number(text), float)
    is_number(text)


@pytest.mark.parametrize("text", ["1 " * 50_000, "one " * 30_000, "not " * 30_000, "-" * 100_000,
                                  "two hundred and " * 9000, "any not " * 20_000,
                                  "5" * 100_000, "\u00bd" * 100_000])  # fmt: skip
def test_huge_texts_take_little_time(text):
    start = time.process_time()
    assert the_number(text) is None or the_number(text) in (0, 1)
    assert time.process_time() - start < 2
