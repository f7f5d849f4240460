"""Whether an answer says yes or no, by hand."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.rewards.yes_no_answers import yes_or_no

CASES = [
    ('yes', 'yes'), ('Yes, there is no dog.', 'yes'), ('I think NO', 'no'), ('nope', 'no'), ('true', 'yes'),
    ('', None), ('a knot', None), ('yesterday', None), ('\u0646\u0639\u0645', None), ('no doubt, yes', 'yes'),
    ('No doubt.', 'yes'), ('without a doubt', 'yes'), ('Without a doubt, no', 'no'), ('sure', 'yes'),
    ('Sure!', 'yes'), ('correct', 'yes'), ('Correct.', 'yes'), ('y', 'yes'), ('Y', 'yes'), ('n', 'no'),
    ('N.', 'no'), ('not really', 'no'), ('I do not think so', 'no'), ("I don't think so.", 'no'),
    ('yes and no', None), ('yes or no', None), ('yes/no', None), ('Yes, no', None), ('no yes', None),
    ('maybe', None), ('not sure', None), ("I'm not sure", None), ('unsure', None), ('yeah', 'yes'),
    ('Yep.', 'yes'), ('yup', 'yes'), ('nah', 'no'), ('**Yes**', 'yes'), ("'no'", 'no'), ('"Yes."', 'yes'),
    ('The answer is yes.', 'yes'), ('The answer is no.', 'no'), ('Answer: no', 'no'),
    ('The answer is no because it is red', 'no'), ('I would say no', 'no'), ("I'd say yes", 'yes'),
    ("I can't say yes", None), ('not yes', None), ('It is not true', 'no'), ('not false', 'yes'),
    ('That is correct.', 'yes'), ("That's right", 'yes'), ('that is not right', 'no'), ('incorrect', 'no'),
    ('wrong', 'no'), ('False.', 'no'), ('Certainly not', 'no'), ('certainly', 'yes'), ('of course', 'yes'),
    ('of course not', 'no'), ('Definitely', 'yes'), ('definitely not', 'no'), ('absolutely', 'yes'),
    ('absolutely not', 'no'), ('It is.', 'yes'), ('it is not', 'no'), ("It isn't.", 'no'),
    ("There aren't any.", 'no'), ('There is no dog.', 'no'), ('No, there is a cat', 'no'),
    ('No there is a cat', 'no'), ('no dogs', 'no'), ('Yes it is', 'yes'), ('yes it is not red', 'yes'),
    ('I think so', 'yes'), ('Indeed', 'yes'), ('affirmative', 'yes'), ('negative', 'no'),
    ('on the right', None), ('the right mug', None), ('true or false', None), ('dog', None), ('2', None),
    ('never', 'no'), ('no way', 'no'), ('Yes, it is correct', 'yes'), ('No, that is wrong', 'no'),
    ("No, that's not true", 'no'), ("Yes, that's true.", 'yes'), ('yes yes yes', 'yes'), ('no no no', 'no'),
    ('yes no yes no', None), ('It is yes', 'yes'), ('Yes - there is', 'yes'), ('No \u2014 it is blue', 'no'),
    ('no, not really', 'no'), ('probably', None), ('probably yes', 'yes'), ('probably not', 'no'),
    ('I guess not', 'no'), ('I doubt it', 'no'), ('They do.', 'yes'), ("they don't", 'no'),
    ('she does not', 'no'), ('No problem', 'no'), ('No question about it', 'yes'), ('for sure', 'yes'),
    ('Yes.', 'yes'), ('YES', 'yes'), ('NO!', 'no'), ('is it yes', 'yes'), ('neither yes nor no', None),
    ('hard to say', None), ('not at all', 'no'), ('yes\nno', None), ('Sure, there is a dog.', 'yes'),
    ('It is true that the mug is red', None), ('exactly', 'yes'), ('not exactly', 'no'),
    ('not necessarily', None), ('wrong, yes', 'yes'), ('The statement is true', 'yes'),
    ('The statement is false.', 'no'), ('this is incorrect', 'no'), ('not wrong', 'yes'),
    ('Not correct', 'no'), ('I am sure', 'yes'), ("I'm sure it is", 'yes'), ('no one is there', 'no'),
    ('Yes, no doubt', 'yes'), ('No, no doubt', 'no'), ('nothing', None), ('not', None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "want"), CASES)
def test_yes_or_no(text, want):
    assert yes_or_no(text) == want


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec=None), max_size=40) | st.lists(st.sampled_from("yes no not it is . , sure".split())))
def test_any_text_is_read(text):
    assert yes_or_no(text if isinstance(text, str) else " ".join(text)) in ("yes", "no", None)


@pytest.mark.parametrize("text", ["yes " * 50_000, "not " * 50_000, "no, " * 50_000, "it is " * 30_000, "." * 100_000,
                                  "sure " * 50_000, "no doubt " * 20_000])  # fmt: skip
def test_huge_texts_take_little_time(text):
    start = time.process_time()
    yes_or_no(text)
    assert time.process_time() - start < 2
