"""Queries about places, for a mug (1) on the left, a hat (2) in the middle and a hat (3) on the right."""

from placed_objects import THREE, context_of

from dtr1_jax.data.queries import spatial


def test_extremes_by_hand():
    answers = {"leftmost": 1, "rightmost": 3, "highest": 3, "lowest": 2, "nearest": 1, "farthest": 3}
    for name, number in answers.items():
        draft = spatial.by_extreme(context_of(*THREE), (name,))
        assert draft.ids == (number,) and draft.steps == (f"{name} {number}.",) and draft.text.startswith("the ")


def test_halves_by_hand_and_no_query_for_an_object_in_the_middle():
    answers = {"left half": (1, 2), "right half": (3,), "upper half": (1, 3), "lower half": (2,)}
    names = set()
    for seed in range(40):
        draft = spatial.by_half(context_of(*THREE, seed=seed))
        name = " ".join(draft.steps[0].split()[:2])
        assert draft.ids == answers[name]
        names.add(name)
    assert names == set(answers)
    middle = (("mug", 0.5, 0.5, ("red", "small", "metal")),)
    assert all(spatial.by_half(context_of(*middle, seed=seed)) is None for seed in range(10))


def test_a_relation_to_a_label_has_the_only_object_of_its_label_as_anchor():
    answers = {"left of": (), "right of": (2, 3), "above": (3,), "below": (2,), "behind": (2, 3), "in front of": ()}
    names = set()
    for seed in range(40):
        draft = spatial.by_relation_to_label(context_of(*THREE, seed=seed))
        name = draft.steps[-1].partition(" 1 is")[0]
        assert draft.steps[0] == "mug 1." and "the mug" in draft.text
        assert draft.ids == answers[name]
        names.add(name)
    assert names == set(answers)
