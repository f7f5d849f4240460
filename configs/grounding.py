"""Grounding in pictures: `python main.py --config=configs/grounding.py[:POLICY]`."""

from configs import default


def get_config(policy: str = "tiny"):
    """The answer is a list of boxes."""
    c = default.get_config(policy)
    c.data.task = "grounding"
    return c
