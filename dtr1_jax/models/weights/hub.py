"""Repositories of the Hugging Face hub: how their names look, and how their files are downloaded."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(@[\w.-]+)?")
# Only numbers and text are taken from the hub: no pickles and no code.
PATTERNS = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.jinja", "merges.txt", "vocab.txt")
_FILES = (".safetensors", ".gguf", ".pt", ".pth", ".onnx", ".json")


class HubError(ValueError):
    """The files of a hub repository could not be downloaded."""


def is_hub_id(path: str) -> bool:
    """Whether `path` can only be the name of a hub repository: "org/name" or "org/name@revision"."""
    return bool(_HUB_ID.fullmatch(path)) and not Path(path).exists() and Path(path).suffix not in _FILES


def download(hub_id: str, patterns: Sequence[str] = PATTERNS) -> Path:
    """Downloads a snapshot of a hub repository and returns its folder.

    Args:
      hub_id: "org/name" or "org/name@revision".
      patterns: patterns of the file names to download.

    Raises HubError if that fails. At the end of its message, the user has the files in a folder DIR; the caller adds
    how to name that folder.
    """
    import huggingface_hub

    name, _, revision = hub_id.partition("@")
    try:
        return Path(huggingface_hub.snapshot_download(name, revision=revision or None, allow_patterns=[*patterns]))
    except Exception as error:  # The network, the hub or the disk may fail.
        reason, option = " ".join(str(error).split())[:300], f" --revision {revision}" if revision else ""
        raise HubError(
            f"{hub_id!r} is no file or folder here, and as a hub id it could not be downloaded "
            f"({type(error).__name__}: {reason}). On a machine with network: `hf download {name}{option} --local-dir"
            " DIR`; then copy DIR here"
        ) from error
