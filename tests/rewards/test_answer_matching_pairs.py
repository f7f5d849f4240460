"""Answers that say their reference and answers that only look like it; reward and evaluation judge all alike."""

import dataclasses

import numpy as np
import pytest
from scored import CANVAS, TWIN, example

from dtr1_jax.evaluation import query_metrics
from dtr1_jax.rewards.answer_matching import answer_scores
from dtr1_jax.rewards.answer_regions import Outcome
from dtr1_jax.twin.schema import Answer
from dtr1_jax.twin.transcript import compose, parse

# (answer, reference)
RIGHT = [
    ('no mugs at all', '0'), ("There's no mug.", '0'), ("There isn't any mug", '0'), ('no mug', '0'),
    ('none visible', '0'), ('There are zero mugs in the picture', '0'), ('0 mugs', 'zero'),
    ('I see none', '0'), ("I can't see any mugs", '0'), ('There are none.', '0'), ('Zero.', '0'),
    ('No mugs are visible.', '0'), ('nothing', '0'), ('there is nothing', '0'), ('Twelve', '12'),
    ('12', 'twelve'), ('TWELVE', '12'), ('There are twelve mugs.', '12'), ('12.', '12'), ('12.0', '12'),
    ('a total of 12', '12'), ('In total, 12.', '12'), ('12 in total', '12'), ('thirteen', '13'), ('two', '2'),
    ('\uff11\uff12', '12'), ('\u0663', '3'), ('\u06f3', '3'), ('-3', '\u22123'), ('\u22123', '-3'),
    ('minus 3 degrees', '-3'), ('Minus three', '-3'), ('negative three', '-3'), ('-three', '-3'),
    ('two hundred', '200'), ('twenty two', '22'), ('Twenty-Two', '22'), ('one hundred', '100'),
    ('a hundred', '100'), ('1000', 'one thousand'), ('2 million', '2000000'), ('I count 2 mugs', '2'),
    ('exactly two', '2'), ('There are only 2.', '2'), ('2 mugs.', '2'), ("It's two", '2'),
    ('The number of mugs is 2.', '2'), ('The answer is two', '2'), ('**2**', '2'), ("'2'", '2'),
    ('\u201c2\u201d', '2'), ('Answer: 2', '2'), ('\\boxed{2}', '2'), ('$2$', '2'), ('#2', '2'),
    ('2\ufe0f\u20e3', '2'), ('two mugs (2)', '2'), ('two; 2', '2'), ('Two of them.', '2'),
    ('two of them', '2'), ('there are 2 of them', '2'), ('2 (two)', '2'), ('grey', 'gray'), ('Gray', 'grey'),
    ('GREY.', 'gray'), ('light grey', 'light gray'), ('It is grey in colour', 'gray'), ("It's gray!", 'gray'),
    ('The color is gray.', 'gray'), ('gray.', 'gray'), ('It is a gray', 'gray'), ('coloured', 'colored'),
    ('a grey one', 'gray one'), ('I think a cat', 'cat'), ('I think it is a cat', 'cat'),
    ('I think that it is a cat', 'cat'), ('i believe a cat', 'cat'), ('It looks like a cat', 'cat'),
    ('That is a cat.', 'cat'), ('A cat!', 'cat'), ('the cat', 'cat'), ("It's probably a cat", 'cat'),
    ('It might be a cat', 'cat'), ('It could be a cat', 'cat'), ('My guess is a cat', 'cat'),
    ("I'd say a cat", 'cat'), ('I would guess a cat', 'cat'), ('The animal is a cat', 'cat'),
    ('The animal in the picture is a cat', 'cat'), ("It's a cat, I believe", 'cat'), ('cat, probably', 'cat'),
    ('This appears to be a cat', 'cat'), ('The picture shows a cat', 'cat'), ('The image shows a cat.', 'cat'),
    ('You can see a cat', 'cat'), ('**A cat**', 'cat'), ('*cat*', 'cat'), ('- cat', 'cat'), ('> cat', 'cat'),
    ('# cat', 'cat'), ('[cat]', 'cat'), ('(cat)', 'cat'), ('{cat}', 'cat'), ('<cat>', 'cat'),
    ('\u201ccat\u201d', 'cat'), ('\u2018cat\u2019', 'cat'), ('\u00abcat\u00bb', 'cat'), ('cat\n', 'cat'),
    ('\tcat', 'cat'), ("The answer is 'cat'.", 'cat'), ('The answer is **cat**.', 'cat'),
    ('Answer is cat', 'cat'), ('answer - cat', 'cat'), ('ANSWER: CAT', 'cat'), ('no doubt, yes', 'yes'),
    ('sure', 'yes'), ('correct', 'yes'), ('y', 'yes'), ('Y.', 'yes'), ('yes sir', 'yes'), ('Yes!', 'yes'),
    ('yea', 'yes'), ('ya', 'yes'), ('yess', 'yes'), ('certainly', 'yes'), ('Of course!', 'yes'),
    ('Of course it is', 'yes'), ('It sure is', 'yes'), ('It certainly is.', 'yes'), ('It does', 'yes'),
    ('There is', 'yes'), ("That's correct", 'yes'), ('You are right', 'yes'), ("You're right.", 'yes'),
    ('right', 'yes'), ('Right.', 'yes'), ('I agree', 'yes'), ('positive', 'yes'), ('Absolutely!', 'yes'),
    ('without doubt', 'yes'), ('undoubtedly', 'yes'), ('obviously', 'yes'), ('yes, of course', 'yes'),
    ('**yes**', 'yes'), ('(yes)', 'yes'), ("'yes'", 'yes'), ('yes, I do not doubt it', 'yes'),
    ('no doubt about it', 'yes'), ('there is no doubt', 'yes'), ('Yes, there are no mugs left', 'yes'),
    ('Yes. No mug is red.', 'yes'), ('not really', 'no'), ('I do not think so', 'no'),
    ("I don't believe so", 'no'), ('No.', 'no'), ('n', 'no'), ('nope', 'no'), ('not at all', 'no'),
    ('certainly not', 'no'), ('of course not', 'no'), ("It's not", 'no'), ('It is not.', 'no'),
    ('no, it is correct that there is none', 'no'), ('There is not', 'no'), ("There isn't one", 'no'),
    ('negative', 'no'), ('incorrect', 'no'), ("that's wrong", 'no'), ('false', 'no'), ('untrue', 'no'),
    ('no sir', 'no'), ("no it isn't", 'no'), ("No it doesn't", 'no'), ('no, not red', 'no'),
    ('I disagree', 'no'), ('not true', 'no'), ('never', 'no'), ('No; the mug is blue', 'no'), ('no way', 'no'),
    ('the answer is no', 'no'), ("it's a no", 'no'), ("that's a no", 'no'), ('that is a yes', 'yes'),
    ('it would be no', 'no'),
]  # fmt: skip
WRONG = [
    ('two hundred', '2'), ('twenty two', '2'), ('not 2', '2'), ('less than 2', '2'), ('2 or more', '2'),
    ('2 hundred', '2'), ('two thousand', '2'), ('two dozen', '2'), ('twenty-two', '2'), ('twenty-two', '20'),
    ('a hundred and two', '2'), ('2-3', '2'), ('2\u20133', '3'), ('between 2 and 3', '2'), ('2 or 3', '2'),
    ('2 to 3', '2'), ('1, 2, 3', '2'), ('1 2 3', '2'), ('one, two, three', '2'), ('more than 2', '2'),
    ('at least 2', '2'), ('at most 2', '2'), ('up to 2', '2'), ('over 2', '2'), ('under 2', '2'), ('2+', '2'),
    ('2 plus', '2'), ('2 or so', '2'), ('2 or less', '2'), ('2 or fewer', '2'), ('no more than 2', '2'),
    ('fewer than 2', '2'), ('almost 2', '2'), ('nearly 2', '2'), ('not two', '2'), ("isn't 2", '2'),
    ("there aren't 2", '2'), ('it is not 2', '2'), ('definitely not 2', '2'), ('neither 1 nor 2', '2'),
    ('2nd', '2'), ('2x', '2'), ('x2', '2'), ('2.5', '2'), ('2,5', '2'), ('two and a half', '2'),
    ('2 1/2', '2'), ('2\u00bd', '2'), ('1/2', '2'), ('half of 2', '2'), ('-2', '2'), ('minus 2', '2'),
    ('\u22122', '2'), ('two-thirds', '2'), ('2^3', '2'), ('2*3', '2'), ('2e3', '2'), ('2:30', '2'),
    ('20', '2'), ('02.5', '2'), ('two to three', '2'), ('anywhere from 2 to 5', '2'), ('greater than 2', '2'),
    ('>2', '2'), ('<2', '2'), ('\u22652', '2'), ('\u2264 2', '2'), ('!=2', '2'), ('\u22602', '2'),
    ('not equal to 2', '2'), ('anything except 2', '2'), ('any number but 2', '2'),
    ('2 is not the answer', '2'), ('2? No.', '2'), ('2 is incorrect', '2'), ('I doubt it is 2', '2'),
    ("it can't be 2", '2'), ('2, or 3', '2'), ('2, maybe 3', '2'), ('2/3', '2'), ('2 out of 5', '2'),
    ('two score', '2'), ('a couple hundred', '2'), ('several', '2'), ('all', '2'), ('0.2', '2'), ('.2', '2'),
    ('2,000', '2'), ('2 000', '2'), ('2k', '2'), ('no', '0'), ('No.', '0'), ('yes', '0'), ('not 0', '0'),
    ('not zero', '0'), ('nonzero', '0'), ('more than zero', '0'), ('no fewer than 3', '0'), ('no idea', '0'),
    ('no answer', '0'), ('not none', '0'), ('no, there are 3', '0'), ('There are no more than 3', '0'),
    ('no mugs or 3 mugs', '0'), ('no doubt 3', '0'),
    ('red, orange, yellow, green, blue, purple, white, black, gray', 'gray'), ('gray red', 'gray'),
    ('gray or black', 'gray'), ('not gray', 'gray'), ('It is not gray', 'gray'), ('gray-ish', 'gray'),
    ('anything but gray', 'gray'), ('either gray or black', 'gray'), ('gray and black', 'gray'),
    ('gray, black', 'gray'), ('gray/black', 'gray'), ("I don't think it is gray", 'gray'),
    ('The answer is not gray', 'gray'), ('gray? no', 'gray'), ('It was never gray', 'gray'),
    ('non-gray', 'gray'), ('It is gray. It is black.', 'gray'), ('gray\nblack', 'gray'),
    ('The gray cat is black', 'gray'), ('gray is wrong', 'gray'), ("it isn't gray", 'gray'),
    ('neither gray nor black', 'gray'), ('all colours', 'gray'), ('a dog', 'cat'), ('not a cat', 'cat'),
    ('cats', 'cat'), ('cat food', 'cat'), ('I think not a cat', 'cat'), ("The answer isn't a cat", 'cat'),
    ('yes and no', 'yes'), ('yes and no', 'no'), ('yes or no', 'yes'), ('yes or no', 'no'), ('yes no', 'yes'),
    ('no yes', 'no'), ('yes, no', 'yes'), ('maybe', 'yes'), ('not sure', 'yes'), ('unsure', 'yes'),
    ("I'm not sure", 'yes'), ('not yes', 'yes'), ('not no', 'no'), ('no', 'yes'), ('yes', 'no'),
    ('not correct', 'yes'), ('incorrect', 'yes'), ('not really', 'yes'), ('I do not think so', 'yes'),
    ('of course not', 'yes'), ('not true', 'yes'), ("it isn't true", 'yes'), ('no, that is correct', 'yes'),
    ('yesterday', 'yes'), ('nothing', 'no'), ('know', 'no'), ('note', 'no'), ('neither', 'no'),
    ("I can't say yes or no", 'yes'), ('yes? no!', 'yes'), ('yes/no', 'yes'), ('yes yes no', 'yes'),
    ('no doubt, no', 'yes'), ('false', 'yes'), ('surely not', 'yes'), ('unclear', 'no'),
    ("I don't know", 'no'), ('I do not know', 'no'), ("can't tell", 'no'), ('cannot say', 'no'),
    ('not certain', 'no'),
]  # fmt: skip


def evaluated(text, reference):
    """The figure of one answer in an evaluation."""
    query = example(task="vqa")
    query = dataclasses.replace(query, target=dataclasses.replace(query.target, references=(reference,)))
    transcript = parse(compose(TWIN, "x", Answer(text=text)), task="vqa", canvas=CANVAS)
    return query_metrics.measure(query, transcript, Outcome(np.zeros((0, 4), np.float32)))["accuracy"]


@pytest.mark.parametrize(("pairs", "want"), [(RIGHT, True), (WRONG, False)])
def test_answers_that_say_their_reference_are_right_and_no_others(pairs, want):
    scores = answer_scores([[text] for text, _ in pairs], [[reference] for _, reference in pairs])[:, 0]
    assert [(pair, float(score)) for pair, score in zip(pairs, scores) if (score == 1) != want] == []
    assert [pair for pair in pairs if evaluated(*pair) != want] == []
