"""SAM 2.1: masks from boxes, points and masks on pictures, and objects tracked through videos.

Source: Ravi et al., SAM 2: Segment Anything in Images and Videos (arXiv 2408.00714), and the checkpoints
facebook/sam2.1-hiera-{tiny,small,base-plus,large} in the layout of transformers.

    sam = specialists.load("facebook/sam2.1-hiera-tiny")
    masks = sam.segment(images, boxes=boxes)
    for frame in sam.track(frames, [sam2.Prompt(frame=0, object=1, box=(0.2, 0.3, 0.5, 0.9))]): ...
"""

from dtr1_jax.specialists.sam2.video_prompts import Prompt

__all__ = ["Prompt"]
