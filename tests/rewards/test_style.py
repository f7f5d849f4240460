"""Length and repetition of a completion, by hand."""

import pytest

from dtr1_jax.rewards import style


def test_length():
    assert [style.length(n, 100, 20) for n in (0, 80, 90, 100, 150)] == [1.0, 1.0, 0.5, 0.0, 0.0]
    for slack in (0, 101):
        with pytest.raises(ValueError, match="slack"):
            style.length(1, 100, slack)


def test_repetition():
    assert style.repetition("a b c d e") == 1.0
    assert style.repetition("a b a b a b", 2) == 2 / 5
    assert style.repetition("") == style.repetition("one two") == 1.0 and style.repetition(None) == 0.0
    assert style.repetition("yes " * 30_000) < 0.01 and style.repetition("猫" * 50_000) < 0.01
    assert 0 <= style.repetition("\ud800 שלום") <= 1
