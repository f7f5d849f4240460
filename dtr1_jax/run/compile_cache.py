"""Compiled programs on disk, for later runs; an entry that a killed process left half-written is replaced.

JAX writes an entry in place, warns about a broken one, compiles again, and then keeps the broken file, because it never
writes over an entry. So each later run would warn and compile again.
"""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

_UNREADABLE = re.compile(r"Error reading persistent compilation cache entry for '([^'/]+)'")

_log = logging.getLogger(__name__)


def set_up() -> None:
    """Makes JAX keep compiled programs in the user's cache, or where JAX_COMPILATION_CACHE_DIR says."""
    if not jax.config.jax_compilation_cache_dir:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dtr1_jax" / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(cache))
    warnings.filterwarnings("always", message="Error reading persistent compilation cache entry")
    warnings.showwarning = _removing_entries(warnings.showwarning)


def remove_entries(program: str, folder: Path) -> int:
    """Removes the entries of the program with this name, such as "jit_update"; returns their number.

    JAX's warning does not say which of several entries of one name is broken, so all of them are compiled again.
    """
    name = re.compile(re.escape(program) + r"-[0-9a-f]{16,}-cache")
    entries = [path for path in folder.iterdir() if name.fullmatch(path.name)] if folder.is_dir() else []
    for path in entries:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            _log.warning("remove %s by hand: it is broken, and cannot be removed here: %s", path, error.strerror)
    return len(entries)


def _removing_entries(show: Callable[..., Any]) -> Callable[..., Any]:
    """`warnings.showwarning` that removes the entries that JAX warns about, and shows all other warnings by `show`."""

    def show_or_remove(message: Warning | str, *args: Any, **kwargs: Any) -> None:
        match, cache = _UNREADABLE.match(str(message)), jax.config.jax_compilation_cache_dir
        if match is None or not cache or "://" in cache:
            show(message, *args, **kwargs)
        elif count := remove_entries(match[1], Path(cache)):
            _log.warning(
                "compiling %s again: its entry in %s was broken, as a killed run leaves it; %d removed",
                match[1],
                cache,
                count,
            )

    return show_or_remove
