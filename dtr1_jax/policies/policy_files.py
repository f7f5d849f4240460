"""Where the files of a policy are: shipped with the package, in a folder or file of the user's, or on the hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dtr1_jax import places
from dtr1_jax.config import Config, ConfigError
from dtr1_jax.models import published_sizes
from dtr1_jax.models.weights import hf_checkpoint, hub
from dtr1_jax.run import local_copy

ASSETS = Path(__file__).parents[1] / "assets"
OURS = "policy.safetensors"  # the weights of a policy of our own
AUTO = "auto"  # the name of a policy that takes its sizes from its files
_FILES = (".safetensors", ".gguf")


def weights_path(config: Config) -> Path:
    """The place of the policy's files: config.policy.path, or the shipped files where that is empty.

    Returns a folder in the form of Hugging Face, a .gguf file, or a .safetensors file of our own. Downloads the files
    of a hub id first, and copies those of a bucket (run/local_copy.py). Raises ConfigError if there are no files or the
    download fails; PlaceError if they cannot be copied.
    """
    setting, name = config.policy.path, config.policy.name
    if not setting:
        shipped = ASSETS / name / OURS
        if not shipped.is_file():
            raise ConfigError(
                f"config.policy.path: no weights are shipped for {name}; expected a folder with config.json and "
                "safetensors, a .gguf file, or a hub id such as Qwen/Qwen2.5-VL-3B-Instruct"
            )
        return shipped
    path = download(setting) if is_hub_id(setting) else local_copy.fetch(setting, "config.policy.path", hub.PATTERNS)
    if not path.exists() and path.suffix not in _FILES:
        raise ConfigError(
            f"config.policy.path = {setting!r}: no such file or folder; expected a folder with config.json and "
            "safetensors, a .gguf file, or a hub id such as Qwen/Qwen2.5-VL-3B-Instruct"
        )
    if path.suffix.lower() in hf_checkpoint.PICKLED and not path.is_dir():
        raise ConfigError(
            f"config.policy.path = {setting!r}: {hf_checkpoint.PICKLE_ADVICE}; then set config.policy.path "
            "to its folder"
        )
    if path.name == hf_checkpoint.SINGLE and (path.parent / "config.json").is_file():
        return path.parent
    ours = name != AUTO and name not in published_sizes.CONFIGS
    if path.is_dir() and not (path / "config.json").is_file() and (ours or (path / OURS).is_file()):
        return path / OURS
    return path


def adapter_path(config: Config) -> Path | None:
    """The folder of config.policy.adapter, downloaded first if it is a hub id or in a bucket; None where it is empty.

    Raises ConfigError if there is no such folder or the download fails.
    """
    setting = config.policy.adapter
    if not setting:
        return None
    if is_hub_id(setting):
        path = download(setting, setting="policy.adapter")
    else:
        path = local_copy.fetch(setting, "config.policy.adapter", hub.PATTERNS)
    if not path.is_dir():
        raise ConfigError(
            f"config.policy.adapter = {setting!r}: expected a folder with adapter_config.json and "
            "adapter_model.safetensors, such as the `adapter` in the workdir of --mode=sft, or a hub id"
        )
    return path


def base_model(config: Config) -> tuple[str, str | None]:
    """The policy's files as an adapter's config names them: (hub id, revision or None), or (folder or address, None).

    transformers and PEFT take the folder of a .gguf file as the model's name, and the file as the argument gguf_file.
    """
    if places.is_bucket(config.policy.path):
        return config.policy.path, None
    if not is_hub_id(config.policy.path):
        path = weights_path(config).resolve()
        return str(path.parent if path.is_file() else path), None
    name, _, revision = config.policy.path.partition("@")
    return name, revision or None


def is_hub_id(path: str) -> bool:
    """Whether config.policy.path can only be the name of a hub repository: "org/name" or "org/name@revision"."""
    return hub.is_hub_id(path)


def download(hub_id: str, patterns: Sequence[str] = hub.PATTERNS, setting: str = "policy.path") -> Path:
    """Downloads a snapshot of a hub repository and returns its folder, as `hub.download` does.

    Raises ConfigError, which names the setting, if that fails.
    """
    try:
        return hub.download(hub_id, patterns)
    except hub.HubError as error:
        raise ConfigError(f"config.{setting} = {error} and set config.{setting}=DIR") from error
