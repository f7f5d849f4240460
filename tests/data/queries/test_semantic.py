"""Queries about uses and attributes, for a red mug (1), a blue hat (2) and a red hat (3)."""

from placed_objects import THREE, context_of

from dtr1_jax.data.queries import semantic


def test_the_other_object_of_the_mugs_colour_is_the_red_hat():
    answers = {}
    for seed in range(30):
        draft = semantic.by_shared_attribute(context_of(*THREE, seed=seed))
        answers[draft.steps[-1].split()[1]] = draft.ids
        assert draft.steps[0] == "drink: mug 1." and "other" in draft.text
    assert answers == {"red": (3,), "metal": ()}


def test_a_use_lists_its_objects_and_an_attribute_filters_them():
    for seed in range(30):
        draft = semantic.by_use_and_attribute(context_of(*THREE, seed=seed))
        word = draft.steps[1].split()[0]
        assert draft.ids == tuple(i for i in draft.ids if word in THREE[i - 1][3])
        excluded = semantic.by_use_without_attribute(context_of(*THREE, seed=seed))
        word = excluded.steps[1].split()[1]
        assert all(word not in THREE[i - 1][3] for i in excluded.ids)


def test_a_query_without_an_answer_is_about_an_absent_use():
    for seed in range(30):
        draft = semantic.by_use(context_of(*THREE, answer_count="none", seed=seed))
        assert draft.ids == () and draft.steps[0].endswith(" none.")
