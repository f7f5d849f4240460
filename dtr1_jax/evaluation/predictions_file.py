"""Predictions on disk: predictions.jsonl with a line for each query, and pictures of the first of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from dtr1_jax import places
from dtr1_jax.evaluation.answered import Answered
from dtr1_jax.run import atomic


def write_predictions(folder: Path, queries: Sequence[Answered]) -> None:
    """Writes predictions.jsonl into `folder`, and the PNG files of the queries that have some beside it."""
    places.make_folder(folder)
    lines = []
    for i, query in enumerate(queries):
        names = {kind: f"{i:04d}_{kind}.png" for kind in query.pictures}
        for kind, name in names.items():
            places.write_bytes(folder / name, query.pictures[kind])
        line = query.row | ({"pictures": names} if names else {})
        lines.append(json.dumps(line) + "\n")  # ASCII, because a completion may hold lone surrogates
    with atomic.replacing(folder / "predictions.jsonl") as partial:
        partial.write_text("".join(lines), "utf-8")
