"""Reasoning segmentation on pictures: `python main.py --config=configs/seg.py[:POLICY]`."""

from configs import default


def get_config(policy: str = "tiny"):
    """The default settings; segmentation is what they are written for."""
    return default.get_config(policy)
