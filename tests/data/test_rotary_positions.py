"""Rotary positions: by hand, as in the release of Qwen2.5-VL, and as in transformers (fixtures and live)."""

import json
import pathlib

import numpy as np
import processors
import pytest
import released_rope
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.data.rotary_positions import Grid, positions

FIXTURES = json.loads((pathlib.Path(__file__).parents[1] / "fixtures" / "processors.json").read_text("utf-8"))


def parts(family, name, resume="grid"):
    """A case of processors.ROPE as `positions` takes it, by default with the rule of transformers."""
    out = []
    for part in processors.ROPE[name]:
        if isinstance(part, int):
            out.append(part)
            continue
        kind, t, h, w, second = part
        if kind == "video" and family == "qwen3_vl":  # each temporal patch behind its time, here one token
            out += [x for i in range(t) for x in ([1] if i else []) + [Grid(1, h // 2, w // 2)]]
        else:
            out.append(Grid(t, h // 2, w // 2, 2 * second if kind == "video" else 1.0, resume))
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
    """Times 0, 1.5 and 3 are rounded down; the text goes on behind all axes, or behind the rows and columns."""
    video = [[1, 1, 1], [1, 2, 1], [2, 1, 1], [2, 2, 1], [4, 1, 1], [4, 2, 1]]
    position, following = positions([1, Grid(3, 2, 1, 1.5), 1])
    np.testing.assert_array_equal(position, [[0, 0, 0], *video, [5, 5, 5]])
    assert following == 6
    position, following = positions([1, Grid(3, 2, 1, 1.5, "grid"), 1])
    np.testing.assert_array_equal(position, [[0, 0, 0], *video, [3, 3, 3]])
    assert following == 4  # as the text of the prompt went on


def test_text_behind_a_long_video_by_hand():
    """Times 0, 150, 300 and 450 behind 3 tokens: the last is at 453, and 41 tokens of text and a completion follow."""
    position, following = positions([3, Grid(4, 3, 2, step=150.0), 41])
    assert position[:27].max() == 453
    np.testing.assert_array_equal(position[27:], np.repeat(np.arange(454, 495)[:, None], 3, 1))
    assert following == 495
    position, following = positions([3, Grid(4, 3, 2, step=150.0, resume="grid"), 41])
    np.testing.assert_array_equal(position[27:], np.repeat(np.arange(6, 47)[:, None], 3, 1))
    assert following == 47


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


@pytest.mark.parametrize("name", processors.ROPE)
def test_as_released(name):
    kinds, grids, seconds = [], {"image": [], "video": []}, []
    for part in processors.ROPE[name]:
        if isinstance(part, int):
            kinds += [0] * part
            continue
        kind, t, h, w, second = part
        kinds += [1 + (kind == "video")] * (t * h * w // 4)
        grids[kind].append((t, h, w))
        seconds += [second] * (kind == "video")
    position, following = released_rope.positions(kinds, grids["image"], grids["video"], seconds, 2, 2)
    actual, actual_following = positions(parts("qwen2_5_vl", name, "end"))
    np.testing.assert_array_equal(actual, position)
    assert actual_following == following


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6), st.integers(1, 4), st.integers(1, 4)), max_size=3),
    st.floats(0.01, 20),
)
@settings(max_examples=40, deadline=None)
def test_any_videos_as_transformers_and_as_released(videos, second):
    pytest.importorskip("torch")
    kinds, grids, ours = [0], [], [1]
    for text, t, h, w in videos:
        kinds += [0] * text + [2] * (t * h * w) + [0]
        ours += [text, (t, h, w, 2 * second), 1]
        grids.append([t, 2 * h, 2 * w])
    seconds = [second] * len(grids)
    references = {
        "grid": processors.rope("qwen2_5_vl", kinds, [], grids, seconds),
        "end": released_rope.positions(kinds, [], grids, seconds, 2, 2),
    }
    for resume, (position, following) in references.items():
        actual, actual_following = positions([Grid(*x, resume) if isinstance(x, tuple) else x for x in ours])
        np.testing.assert_array_equal(actual, position)
        assert actual_following == following
