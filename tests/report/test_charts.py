"""Points, gaps, ticks and smoothing of a chart."""

import xml.etree.ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.report import charts


def points_of(svg):
    return [
        [tuple(map(float, p.split(","))) for p in line.get("points").split()]
        for line in xml.etree.ElementTree.fromstring(svg).iter("polyline")
    ]


def test_chart_places_points():
    (line,) = points_of(charts.chart({"a": [(0, 0.0), (5, 0.5), (10, 1.0)]}, label="a"))
    (x0, y0), (x1, y1), (x2, y2) = line
    assert (x0, x2) == (46, charts.WIDTH - 10) and (y0, y2) == (charts.HEIGHT - 24, 8)
    assert (x1, y1) == ((x0 + x2) / 2, (y0 + y2) / 2)


def test_chart_breaks_at_gaps_and_smooths_long_lines():
    gap = charts.chart({"a": [(0, 1), (1, 2), (2, None), (3, float("nan")), (4, 1), (5, 2), (6, 1e308)]}, label="a")
    assert [len(line) for line in points_of(gap)] == [2, 2]
    assert len(points_of(charts.chart({"a": [(x, x % 2) for x in range(41)]}, label="a"))) == 2
    assert "nothing recorded" in charts.chart({"a": [(0, None)]}, label="a")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(), min_size=1, max_size=6))
def test_chart_of_any_numbers_stays_in_its_box(values):
    svg = charts.chart({"<a>": list(enumerate(values))}, label="<a>")
    for line in points_of(svg) if svg.startswith("<svg") else []:
        assert all(-1 <= x <= charts.WIDTH + 1 and -1 <= y <= charts.HEIGHT + 1 for x, y in line)


@pytest.mark.parametrize(
    "low, high, expected",
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (5, 5, [4.5, 5, 5.5]),
        (0, 0, [-1, 0, 1]),
        (-2, 7, [-2, 0, 2, 4, 6]),
        (0.31, 0.58, [0.35, 0.4, 0.45, 0.5, 0.55]),
    ],
)
def test_ticks(low, high, expected):
    np.testing.assert_allclose(charts.ticks(low, high), expected, atol=1e-12)


def test_smooth_is_unbiased_from_the_start():
    np.testing.assert_allclose(charts.smooth([3.0] * 4), [3.0] * 4)
    # weights 0.7 * 0.3 and 0.3 over 1 - 0.49
    np.testing.assert_allclose(charts.smooth([0.0, 1.0]), [0.0, 0.3 / 0.51])
