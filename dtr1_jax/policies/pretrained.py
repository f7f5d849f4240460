"""A named policy made ready: its files found, its spec, its tokenizer, how it is prompted, and its weights."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax import mesh
from dtr1_jax.config import Config, ConfigError, Policy
from dtr1_jax.data import patches, processor, prompts, sources
from dtr1_jax.data import tokenizer as tokenizers
from dtr1_jax.models import int8, policy, published, spec
from dtr1_jax.models.weights import gguf, hf_checkpoint, loading, native
from dtr1_jax.twin.text import Frame

ASSETS = Path(__file__).parents[1] / "assets"
OURS = "policy.safetensors"
FRAMES = 4  # that a policy of ours takes of a video, where nothing else is said
AUTO = "auto"  # name of a policy whose sizes are those of its files, whatever they are
_FILES = (".safetensors", ".gguf")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w.-]+)?")
# what is taken from the hub: numbers and text, no pickles and no code
_WANTED = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "merges.txt", "vocab.txt")


@dataclasses.dataclass(frozen=True)
class PretrainedPolicy:
    """What every mode needs to know of the policy, except its weights.

    Attributes:
      spec: sizes of the model.
      style: how examples become prompts.
      banned_v: bool[V], tokens that must never be sampled.
      dtype: compute dtype.
      checkpoint: the opened Hugging Face or GGUF checkpoint; None where the weights are a file of our own format.
    """

    spec: spec.Spec
    style: prompts.Style
    banned_v: np.ndarray
    dtype: jnp.dtype
    checkpoint: hf_checkpoint.HfCheckpoint | None = None


def load_policy(config: Config) -> PretrainedPolicy:
    """The policy that `config` names, with the files that config.policy.path gives.

    Raises ConfigError: an unknown name, no files, or files of another size than the name says. WeightsError,
    TokenizerError or DataError: a file that is missing or damaged; the message names it.
    """
    c = config.policy
    if c.name != AUTO:
        published.get(c.name)  # an unknown name is the first thing to say
    where = weights_path(config)
    opened = _open(where)
    shape = adjusted(config, _spec(config, where, opened))
    if shape.vision is None and c.constructor == "policy":
        raise ConfigError(
            f"config.policy.constructor = 'policy': {c.name} at {where} sees no pictures, so it can not write their "
            "twins; set it to given, with data that brings them"
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
        tokenizer, geometry, Frame(shape.frame), c.prompt, c.prompt_tokens, c.constructor, sources.frames(config.data)
    )
    return PretrainedPolicy(shape, style, tokenizer.banned_v(shape.vocab), jnp.dtype(c.dtype), opened)


def adjusted(config: Config, shape: spec.Spec) -> spec.Spec:
    """The spec of a policy with what the settings say of how it is computed: policy.remat, and scale and dropout of
    adapters."""
    if config.policy.remat != "auto":
        shape = dataclasses.replace(shape, remat=config.policy.remat == "on")
    if config.lora.rank:
        shape = dataclasses.replace(shape, lora_scale=config.lora.scale, lora_dropout=config.lora.dropout)
    return shape


def weights_path(config: Config) -> Path:
    """Where the policy's files are: config.policy.path or what is shipped; a hub id is downloaded.

    Returns a folder of Hugging Face, a .gguf file, or a .safetensors file of ours. Raises ConfigError.
    """
    given, name = config.policy.path, config.policy.name
    if not given:
        shipped = ASSETS / name / OURS
        if not shipped.is_file():
            raise ConfigError(
                f"config.policy.path: no weights are shipped for {name}; expected a folder with config.json and "
                "safetensors, a .gguf file, or a hub id such as Qwen/Qwen2.5-VL-3B-Instruct"
            )
        return shipped
    path = Path(given).expanduser()
    if is_hub_id(given):
        path = download(given)
    elif not path.exists() and path.suffix not in _FILES:
        raise ConfigError(
            f"config.policy.path = {given!r}: no such file or folder; expected a folder with config.json and "
            "safetensors, a .gguf file, or a hub id such as Qwen/Qwen2.5-VL-3B-Instruct"
        )
    if path.name == hf_checkpoint.SINGLE and (path.parent / "config.json").is_file():
        return path.parent
    ours = name != AUTO and name not in published.CONFIGS
    if path.is_dir() and not (path / "config.json").is_file() and (ours or (path / OURS).is_file()):
        return path / OURS
    return path


def is_hub_id(path: str) -> bool:
    """Whether config.policy.path can only be the name of a hub repository: "org/name" or "org/name@revision"."""
    return bool(_HUB_ID.fullmatch(path)) and not Path(path).exists() and Path(path).suffix not in _FILES


def download(hub_id: str, wanted: Sequence[str] = _WANTED) -> Path:
    """The folder with a snapshot of a hub repository ("org/name" or "org/name@revision"), of it the files that match a
    pattern of `wanted`. Raises ConfigError."""
    import huggingface_hub

    name, _, revision = hub_id.partition("@")
    try:
        return Path(huggingface_hub.snapshot_download(name, revision=revision or None, allow_patterns=[*wanted]))
    except Exception as error:  # of the network, the hub, the disk
        reason, at = " ".join(str(error).split())[:300], f" --revision {revision}" if revision else ""
        raise ConfigError(
            f"config.policy.path = {hub_id!r} is no file or folder here, and as a hub id it could not be downloaded "
            f"({type(error).__name__}: {reason}). On a machine with network: `hf download {name}{at} --local-dir DIR`; "
            "then copy DIR here and set config.policy.path=DIR"
        ) from error


def read_weights(
    config: Config, pretrained_policy: PretrainedPolicy, device_mesh: jax.sharding.Mesh | None = None
) -> dict:
    """The weights: float32 or, in a frozen base, config.policy.weights_dtype (int8: in the form of models/int8.py).

    On the mesh where there is one; a checkpoint of others is then read by each process only as far as its devices hold
    it. Without a mesh on the first device, or as numpy from a file of ours. Raises WeightsError naming the file and
    what does not fit.
    """
    shapes, dtype = template(pretrained_policy), jnp.dtype(config.policy.weights_dtype)
    rounds = dtype == jnp.int8
    if rounds:
        dtype = pretrained_policy.dtype
        shapes = int8.template(shapes, dtype)
    if device_mesh is None:
        places = jax.tree.map(lambda _: jax.sharding.SingleDeviceSharding(jax.local_devices()[0]), shapes)
    else:
        places = mesh.shardings(device_mesh, shapes)
    if pretrained_policy.checkpoint is not None:
        return loading.load_weights(pretrained_policy.checkpoint, shapes, places, dtype)
    params = native.load_native(weights_path(config), template(pretrained_policy))
    if rounds:
        params = int8.quantise_params(params, dtype)
    elif dtype != jnp.float32:
        params = jax.tree.map(lambda x: x.astype(dtype), params)
    return params if device_mesh is None else mesh.put(params, places)


def template(pretrained_policy: PretrainedPolicy) -> dict:
    """Shapes of the weights."""
    return jax.eval_shape(lambda: policy.init(jax.random.key(0), pretrained_policy.spec))


def _open(where: Path) -> hf_checkpoint.HfCheckpoint | None:
    if where.is_dir():
        return hf_checkpoint.open_folder(where)
    return gguf.open_file(where) if where.suffix.lower() == ".gguf" else None


def _spec(config: Config, where: Path, opened) -> spec.Spec:
    """The spec that the files describe, which must be of the sizes that the name says."""
    name = config.policy.name
    if opened is None:
        if name == AUTO:
            raise ConfigError(
                f"config.policy.name: {AUTO!r} takes its sizes from config.json or a .gguf file, but {where} has none"
            )
        return published.get(name)
    try:
        found = spec.from_hf(opened.config)
    except spec.SpecError as error:
        raise native.WeightsError(f"{where / 'config.json' if where.is_dir() else where}: {error}") from error
    check_sizes(name, where, found)
    return found


def check_sizes(name: str, where: Path, found: spec.Spec) -> None:
    """Raises ConfigError where the files at `where` are not of the sizes that config.policy.name = `name` says."""
    differing = [] if name == AUTO else published.differences(published.get(name), found)
    if differing:
        raise ConfigError(
            f"config.policy.name = {name!r} is not what config.policy.path = {where} holds ({name} and file):\n  "
            + "\n  ".join(differing)
            + f"\nchoose the name of its size, as in --config=configs/seg.py:NAME, or {AUTO} to take the file's"
        )


def _tokenizer(config: Config, where: Path, opened) -> tokenizers.Tokenizer:
    if opened is not None:
        return tokenizers.load_tokenizer(where) if where.is_dir() else tokenizers.wrap(gguf.tokenizer(where), where)
    beside, shipped = where.parent, ASSETS / config.policy.name
    return tokenizers.load_tokenizer(
        beside if (beside / "tokenizer.json").is_file() or not shipped.is_dir() else shipped
    )


def video_pixels(c: Policy, tower: spec.VisionSpec) -> int:
    """config.policy.video_pixels; where that is 0 and the name auto, what configs/default.py gives the named policies
    with such a tower: gated, Qwen2.5-VL; else Qwen3-VL."""
    return c.video_pixels or (128 if tower.gated else 512) * 28**2 * (c.name == AUTO)


def _videos(c: Policy) -> patches.VideoRule:
    """How the policies of ours take videos: frames of one size, as pictures, evenly from the first to the last."""
    area, most = c.video_pixels or c.max_pixels, c.max_frames or FRAMES
    few, learnt = 1 if c.fps else most, c.prompt == "brief"  # a cold start has shown one number of frames alone
    return patches.VideoRule(
        area, area, fps=c.fps or 1.0, min_frames=few, max_frames=most, repeats=learnt, stamped=False, resume="end"
    )


def _geometry(config: Config, where: Path, opened, shape: spec.Spec) -> patches.Geometry | None:
    c, tower = config.policy, shape.vision
    if tower is None:
        return None
    try:
        if opened is None and c.name not in published.CONFIGS:
            return patches.Geometry(
                tower.patch, tower.temporal_patch, tower.merge, tower.side, c.max_pixels, video=_videos(c)
            )
        folder, values = (where, opened.config) if opened else (None, published.CONFIGS[c.name])
        ours = values.get("dtr1_videos") == "pictures"  # exported from a policy of ours
        made = processor.geometry(
            folder, values["model_type"], side=tower.side, window=tower.window, time_scale=tower.tokens_per_second,
            max_pixels=0 if ours else c.max_pixels, video_pixels=0 if ours else video_pixels(c, tower), fps=c.fps,
            max_frames=c.max_frames,
        )  # fmt: skip
        if ours:
            area = min(made.max_pixels, c.max_pixels or made.max_pixels)  # auto's limit is that of large policies
            rule = _videos(dataclasses.replace(c, max_pixels=area))
            made = dataclasses.replace(made, rule="square", min_pixels=0, max_pixels=area, video=rule)
    except ValueError as error:
        if opened is not None:
            raise
        raise ConfigError(f"config.policy.max_pixels: {error}") from None
    for name in ("patch", "temporal_patch", "merge"):
        if getattr(made, name) != getattr(tower, name):
            raise native.WeightsError(
                f"{where}: config.json says {name} = {getattr(tower, name)}, but the processor's files "
                f"{getattr(made, name)}"
            )
    return made
