"""One self-contained page about a run: scores before and after, curves, and what the policy sees and answers.

Text of a model, a data set or a file is escaped (markup.py), pictures go in as checked PNG bytes (gallery.py), and the
page forbids scripts and outside resources (stylesheet.py).
"""

from __future__ import annotations

import json
import os
import pathlib

from dtr1_jax import places
from dtr1_jax.report import curves, gallery, stylesheet, tables
from dtr1_jax.run import atomic, run_log, warnings_file


def build(workdir: str | os.PathLike) -> pathlib.Path:
    """Writes `workdir/report.html` and returns its path.

    It shows metrics.jsonl, warnings.jsonl, config.json and gallery/{before,after} of `workdir`, and says which of them
    are missing or broken. Raises OSError if the page cannot be written.
    """
    workdir = places.path(workdir)
    rows, config = run_log.read_run_log(workdir), _read_config(workdir / "config.json")
    page = "\n".join(
        [
            stylesheet.HEAD,
            tables.title_section(config, rows),
            tables.warnings_section(warnings_file.read_warnings(workdir)),
            tables.headline_section(rows),
            tables.error_section(rows),
            tables.request_section(rows),
            curves.curve_section(rows, config),
            gallery.gallery_section(workdir / "gallery"),
            tables.settings_section(config),
            "</main></body></html>\n",
        ]
    )
    path = workdir / "report.html"
    with atomic.replacing(path) as partial:
        partial.write_bytes(page.encode("utf-8", "replace"))
    return path


def _read_config(path: pathlib.Path) -> dict:
    try:
        value = json.loads(places.read_text(path))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
