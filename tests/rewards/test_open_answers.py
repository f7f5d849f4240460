"""Short answers in a sentence, in marks and in another spelling, by hand; and what only looks like one."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.rewards.answer_matching import answer_scores
from dtr1_jax.rewards.open_answers import american, core, same_answer

SAME = [
    ('grey', 'gray'), ('It is gray', 'gray'), ("It's grey.", 'gray'), ('I think a cat', 'cat'),
    ('the answer is a cat', 'cat'), ('The answer is: gray', 'gray'), ('**gray**', 'gray'), ("'gray'", 'gray'),
    ('"Gray."', 'gray'), ('gray', 'grey'), ('colour', 'color'), ('the colour is gray', 'gray'),
    ('The color of the mug is gray.', 'gray'), ('The mug is gray', 'gray'), ('I believe it is gray', 'gray'),
    ('Answer: gray', 'gray'), ('it looks gray', 'gray'), ('It appears to be gray', 'gray'),
    ('I see a cat', 'cat'), ("I think it's a cat.", 'cat'), ('This is a cat', 'cat'), ("That's a cat", 'cat'),
    ('They are cats', 'cats'), ('metallic', 'metal'), ('wooden', 'wood'), ('aluminium', 'aluminum'),
    ('a cat, I think', 'cat'), ('a cat in the picture', 'cat'), ('I would say a cat', 'cat'),
    ('Well, a cat', 'cat'), ('probably a cat', 'cat'), ('My answer is cat', 'cat'),
    ('The final answer is gray.', 'gray'), ('\\boxed{gray}', 'gray'), ('`gray`', 'gray'),
    ('There is a cat', 'cat'), ('twelve dogs', '12 dogs'), ('two dogs', '2 dogs'), ('Red ball.', 'red ball'),
    ('a red ball', 'red ball'), ('\u201cgray\u201d', 'gray'), ('theatre', 'theater'), ('tyre', 'tire'),
    ("I'm sure it is gray", 'gray'), ('it would be gray', 'gray'), ('_gray_', 'gray'),
    ('It is raining', 'raining'), ('gray in color', 'gray'), ('the object is a mug', 'mug'),
    ('its color is gray', 'gray'), ('organised', 'organized'), ('The answer to the question is gray', 'gray'),
    ('we can see a cat', 'cat'), ('I can see a cat', 'cat'),
]  # fmt: skip
OTHER = [
    ('red, orange, yellow, green, gray', 'gray'), ('It is not gray', 'gray'), ('not gray', 'gray'),
    ('gray or red', 'gray'), ('red gray', 'gray'), ('It is gray or red', 'gray'), ('gray and red', 'gray'),
    ('The answer is not gray', 'gray'), ('The opposite is gray', 'gray'), ("I don't think gray", 'gray'),
    ('I do not think it is gray', 'gray'), ('nothing is gray', 'gray'), ('the wrong answer is gray', 'gray'),
    ('The mug is red and the cup is gray', 'gray'), ('It is red. It is gray.', 'gray'),
    ('maybe red maybe gray', 'gray'), ('gray?red', 'gray'), ('', 'gray'), ('it is', 'gray'),
    ('the answer is', 'gray'), ('I think', 'gray'), ('a', 'the'), ('grays', 'gray'), ('dark gray', 'gray'),
    ("It isn't gray", 'gray'), ("isn't gray", 'gray'), ('either red or gray', 'gray'),
    ('It could be gray, red or blue', 'gray'), ('not a cat', 'cat'), ('anything but gray', 'gray'),
    ('all colours: gray', 'gray'), ('The cat is not gray', 'gray'), ('I think it is not a cat', 'cat'),
    ('is it gray', 'gray2'), ('red/gray', 'gray'), ('the colour gray is not it', 'gray'),
]  # fmt: skip


@pytest.mark.parametrize(("text", "reference"), SAME)
def test_the_same_answer(text, reference):
    assert same_answer(text, reference)


@pytest.mark.parametrize(("text", "reference"), OTHER)
def test_another_answer(text, reference):
    assert not same_answer(text, reference)


def test_the_reward_agrees():
    for rows, right in ((SAME, True), (OTHER, False)):
        scores = answer_scores([[text] for text, _ in rows], [[reference] for _, reference in rows])[:, 0]
        assert [(row, float(score)) for row, score in zip(rows, scores) if (score == 1) != right] == []


@pytest.mark.parametrize(("word", "want"), [
    ("colour", "color"), ("colourful", "colorful"), ("metre", "meter"), ("grey", "gray"), ("organised", "organized"),
    ("wise", "wise"), ("rise", "rise"), ("four", "four"), ("hour", "hour"), ("your", "your"), ("pour", "pour"),
    ("tour", "tour"), ("there", "there"), ("fire", "fire"), ("premise", "premise"), ("gray", "gray"),
])  # fmt: skip
def test_spellings(word, want):
    assert american(word) == want


@settings(max_examples=300, deadline=None)
@given(
    st.text(st.characters(codec=None), max_size=60) | st.lists(st.sampled_from("I think the it is a cat , '".split()))
)
def test_any_text_has_a_core(text):
    text = text if isinstance(text, str) else " ".join(text)
    assert isinstance(core(text), str)
    same_answer(text, text)


@pytest.mark.parametrize("text", ["the answer is " * 9000, "'" * 100_000, "*_" * 50_000, "it is " * 20_000,
                                  "I think " * 20_000, "the a " * 30_000, "{" * 100_000])  # fmt: skip
def test_huge_texts_take_little_time(text):
    start = time.process_time()
    same_answer(text, "cat")
    assert time.process_time() - start < 2
