"""Slices by name, and that the peaks are of the right order."""

import types

import pytest

from dtr1_jax import config
from dtr1_jax.policies import chips


@pytest.mark.parametrize("name, chip, count", [
    ("v5e:4x4", "v5e", 16), ("v5e:16x16", "v5e", 256), ("v6e:8x8", "v6e", 64), ("v5p:4x4x4", "v5p", 64),
])  # fmt: skip
def test_slices(name, chip, count):
    found, number = chips.of_slice(name)
    assert (found.name, number) == (chip, count)


@pytest.mark.parametrize("name, message", [
    ("v5e", "expected CHIP:SIZES"), ("v5e:4", "expected CHIP:SIZES"), ("v5e:4x4x4x4", "expected CHIP:SIZES"),
    ("v5e:0x4", "sizes of 1 and more"), ("v9:2x2", "no chip 'v9' are known; there are v4, v5e, v5p, v6e"),
    ("../v5e:4x4", "expected CHIP:SIZES"),
])  # fmt: skip
def test_other_names_are_refused(name, message):
    with pytest.raises(config.ConfigError, match=f"--topology={name}: .*{message}"):
        chips.of_slice(name)


@pytest.mark.parametrize("kind, name", [
    ("TPU v5 lite", "v5e"), ("TPU v5e", "v5e"), ("TPU v5", "v5p"), ("TPU v5p", "v5p"), ("TPU v6 lite", "v6e"),
    ("TPU v4", "v4"), ("cpu", None), ("NVIDIA H100", None), ("", None),
])  # fmt: skip
def test_chips_of_devices(kind, name):
    found = chips.of_device(types.SimpleNamespace(device_kind=kind))
    assert (found and found.name) == name and chips.of_device(object()) is None


def test_a_program_gets_most_of_the_memory():
    for chip in chips.CHIPS.values():
        assert 0.9 * chip.hbm_bytes < chip.usable_bytes < 1.01 * chip.hbm_bytes  # v5p gives more than its page says
        assert 100 < chip.flops / chip.hbm_bytes_s < 600  # operations for each byte, at which both bind
        assert chip.ici_bytes_s < chip.hbm_bytes_s
