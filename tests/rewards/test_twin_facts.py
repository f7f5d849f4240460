"""Twins and annotations as arrays: which facts there are, and how many."""

import dataclasses

import pytest
from described import LATE, MOVING, MUG, SCENE, columns, example, objects

from dtr1_jax.rewards import twin_facts, twin_truth


def test_columns_need_annotated_facts():
    def of(scene, frames=0):
        return twin_facts.known(twin_facts.of_example(example(scene), frames), frames > 0)

    assert of(()) == set()
    assert of(SCENE) == set(twin_truth.COLUMNS) - {"twin_tracks"}
    assert of((MUG,)) == {"twin_iou", "twin_labels", "twin_attributes", "twin_relations"}
    bare = [dataclasses.replace(i, attributes=(), depth=0) for i in SCENE]
    assert of(bare) == {"twin_iou", "twin_labels", "twin_relations"}
    assert "twin_tracks" in of((MOVING, LATE), 4)


def test_many_objects_stay_bounded_and_all_count():
    scene = [dataclasses.replace(MUG, id=i + 1, box=(i / 100, 0, (i + 1) / 100, 0.5)) for i in range(100)]
    assert columns(objects(scene)[:50], scene=scene)["twin_labels"] == pytest.approx(0.5, abs=0.15)
    assert columns(objects(scene), scene=scene)["twin_labels"] <= twin_facts.MAX_OBJECTS / 100 + 1e-6
