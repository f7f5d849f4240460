"""The reader of summaries: it gets back what the scene says, in all wordings, and takes any text."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies

from dtr1_jax.data.queries import summaries
from dtr1_jax.data.queries.attributes import COLOUR
from dtr1_jax.data.queries.summary_facts import Mention, SummaryFacts, read_facts
from dtr1_jax.data.twinworld import tasks

RED_MUG = Mention("mug", "red", frozenset({"small", "metal", "on: left"}))
KEY = Mention("key", "blue", frozenset({"large", "wood", "on: middle"}))


@pytest.mark.parametrize(
    "text",
    [
        "there are two things: a small red metal mug on the left and a large blue wooden key in the middle."
        " the mug is nearest and the key is farthest away.",
        "we see two things: a small mug, red and metal, at the left side and a large key, blue and wooden, near the"
        " middle. nearest to us is the mug, farthest from us is the key.",
        "two things can be seen: a mug that is small, red and metal, to the left and a key that is large, blue and"
        " wooden, in the centre. the mug is in front of all and the key is behind all.",
        "THERE ARE TWO THINGS : a SMALL RED METAL MUG on the left AND, yes, a large blue wooden key in the middle . "
        "the mug is nearest and the key is farthest away!",
    ],
)
def test_all_wordings_state_the_same_facts(text):
    assert read_facts(text) == SummaryFacts((RED_MUG, KEY), 2, Mention("mug"), Mention("key"))


def test_actions_by_hand():
    text = (
        "there are two things: a small red metal mug that comes in and moves to the left and a large blue wooden key"
        " that moves and turns back, is hidden for a while and leaves."
    )
    mug = Mention("mug", "red", frozenset({"small", "metal", "does: enters", "does: left"}))
    key = Mention("key", "blue", frozenset({"large", "wood", "does: turns", "does: hidden", "does: leaves"}))
    assert read_facts(text) == SummaryFacts((mug, key), 2)


def test_nothing_and_no_facts():
    for text in ("there is no such thing.", "we see no such thing.", "no such thing can be seen."):
        assert read_facts(text) == SummaryFacts(count=0)
    for text in ("", "....", "hello", "\ud800", "the the the", "is nearest", "a", "a red", "an,"):
        assert read_facts(text) == SummaryFacts()


def test_two_colours_are_no_colour():
    assert read_facts("a red blue mug on the left").mentions[0].colour == ""


@pytest.mark.parametrize("video", [False, True])
def test_generated_summaries_give_back_the_scene(video):
    counts = set()
    for i in range(40):
        example = tasks.example("summary", 3, "train", i, video=video, max_objects=5)
        first, *others = (read_facts(text) for text in example.target.references)
        assert len(others) == summaries.WORDINGS - 1
        for facts in others:
            assert (facts.mentions, facts.count) == (first.mentions, first.count)
            assert [x and x.label for x in (facts.nearest, facts.farthest)] == [
                x and x.label for x in (first.nearest, first.farthest)
            ]
        counts.add(first.count)
        assert first.count == len(first.mentions)
        scene = [(o.label, o.attributes[COLOUR], set(o.attributes) - {o.attributes[COLOUR]}) for o in example.scene]
        for mention in first.mentions:
            kind = (mention.label, mention.colour, {w for w in mention.details if ": " not in w})
            same = [thing for thing, known in zip(example.scene, scene) if known == kind]
            assert same
            if not video:
                centres = [(thing.box[0] + thing.box[2]) / 2 for thing in same]
                places = {"left" if x < 0.4 else "right" if x > 0.6 else "middle" for x in centres}
                assert {w for w in mention.details if w.startswith("on: ")} <= {f"on: {p}" for p in places}
        if not video and first.count and first.count > 1:
            described = [o for o in example.scene if any(m.label == o.label for m in first.mentions)]
            assert min(described, key=lambda o: o.depth).label == first.nearest.label or len(
                {o.label for o in described}
            ) < len(described)
    assert {0, 1, 2} <= counts


@settings(max_examples=200, deadline=None)
@given(strategies.text() | strategies.lists(strategies.sampled_from(
    ["a", "the", "red", "mug", "is nearest", "nearest to us is", "on the left", "and", ".", ",", "three things:"]
), max_size=60).map(" ".join))  # fmt: skip
def test_any_text_is_read(text):
    facts = read_facts(text)
    assert all(mention.label for mention in facts.mentions)


def test_long_texts_are_cut():
    facts = read_facts("a small red metal mug on the left and " * 20000)
    assert 1 < len(facts.mentions) < 100
    assert np.isfinite(len(facts.mentions))
