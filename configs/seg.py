"""Reasoning segmentation on pictures: `python main.py --config=configs/seg.py[:POLICY]`."""

from ml_collections import ConfigDict

from configs import default


def get_config(policy: str = "tiny") -> ConfigDict:
    """The settings for segmentation, which are the defaults."""
    return default.get_config(policy)
