"""Folders for results: locked and made before the work, and new ones for answers, so that no answer is overwritten."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path

import jax

from dtr1_jax import config, mesh, places
from dtr1_jax.run import bucket_lock, workdir_lock


@contextlib.contextmanager
def locked(folder: str | Path, mode: str) -> Iterator[None]:
    """Context manager that keeps other runs from writing into `folder`; the first process of a run holds the lock.

    Raises workdir_lock.LockError in all processes of the run if the first one does not get it.
    """
    with contextlib.ExitStack() as stack:
        fault = None
        if jax.process_index() == 0:
            try:
                hold = bucket_lock.hold if places.is_bucket(folder) else workdir_lock.hold
                stack.enter_context(hold(folder, mode))
            except workdir_lock.LockError as error:
                fault = error
        if mesh.least(fault is None) == 0:
            raise fault or workdir_lock.LockError(f"the first process of this run could not lock {folder}")
        yield


def open_folder(folder: Path, flag: str = "--workdir") -> Path:
    """Makes the folder for results before the work for them; returns it. Raises ConfigError if it is not
    writable; `flag` is what the user chose it by.
    """
    try:
        places.check_writable(folder)
        return folder
    except OSError as error:
        raise config.ConfigError(
            f"cannot write to {folder}: {error.strerror or error}; expected a folder that this user may create and"
            f" write; choose another {flag}"
        ) from None


def new_folder(parent: Path, name: str) -> Path:
    """Makes a folder that did not exist: name, name-2, name-3, ... Raises ConfigError after 100,000 of them.

    A bucket has no folders that could be made, so the name of one there ends in a random number.
    """
    if places.is_bucket(parent):
        return parent / f"{name}-{secrets.token_hex(4)}"
    for i in range(1, 100_000):
        folder = parent / (name if i == 1 else f"{name}-{i}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
    raise config.ConfigError(f"{parent}: too many answers for {name}; choose another --workdir")
