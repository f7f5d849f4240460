"""Times by hand."""

import pytest

from dtr1_jax.policies import chips, roofline

CHIP = chips.Chip("c", ("C",), 100, 90, flops=1000.0, hbm_bytes_s=100.0, ici_bytes_s=10.0)


@pytest.mark.parametrize("work, term, seconds", [
    ((2000, 100, 10), "compute", 2), ((2000, 500, 10), "hbm", 5), ((2000, 500, 70), "ici", 7),
])  # fmt: skip
def test_the_slowest_binds(work, term, seconds):
    work = roofline.Work(*work)
    assert work.bound(CHIP) == (term, seconds)
    assert work.seconds(CHIP) == {"compute": 2, "hbm": work.hbm_bytes / 100, "ici": work.sent_bytes / 10}


def test_mfu():
    assert roofline.mfu(8000, 2, CHIP, 16) == 8000 / (2 * 1000 * 16)
