"""Facts of summaries as a score: by hand, and the bounds that false summaries stay below."""

import itertools
import re

import numpy as np
import pytest

from dtr1_jax.data.queries.attributes import COLOURS
from dtr1_jax.data.twinworld import tasks
from dtr1_jax.rewards import facts

RIGHT = (
    "there are two things: a small red metal mug on the left and a large blue wooden key in the middle."
    " the mug is nearest and the key is farthest away."
)
TOTAL = 2 + facts.COUNT + 2 * facts.EXTREME


@pytest.mark.parametrize(
    ("old", "new", "lost"),
    [
        ("small red", "large red", 1 - 3 / 4),  # one of three details
        ("on the left", "on the right", 1 - 3 / 4),
        ("two things", "three things", facts.COUNT),
        ("red", "green", 1 + facts.EXTREME),  # no such object: neither is it the nearest
        ("the mug is nearest and the key is farthest", "the key is nearest and the mug is farthest", 2 * facts.EXTREME),
    ],
)
def test_a_false_fact_costs_by_hand(old, new, lost):
    assert facts.fact_score(RIGHT.replace(old, new), [RIGHT]) == pytest.approx(1 - lost / TOTAL)


def test_omissions_and_inventions_cost():
    one = "there are two things: a small red metal mug on the left."
    assert facts.fact_score(one, [RIGHT]) == pytest.approx(2 * 1.2 / (1.2 + TOTAL))
    more = RIGHT.replace(" and a large", ", a small green plastic cat on the right and a large")
    assert facts.fact_score(more, [RIGHT]) == pytest.approx(2 * TOTAL / (TOTAL + 1 + TOTAL))
    every = "".join(f"a {colour} mug on the left. a {colour} key in the middle. " for colour in COLOURS)
    assert facts.fact_score(every, [RIGHT]) < 0.25


def test_texts_without_facts():
    assert facts.fact_score(None, [RIGHT]) == 0 == facts.fact_score("lovely", [RIGHT])
    assert not facts.known(["a photo of my holidays, sunny"][:0]) and not facts.known(["lovely"])
    assert facts.known([RIGHT]) and facts.known(["there is no such thing."])
    assert facts.fact_score("we see no such thing.", ["there is no such thing."]) == 1


@pytest.fixture(scope="module", params=[False, True], ids=["pictures", "videos"])
def references(request):
    """Those of 100 summaries of at least one object: "no such thing" is right elsewhere, whatever the colours."""
    drawn = (tasks.example("summary", 0, "heldout", i, video=request.param, max_objects=6) for i in itertools.count())
    texts = (example.target.references for example in drawn if "no such" not in example.target.references[0])
    return list(itertools.islice(texts, 100))


def mean(answers, references):
    return np.mean([facts.fact_score(answer, right) for answer, right in zip(answers, references)])


def test_bounds_of_false_summaries(references):
    right = [texts[0] for texts in references]
    other = dict(zip(COLOURS, (*COLOURS[1:], COLOURS[0])))
    recoloured = [re.sub("|".join(COLOURS), lambda match: other[match[0]], text) for text in right]
    directions = {"left": "right", "right": "left", "up": "down", "down": "up"}
    flipped = [re.sub(r"\b(left|right|up|down)\b", lambda match: directions[match[0]], text) for text in right]
    assert mean(right, references) == 1 == mean([texts[2] for texts in references], references)
    assert mean(recoloured, references) < 0.2
    assert mean(flipped, references) < 0.95
    assert mean(right[1:] + right[:1], references) < 0.15
    for constant in ("there is no such thing.", "there is one thing: a small red metal mug on the left."):
        assert mean([constant] * len(right), references) < 0.2


def test_hostile_texts_score_without_raising():
    for text in ("a red mug " * 10000, "a " * 50000, "the mug is nearest " * 5000, "." * 100000, "\x00\ud800" * 999):
        assert 0 <= facts.fact_score(text, [RIGHT]) <= 1
