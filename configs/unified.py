"""All tasks on pictures and videos, one policy: `python main.py --config=configs/unified.py[:POLICY]`."""

from configs import default


def get_config(policy: str = "tiny"):
    """Every 8 queries have each task about a picture and about a video; data.mix and data.video say other shares."""
    c = default.get_config(policy)
    c.data.task = "unified"
    c.data.video = 0.5
    if policy == "tiny":
        c.policy.prompt_tokens = 224  # 4 frames of 36 tokens, and the query
        c.rollout.new_tokens = 320  # the twin of a video, and its summary
        c.train.steps = 30
    return c
