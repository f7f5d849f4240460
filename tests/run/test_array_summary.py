"""Summaries of arrays: checksums that one changed element changes and a sharding does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtr1_jax.run.array_summary import array_differences, checksum, summarize_arrays


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.uint8, jnp.int32, jnp.bool_])
def test_one_changed_element_changes_the_checksum(dtype):
    x = jnp.zeros((5, 7), dtype)
    sums = {int(checksum(x.at[i, j].set(jnp.ones((), dtype)))) for i in range(5) for j in range(7)}
    assert len(sums) == 35 and int(checksum(x)) not in sums


def test_checksum_by_hand_and_on_any_sharding():
    x = jnp.arange(32, dtype=jnp.uint32).reshape(8, 4)
    by_hand = sum(i * (2 * i + 1) for i in range(32))
    mesh = jax.make_mesh((8,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
    for spec in (("x",), (None,)):
        place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(*spec))
        assert int(checksum(jax.device_put(x, place))) == by_hand
    assert int(checksum(jnp.float32(1))) == np.float32(1).view(np.uint32)


def test_a_summary_names_each_array():
    summary = summarize_arrays({"a": {"b": jnp.zeros((2, 3))}, "c": jnp.uint32(5)})
    assert summary == {
        "a/b": {"shape": [2, 3], "dtype": "float32", "sum": 0}, "c": {"shape": [], "dtype": "uint32", "sum": 5},
    }  # fmt: skip


def test_at_most_ten_differences_are_listed():
    summary = summarize_arrays({f"x{i:02d}": jnp.zeros(1) for i in range(12)})
    assert array_differences(summary, {f"x{i:02d}": jnp.zeros(1) for i in range(12)}) == []
    lines = array_differences(summary, {"x00": jnp.zeros(1), "y": jnp.zeros(2)})
    assert lines[0] == "x01: expected nothing, the checkpoint has float32[1]" and lines[-1] == "and 2 more"
