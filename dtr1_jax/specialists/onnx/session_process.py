"""The worker's side of an ONNX model: opens the file in onnxruntime and runs it for one picture at a time.

It runs in a worker process (run/worker_pool.py), with a deadline and limited memory, because an ONNX file is foreign
data: its graph can loop for ever or ask for any amount of memory. It imports no JAX.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dtr1_jax.specialists.onnx import wire_format

_MOST_BYTES = 1 << 30  # of a model's file


def open_later(argument: str) -> Callable[[Any], Any]:
    """The function that a worker serves: the file is opened with the first item, so that the deadline holds for it too.

    Args:
      argument: JSON with "file", a path, and "threads", the threads that the model computes with.

    Returns a function of an item. For None it returns {"inputs": [[name, shape, type], ...], "outputs": [...]}; for
    {"input": name, "value": array, "outputs": [name, ...]} it returns the list of the outputs' arrays.
    """
    settings = json.loads(argument)
    sessions: list[Any] = []

    def call(item: Any) -> Any:
        if not sessions:
            sessions.append(_open(Path(settings["file"]), int(settings["threads"])))
        (session,) = sessions
        if item is None:
            return {"inputs": _described(session.get_inputs()), "outputs": _described(session.get_outputs())}
        outputs = session.run(list(item["outputs"]), {item["input"]: item["value"]})
        return [np.asarray(output) for output in outputs]

    return call


def _open(file: Path, threads: int) -> Any:
    import onnxruntime

    os.environ.pop("ORT_LOAD_CONFIG_FROM_MODEL", None)  # a model must not set options of its session
    if file.stat().st_size > _MOST_BYTES:
        raise ValueError(f"{file}: expected at most {_MOST_BYTES} bytes, got {file.stat().st_size}")
    try:
        locations = wire_format.external_locations(file.read_bytes())
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    check_locations(file.parent, locations)
    onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.load_model_format", "ONNX")
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def check_locations(folder: Path, locations: set[str]) -> None:
    """Raises ValueError for a file of a model's tensors that lies outside the model's folder, or is not there."""
    folder = folder.resolve()
    for location in sorted(locations):
        target = (folder / location).resolve() if "\0" not in location else folder
        if not target.is_relative_to(folder) or not target.is_file():
            raise ValueError(
                f"the model keeps weights in the file {location!r}; expected a file in its own folder {folder}"
            )


def _described(nodes: Any) -> list[list[Any]]:
    return [[n.name, [side if isinstance(side, int) else None for side in n.shape], n.type] for n in nodes]
