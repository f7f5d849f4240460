"""Sphinx: the pages of docs/, and an API reference made from the docstrings. Build it with `make docs`."""

import os
import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

import dtr1_jax  # noqa: E402  (found through the line above, so that no installation is needed)

project = "dtr1_jax"
author = "the authors of dtr1_jax"
version = release = dtr1_jax.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "member-order": "bysource", "ignore-module-all": True}
autodoc_typehints_format = "short"
napoleon_use_ivar = True
napoleon_use_rtype = False

html_theme = "sphinx_book_theme"
html_title = f"dtr1_jax {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options = {"show_toc_level": 2, "home_page_in_toc": True, "navbar_persistent": []}

# Pages that live elsewhere in the repository and are copied into the site, with their links corrected.
COPIES = {
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "dtr1_jax/assets/tiny/README.md": "tiny_policy.md",
    "experiments/README.md": "experiments.md",
    "experiments/cold_start/README.md": "cold_start.md",
    "experiments/smollm2/README.md": "smollm2.md",
}
MORE = DOCS / "more"
API = DOCS / "api"
SECTION = re.compile(r"(Args|Arguments|Attributes|Example|Examples|Note|Raises|Returns|Yields):$")


def setup(app: Sphinx) -> None:
    """Registers the hooks of this file."""
    app.connect("builder-inited", lambda _: write_pages())
    app.connect("source-read", correct_page)
    # Before napoleon (priority 500), which reads the sections.
    app.connect("autodoc-process-docstring", escape_docstring, priority=400)


def write_pages() -> None:
    """Writes the pages that are made from other files; their folders are not under version control."""
    write_api_pages()
    MORE.mkdir(exist_ok=True)
    for page, name in COPIES.items():
        text = correct_links((ROOT / page).read_text("utf-8"), (ROOT / page).parent, MORE)
        (MORE / name).write_text(text, "utf-8")


def correct_page(app: Sphinx, name: str, source: list[str]) -> None:
    """Corrects the links of a page of docs/, in place."""
    if not name.startswith(("api/", "more/")):
        source[0] = correct_links(source[0], DOCS, DOCS)


def correct_links(text: str, home: Path, new_home: Path) -> str:
    """Markdown whose links, relative to the folder `home`, lead to the same pages from `new_home`."""

    def correct(match: re.Match[str]) -> str:
        target, mark, anchor = match[1].partition("#")
        if not target or ":" in target:
            return match[0]
        path = os.path.relpath(home / target, ROOT)
        path = MORE / COPIES[path] if path in COPIES else ROOT / path
        return f"]({os.path.relpath(path, new_home)}{mark}{anchor})"

    return re.sub(r"\]\(([^)\s]+)\)", correct, text)


def write_api_pages() -> None:
    """Writes api/ROOM.rst for each folder of dtr1_jax, and an index."""
    API.mkdir(exist_ok=True)
    for old in API.glob("*.rst"):
        old.unlink()
    rooms = {}
    for file in sorted((ROOT / "dtr1_jax").rglob("*.py")):
        parts = file.relative_to(ROOT).with_suffix("").parts
        if parts[-1] == "__main__" or parts == ("dtr1_jax", "__init__"):
            continue
        room = parts[1] if len(parts) > 2 else "shared"
        rooms.setdefault(room, []).append(".".join(parts).removesuffix(".__init__"))
    for room, modules in rooms.items():
        title = "Shared modules" if room == "shared" else f"dtr1_jax.{room}"
        text = [title, "=" * len(title), ""]
        for module in modules:
            if module == title:
                text += [f".. automodule:: {module}", ""]
                continue
            name = module if room == "shared" else module.removeprefix(f"{title}.")
            text += [name, "-" * len(name), "", f".. automodule:: {module}", ""]
        (API / f"{room}.rst").write_text("\n".join(text), "utf-8")
    listing = "\n   ".join(sorted(rooms, key=lambda room: (room != "shared", room)))
    head = "API reference\n=============\n\nThe docstrings of every module, one page for each folder of the package."
    (API / "index.rst").write_text(f"{head}\n\n.. toctree::\n   :maxdepth: 2\n\n   {listing}\n", "utf-8")


def escape_docstring(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Makes reStructuredText of a docstring, in place: our docstrings are plain text with sections of Google's style.

    `code` becomes literal, other special characters are escaped, and an indented block becomes a literal block, as it
    is: a table, a formula, or lines of a file.
    """
    out = []
    literal = section = False
    for line in lines:
        indented = line.startswith(" ")
        if line.strip() and not indented:
            section = bool(SECTION.match(line))
            literal = False
        if section or not line.strip():
            out.append(escape(line) if line.strip() else "")
        elif indented:
            if not literal:
                out += ["", "::", ""]
                literal = True
            out.append("   " + line)
        else:
            if out and out[-1].startswith("   ") and not section:
                out.append("")
            out.append(escape(line))
    lines[:] = out


def escape(line: str) -> str:
    """One line of plain text as reStructuredText."""
    indent = len(line) - len(line.lstrip())
    pieces = re.split(r"(`[^`]+`|(?<![\w*])\*\w+\*(?![\w*]))", line[indent:])  # `code` and *emphasis*
    for i, piece in enumerate(pieces):
        if i % 2 and piece.startswith("`"):
            pieces[i] = f"`{piece}`"
            if i + 1 < len(pieces) and re.match(r"\w", pieces[i + 1]):
                pieces[i] += "\\ "
            if re.search(r"[\w/=]$", pieces[i - 1]):
                pieces[i] = "\\ " + pieces[i]
        elif i % 2 == 0:
            pieces[i] = re.sub(r"([\\*|`]|_\b|\b_(?=\W|$))", r"\\\1", piece)
    return line[:indent] + "".join(pieces)
