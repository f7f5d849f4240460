"""Questions about pictures: `python main.py --config=configs/vqa.py[:POLICY]`."""

from ml_collections import ConfigDict

from configs import default


def get_config(policy: str = "tiny") -> ConfigDict:
    """The settings for questions, whose answer is a word or two."""
    c = default.get_config(policy)
    c.data.task = "vqa"
    return c
