"""Categories and the combinations that training never shows."""

from dtr1_jax.data.queries import attributes
from dtr1_jax.data.twinworld import categories


def test_unseen_combinations_are_a_fifth_and_stay_out_of_training(pictures):
    assert 0.15 <= len(categories.UNSEEN) / (len(categories.LABELS) * len(attributes.COLOURS)) <= 0.25
    parts = categories.UNSEEN_IN
    assert not parts["heldout"] & parts["validation"] and len(parts["heldout"]) == len(parts["validation"])
    combinations_of = {
        split: [{(thing.label, thing.attributes[0]) for thing in example.scene} for example in part]
        for split, part in pictures.items()
    }
    assert not any(combinations & categories.UNSEEN for combinations in combinations_of["train"])
    for split, own in parts.items():
        assert all(combinations & own for combinations in combinations_of[split])
        assert not any(combinations & (categories.UNSEEN - own) for combinations in combinations_of[split])
    in_training = set().union(*combinations_of["train"])
    assert {label for label, _ in in_training} == set(categories.LABELS)
    assert {colour for _, colour in in_training} == set(attributes.COLOURS)
