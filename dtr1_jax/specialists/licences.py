"""The licence of a specialist's weights, as far as a name or the README of a folder says it."""

from __future__ import annotations

import re
from pathlib import Path

NON_COMMERCIAL = "CC-BY-NC-4.0 (no commercial use)"
# Expression for a part of a hub id, in small letters -> a licence that forbids some uses.
BY_NAME = {
    r"depth-anything-v2-(metric-\w+-)?(base|large|giant)": NON_COMMERCIAL,
    r"da3-(large|giant)|da3nested": NON_COMMERCIAL,
}
_LIMITS = re.compile(r"(^|[-_])nc([-_]|$)|non-?commercial|research|^other$")  # in the name of a licence
_MOST = 64 << 10  # characters of a README that are read


def limits(name: str, where: Path) -> str | None:
    """The licence of the weights if it forbids some uses, else None.

    Args:
      name: the hub id or path that the user gave.
      where: the folder or file with the weights; a folder's README.md may begin with a header that names the licence,
        as those of the Hugging Face hub do.
    """
    for pattern, licence in BY_NAME.items():
        if re.search(pattern, name.lower()):
            return licence
    readme = where / "README.md"
    if not readme.is_file():
        return None
    with readme.open(encoding="utf-8", errors="replace") as file:
        header = re.match(r"\s*---\s*\n(.*?)\n---", file.read(_MOST), re.DOTALL)
    found = re.search(r"^license:\s*[\"']?([\w.+-]{1,60})", header[1] if header else "", re.MULTILINE)
    return found[1] if found and _LIMITS.search(found[1].lower()) else None
