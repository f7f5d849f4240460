"""The choice that an answer names, by hand."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.rewards.choice_answers import choice_index

CHOICES = ("a cat", "the dog", "bird", "a cat and the dog")
CASES = [
    ('B', 1), ('b', 1), ('(b)', 1), ('B. the dog', 1), ('b) dog', 1), ('[C]: bird', 2), ('The Dog!', 1),
    ('dog', 1), ('the answer is B', 1), ('Answer: (c)', 2), ('The answer is B because it barks', 1),
    ('the answer is a dog', 1), ('A cat', 0), ('a fish', None), ('E', None), ('', None), ('Both', None),
    ('cat and dog', 3), ('D.', 3), ('**B**', 1), ("'B'", 1), ('"B"', 1), ('`B`', 1), ('*B*', 1), ('B)', 1),
    ('**B)** the dog', 1), ('**B**. the dog', 1), ('B) a cat', None), ('B) a fish', None), ('B: cat', None),
    ('B - the dog', 1), ('A or B', None), ('A and B', None), ('A, B', None), ('A B', None), ('A/B', None),
    ('A, B, C, D', None), ('A. B. C.', None), ('not B', None), ('B is wrong', None), ('Option B', 1),
    ('Option B is correct', 1), ('Option B is wrong', None), ('Option B is not correct', None),
    ('The answer is not B', None), ('I think B', 1), ("I think it's B.", 1), ("It's B", 1),
    ('It is the dog.', 1), ('I think it is a dog', 1), ('not the dog', None), ('It is not the dog', None),
    ('the dog or the bird', None), ('cat, dog, bird', None), ('The answer is **B**', 1), ('\\boxed{B}', 1),
    ('$\\boxed{\\text{B}}$', 1), ('The correct answer is (B) the dog', 1),
    ('The correct answer is (B) the cat', None), ('The answer is A or B', None),
    ('The answer is A. The answer is B.', None), ('B cat', None), ('C dog', None),
    ('B because it barks', None), ('B, because it barks', 1), ('B, not A', None),
    ('B) the dog, not the cat', 1), ('B) the dog or the cat', None), ('answer is b', 1), ('b.', 1), ('B!', 1),
    ('(B', 1), ('<B>', 1), ('{B}', 1), ('bird', 2), ('A bird', 2), ('birds', None), ('A cat and a dog', 3),
    ('There is a bird on the left', 2), ('the answer is A', 0), ('A', 0), ('a', 0), ('A.', 0), ('a)', 0),
    ('Answer B', 1), ('answer: B) dog', 1), ('choice C', 2), ('B dog', 1),
]  # fmt: skip


@pytest.mark.parametrize(("text", "want"), CASES)
def test_the_choice_of_a_text(text, want):
    assert choice_index(text, CHOICES) == want


ANIMALS = ("a cat", "a dog", "a bird", "a fish")
MORE = [
    ('B', 1), ('**B**', 1), ("'B'", 1), ('B.', 1), ('(B)', 1), ('b', 1), ('[B]', 1), ('`B`', 1), ('__B__', 1),
    ('"B"', 1), ('B: a dog', 1), ('**B: a dog**', 1), ('B) a dog', 1), ('**B)** a dog', 1), ('B.a dog', 1),
    ('B a dog', 1), ('B \u2013 a dog', 1), ('Option B: a dog', 1), ('The answer is B.', 1),
    ('The answer is: B', 1), ('The answer is (B).', 1), ('Answer: **B**', 1), ('answer B', 1),
    ('I choose B', 1), ("I'd go with B", 1), ('I pick B', 1), ('My choice is B', 1), ('Choice: B', 1),
    ('Choose B', 1), ('B is correct', 1), ('B is the answer', 1), ('B is right.', 1), ('It is B.', 1),
    ('It must be B', 1), ('B, a dog', 1), ('B!', 1), ('(b) a dog', 1), ('\u24d1', 1), ('\uff22', 1), ('B;', 1),
    ('B) dog', 1), ('a dog', 1), ('A dog', 1), ('It is a dog', 1), ('I think a dog', 1), ('the dog', 1),
    ('dog.', 1), ('**a dog**', 1), ("'a dog'", 1), ('The animal is a dog.', 1), ('B) a cat', None),
    ('A) a dog', None), ('B. a bird', None), ('B: fish', None), ('(B) a cat', None), ('**B** a cat', None),
    ('B a cat', None), ('B - a cat', None), ('The answer is B, a cat', None), ('The answer is B: a cat', None),
    ('B) an elephant', None), ('B) not a dog', None), ('not B', None), ('B or C', None), ('B and C', None),
    ('A, B, C, D', None), ('ABCD', None), ('A B C D', None), ('A/B', None), ('B/C', None), ('B & C', None),
    ('B, C', None), ('either B or C', None), ('neither B nor C', None), ('B is wrong', None),
    ('B is not correct', None), ('not a dog', None), ('a cat or a dog', None), ('a cat, a dog', None),
    ('cat dog bird fish', None), ('anything but B', None), ('all of them', None), ('none', None), ('E', None),
    ('5', None), ('', None), ('B?C?', None), ('A. B. C. D.', None), ('A) a cat B) a dog', None),
    ('A: a cat\nB: a dog', None), ('The answer is not B', None), ('The answer is B or C', None),
    ('The answer is B and C', None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "want"), MORE)
def test_a_letter_and_its_words(text, want):
    assert choice_index(text, ANIMALS) == want


@pytest.mark.parametrize(("text", "choices", "want"), [
    ("B) a dog", ("a dog", "a cat"), None), ("B) a dog", ("a fish", "a cat"), None),
    ("B) a dog", ("a cat", "a dog"), 1), ("grey", ("gray", "red"), 0),
    ("twelve", ("12", "13"), 0), ("12", ("twelve", "thirteen"), 0), ("z", (), 25),
    ("the answer is q.", (), 16), ("zebra", (), None), ("B or C", (), None), ("B) dog", ("cat", "a brown dog"), 1),
    ("a dog", ("the dog", "a dog"), 1), ("The dog", ("the dog", "a dog"), 0), ("dog", ("the dog", "a dog"), None),
    ("A", ("B", "A"), 0), ("B) the cat", ("A) the dog", "B) the cat"), 1), ("grey", ("gray", "grey"), 1),
    ("colour", ("color", "shape"), 0), ("B", ("same", "same"), 1), ("same", ("same", "same"), None),
])  # fmt: skip
def test_other_choices(text, choices, want):
    assert choice_index(text, choices) == want


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec=None), max_size=40) | st.text("ABCabc ().,*'dogn", max_size=30))
def test_any_text_is_read(text):
    assert choice_index(text, CHOICES) in (None, *range(4))
    choice_index(text)


@pytest.mark.parametrize("text", ["(b) " * 25_000, "the answer is B. " * 9000, "cat " * 30_000, "*" * 100_000,
                                  "A or " * 30_000, "the " * 40_000])  # fmt: skip
def test_huge_texts_take_little_time(text):
    start = time.process_time()
    choice_index(text, CHOICES)
    assert time.process_time() - start < 2
