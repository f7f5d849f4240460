"""Any number of rows runs in few batch sizes, cut over the devices, with the same results."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtr1_jax import config, mesh
from dtr1_jax.specialists import batching


@pytest.mark.parametrize(
    ("rows", "multiple", "count"), [(0, 1, 1), (1, 1, 1), (3, 1, 4), (4, 1, 4), (1, 6, 6), (7, 6, 12)]
)
def test_padded_count(rows, multiple, count):
    assert batching.padded_count(rows, multiple) == count


@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("rows", [1, 5, 13])
def test_rows_come_back_in_order(devices, rows):
    traced = []

    @jax.jit
    def function(x, y):
        traced.append(x.shape)
        return {"sum": x.sum(-1) + y, "x": x}

    device_mesh = mesh.make(config.Mesh(data=-1, fsdp=1, tensor=1), jax.devices()[:devices])
    x, y = np.arange(rows * 3.0, dtype=np.float32).reshape(rows, 3), np.arange(rows, dtype=np.float32)
    found = batching.run(function, (x, y), device_mesh, most=4)
    np.testing.assert_array_equal(found["x"], x)
    np.testing.assert_array_equal(found["sum"], x.sum(-1) + y)
    assert {shape[0] for shape in traced} <= {1, 4, 8}
    assert batching.run(function, (x[:0], y[:0]), device_mesh, most=4) is None


def test_rows_are_cut_over_the_devices():
    device_mesh = mesh.make(config.Mesh(data=4, fsdp=2, tensor=1))
    seen = []

    def function(x):
        seen.append(len(x.sharding.device_set))
        assert {shard.data.shape for shard in x.addressable_shards} == {(1, 2)}
        return jnp.zeros(len(x))

    batching.run(function, (np.ones((8, 2)),), device_mesh, most=8)
    assert seen == [8]
