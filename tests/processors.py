"""Runs transformers' own processors on pictures, videos and prompts, and defines the inputs of the comparison."""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import importlib.util
import pathlib
import re
import types as pytypes

import numpy as np

from dtr1_jax import types
from dtr1_jax.data import processor
from dtr1_jax.data.tokenizer import Tokenizer, load_tokenizer, wrap
from dtr1_jax.policies import policy_files

# The part of the released templates that we use. Qwen2.5-VL has a system turn, Qwen3-VL has none.
_TURN = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% if message.content is string %}"
    "{{ message.content }}{% else %}{% for part in message.content %}{% if part.type == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif part.type == 'video' %}<|vision_start|><|video_pad|>"
    "<|vision_end|>{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEMPLATES = {
    "qwen2_5_vl": "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n" + _TURN,
    "qwen3_vl": _TURN,
}
FAMILIES = tuple(TEMPLATES)
QUERY = "what is it"
TEXT = f"point: {QUERY}"  # the text of a prompt in the style "brief"
TOTALS = (1, 2, 3, 4, 5, 7, 8, 9, 15, 30, 49, 97, 100, 119, 250, 999)
SAMPLES = [(total, fps) for total in TOTALS for fps in (30, 23.976, 10, 2, 1)]


def geometry(family: str, least: int = 4, most: int = 40, frames: int = 2):
    """The family's geometry with limits of a few tokens, so that fixtures stay small.

    Text behind a video has the positions of transformers, with which the tests compare, and not those of the release.
    """
    full = processor.geometry(None, family, side=processor.DEFAULTS[family].side)
    area = full.factor**2
    video = dataclasses.replace(
        full.video, min_pixels=least * area, max_pixels=most * area * (frames if full.video.whole else 1), resume="grid"
    )
    return dataclasses.replace(full, min_pixels=least * area, max_pixels=most * area, video=video)


def picture(width: int, height: int, seed: int = 0) -> np.ndarray:
    """uint8[height, width, 3]: a picture with edges, slopes and noise, the same on every machine."""
    y, x = np.indices((height, width))
    noise = np.random.default_rng(seed).integers(0, 64, (height, width))
    return np.stack([x * 7 + y * 3 + noise, (x // 8 + y // 8) % 2 * 200 + noise, y * 5 + seed * 40], -1).astype(
        np.uint8
    )


def video(count: int, width: int, height: int, fps: float = 10.0, step: int = 5) -> types.Video:
    """A video of which `count` frames, every `step`-th, are sampled."""
    frames = np.stack([picture(width, height, seed=i) for i in range(count)])
    return types.Video(frames, np.arange(count) * step, fps, count * step)


# name -> the pictures and videos of the prompt
PROMPTS = {
    "picture": lambda: (picture(150, 90),),
    "two pictures": lambda: (picture(61, 140), picture(200, 100, 1)),
    "video": lambda: (video(6, 80, 60),),
    "odd video": lambda: (video(5, 80, 60, fps=23.976, step=7),),
    "picture and video": lambda: (picture(90, 90), video(4, 70, 100, fps=30.0, step=3), picture(100, 60)),
}
VIDEOS = {
    "as it is": lambda size: video(4, 4 * size, 3 * size),
    "shrunk": lambda size: video(3, 331, 203),
    "enlarged": lambda size: video(2, 25, 41),
}
ROPE = {  # lengths of text, and grids (kind, t, h, w in patches, seconds per temporal patch)
    "text": [7],
    "picture": [3, ("image", 1, 4, 6, 0), 5],
    "two pictures": [2, ("image", 1, 8, 2, 0), 1, ("image", 1, 2, 2, 0), 4],
    "video": [2, ("video", 5, 4, 6, 1.0), 3],
    "slow video": [1, ("video", 4, 6, 4, 0.0834), 2],
    "long video": [1, ("video", 12, 4, 4, 2 / 0.75), 9],
    "picture and video": [2, ("image", 1, 4, 4, 0), 2, ("video", 3, 2, 8, 1.5), 2, ("image", 1, 6, 2, 0), 1],
}


@functools.cache
def torchvision_works() -> bool:
    """Whether torchvision can be imported. If its operators are missing in CPU torch, they are declared first."""
    try:
        importlib.metadata.version("torchvision")
        import torch
    except ImportError:
        return False
    try:
        import torchvision
    except RuntimeError:
        folder = pathlib.Path(importlib.util.find_spec("torchvision").origin).parent
        text = (folder / "_meta_registrations.py").read_text("utf-8")
        library = torch.library.Library("torchvision", "DEF")
        for name in sorted(set(re.findall(r'(?:register_meta\(|register_fake\()"(?:torchvision::)?(\w+)"', text))):
            library.define(f"{name}(Tensor x) -> Tensor")
        torchvision_works.library = library  # its operators exist as long as the object does
        import torchvision  # noqa: F401
    return True


torchvision_works()  # transformers imports an installed torchvision, which must work by then


def tokenizer(family: str) -> Tokenizer:
    """The shipped tokenizer with the chat template of the family."""
    hf = load_tokenizer(policy_files.ASSETS / "tiny").hf
    hf.chat_template = TEMPLATES[family]
    return wrap(hf, family)


def image_processor(geometry):
    """transformers' picture processor that needs no torchvision."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    return Qwen2VLImageProcessorPil(
        size={"shortest_edge": geometry.min_pixels, "longest_edge": geometry.max_pixels},
        patch_size=geometry.patch, temporal_patch_size=geometry.temporal_patch, merge_size=geometry.merge,
        image_mean=list(geometry.mean), image_std=list(geometry.std),
    )  # fmt: skip


def video_processor(family: str, geometry):
    """transformers' video processor, which needs torchvision."""
    from transformers.models.qwen2_vl.video_processing_qwen2_vl import Qwen2VLVideoProcessor
    from transformers.models.qwen3_vl.video_processing_qwen3_vl import Qwen3VLVideoProcessor

    kind = {"qwen2_5_vl": Qwen2VLVideoProcessor, "qwen3_vl": Qwen3VLVideoProcessor}[family]
    return kind(
        size={"shortest_edge": geometry.video.min_pixels, "longest_edge": geometry.video.max_pixels},
        patch_size=geometry.patch, temporal_patch_size=geometry.temporal_patch, merge_size=geometry.merge,
        image_mean=list(geometry.mean), image_std=list(geometry.std), cap_pixels_per_frame=False,
    )  # fmt: skip


def metadata(video: types.Video):
    """The metadata of a video for transformers."""
    from transformers.video_utils import VideoMetadata

    return VideoMetadata(total_num_frames=video.total, fps=video.fps, frames_indices=video.index.tolist())


def video_patches(family: str, geometry, video: types.Video) -> tuple[np.ndarray, list[int]]:
    """(float32[n, c] patches, grid) by transformers' processor."""
    inputs = video_processor(family, geometry)(
        videos=[video.frames.transpose(0, 3, 1, 2)], do_sample_frames=False, return_tensors="pt"
    )
    return inputs["pixel_values_videos"].numpy(), inputs["video_grid_thw"][0].tolist()


def prompt(family: str, geometry, text: str, visuals) -> dict:
    """The inputs that transformers' processor makes from a user's turn with `visuals` before the text."""
    from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor
    from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor

    kind = {"qwen2_5_vl": Qwen2_5_VLProcessor, "qwen3_vl": Qwen3VLProcessor}[family]
    whole = kind(image_processor(geometry), tokenizer(family).hf, video_processor(family, geometry), TEMPLATES[family])
    content = [{"type": "video" if isinstance(m, types.Video) else "image"} for m in visuals]
    chat = whole.tokenizer.apply_chat_template(
        [{"role": "user", "content": [*content, {"type": "text", "text": text}]}], tokenize=False,
        add_generation_prompt=True,
    )  # fmt: skip
    videos = [m for m in visuals if isinstance(m, types.Video)]
    pictures = [m for m in visuals if not isinstance(m, types.Video)]
    return whole(
        text=[chat], images=pictures or None, videos=[v.frames.transpose(0, 3, 1, 2) for v in videos] or None,
        video_metadata=[metadata(v) for v in videos] or None, do_sample_frames=False, return_tensors="pt",
    )  # fmt: skip


def rope(family: str, kinds, image_grids, video_grids, seconds, merge: int = 2):
    """(int[L, 3], next position) by transformers for one prompt; kinds: 0 text, 1 picture, 2 video.

    The positions are those of get_rope_index. The next position is the last one plus 1, as `generate` goes on (behind a
    long video, the rope deltas that get_rope_index returns as well would give a larger one).
    """
    import torch
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLModel
    from transformers.models.qwen3_vl.modeling_qwen3_vl import Qwen3VLModel

    model = {"qwen2_5_vl": Qwen2_5_VLModel, "qwen3_vl": Qwen3VLModel}[family]
    tower = pytypes.SimpleNamespace(spatial_merge_size=merge, tokens_per_second=2)
    fake = pytypes.SimpleNamespace(config=pytypes.SimpleNamespace(vision_config=tower))
    fake.get_vision_position_ids = lambda *a, **k: model.get_vision_position_ids(fake, *a, **k)
    grids = [torch.tensor(g).reshape(-1, 3) if len(g) else None for g in (image_grids, video_grids)]
    more = {"second_per_grid_ts": torch.tensor(seconds, dtype=torch.float32)} if family == "qwen2_5_vl" else {}
    kinds = torch.tensor([kinds])
    position, _ = model.get_rope_index(fake, kinds, kinds, *grids, **more)
    position = position[:, 0].T.numpy()
    return position, int(position[-1].max()) + 1


def rope_summary(family: str, name: str) -> list:
    """[next position, positions] of a case of ROPE. Temporal patches with timestamps have a text token between them."""
    kinds, grids, seconds = [], {"image": [], "video": []}, []
    for part in ROPE[name]:
        if isinstance(part, int):
            kinds += [0] * part
            continue
        kind, t, h, w, second = part
        grids[kind].append([t, h, w])
        seconds += [second] * (kind == "video")
        for i in range(t if kind == "video" and family == "qwen3_vl" else 1):
            count = h * w // 4 if kind == "video" and family == "qwen3_vl" else t * h * w // 4
            kinds += [0] * (i > 0) + [1 + (kind == "video")] * count
    position, following = rope(family, kinds, grids["image"], grids["video"], seconds)
    return [following, position.tolist()]


def prompt_summary(family: str, name: str) -> dict:
    """Tokens and positions of the prompt of a case of PROMPTS, and the grids of its pictures and videos."""
    inputs = prompt(family, geometry(family), TEXT, PROMPTS[name]())
    grids = {key: inputs[key].tolist() if key in inputs else [] for key in ("image_grid_thw", "video_grid_thw")}
    kinds = inputs["mm_token_type_ids"][0].tolist()
    seconds = inputs["second_per_grid_ts"].tolist() if "second_per_grid_ts" in inputs else []
    position, following = rope(family, kinds, *grids.values(), seconds)
    return {"ids": inputs["input_ids"][0].tolist(), **grids, "position": position.tolist(), "next": following}


def summary_of_patches(patch_nc: np.ndarray, geometry) -> dict:
    """Means of each patch by channel and frame, and every fifth value of the first and last patch."""
    means = patch_nc.reshape(len(patch_nc), 3 * geometry.temporal_patch, -1).mean(-1)
    return {"means": np.round(means, 3).tolist(), "ends": np.round(patch_nc[[0, -1], ::5], 4).tolist()}


def video_summary(family: str, name: str) -> dict:
    """Grid and patches of a case of VIDEOS."""
    cut = geometry(family)
    patch_nc, grid = video_patches(family, cut, VIDEOS[name](cut.factor))
    return {"grid": grid, **summary_of_patches(patch_nc, cut)}


def sample_summary(family: str, total: int, fps: float) -> list[int] | None:
    """`short` of the frames that transformers samples from a video; None where it fails."""
    from transformers.video_utils import VideoMetadata

    sampler = video_processor(family, geometry(family))
    try:
        index = sampler.sample_frames(VideoMetadata(total_num_frames=total, fps=fps), fps=2)
    except (ValueError, ZeroDivisionError, RuntimeError):
        return None
    return short(np.asarray(index))


def short(index: np.ndarray) -> list[int]:
    """[number of frames, sum of their indices, the first twelve indices]."""
    return [len(index), int(index.sum()), *index[:12].tolist()]
