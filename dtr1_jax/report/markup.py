"""Values of unknown type as HTML text and as numbers, and the marks that several sections of the report share.

Everything that a model, a data set or a file wrote reaches the page through `to_text`, so that it is never markup.
"""

from __future__ import annotations

import html
import json
import math
from typing import Any

from dtr1_jax import plain_text

MAX_TEXT = 20_000  # characters of one value


def to_text(value: Any) -> str:
    """Escapes any value for HTML, and invisible characters; all but strings are written as JSON. Cuts it after MAX_TEXT
    characters.
    """
    try:
        text = value if isinstance(value, str) else json.dumps(value)
    except (RecursionError, ValueError):  # too deeply nested, or an integer of thousands of digits
        text = "(too large)"
    return html.escape(plain_text.visible(text[:MAX_TEXT]) + (" [cut]" if len(text) > MAX_TEXT else ""))


def to_number(value: Any) -> float | None:
    """The value as a finite float; None if it is not a number, or not a finite one."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def series(rows: list[dict], name: str) -> list[tuple[float, float | None]]:
    """(step, value) of each row of the run log that has `name`; value None if it is no finite number."""
    return [(row["step"], to_number(row[name])) for row in rows if name in row]


def setting(config: Any, *path: str) -> Any:
    """The value at `path` in nested dicts; None if the path leaves them."""
    for key in path:
        config = config.get(key) if isinstance(config, dict) else None
    return config
