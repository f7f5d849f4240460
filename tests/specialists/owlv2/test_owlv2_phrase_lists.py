"""Lists of phrases: one for all pictures or one for each, padding, and what is refused."""

import numpy as np
import pytest

from dtr1_jax.specialists.owlv2 import phrase_lists


def test_one_list_or_one_each():
    assert phrase_lists.per_picture(["a", "b"], 3) == [["a", "b"]] * 3
    assert phrase_lists.per_picture([["a"], ("b", "c")], 2) == [["a"], ("b", "c")]
    assert phrase_lists.per_picture(("a",), 1) == [("a",)]
    assert phrase_lists.per_picture(["a"], 0) == []


def test_padding_to_a_power_of_two():
    table = {name: np.full(4, i, np.float32) for i, name in enumerate("abc")}
    query, mask = phrase_lists.padded([["c", "a", "b"], ["b"]], table)
    assert query.shape == (2, 4, 4) and query[..., 0].tolist() == [[2, 0, 1, 0], [1, 0, 0, 0]]
    assert mask.tolist() == [[True, True, True, False], [True, False, False, False]]


@pytest.mark.parametrize(
    ("phrases", "message"),
    [
        ([], "phrases: expected a list with at least one phrase"),
        ([["a"], []], "phrases of picture 1: expected a list with at least one phrase"),
        ("cat", r"got 'cat'; one phrase is \[phrase\]"),
        (None, "expected a list of phrases"),
        (["a", ""], "got '' as phrase 1"),
        (["a", "  "], "got '  ' as phrase 1"),
        (["a", 3], "got 3 as phrase 1"),
        ([["a"], "b"], r"got \['a'\] as phrase 0"),
        ([1, 2], "phrases of picture 0: expected a list"),
        ([["a"]], "expected a list for each of 2 pictures, got 1 lists"),
    ],
)
def test_refused(phrases, message):
    with pytest.raises(ValueError, match=message):
        phrase_lists.per_picture(phrases, 2)
