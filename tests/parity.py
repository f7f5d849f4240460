"""Random tiny models of every family in transformers (torch, float32), with their weights and prompts for our code."""

from __future__ import annotations

import dataclasses
import functools
import itertools

import jax
import numpy as np
import released_rope
import torch
import transformers

from dtr1_jax import types
from dtr1_jax.data import patch_layout, rotary_positions
from dtr1_jax.models import decoder, policy, spec
from dtr1_jax.models.weights import hf_names, native

VOCAB, IMAGE, VIDEO, START, END = 96, 90, 91, 92, 93
TEXT_TOKENS = 90  # ids below are text
LENGTH, TOKENS = 44, 24  # padded lengths: tokens of a prompt, and vision tokens of its pictures

_ROPE = {"rope_type": "default", "rope_theta": 1e4}


def _qwen2_5(text, vision, sections):
    rope = _ROPE | {"mrope_section": sections}
    return {"text_config": text | {"rope_parameters": rope}, "vision_config": vision | {"hidden_act": "silu"}}


def _qwen3(text, vision, sections):
    rope = _ROPE | {"mrope_section": sections, "mrope_interleaved": True}
    return {"text_config": text | {"rope_parameters": rope}, "vision_config": vision}


def _text(width, layers, heads, kv_heads, hidden, **more):
    sizes = {"hidden_size": width, "num_hidden_layers": layers, "num_attention_heads": heads}
    return sizes | {"num_key_value_heads": kv_heads, "intermediate_size": hidden, "vocab_size": VOCAB, **more}


def _tower(width, layers, heads, hidden, patch, merge, out, **more):
    sizes = {"hidden_size": width, "depth": layers, "num_heads": heads, "intermediate_size": hidden}
    return sizes | {"patch_size": patch, "spatial_merge_size": merge, "out_hidden_size": out, **more}


# family -> three sizes: heads, kv heads, layers, tying, windows, merges and DeepStack levels all differ
CONFIGS = {
    "llama": [
        _text(32, 2, 4, 2, 48, tie_word_embeddings=True),
        _text(36, 3, 3, 1, 64, rms_norm_eps=1e-3),
        _text(64, 1, 4, 4, 96, head_dim=8),
    ],
    "qwen2": [
        _text(32, 2, 4, 2, 48, tie_word_embeddings=True),
        _text(48, 3, 6, 1, 64, rope_parameters=_ROPE | {"rope_theta": 1e6}),
        _text(64, 1, 4, 4, 96, rms_norm_eps=1e-3),
    ],
    "qwen3": [
        _text(32, 2, 4, 2, 48, head_dim=16, tie_word_embeddings=True),
        _text(48, 3, 6, 1, 64, head_dim=8, rope_parameters=_ROPE | {"rope_theta": 1e6}),
        _text(64, 1, 4, 4, 96, head_dim=24, rms_norm_eps=1e-3),
    ],
    "qwen2_5_vl": [
        _qwen2_5(
            _text(32, 2, 4, 2, 48),
            _tower(16, 2, 2, 24, 4, 2, 32, window_size=16, fullatt_block_indexes=[1], tokens_per_second=2),
            [2, 1, 1],
        ),
        _qwen2_5(
            _text(48, 3, 6, 1, 64, rms_norm_eps=1e-3),
            _tower(24, 4, 3, 40, 2, 2, 48, window_size=12, fullatt_block_indexes=[0, 2]),
            [1, 2, 1],
        )
        | {"tie_word_embeddings": True},
        _qwen2_5(
            _text(64, 4, 4, 4, 96),
            _tower(32, 3, 2, 36, 2, 3, 64, window_size=12, fullatt_block_indexes=[2], temporal_patch_size=1),
            [2, 3, 3],
        ),
    ],
    "qwen3_vl": [
        _qwen3(
            _text(32, 3, 4, 2, 48, head_dim=16),
            _tower(16, 3, 2, 24, 4, 2, 32, num_position_embeddings=16, deepstack_visual_indexes=[0, 2]),
            [4, 2, 2],
        ),
        _qwen3(
            _text(48, 2, 6, 3, 64, head_dim=8, rms_norm_eps=1e-3),
            _tower(24, 2, 3, 40, 2, 2, 48, num_position_embeddings=49, deepstack_visual_indexes=[1]),
            [2, 1, 1],
        )
        | {"tie_word_embeddings": True},
        _qwen3(
            _text(64, 4, 4, 4, 96, head_dim=24),
            _tower(
                32, 4, 2, 36, 2, 3, 64,
                num_position_embeddings=9, deepstack_visual_indexes=[0, 1, 3], temporal_patch_size=1,
            ),
            [4, 4, 4],
        ),
    ],
}  # fmt: skip
TEXT = ("llama", "qwen2", "qwen3")
VISION = ("qwen2_5_vl", "qwen3_vl")

# prompt: ids of text tokens, and (kind, (frames, rows, columns) in tokens, seconds of a frame of a video)
SCENES = {
    "text": (5, 17, 60, 33, 2),
    "not square": (7, ("image", (1, 2, 4)), 44, 5, 13),
    "two images": (("image", (1, 3, 2)), 9, 61, ("image", (1, 1, 4)), 21),
    "video": (3, ("video", (3, 2, 3), 0.5), 8, 14, 40, 2),
    "image and video": (1, 6, ("image", (1, 2, 2)), 30, ("video", (2, 2, 3), 1.0), 12, 19),
    "video and image": (("video", (2, 1, 2), 1.5), 4, ("image", (1, 3, 1)), 12),
    "odd window edge": (("image", (1, 5, 3)), 44, 27),
    "long strip": (71, 2, 3, ("image", (1, 1, 7)), 11),
    "slow video": (3, ("video", (4, 1, 2), 40.0), 8, 14, 40, 2),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One prompt for transformers.

    Attributes:
      ids: int[L], its tokens.
      kinds: int[L], kind of each token: 0 text, 1 picture, 2 video.
      inputs: keyword arguments of the model, as torch tensors.
    """

    ids: np.ndarray
    kinds: np.ndarray
    inputs: dict


@functools.cache
def torch_model(family: str, size: int | str):
    """A random model of sizes CONFIGS[family][size]. No weight is 0 or 1, so a test sees it when one is left out."""
    torch.manual_seed(size if isinstance(size, int) else sum(size.encode()))
    config = transformers.AutoConfig.for_model(family, **CONFIGS[family][size])
    config.image_token_id, config.video_token_id = IMAGE, VIDEO
    config.vision_start_token_id, config.vision_end_token_id = START, END
    auto = transformers.AutoModelForImageTextToText if family in VISION else transformers.AutoModelForCausalLM
    model = auto.from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape)
            if "norm" in name or "ln_q" in name:
                p.copy_(name.endswith("weight") * (4.0 if "q_norm" in name else 1.0) + 0.2 * noise)
            elif "embed_tokens" in name and not config.tie_word_embeddings:
                p.copy_(2 * noise)  # large, as is q_norm, so that the next token depends on the tokens before it
            else:
                p.copy_(noise * (0.2 if p.ndim == 1 else p[0].numel() ** -0.5))
    model.generation_config = transformers.GenerationConfig(pad_token_id=0)
    return model


def shape(family: str, size: int, **changes) -> spec.Spec:
    """Our spec of the model, from the config that transformers writes."""
    return dataclasses.replace(spec.from_hf(torch_model(family, size).config.to_dict()), **changes)


def params(family: str, size: int) -> dict:
    """The model's weights in the tree of our parameters."""
    model = torch_model(family, size)
    tensors = {hf_names.canonical(n, family): p.numpy() for n, p in model.state_dict().items()}
    template = jax.eval_shape(lambda: policy.init(jax.random.key(0), shape(family, size)))
    shapes = {path: leaf.shape for path, leaf in native.flatten(template).items()}
    flat = {}
    for leaf in hf_names.leaves(shapes, family):
        parts = [tensors.pop(name) for name in leaf.names]
        parts = [p.reshape(len(p), -1).T if leaf.path.endswith("/kernel") else p for p in parts]
        flat[leaf.path] = np.stack(parts) if leaf.stacked else parts[0]
        assert flat[leaf.path].shape == shapes[leaf.path], leaf.path
    assert set(tensors) <= {"lm_head.weight"}  # the copy of a tied embedding
    return native.unflatten(flat)


def row(family: str, size: int, scene: tuple, seed: int = 0) -> Row:
    """A prompt with random pixels. Frames of a Qwen3-VL video have text between them, in place of its timestamps."""
    rng = np.random.default_rng(seed)
    tower = shape(family, size).vision
    ids, kinds, pixels, grids, seconds = [], [], {1: [], 2: []}, {1: [], 2: []}, []
    for part in scene:
        if isinstance(part, int):
            ids.append(part)
            kinds.append(0)
            continue
        kind = 1 if part[0] == "image" else 2
        t, h, w = part[1]
        frames = [t] if tower.tokens_per_second or kind == 1 else [1] * t
        for n in frames:
            ids += [10 + len(ids), START, *[(IMAGE, VIDEO)[kind - 1]] * (n * h * w), END]
            kinds += [0, 0, *[kind] * (n * h * w), 0]
        grids[kind].append((t, h * tower.merge, w * tower.merge))
        pixels[kind].append(rng.standard_normal((t * h * w * tower.merge**2, tower.values)).astype(np.float32))
        seconds += part[2:]
    inputs = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
    if family in VISION:
        inputs["mm_token_type_ids"] = torch.tensor([kinds])
        for kind, name, values in ((1, "image", "pixel_values"), (2, "video", "pixel_values_videos")):
            if grids[kind]:
                inputs[f"{name}_grid_thw"] = torch.tensor(grids[kind])
                inputs[values] = torch.tensor(np.concatenate(pixels[kind]))
        if seconds and tower.tokens_per_second:
            inputs["second_per_grid_ts"] = torch.tensor(seconds)
    return Row(np.array(ids), np.array(kinds), inputs)


def prompt(family: str, size: int, rows: list[Row], left: int = 1, resume: str = "grid") -> types.Prompt:
    """One batch of prompts for our code, with our positions.

    Odd rows (with left = 0 the even ones) are padded left, the others right, all with garbage.
    """
    rng = np.random.default_rng(1)
    tower = shape(family, size).vision
    b = len(rows)
    token, mask = rng.integers(0, TEXT_TOKENS, (b, LENGTH)), np.zeros((b, LENGTH), bool)
    position, slot = rng.integers(0, 50, (b, LENGTH, 3)), rng.integers(-1, 3, (b, LENGTH))
    following, pictures = np.zeros(b, int), []
    for i, r in enumerate(rows):
        length = len(r.ids)
        at = slice(LENGTH - length, LENGTH) if i % 2 == left else slice(0, length)
        token[i, at], mask[i, at] = r.ids, True
        position[i, at], following[i] = rotary_positions.positions(parts(family, size, r, resume))
        slot[i, at] = -1
        if tower is not None:
            patches, place = _pictures(tower, r)
            slot[i, at][np.flatnonzero(r.kinds)] = place
            pictures.append(patches)
    return types.Prompt(
        token_bp=token.astype(np.int32), mask_bp=mask, position_bp3=position.astype(np.int32),
        slot_bp=slot.astype(np.int32), next_b=following.astype(np.int32),
        images=None if tower is None else types.Images(
            **{name: None if x is None else np.stack([p[name] for p in pictures]) for name, x in pictures[0].items()}
        ),
    )  # fmt: skip


def parts(family: str, size: int, r: Row, resume: str) -> list:
    """The parts of a prompt as our rotary_positions takes them."""
    out, tower = [], shape(family, size).vision
    grids, second = _grids(r), iter(r.inputs.get("second_per_grid_ts", torch.empty(0)).tolist())
    images, videos = iter(grids[1]), iter(grids[2] if tower is None or tower.tokens_per_second else _frames(grids[2]))
    for kind, group in itertools.groupby(r.kinds.tolist()):
        if kind == 0:
            out.append(len(list(group)))
            continue
        t, h, w = next(images if kind == 1 else videos)
        step = tower.tokens_per_second * next(second) if kind == 2 and tower.tokens_per_second else 1.0
        out.append(rotary_positions.Grid(t, h // tower.merge, w // tower.merge, step, resume))
    return out


def positions(family: str, size: int, r: Row, resume: str = "grid") -> np.ndarray:
    """int[L, 3]: rotary positions by transformers, or with resume = "end" by the release of Qwen2.5-VL."""
    if family in TEXT:
        return np.repeat(np.arange(len(r.ids))[:, None], 3, 1)
    if resume == "end":
        tower, grids = shape(family, size).vision, _grids(r)
        videos = grids[2] if tower.tokens_per_second else _frames(grids[2])
        seconds = r.inputs.get("second_per_grid_ts", torch.zeros(len(videos))).tolist()
        args = r.kinds.tolist(), grids[1], videos, seconds, tower.merge, tower.tokens_per_second
        return released_rope.positions(*args)[0]
    known = {k: v for k, v in r.inputs.items() if not k.startswith("pixel")}
    return torch_model(family, size).model.get_rope_index(**known)[0][:, 0].T.numpy()


def _grids(r):
    """{1: grids of the images in patches, 2: those of the videos}."""
    return {k: r.inputs.get(f"{n}_grid_thw", torch.empty(0)).tolist() for k, n in ((1, "image"), (2, "video"))}


def _frames(grids):
    """The grids of videos whose temporal patches have text between them (Qwen3-VL)."""
    return [(1, h, w) for t, h, w in grids for _ in range(t)]


def _pictures(tower, r):
    """(patches of the images and then of the videos of a row, padded to TOKENS; the slot of each vision token)."""
    grids = [tuple(g) for kind in _grids(r).values() for g in kind]
    values = [r.inputs[n].numpy() for n in ("pixel_values", "pixel_values_videos") if n in r.inputs]
    values = np.concatenate(values) if values else np.zeros((0, tower.values), np.float32)
    n = TOKENS * tower.merge**2
    layout = patch_layout.layout(grids, merge=tower.merge, side=tower.side, window=tower.window, patches=n)
    patch = np.full((n, tower.values), 1e3, np.float32)
    patch[: len(values)] = values[layout.order]
    kinds = r.kinds[r.kinds > 0]
    number = np.empty(len(kinds), int)  # number of each vision token of the prompt, counting images before videos
    number[np.argsort(kinds, kind="stable")] = np.arange(len(kinds))
    return layout.fields | {"patch_bnc": patch}, layout.place[number]


@functools.partial(jax.jit, static_argnames="spec")
def prompt_logits(params: dict, prompt: types.Prompt, *, spec: spec.Spec) -> jax.Array:
    """Logits after every token of the prompts: float32[B, P, V]."""
    vision_bme = policy.encode(params, None, spec, prompt) if spec.vision else None
    x, deep = policy.embed(params, spec, prompt, vision_bme)
    mask = np.tril(np.ones((LENGTH, LENGTH), bool)) & prompt.mask_bp[:, None, None, :]
    deep = None if deep is None else deep[:, :, None]
    angle = policy._angle(spec, prompt.position_bp3, prompt.mask_bp)[:, None]
    x, _ = decoder.scan(params["decoder"], None, spec, x[:, None], angle, mask, deep_lbgqd=deep)
    return policy.logits(params, spec, policy._norm(params, spec, x[:, 0]))


@functools.partial(jax.jit, static_argnames="spec")
def completion_logits(params: dict, prompt: types.Prompt, token_bgs: np.ndarray, *, spec: spec.Spec) -> jax.Array:
    """Logits of each completion token, with the prefix shared by the completions: float32[B, G, S, V]."""
    prefix = policy.prefill(params, None, spec, prompt)
    return policy.logits(params, spec, policy.hidden(params, None, spec, prefix, token_bgs))


@torch.no_grad()
def torch_logits(family: str, size: int, r: Row, completion: np.ndarray | None = None) -> np.ndarray:
    """Logits by transformers of one prompt without padding, followed by a completion: float32[L (+ S), V]."""
    inputs, model = dict(r.inputs), torch_model(family, size)
    if completion is not None:
        position = positions(family, size, r)
        new = position[-1].max() + 1 + np.arange(len(completion))
        position = np.concatenate([position, np.repeat(new[:, None], 3, 1)])
        inputs["input_ids"] = torch.tensor(np.concatenate([r.ids, completion])[None])
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        if family in VISION:
            inputs["position_ids"] = torch.tensor(position.T[:, None])
            kinds = np.concatenate([r.kinds, np.zeros(len(completion), int)])
            inputs["mm_token_type_ids"] = torch.tensor(kinds[None])
    return model(**inputs).logits[0].numpy()


def generate(family: str, size: int, r: Row, tokens: int, resume: str = "grid") -> np.ndarray:
    """int[tokens]: the greedy completion by transformers, for resume = "end" with the positions of the release."""
    more = {}
    if resume == "end" and family in VISION:
        more["position_ids"] = torch.tensor(positions(family, size, r, resume).T[:, None])
    out = torch_model(family, size).generate(
        **r.inputs, **more, do_sample=False, max_new_tokens=tokens, min_new_tokens=tokens, eos_token_id=None
    )
    return out[0, len(r.ids) :].numpy()


@torch.no_grad()
def greedy_without_cache(family: str, size: int, r: Row, tokens: int, resume: str) -> np.ndarray:
    """int[tokens]: the greedy completion by whole forward passes of transformers, without its `generate`."""
    ids, position = r.ids.tolist(), positions(family, size, r, resume)
    model, inputs = torch_model(family, size), dict(r.inputs)
    for _ in range(tokens):
        kinds = torch.tensor([r.kinds.tolist() + [0] * (len(ids) - len(r.kinds))])
        inputs |= {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
        inputs |= {"position_ids": torch.tensor(position.T[:, None])} if family in VISION else {}
        inputs |= {"mm_token_type_ids": kinds} if family in VISION else {}
        ids.append(int(model(**inputs).logits[0, -1].argmax()))
        position = np.concatenate([position, position[-1:] + 1])
    return np.array(ids[len(r.ids) :])
