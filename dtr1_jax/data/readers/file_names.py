"""The names of files as data sets write them: Windows paths, escaped characters, another case of the suffix, URLs."""

from __future__ import annotations

import os
import re
import unicodedata
import urllib.parse
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

_URL = re.compile(r"(?:[a-z][a-z0-9+.-]+://|data:)", re.IGNORECASE)
_PLAIN = re.compile(r"(?:[\w-][\w.-]*/)*[\w-][\w.-]*", re.ASCII)  # the usual name; none of its parts begins with a dot
_DRIVE = re.compile(r"[A-Za-z]:[\\/]|\\\\")  # C:\ or \\server


def is_url(name: str) -> bool:
    """Whether a name is the address of a file elsewhere, such as https://..., s3://... or data:..."""
    return _URL.match(name) is not None


def is_elsewhere(name: str) -> bool:
    """Whether a name leads to another machine: an address, or a drive of Windows on another system."""
    return is_url(name) or (os.name != "nt" and _DRIVE.match(name) is not None)


def is_plain(name: str) -> bool:
    """Whether a name is a relative path of letters, digits, "-", "_" and ".", which has one spelling."""
    return _PLAIN.fullmatch(name) is not None


def stays_inside(name: str) -> bool:
    """Whether a name is a relative path below its folder, in every spelling that `spellings` gives."""
    if is_plain(name):
        return True
    if not name or not name.isprintable() or is_url(name) or _DRIVE.match(name):
        return False
    paths = [PurePosixPath(spelling) for spelling in spellings(name)]
    return not any(path.is_absolute() or ".." in path.parts for path in paths)


def spellings(name: str) -> Iterator[str]:
    """The names under which the file may lie, from the name itself to less likely ones.

    A backslash may stand for a slash, %20 for a space, .JPG for .jpg, a letter with an accent for two characters, and a
    question mark may begin the query of an address ("1.jpg?width=640").
    """
    seen = set()
    plain = urllib.parse.unquote(name)
    file, question, _ = name.partition("?")
    texts = (name, name.replace("\\", "/"), plain, plain.replace("\\", "/"))
    for text in texts + tuple(spellings(file)) if question and file else texts:
        head, dot, suffix = text.rpartition(".")
        for form in (text, head + dot + suffix.lower(), head + dot + suffix.upper()):
            for spelling in (form, unicodedata.normalize("NFC", form), unicodedata.normalize("NFD", form)):
                if spelling not in seen:
                    seen.add(spelling)
                    yield spelling


def find_file(folders: Sequence[Path], name: str, or_folder: bool = False) -> Path:
    """The path of the first spelling of a name that is a file in a folder; where none is, the name in the first folder.

    With `or_folder`, it may be a folder of frames. Only `stays_inside` tells whether the path is below the folder.
    """
    for spelling in spellings(name):
        for folder in folders:
            if is_file(folder / spelling) or (or_folder and is_folder(folder / spelling)):
                return folder / spelling
    return folders[0] / name


def visible_files(root: Path, pattern: str) -> list[Path]:
    """The files of a glob pattern below a folder, sorted, without hidden ones and those in hidden folders.

    macOS adds a file "._NAME" to each file in an archive, beside it or in a folder __MACOSX.
    """
    found = []
    for path in sorted(root.glob(pattern)):
        parts = path.relative_to(root).parts
        if not any(part.startswith(".") or part == "__MACOSX" for part in parts) and is_file(path):
            found.append(path)
    return found


def is_file(path: Path) -> bool:
    """Whether the path is a file; False, too, if the system cannot tell (a name that is too long, no permission)."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Whether the path is a folder; False, too, if the system cannot tell."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
