"""Questions about your photos: vision models make the twin of a photo, and a small language model reasons over it.

`python main.py --mode=fetch --out=weights` downloads the weights that the paths below name. The language model was
never trained for this task. With policy.constructor = "specialists" it says itself what to look for.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(policy: str = "auto") -> ConfigDict:
    """Segmentation with SSDLite, MobileSAM, FastDepth and Qwen2.5-Coder-0.5B-Instruct."""
    c = default.get_config(policy)
    c.policy.path = "weights/qwen2_5_coder_0_5b/qwen2.5-coder-0.5b-instruct-q4_k_m.gguf"
    c.policy.constructor, c.policy.prompt = "given", "example"
    c.policy.prompt_tokens = 1024
    c.policy.relations = False  # this policy was never trained on twins, and many relations confuse it
    c.rollout.new_tokens, c.rollout.construct_tokens, c.rollout.twin_tokens = 160, 64, 320
    c.specialists.detector = "weights/ssdlite/model.json"
    c.specialists.segmenter = "sam:weights/mobile_sam/mobile_sam.pt"
    c.specialists.depth = "weights/fastdepth/fastdepth_7.onnx"
    return c
