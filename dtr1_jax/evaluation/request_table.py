"""What a policy asked specialists for, as a table for people: in the output of an evaluation and in the report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dtr1_jax.asking.requested_work import PHASES
from dtr1_jax.twin.construct import OPS

# column -> name of the figure, without "train/" or "eval/"; those of SHARES are shown in percent
_COLUMNS = {
    "sound requests": "requested", "work a query": "work", **{op: f"work_{op}" for op in OPS}, "needless": "needless",
    "remembered": "remembered", "failed looks": "looks_failed",
    **{f"{phase.replace('_', ' ')} (s)": f"{phase}_s" for phase in PHASES},
    "reward (s)": "score_s", "update (s)": "update_s",
}  # fmt: skip
_SHARES = ("requested", "needless", "remembered")


def lines(rows: Mapping[str, Mapping[str, Any]], prefixes: Mapping[str, str]) -> list[list[str]]:
    """A header, and a line for each row that has the figures; empty if none has them.

    A column that no row has is left out. A figure that is missing, or is no finite number, is shown as "".

    Args:
      rows: name of a row -> its figures by their full names, such as "eval/requested".
      prefixes: name of a row -> "train" or "eval".
    """
    table = {}
    for name, row in rows.items():
        figures = {column: row.get(f"{prefixes[name]}/{figure}") for column, figure in _COLUMNS.items()}
        if _is_number(figures["sound requests"]) and _is_number(figures["work a query"]):
            table[name] = {column: _shown(_COLUMNS[column], value) for column, value in figures.items()}
    columns = [column for column in _COLUMNS if any(row[column] for row in table.values())]
    return [["", *columns], *([name, *(row[c] for c in columns)] for name, row in table.items())] if table else []


def format_figures(numbers: Mapping[str, float]) -> str:
    """The table of the figures of one evaluation as text, a column under another; "" if there are none."""
    table = lines({"": numbers}, {"": "eval"})
    if not table:
        return ""
    header, row = table
    width = max(map(len, header))
    return "\n".join(["requests to specialists", *(f"{c.ljust(width)}  {v}" for c, v in list(zip(header, row))[1:])])


def _shown(figure: str, value: Any) -> str:
    if not _is_number(value):
        return ""
    return f"{100 * value:.1f} %" if figure in _SHARES else f"{value:.3g}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
