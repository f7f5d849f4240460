"""Published peaks of TPU chips, and the slices that are made of them, by names such as "v5e:4x4".

Sources, read in November 2026: the pages TPU v4, v5e, v5p and v6e of https://docs.cloud.google.com/tpu/docs. They give
the interconnect of v5e, v5p and v6e as the sum of all links of a chip, 1600, 4800 and 3200 Gbit/s in one direction. The
page of v4 does not; arXiv 2304.01433 gives it 6 links of 50 GB/s.
"""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

from dtr1_jax.config import ConfigError


@dataclasses.dataclass(frozen=True)
class Chip:
    """What one chip can do at most.

    Attributes:
      name: as in the name of a slice.
      kinds: as JAX names the chip (`device_kind`), which depends on its version.
      hbm_bytes: published memory.
      usable_bytes: the part of it that the TPU compiler gives to programs, from its own message where a program is too
        large (libtpu 0.0.42.1).
      flops: bfloat16 operations per second, where a multiplication and an addition are two.
      hbm_bytes_s: bytes per second between the chip and its memory.
      ici_bytes_s: bytes per second that a chip sends to other chips of the slice, over all its links together.
    """

    name: str
    kinds: tuple[str, ...]
    hbm_bytes: int
    usable_bytes: int
    flops: float
    hbm_bytes_s: float
    ici_bytes_s: float


_GIB = 2**30
CHIPS = {
    chip.name: chip
    for chip in (
        Chip("v4", ("TPU v4",), 32 * _GIB, int(30.5 * _GIB), 275e12, 1200e9, 300e9),
        Chip("v5e", ("TPU v5 lite", "TPU v5e"), 16 * _GIB, int(15.75 * _GIB), 197e12, 819e9, 200e9),
        Chip("v5p", ("TPU v5", "TPU v5p"), 95 * _GIB, int(95.74 * _GIB), 459e12, 2765e9, 600e9),
        Chip("v6e", ("TPU v6 lite", "TPU v6e"), 32 * _GIB, int(31.25 * _GIB), 918e12, 1640e9, 400e9),
    )
}


def of_device(device: Any) -> Chip | None:
    """The chip of a device of JAX; None for CPUs, GPUs and chips that are not listed here."""
    return next((chip for chip in CHIPS.values() if getattr(device, "device_kind", "") in chip.kinds), None)


def of_slice(topology: str) -> tuple[Chip, int]:
    """(the chip, the number of chips) of a slice such as "v5e:4x4".

    Raises ConfigError for a name of another form, or a chip whose peaks are not listed here.
    """
    match = re.fullmatch(r"(\w+):(\d{1,4}(?:x\d{1,4}){1,2})", topology)
    if match is None:
        raise ConfigError(f"--topology={topology}: expected CHIP:SIZES with two or three sizes, such as v5e:4x4")
    name, sizes = match.groups()
    if name not in CHIPS:
        raise ConfigError(
            f"--topology={topology}: the peaks of no chip {name!r} are known; there are {', '.join(CHIPS)}"
        )
    count = math.prod(int(n) for n in sizes.split("x"))
    if not count:
        raise ConfigError(f"--topology={topology}: expected sizes of 1 and more")
    return CHIPS[name], count
