"""Messages: every allowed value survives, and bytes that are no message are refused."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from dtr1_jax.run import worker_messages

TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None)
@given(TREES)
def test_trees_round_trip(tree):
    assert worker_messages.decode(worker_messages.encode(tree)) == tree


DTYPES = [np.bool_, np.uint8, np.int64, np.float32]


@settings(max_examples=50, deadline=None)
@given(st.lists(npst.arrays(st.sampled_from(DTYPES), npst.array_shapes(min_side=0)), max_size=3))
def test_arrays_round_trip(arrays):
    back = worker_messages.decode(worker_messages.encode({"x": arrays, "y": [arrays[:1], 1]}))
    for result, array in zip(back["x"] + back["y"][0], arrays + arrays[:1], strict=True):
        assert result.dtype == array.dtype and result.shape == array.shape
        np.testing.assert_array_equal(result, array)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), st.integers(0, 40))
def test_bytes_that_are_no_message_are_refused(junk, cut):
    """Any bytes are either a message or a ValueError."""
    body = worker_messages.encode({"x": np.zeros((2, 3), np.float32)})
    for wrong in (junk, body[:cut] + junk, body[:cut], body + junk):
        try:
            worker_messages.decode(wrong)
        except ValueError:
            pass


@pytest.mark.parametrize(
    "form",
    ['{"array":["O",[1]]}', '{"array":["<f4",[-1]]}', '{"array":["<f4",[9000000000]]}', '{"array":["<f4",[true]]}',
     '{"array":"<f4"}', '{"other":1}', '{"dict":[1]}', '{"array":["V8",[1]]}', "[" * 100_000, "nonsense"],
)  # fmt: skip
def test_hostile_forms_are_refused(form):
    text = form.encode()
    with pytest.raises(ValueError):
        worker_messages.decode(len(text).to_bytes(8, "little") + text + bytes(8))


def test_numpy_scalars_and_tuples_become_plain():
    body = worker_messages.encode((np.float32(0.5), np.int64(3), np.bool_(True)))
    assert worker_messages.decode(body) == [0.5, 3, True]
    assert math.isnan(worker_messages.decode(worker_messages.encode(math.nan)))
