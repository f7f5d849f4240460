"""The structure score of sound, unsound and arbitrary texts."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.rewards.structure import CAP, structure
from dtr1_jax.twin.coordinates import Canvas, Frame
from dtr1_jax.twin.schema import Object, Twin
from dtr1_jax.twin.text import dumps_twin
from dtr1_jax.twin.transcript import parse

CANVAS = Canvas(Frame.NORM1000, (96, 64))
MUG = Twin((96, 64), (Object(1, "mug", (1, 2, 3, 4)),))
TWIN, THINK, ANSWER = f"<twin>{dumps_twin(MUG)}</twin>", "<think>hm</think>", '<answer>{"objects":[1]}</answer>'


def score(text, **options):
    transcript = parse(text, task="segmentation", canvas=CANVAS, **options)
    value = structure(transcript)
    assert (value == 1.0) == transcript.sound and 0.0 <= value <= 1.0
    assert transcript.sound or value <= CAP
    return value


@pytest.mark.parametrize(
    ("text", "passed"),
    [
        ("", 0),
        ("a mug", 0),
        ("<twin><answer><think>", 0),
        ("[" * 1000, 0),
        (THINK, 1),
        (TWIN, 2),
        ("<twin>{}</twin>", 1),
        (TWIN + THINK, 3),
        (TWIN + THINK + "<answer>{}</answer>", 4),
        ("<twin>{}</twin>" + THINK + ANSWER, 4),
        (TWIN + ANSWER, 4),
        (TWIN + THINK + ANSWER + "!", 5),
        (TWIN + ANSWER + THINK, 5),
        (TWIN + THINK + THINK + ANSWER, 5),
    ],
)
def test_unsound_transcripts_score_their_share_of_stages(text, passed):
    assert score(text) == pytest.approx(0.75 * passed / 5)


def test_sound_is_one():
    assert score(TWIN + THINK + ANSWER) == 1.0


def test_more_sound_parts_never_score_less():
    parts = (TWIN, THINK, ANSWER)
    for keep in itertools.product((False, True), repeat=3):
        text = "".join(part for part, kept in zip(parts, keep) if kept)
        for i in range(3):
            more = "".join(part for j, part in enumerate(parts) if keep[j] or i == j)
            assert score(more) >= score(text)


def test_a_twin_that_was_brought_earns_nothing():
    options = {"constructor": "given", "given_twin": MUG}
    assert score("a mug", **options) == 0.0
    assert score(THINK, **options) == pytest.approx(0.75 / 3)
    assert score(THINK + ANSWER, **options) == 1.0


@settings(deadline=None, max_examples=200)
@given(st.lists(st.sampled_from([TWIN, THINK, ANSWER, "<twin>", "</think>", "{}", " "]) | st.text(), max_size=6))
def test_any_text_has_a_score_that_is_one_only_if_sound(pieces):
    score("".join(pieces))


def test_the_stages_of_a_request():
    """The twin behind the request was put in by the host, so it is no stage."""
    options = {"constructor": "specialists", "given_twin": MUG}
    asks, wrong = '<construct>{"ops":[{"op":"detect","phrases":["mug"]}]}</construct>', "<construct>{}</construct>"
    assert score(TWIN, **options) == 0.0
    assert score(wrong + TWIN, **options) == pytest.approx(0.75 / 5)
    assert score(asks + TWIN, **options) == pytest.approx(0.75 * 2 / 5)
    assert score(wrong + TWIN + THINK + ANSWER, **options) == pytest.approx(0.75 * 4 / 5)
    assert score(asks + TWIN + TWIN + THINK + ANSWER, **options) == 0.75
    assert score(asks + TWIN + THINK + ANSWER, **options) == 1.0
