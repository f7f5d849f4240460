"""All tasks on pictures and videos, one policy: `python main.py --config=configs/unified.py[:POLICY]`."""

from configs import default


def get_config(policy: str = "tiny"):
    """Every 8 queries have each task about a picture and about a video; data.mix and data.video say other shares."""
    c = default.get_config(policy)
    c.data.task = "unified"
    c.data.video = 0.5
    c.grpo.advantage = "ema"  # a summary's rewards lie close together: by groups, their noise would weigh as much
    # queries that point do not need the whole twin, and without a reward for it those of summaries would lose objects
    for task, weights in c.reward.weights.items():
        weights.twin_iou = 0.5 if task == "summary" else 0.25
    if policy == "tiny":
        c.policy.prompt_tokens = 208  # 4 frames of 36 tokens, and the query
        c.rollout.new_tokens = 224  # seven objects in a twin and in a paragraph
        # by LoRA on the decoder: with all weights trained on eight kinds of queries at once, twins lost objects, and
        # summaries with them
        c.lora.rank = 16
        c.optim.lr, c.optim.schedule = 3e-3, "linear"
        c.grpo.hold_twin = 5.0
        c.train.steps = 120
        c.train.eval_examples = 1024  # 128 of each task and modality
    return c
