"""The stretches by hand, and that each micro-group runs the shortest one that holds its tokens."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtr1_jax.rl import accumulate, stretches


def test_stretches_by_hand():
    assert stretches.stretches(5) == [5] and stretches.stretches(32) == [32] and stretches.stretches(33) == [32, 33]
    assert stretches.stretches(40) == [32, 40] and stretches.stretches(70) == [32, 64, 70]
    assert stretches.stretches(160) == [64, 96, 128, 160]  # a quarter is 40
    assert stretches.stretches(224) == [64, 128, 192, 224]
    assert stretches.stretches(512) == [192, 288, 384, 480, 512]
    assert stretches.stretches(1024) == [384, 576, 768, 960, 1024]  # with steps of 160 there would be six
    for tokens in range(1, 2000, 7):
        lengths = stretches.stretches(tokens)
        assert lengths == sorted(set(lengths)) and lengths[-1] == tokens and len(lengths) <= stretches.STRETCHES
        assert all(t % stretches.MULTIPLE == 0 for t in lengths[:-1])


@pytest.mark.parametrize(
    "lengths, count, expected",
    [
        ([[70, 1, 33, 32]], 1, [70]),
        ([[70, 1, 33, 32]], 2, [70, 32]),  # 70 and 33 together, 32 and 1
        ([[70, 1, 33, 32]], 4, [70, 64, 32, 32]),
        ([[0, 0, 0, 0]], 2, [32, 32]),
        ([[65, 65, 65, 65]], 4, [70, 70, 70, 70]),
        ([[1, 2, 60, 61], [1, 2, 3, 66]], 2, [70, 32]),  # the longest of each query
    ],
)
def test_each_micro_group_runs_the_shortest_stretch_that_holds_it(lengths, count, expected):
    lengths = np.array(lengths)
    place = np.arange(70)
    mask = place == lengths[..., None] - 1  # only the last token counts
    value = np.arange(lengths.size, dtype=np.float32).reshape(lengths.shape)
    rows = (np.broadcast_to(place, mask.shape), 1.0 * mask, value, 1.0 * mask, mask)

    def function(part):
        place, logp, value, weight, mask = part
        assert place.shape[1] == lengths.shape[1] // count and place.shape == logp.shape == weight.shape == mask.shape
        assert place.shape[:2] == value.shape
        uncut = (mask * (1 + jnp.arange(place.shape[-1]))).sum(-1)  # the lengths of the part, if nothing was cut off
        return jnp.int32(place.shape[-1]), value.astype(int), uncut

    def turn(carry, part):
        rows, _ = part
        return carry, stretches.over_shortest_stretch(function, rows, rows[-1])

    @jax.jit
    def over_parts(*rows):
        rows = stretches.sort_by_length(rows, rows[-1], count)
        return accumulate.scan_parts(turn, None, rows, count, axis=1, key=None)[1]

    stretch_c, which, uncut = over_parts(*rows)
    assert np.ravel(stretch_c).tolist() == expected
    assert sorted(zip(np.ravel(which), np.ravel(uncut))) == list(enumerate(lengths.ravel()))
