"""Questions about pictures: `python main.py --config=configs/vqa.py[:POLICY]`."""

from configs import default


def get_config(policy: str = "tiny"):
    """Answers are a word or two."""
    c = default.get_config(policy)
    c.data.task = "vqa"
    return c
