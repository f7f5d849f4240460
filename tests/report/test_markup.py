"""Values of any type as HTML text and as numbers."""

import pytest

from dtr1_jax.report import markup


def test_text_is_escaped_and_cut():
    assert markup.to_text("<b> & 'x'") == "&lt;b&gt; &amp; &#x27;x&#x27;"
    assert markup.to_text({"a": [1, None]}) == "{&quot;a&quot;: [1, null]}"
    assert markup.to_text("x" * (markup.MAX_TEXT + 1)) == "x" * markup.MAX_TEXT + " [cut]"


@pytest.mark.parametrize(
    "value, number",
    [(2, 2.0), (0.5, 0.5), (True, None), ("3", None), (None, None), (float("nan"), None), (10**400, None)],
)
def test_numbers(value, number):
    assert markup.to_number(value) == number


def test_series_and_settings():
    rows = [{"step": 1, "a": 2}, {"step": 2}, {"step": 3, "a": "x"}]
    assert markup.series(rows, "a") == [(1, 2.0), (3, None)]
    assert markup.setting({"a": {"b": 1}}, "a", "b") == 1
    assert markup.setting({"a": 1}, "a", "b") is None and markup.setting({}, "a") is None
