"""The sizes of micro-batches and micro-groups by hand, and the rows and the key of each part."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh

from configs import default
from dtr1_jax import config
from dtr1_jax.mesh import AXES
from dtr1_jax.rl import accumulate

SETTINGS = config.from_configdict(default.get_config())
KEY = jax.random.key(7)


def micro_batch(queries, minibatches, micro_queries, data=1, fsdp=1, tensor=1):
    return accumulate.micro_batch(
        dataclasses.replace(SETTINGS.rollout, queries=queries),
        dataclasses.replace(SETTINGS.grpo, minibatches=minibatches, micro_queries=micro_queries),
        AbstractMesh((data, fsdp, tensor), AXES),
    )


def test_a_micro_batch_has_micro_queries_on_each_shard_of_the_batch():
    assert micro_batch(16, 1, 2) == 2
    assert micro_batch(16, 1, 2, data=2, fsdp=2, tensor=2) == 8
    assert micro_batch(16, 2, 4, data=4) == 8  # no larger than the minibatch
    assert micro_batch(16, 2, 0, fsdp=8) == 0  # the whole minibatch


def test_a_minibatch_that_cannot_be_cut_is_refused():
    with pytest.raises(config.ConfigError, match=r"config\.rollout\.queries / grpo\.minibatches = 12 is not"):
        micro_batch(12, 1, 1, fsdp=8)
    with pytest.raises(config.ConfigError, match="micro-batches of 16 queries, which do not divide the 24"):
        micro_batch(24, 1, 2, data=8)


@pytest.mark.parametrize(
    "group, limit, size", [(8, 0, 8), (8, 3, 2), (8, 8, 8), (8, 99, 8), (6, 4, 3), (7, 6, 1), (1, 0, 1), (1, 1, 1)]
)
def test_a_micro_group_is_the_largest_divisor_up_to_the_limit(group, limit, size):
    assert accumulate.micro_group(group, limit) == size


@pytest.mark.parametrize("axis, shape", [(0, (8, 3)), (1, (3, 8))])
def test_a_part_takes_every_count_th_row(axis, shape):
    x = np.arange(24).reshape(shape)
    _, parts = accumulate.scan_parts(lambda carry, part: (carry, part[0]), 0, x, 4, axis=axis, key=None)
    for i, part in enumerate(parts):
        np.testing.assert_array_equal(part, x.take(range(i, 8, 4), axis))


@pytest.mark.parametrize("axis, shape", [(0, (8, 3)), (1, (3, 8))])
@pytest.mark.parametrize("count", [1, 2, 8])
def test_joined_parts_are_in_the_order_of_the_rows(axis, shape, count):
    x = jnp.arange(24).reshape(shape)
    _, parts = accumulate.scan_parts(lambda carry, part: (carry, part[0]), 0, x, count, axis=axis, key=None)
    np.testing.assert_array_equal(accumulate.join_parts(parts, count, axis=axis), x)


def test_each_part_has_a_key_of_its_own():
    def note(total, part):
        rows, key = part
        return total + rows.sum(), jax.random.key_data(key)

    total, keys = accumulate.scan_parts(note, jnp.float32(0), jnp.ones((8, 3)), 4, axis=0, key=KEY)
    assert total == 24 and len({tuple(k.tolist()) for k in keys}) == 4
    _, key = accumulate.scan_parts(note, jnp.float32(0), jnp.ones((8, 3)), 1, axis=0, key=KEY)
    np.testing.assert_array_equal(key, jax.random.key_data(KEY))
    assert accumulate.scan_parts(lambda total, part: (total, part), 0, (), 1, axis=0, key=None)[1] == ((), None)
