"""Names that mean the same, and names that do not."""

import dataclasses

import pytest
from described import MUG, columns, objects

from dtr1_jax.rewards import label_names
from dtr1_jax.rewards.twin_truth import RELATIONS
from dtr1_jax.twin import label_synonyms


@pytest.mark.parametrize(
    ("said", "annotated", "same"),
    [
        ("sofa", "couch", True), ("TV", "tv", True), ("cell-phone", "cell phone", True),
        ("fridge", "refrigerator", True),
        ("Mug ", "mug", True), ("cup", "mug", False), ("car", "cat", False), ("wooden", "wood", False),
    ],
)  # fmt: skip
def test_synonyms_of_labels(said, annotated, same):
    scene = [dataclasses.replace(MUG, label=annotated)]
    thing = dataclasses.replace(objects([MUG])[0], label=said)
    assert columns([thing], scene=scene)["twin_labels"] == (1 if same else 0)


def test_relations_have_one_kind_in_all_wordings():
    for words, kind in (
        ("left of", "left of"), ("To the left of", "left of"), ("is behind", "behind"), ("under", "below"),
        ("contains", "around"), ("in", "inside"), ("on", "on"), ("is on top of", "on"), ("touches", "touching"),
    ):  # fmt: skip
        assert RELATIONS[label_names.relation_kind(words)] == kind
    assert label_names.relation_kind("dreams of") == -1


def test_every_relation_that_specialists_state_has_a_kind():
    stated = ("inside", "on", "overlapping", "touching", "in front of", "left of", "right of", "above", "below")
    for name in (*stated, *RELATIONS):
        assert RELATIONS[label_names.relation_kind(name)] == name


def test_no_name_stands_for_two_things():
    for table in (label_synonyms.LABELS, label_names._ATTRIBUTES):
        names = [name for row in table for name in row]
        assert len(names) == len(set(names))
