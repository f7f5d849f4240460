"""Logits of whole prompts: our prompts in our model against transformers' pixels and positions in its own model."""

import dataclasses

import jax
import numpy as np
import processors
import pytest

from dtr1_jax import types
from dtr1_jax.data import patches, pipeline, prompts
from dtr1_jax.twin.coordinates import Frame

torch = pytest.importorskip("torch")
import parity  # noqa: E402, needs torch

from dtr1_jax.models import policy  # noqa: E402

SIZE = 99  # a key that parity.CONFIGS does not use
SECONDS = {"qwen2_5_vl": {"tokens_per_second": 2, "window_size": 56, "fullatt_block_indexes": [1]}, "qwen3_vl": {}}
VISUALS = {
    "photo": lambda size: (processors.picture(150, 290),),
    "photos": lambda size: (processors.picture(150, 90), processors.picture(61, 300, 1)),
    "video": lambda size: (processors.video(6, 6 * size, 4 * size, fps=10.0, step=7),),
    "photo, video, photo": lambda size: (
        processors.picture(61, 80), processors.video(4, 2 * size, 4 * size, fps=30.0, step=20),
        processors.picture(200, 90),
    ),
}  # fmt: skip


def config(family, geometry):
    """A small model that takes the family's real patches and the tokens of the shipped tokenizer."""
    text = parity._text(32, 4, 4, 2, 48) | {"vocab_size": 1664}
    tower = parity._tower(32, 3, 2, 24, geometry.patch, 2, 32, **SECONDS[family])
    if family == "qwen2_5_vl":
        return parity._qwen2_5(text, tower, [2, 1, 1])
    table = {"num_position_embeddings": 48**2, "deepstack_visual_indexes": [0, 2]}
    return parity._qwen3(text | {"head_dim": 16}, tower | table, [4, 2, 2])


@pytest.mark.parametrize("family", processors.FAMILIES)
def test_logits_after_real_prompts(family, monkeypatch):
    geometry = dataclasses.replace(processors.geometry(family), window=2 if family == "qwen2_5_vl" else 0)
    tokenizer = processors.tokenizer(family)
    known = tokenizer.hf.get_vocab()
    for name, token in (("IMAGE", "<|image_pad|>"), ("VIDEO", "<|video_pad|>"), ("START", "<|vision_start|>")):
        monkeypatch.setattr(parity, name, known[token])
    monkeypatch.setattr(parity, "END", known["<|vision_end|>"])
    monkeypatch.setitem(parity.CONFIGS, family, {SIZE: config(family, geometry)})
    style = prompts.Style(tokenizer, geometry, Frame.NORM1000, "brief", 160)
    model, spec = parity.torch_model(family, SIZE), parity.shape(family, SIZE)
    assert (spec.vision.patch, spec.vision.window, spec.vision.side) == (geometry.patch, geometry.window, geometry.side)
    params = parity.params(family, SIZE)

    @jax.jit
    def last(params, prompt):
        return policy.logits(params, spec, policy.prefill(params, None, spec, prompt).last_bd)

    for name, make in VISUALS.items():
        visuals = make(geometry.factor)
        first = visuals[0].frames[0] if isinstance(visuals[0], types.Video) else visuals[0]
        target = types.Target(np.zeros(first.shape[:2], bool), np.zeros((0, 4), np.float32))
        example = types.Example(name, first, "what is it", "segmentation", target, visuals=visuals)
        batch = pipeline.single_batch(example, style)
        ids = batch.prompt.token_bp[batch.prompt.mask_bp]
        inputs = {
            "input_ids": torch.tensor(ids[None].astype(int)),
            "attention_mask": torch.ones((1, len(ids)), dtype=torch.long),
        }
        inputs["mm_token_type_ids"] = torch.tensor(
            ((ids == parity.IMAGE) + 2 * (ids == parity.VIDEO))[None].astype(int)
        )
        pictures = [m for m in visuals if not isinstance(m, types.Video)]
        videos = [m for m in visuals if isinstance(m, types.Video)]
        if pictures:
            inputs |= processors.image_processor(geometry)(pictures, return_tensors="pt")
        if videos:  # for frames without resizing, tests/data/test_patches.py compares our patches with transformers'
            sampled = [patches.cut_video(v, geometry) for v in videos]
            inputs["pixel_values_videos"] = torch.tensor(np.concatenate([v.patch_nc for v in sampled]))
            inputs["video_grid_thw"] = torch.tensor([v.grid for v in sampled])
            if family == "qwen2_5_vl":
                inputs["second_per_grid_ts"] = torch.tensor([2 / v.sampled_fps for v in videos])
        with torch.no_grad():
            wanted = model(**inputs).logits[0, -1].numpy()
        np.testing.assert_allclose(last(params, batch.prompt)[0], wanted, atol=1e-4, err_msg=name)
        assert np.ptp(wanted) > 0.5
