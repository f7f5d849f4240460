"""Noun phrases, by hand."""

import numpy as np
from placed_objects import THREE, context_of

from dtr1_jax.data.queries import wording
from dtr1_jax.data.queries.chains import Draft


def test_a_determiner_fits_the_number_of_objects():
    for ids, words in (((), {"the", "every"}), ((1,), {"the", "every"}), ((1, 2), {"every"})):
        contexts = (context_of(*THREE, seed=seed) for seed in range(30))
        drafts = (wording.with_noun_phrase(context, Draft(ids), "red", wording.NOUN) for context in contexts)
        texts = {draft.text for draft in drafts}
        assert texts == {f"{word} red {noun}" for word in words for noun in ("thing", "object")}
    assert wording.with_noun_phrase(context_of(*THREE), None, wording.NOUN) is None


def test_the_anchor_is_the_only_object_of_its_use():
    for seed in range(10):
        draft, phrase = wording.anchor_by_use(context_of(*THREE, seed=seed))
        assert draft.steps == ("drink: mug 1.",) and phrase.startswith("the ") and "mug" not in phrase
    assert wording.anchor_by_use(context_of(*THREE[1:])) is None
    assert wording.adjective("wood") == "wooden" and wording.adjective("red") == "red"


def test_a_sentence_fits_its_noun_phrase():
    def sentences(noun, *forms):
        return {wording.sentence_about(np.random.default_rng(seed), forms, noun) for seed in range(20)}

    forms = "which one is {}?", "which colour does {} have?", "find {}."
    assert sentences("the nearest thing", *forms) == {
        "which one is the nearest thing?", "which colour does the nearest thing have?", "find the nearest thing.",
    }  # fmt: skip
    assert sentences("every thing, the mug", *forms[1:]) == {
        "which colour does every thing, the mug, have?", "find every thing, the mug.",
    }  # fmt: skip
    assert sentences("every thing", forms[0]) == {None}
    assert sentences("the thing that I have", *forms[1:]) == {"find the thing that I have."}
    assert sentences("what it is made of", "what is {} made of?") == {None}


def test_a_superlative_after_a_clause_is_about_the_first_noun():
    pool = wording.phrases.EXTREMES["nearest"]
    for seed in range(20):
        context = context_of(*THREE, seed=seed)
        text = wording.superlative_text(context, pool, (wording.NOUN, "left of the mug"))
        assert text.startswith(("the nearest ", "the closest ")) or ", the closest of all" in text
    plain = {wording.superlative_text(context_of(*THREE, seed=s), pool, ("red", wording.NOUN)) for s in range(40)}
    assert any(text.endswith("nearest to us") for text in plain)
