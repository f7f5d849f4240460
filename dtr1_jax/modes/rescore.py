"""`--mode=rescore`: the table of an evaluation made again from its predictions.jsonl, without any model."""

from __future__ import annotations

import dataclasses
import json

from dtr1_jax import config, places
from dtr1_jax.evaluation import benchmark_rows, table, twin_answers


def run(predictions: str | None) -> str:
    """The table of a predictions.jsonl as text; its last line is one JSON object with the figures and the cells.

    Nothing is written. Raises ConfigError if no file is named; DataError if it cannot be read or has bad lines.
    """
    if not predictions:
        raise config.ConfigError("--mode=rescore needs --predictions=FILE, a predictions.jsonl of an evaluation")
    cells, numbers = table.recompute(places.path(predictions))
    last = json.dumps(numbers | {"table": [dataclasses.asdict(cell) for cell in cells]})
    more = [twin_answers.format_figures(numbers), benchmark_rows.format_figures(numbers)]
    return "\n".join([table.format_table(cells), *filter(None, more), last])
