"""Noun phrases, by hand."""

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
