"""The public benchmarks by their name in the settings: the tasks that each serves, and the reader that opens it."""

from __future__ import annotations

import functools
from collections.abc import Callable

from dtr1_jax import config
from dtr1_jax.data.readers import refcoco
from dtr1_jax.data.readers.benchmark import Benchmark
from dtr1_jax.types import POINTING

# (root, split, task, most objects of a scene) -> the examples of a split
Opener = Callable[[str, str, str, int], Benchmark]


def _refcoco(root: str, split: str, task: str, most: int, *, name: str) -> Benchmark:
    return refcoco.open_refcoco_source(name, root, split, task, max_objects=most)


SOURCES: dict[str, tuple[tuple[str, ...], Opener]] = {
    **{name: (POINTING, functools.partial(_refcoco, name=name)) for name in refcoco.NAMES},
}
SERVED = {name: tasks for name, (tasks, _) in SOURCES.items()}  # source -> the tasks for which it has targets


def open_public_source(data: config.Data, split: str, task: str) -> Benchmark:
    """The examples of a split of the benchmark that data.source names, one of SERVED, for one task. Raises DataError."""
    return SOURCES[data.source][1](data.root, split, task, data.max_objects)
