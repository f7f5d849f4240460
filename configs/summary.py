"""What a picture shows, in a paragraph: `python main.py --config=configs/summary.py[:POLICY]`."""

from ml_collections import ConfigDict

from configs import default


def get_config(policy: str = "tiny") -> ConfigDict:
    """The settings for summaries: longer completions, because a summary has a sentence for each object."""
    c = default.get_config(policy)
    c.data.task = "summary"
    if policy == "tiny":
        c.rollout.new_tokens = 224  # seven objects in a twin and in a paragraph
    return c
