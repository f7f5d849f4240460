"""Queries about numbers, for a red mug (1), a blue hat (2) and a red hat (3)."""

from placed_objects import THREE, context_of

from dtr1_jax.data.queries import counting


def test_the_pair_is_the_two_hats():
    draft = counting.by_pair(context_of(*THREE))
    assert draft.ids == (2, 3) and draft.steps == ("twice: hat 2 3.",)
    assert counting.by_pair(context_of(*THREE[:2])).steps == ("twice none.",)
    assert counting.by_pair(context_of(*THREE, *THREE[:1])) is None, "two categories occur twice"


def test_the_most_common_and_the_unshared_values():
    common, unshared = {}, {}
    for seed in range(30):
        draft = counting.by_most_common(context_of(*THREE, seed=seed))
        common[draft.steps[0].partition(":")[0]] = draft.ids
        draft = counting.by_unshared_attribute(context_of(*THREE, seed=seed))
        unshared[draft.steps[0].split()[1]] = draft.ids
    assert common == {"most colour": (1, 3), "most material": (2, 3)}
    assert unshared == {"colour": (2,), "material": (1,)}
    assert counting.by_most_common(context_of(*THREE[:2])) is None, "all values are equally common"
