"""The least time of a compiled program on a chip, from its operations, memory traffic and messages.

A chip computes, reads its memory and sends at the same time at best, so a program takes at least as long as the
slowest of the three at the published peaks: the roofline (Williams et al. 2009). Real programs take longer: they wait
for each message, and a chip's links are seldom all in use. So these times are lower bounds, and MFU an upper bound.
"""

from __future__ import annotations

import dataclasses

from dtr1_jax.policies.chips import Chip

TERMS = ("compute", "hbm", "ici")


@dataclasses.dataclass(frozen=True)
class Work:
    """What one chip does in a part of a step.

    Attributes:
      flops: operations of matrix products.
      hbm_bytes: bytes that are read from and written to its memory.
      sent_bytes: bytes that it sends to other chips.
    """

    flops: float
    hbm_bytes: float
    sent_bytes: float

    def seconds(self, chip: Chip) -> dict[str, float]:
        """Seconds of each of TERMS at the peaks of the chip."""
        return {
            "compute": self.flops / chip.flops,
            "hbm": self.hbm_bytes / chip.hbm_bytes_s,
            "ici": self.sent_bytes / chip.ici_bytes_s,
        }

    def bound(self, chip: Chip) -> tuple[str, float]:
        """(the one of TERMS that takes longest, its seconds)."""
        return max(self.seconds(chip).items(), key=lambda term: term[1])


def mfu(flops: float, seconds: float, chip: Chip, count: int) -> float:
    """Share of the peak of `count` chips that `flops` operations in `seconds` use (model FLOPs utilization)."""
    return flops / (seconds * chip.flops * count)
