"""All tasks on pictures and videos, one policy: `python main.py --config=configs/unified.py[:POLICY]`."""

from ml_collections import ConfigDict

from configs import default


def get_config(policy: str = "tiny") -> ConfigDict:
    """Every 8 queries hold each task once about a picture and once about a video; see data.mix and data.video."""
    c = default.get_config(policy)
    c.data.task = "unified"
    c.data.video = 0.5
    # The rewards of a summary lie close together: divided by the deviation of a group, their noise would count as much
    # as real differences in other tasks.
    c.grpo.advantage = "ema"
    if policy == "tiny":
        c.policy.prompt_tokens = 208  # 4 frames of 36 tokens, and the query
        c.rollout.new_tokens = 224  # seven objects in a twin and in a paragraph
        # LoRA on the decoder: when all weights were trained on eight kinds of queries at once, twins lost objects, and
        # summaries with them.
        c.lora.rank = 16
        c.optim.lr, c.optim.schedule = 3e-3, "linear"
        c.grpo.hold_twin = 5.0
        c.train.steps = 120
        c.train.eval_examples = 1024  # 128 of each task and modality
    return c
