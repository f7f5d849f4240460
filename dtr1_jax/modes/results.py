"""Folders for results: made before the work, and new ones for answers, so that no answer is overwritten."""

from __future__ import annotations

import tempfile
from pathlib import Path

from dtr1_jax import config


def open_folder(folder: Path) -> Path:
    """Makes the folder for results before the work for them; returns it. Raises ConfigError if it is not
    writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError as error:
        raise config.ConfigError(
            f"cannot write to {folder}: {error.strerror or error}; expected a folder that this user may create and"
            " write; choose another --workdir"
        ) from None


def new_folder(parent: Path, name: str) -> Path:
    """Makes a folder that did not exist: name, name-2, name-3, ... Raises ConfigError after 100,000 of them."""
    for i in range(1, 100_000):
        folder = parent / (name if i == 1 else f"{name}-{i}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
    raise config.ConfigError(f"{parent}: too many answers for {name}; choose another --workdir")
