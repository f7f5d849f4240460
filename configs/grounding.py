"""Grounding in pictures: `python main.py --config=configs/grounding.py[:POLICY]`."""

from ml_collections import ConfigDict

from configs import default


def get_config(policy: str = "tiny") -> ConfigDict:
    """The settings for grounding, whose answer is a list of boxes."""
    c = default.get_config(policy)
    c.data.task = "grounding"
    return c
