"""Rotary positions: by hand, and as transformers' get_rope_index numbers the same prompts (fixtures and live)."""

import json
import pathlib

import numpy as np
import processors
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.data.rotary_positions import Grid, positions

FIXTURES = json.loads((pathlib.Path(__file__).parents[1] / "fixtures" / "processors.json").read_text("utf-8"))


def parts(family, name):
    """A case of processors.ROPE as `positions` takes it."""
    out = []
    for part in processors.ROPE[name]:
        if isinstance(part, int):
            out.append(part)
            continue
        kind, t, h, w, second = part
        if kind == "video" and family == "qwen3_vl":  # each temporal patch behind its time, here one token
            out += [x for i in range(t) for x in ([1] if i else []) + [Grid(1, h // 2, w // 2)]]
        else:
            out.append(Grid(t, h // 2, w // 2, 2 * second if kind == "video" else 1.0))
    return out


def test_by_hand():
    position, following = positions([2, Grid(1, 2, 3), 1])  # two words, 2 x 3 vision tokens, one word
    np.testing.assert_array_equal(
        position,
        [[0, 0, 0], [1, 1, 1], [2, 2, 2], [2, 2, 3], [2, 2, 4], [2, 3, 2], [2, 3, 3], [2, 3, 4], [5, 5, 5]],
    )
    assert following == 6
    assert position.dtype == np.int32


def test_a_video_by_hand():
    """Times 0, 1.5 and 3 are rounded down; the text goes on behind the rows, or behind all."""
    video = [[1, 1, 1], [1, 2, 1], [2, 1, 1], [2, 2, 1], [4, 1, 1], [4, 2, 1]]
    position, following = positions([1, Grid(3, 2, 1, 1.5), 1])
    np.testing.assert_array_equal(position, [[0, 0, 0], *video, [3, 3, 3]])
    assert following == 5  # the largest of all axes, plus 1
    position, following = positions([1, Grid(3, 2, 1, 1.5, "end"), 1])
    np.testing.assert_array_equal(position, [[0, 0, 0], *video, [5, 5, 5]])
    assert following == 6


@pytest.mark.parametrize("rows, columns", [(1, 1), (4, 1), (1, 5)])
def test_text_goes_on_after_the_larger_side(rows, columns):
    position, following = positions([3, Grid(1, rows, columns), 4])
    assert position[3 + rows * columns].tolist() == [position[: 3 + rows * columns].max() + 1] * 3
    assert following == position.max() + 1


def test_nothing():
    position, following = positions([])
    assert position.shape == (0, 3)
    assert following == 0


@pytest.mark.parametrize("name", processors.ROPE)
@pytest.mark.parametrize("family", processors.FAMILIES)
def test_as_transformers(family, name):
    following, position = FIXTURES[family]["rope"][name]
    actual, actual_following = positions(parts(family, name))
    np.testing.assert_array_equal(actual, position)
    assert actual_following == following


@pytest.mark.parametrize("name", processors.ROPE)
@pytest.mark.parametrize("family", processors.FAMILIES)
def test_the_fixtures_equal_the_installed_transformers(family, name):
    pytest.importorskip("torch")
    assert FIXTURES[family]["rope"][name] == processors.rope_summary(family, name)


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6), st.integers(1, 4), st.integers(1, 4)), max_size=3),
    st.floats(0.01, 20),
)
@settings(max_examples=40, deadline=None)
def test_any_videos_as_transformers(videos, second):
    pytest.importorskip("torch")
    kinds, grids, ours = [0], [], [1]
    for text, t, h, w in videos:
        kinds += [0] * (text + 1) + [2] * (t * h * w)
        ours += [text + 1, Grid(t, h, w, 2 * second)]
        grids.append([t, 2 * h, 2 * w])
    position, following = processors.rope("qwen2_5_vl", kinds, [], grids, [second] * len(grids))
    actual, actual_following = positions(ours)
    np.testing.assert_array_equal(actual, position)
    assert actual_following == following
