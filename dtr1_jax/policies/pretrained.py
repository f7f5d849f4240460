"""A pretrained policy geometry ready: its spec, its tokenizer, the style of its prompts, and its weights."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax import mesh
from dtr1_jax.config import Config, ConfigError, Policy
from dtr1_jax.data import end_tokens, patches, processor, prompts, sources
from dtr1_jax.data import tokenizer as tokenizers
from dtr1_jax.models import int8, policy, published_sizes, spec
from dtr1_jax.models.weights import adapters, gguf, hf_checkpoint, loading, native
from dtr1_jax.policies import policy_files
from dtr1_jax.rl import staged
from dtr1_jax.twin.coordinates import Frame

log = logging.getLogger(__name__)
FRAMES = 4  # frames of a video that a policy of our own takes, where no setting says another number


@dataclasses.dataclass(frozen=True)
class PretrainedPolicy:
    """A policy without its weights.

    Attributes:
      spec: sizes of the model.
      style: how examples become prompts.
      banned_v: bool[V], tokens that must never be sampled.
      dtype: compute dtype.
      checkpoint: the opened Hugging Face or GGUF checkpoint; None if the weights are a file of our own.
    """

    spec: spec.Spec
    style: prompts.Style
    banned_v: np.ndarray
    dtype: jnp.dtype
    checkpoint: hf_checkpoint.HfCheckpoint | None = None


def load_policy(config: Config) -> PretrainedPolicy:
    """Opens the policy that `config` names, with the files at config.policy.path; reads no weights.

    Raises ConfigError for an unknown name, missing files, or files of another size than the name says; WeightsError,
    TokenizerError or DataError naming a file that is missing or damaged.
    """
    c = config.policy
    if c.name != policy_files.AUTO:
        published_sizes.get_spec(c.name)  # Raises for an unknown name before any file is looked at.
    where = policy_files.weights_path(config)
    opened = _open(where)
    shape = adjusted(config, _spec(config, where, opened))
    if shape.vision is None and c.constructor == "policy":
        raise ConfigError(
            f"config.policy.constructor = 'policy': {c.name} at {where} sees no pictures, so it cannot write their "
            "twins; set it to given, with data that brings them, or to specialists, which make them"
        )
    tokenizer = _tokenizer(config, where, opened)
    if tokenizer.size > shape.vocab:
        raise tokenizers.TokenizerError(f"{tokenizer.where}: expected at most {shape.vocab} ids, got {tokenizer.size}")
    if shape.vision is not None:
        tokenizers.require_images(tokenizer)
        image = (opened.config if opened else {}).get("image_token_id", tokenizer.image)
        if image != tokenizer.image:
            raise tokenizers.TokenizerError(
                f"{tokenizer.where}: {tokenizers.IMAGE} has the id {tokenizer.image}, but config.json says"
                f" image_token_id = {image}; tokenizer and weights are of different checkpoints"
            )
    geometry = _geometry(config, where, opened, shape)
    style = prompts.Style(
        tokenizer,
        geometry,
        Frame(shape.frame),
        c.prompt,
        c.prompt_tokens,
        c.constructor,
        sources.max_frames(config.data),
        c.ids == "named",
        c.relations,
        config.rollout.construct_tokens,
        config.rollout.twin_tokens,
    )
    return PretrainedPolicy(shape, style, tokenizer.banned_v(shape.vocab), jnp.dtype(c.dtype), opened)


def adjusted(config: Config, shape: spec.Spec) -> spec.Spec:
    """The spec with the settings that change how the policy is computed: policy.remat, policy.attention, and LoRA's
    scale and dropout.
    """
    shape = dataclasses.replace(shape, attention=config.policy.attention)
    if config.policy.remat != "auto":
        shape = dataclasses.replace(shape, remat=config.policy.remat == "on")
    if config.lora.rank:
        shape = dataclasses.replace(shape, lora_scale=config.lora.scale, lora_dropout=config.lora.dropout)
    return shape


def read_weights(
    config: Config, pretrained_policy: PretrainedPolicy, device_mesh: jax.sharding.Mesh | None = None
) -> dict:
    """The policy's weights, in float32 or config.policy.weights_dtype (int8: in the form of models/int8.py).

    The adapters of config.policy.adapter are added to them.

    With a mesh they are placed on it, and each process reads only the parts of a Hugging Face or GGUF checkpoint that
    its devices hold. Without a mesh they are on the first device, or numpy arrays if they come from a file of our own.
    Raises WeightsError naming the file and the tensor that does not fit; ConfigError if there is no such adapter.
    """
    adapter = read_adapter(config, pretrained_policy)
    params = _read_base(config, pretrained_policy, device_mesh)
    return params if adapter is None else adapters.merge(params, adapter)


def read_adapter(config: Config, pretrained_policy: PretrainedPolicy) -> adapters.Adapter | None:
    """The adapters of config.policy.adapter; None where it is empty. Warns if they name another base.

    Raises ConfigError or WeightsError if they are missing or do not fit the policy.
    """
    folder = policy_files.adapter_path(config)
    if folder is None:
        return None
    adapter = adapters.read_adapter(folder, template(pretrained_policy), config_values(config, pretrained_policy))
    own, _ = policy_files.base_model(config)
    if adapter.base and Path(adapter.base).name != Path(own).name:
        log.warning(
            "config.policy.adapter = %r was trained on %s, and it is added to %s: if these are different weights, its "
            "answers mean nothing", config.policy.adapter, adapter.base, own,
        )  # fmt: skip
    return adapter


def config_values(config: Config, pretrained_policy: PretrainedPolicy) -> dict:
    """The values of the policy's config.json. Those of our own policies are in models/published_sizes.py."""
    if pretrained_policy.checkpoint is not None:
        return dict(pretrained_policy.checkpoint.config)
    return dict(published_sizes.TINY if config.policy.name == "tiny" else published_sizes.CONFIGS[config.policy.name])


def _read_base(config: Config, pretrained_policy: PretrainedPolicy, device_mesh: jax.sharding.Mesh | None) -> dict:
    """The weights of config.policy.path, as `read_weights` says."""
    shapes, dtype = template(pretrained_policy), jnp.dtype(config.policy.weights_dtype)
    rounds = dtype == jnp.int8
    if rounds:
        dtype = pretrained_policy.dtype
        shapes = int8.template(shapes, dtype)
    if device_mesh is None:
        places = jax.tree.map(lambda _: jax.sharding.SingleDeviceSharding(jax.local_devices()[0]), shapes)
    else:
        places = mesh.shardings(device_mesh, shapes, pretrained_policy.spec.head_counts)
    if pretrained_policy.checkpoint is not None:
        return loading.load_weights(pretrained_policy.checkpoint, shapes, places, dtype)
    params = native.load_native(policy_files.weights_path(config), template(pretrained_policy))
    if rounds:
        params = int8.quantise_params(params, dtype)
    elif dtype != jnp.float32:
        params = jax.tree.map(lambda x: x.astype(dtype), params)
    return params if device_mesh is None else mesh.put(params, places)


def template(pretrained_policy: PretrainedPolicy) -> dict:
    """Shapes and dtypes of the weights in float32; nothing is allocated."""
    return jax.eval_shape(lambda: policy.init(jax.random.key(0), pretrained_policy.spec))


def _open(where: Path) -> hf_checkpoint.HfCheckpoint | None:
    if where.is_dir():
        return hf_checkpoint.open_folder(where)
    return gguf.open_file(where) if where.suffix.lower() == ".gguf" else None


def _spec(config: Config, where: Path, opened) -> spec.Spec:
    """The spec that the files describe. Raises ConfigError if its sizes are not those of the policy's name."""
    name = config.policy.name
    if opened is None:
        if name == policy_files.AUTO:
            raise ConfigError(
                f"config.policy.name: {policy_files.AUTO!r} takes its sizes from config.json or a .gguf file, but"
                f" {where} has none"
            )
        return published_sizes.get_spec(name)
    try:
        file_spec = spec.from_hf(opened.config, reach(config))
    except spec.SpecError as error:
        raise native.WeightsError(f"{where / 'config.json' if where.is_dir() else where}: {error}") from error
    check_sizes(name, where, file_spec)
    return file_spec


def reach(config: Config) -> int:
    """Most tokens of a prompt and its completion together."""
    return config.policy.prompt_tokens + completion_slots(config)


def completion_slots(config: Config) -> int:
    """Slots of the cache for a completion: its own tokens, and with specialists those of the inserted twin."""
    c = config.rollout
    return staged.slots(c.new_tokens, c.twin_tokens) if config.policy.constructor == "specialists" else c.new_tokens


def check_sizes(name: str, where: Path, file_spec: spec.Spec) -> None:
    """Raises ConfigError if the files at `where` are not of the sizes that config.policy.name = `name` says."""
    differing = (
        [] if name == policy_files.AUTO else published_sizes.differences(published_sizes.get_spec(name), file_spec)
    )
    if differing:
        raise ConfigError(
            f"config.policy.name = {name!r} differs in size from the files at config.policy.path = {where}"
            f" ({name}, then the files):\n  "
            + "\n  ".join(differing)
            + f"\nname the policy that has the sizes of the files, as in --config=configs/seg.py:NAME, or use"
            f" {policy_files.AUTO}, which reads the sizes from the files"
        )


def _tokenizer(config: Config, where: Path, opened) -> tokenizers.Tokenizer:
    if opened is not None:
        if where.is_dir():
            return tokenizers.load_tokenizer(where)
        return tokenizers.wrap(gguf.tokenizer(where), where, end_tokens.listed({}, opened.config))
    beside, shipped = where.parent, policy_files.ASSETS / config.policy.name
    return tokenizers.load_tokenizer(
        beside if (beside / "tokenizer.json").is_file() or not shipped.is_dir() else shipped
    )


def video_pixels(c: Policy, tower: spec.VisionSpec) -> int:
    """The setting policy.video_pixels; where it is 0 and the policy's name is "auto", the default for its family.

    A gated tower is Qwen2.5-VL's, any other Qwen3-VL's; configs/default.py gives named policies the same numbers.
    """
    return c.video_pixels or (128 if tower.gated else 512) * 28**2 * (c.name == policy_files.AUTO)


def video_rule(c: Policy) -> patches.VideoRule:
    """How our own policies take videos: as frames of one size, spread evenly from the first to the last.

    So do policies that read text, for which specialists look at the frames.
    """
    area, most = c.video_pixels or c.max_pixels, c.max_frames or FRAMES
    min_frames = 1 if c.fps else most
    repeats = c.prompt == "brief"  # A cold-started policy knows one number of frames: short videos repeat theirs.
    return patches.VideoRule(
        area,
        area,
        fps=c.fps or 1.0,
        min_frames=min_frames,
        max_frames=most,
        repeats=repeats,
        stamped=False,
    )


def _geometry(config: Config, where: Path, opened, shape: spec.Spec) -> patches.Geometry | None:
    c, tower = config.policy, shape.vision
    if tower is None:
        return None
    try:
        if opened is None and c.name not in published_sizes.CONFIGS:
            return patches.Geometry(
                tower.patch, tower.temporal_patch, tower.merge, tower.side, c.max_pixels, video=video_rule(c)
            )
        folder, values = (where, opened.config) if opened else (None, published_sizes.CONFIGS[c.name])
        ours = values.get("dtr1_videos") == "pictures"  # an exported policy of our own
        geometry = processor.geometry(
            folder, values["model_type"], side=tower.side, window=tower.window, time_scale=tower.tokens_per_second,
            max_pixels=0 if ours else c.max_pixels, video_pixels=0 if ours else video_pixels(c, tower), fps=c.fps,
            max_frames=c.max_frames,
        )  # fmt: skip
        if ours:
            area = min(
                geometry.max_pixels, c.max_pixels or geometry.max_pixels
            )  # The limit of "auto" is for large policies.
            rule = video_rule(dataclasses.replace(c, max_pixels=area))
            geometry = dataclasses.replace(geometry, rule="square", min_pixels=0, max_pixels=area, video=rule)
    except ValueError as error:
        if opened is not None:
            raise
        raise ConfigError(f"config.policy.max_pixels: {error}") from None
    for name in ("patch", "temporal_patch", "merge"):
        if getattr(geometry, name) != getattr(tower, name):
            raise native.WeightsError(
                f"{where}: config.json says {name} = {getattr(tower, name)}, but the processor's files "
                f"{getattr(geometry, name)}"
            )
    return geometry
