"""The fidelity of a twin to the annotated scene: by hand."""

import pytest

from dtr1_jax.evaluation.benchmarks import twin_fidelity
from dtr1_jax.evaluation.benchmarks.twin_fidelity import DescribedObject, Fidelity

MUG = DescribedObject("mug", (0, 0, 4, 4), ("red", "small"))
KEY = DescribedObject("key", (6, 0, 8, 4), ("blue",))


def test_the_order_of_the_objects_does_not_matter():
    assert twin_fidelity.fidelity([KEY, MUG], [MUG, KEY]) == Fidelity(0, 1.0, 2, 2, 2, 3, 3)


def test_missing_and_extra_objects_cost():
    assert twin_fidelity.fidelity([MUG], [MUG, KEY]) == Fidelity(-1, 0.5, 2, 1, 1, 2, 2)
    assert twin_fidelity.fidelity([MUG, KEY], [MUG]) == Fidelity(1, 0.5, 1, 1, 1, 2, 2)
    assert twin_fidelity.fidelity([], [MUG, KEY]) == Fidelity(-2, 0.0, 2, 0, 0, 0, 0)
    assert twin_fidelity.fidelity([], []) == Fidelity(0, 1.0, 0, 0, 0, 0, 0)


def test_only_matches_compare_labels_and_attributes():
    near = DescribedObject("Cup", (0, 0, 4, 3), ("Red", "large"))  # IoU 0.75 with the mug
    far = DescribedObject("key", (7, 0, 9, 4), ("blue",))  # IoU 1/3 with the key
    assert twin_fidelity.fidelity([near, far], [MUG, KEY]) == pytest.approx(
        Fidelity(0, (0.75 + 1 / 3) / 2, 2, 1, 0, 1, 2)
    )


def test_pairs_are_the_best_sum_and_each_object_has_one_partner():
    two = [MUG, DescribedObject("mug", (0, 0, 4, 3), ("red",))]
    assert twin_fidelity.fidelity(two, [MUG])[1:4] == (0.5, 1, 1)


def test_figures_are_means_over_twins_and_shares_over_objects():
    rows = [Fidelity(0, 1.0, 2, 2, 2, 3, 3), Fidelity(-1, 0.5, 2, 1, 0, 0, 2)]
    want = {"count_right": 0.5, "excess": -0.5, "iou": 0.75, "found": 0.75, "label": 2 / 3, "attributes": 0.6}
    assert twin_fidelity.figures(rows) == pytest.approx(want)


def test_figures_without_objects():
    assert twin_fidelity.figures([]) == {}
    assert set(twin_fidelity.figures([Fidelity(-2, 0.0, 2, 0, 0, 0, 0)])) == {"count_right", "excess", "iou", "found"}
