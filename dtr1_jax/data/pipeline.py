"""Pipelines: shuffle, share, prepare, batch. They are deterministic, and resume from a small state dict."""

from __future__ import annotations

import dataclasses
import functools
import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType

import grain
import numpy as np

from dtr1_jax.data import asking_demonstrations, batches, demonstrations, mixture, object_order, sources
from dtr1_jax.data.batches import PRACTICE_QUERY, Batch
from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.numbered_batches import Share, numbered_batches, substitute, usable_row
from dtr1_jax.data.prefetch import BUDGET
from dtr1_jax.data.prompts import PromptError, Style, prompt, prompt_with_twin
from dtr1_jax.data.twinworld import patch_targets, picture_examples, practice, tasks
from dtr1_jax.data.working_size import fit, fit_scene, working_pixels
from dtr1_jax.twin.coordinates import Canvas
from dtr1_jax.twin.text import from_scene
from dtr1_jax.types import Demonstration, Example

# Tokens of an exercise, at most: its twin of a picture or of a video, and a summary with its query and thought.
PRACTICE_TWIN, PRACTICE_VIDEO, PRACTICE_SUMMARY = 160, 384, 160
SEGMENTATION = MappingProxyType({"segmentation": 1.0})  # the task mixture that is used if none is given
SPARE = 3  # queries drawn beyond the wanted number, to replace those that are too long

log = logging.getLogger(__name__)


class SkipCounter:
    """Counts the examples that could not be used, and warns of the first few.

    Safe between threads; a worker process warns and counts on its own.
    """

    def __init__(self, warnings: int = 5):
        self.count = 0
        self._warnings = warnings
        self._lock = threading.Lock()

    def add(self, error: Exception) -> None:
        """Counts one example, which failed with `error`."""
        with self._lock:
            self.count += 1
            if self.count <= self._warnings:
                rest = "; more will only be counted" if self.count == self._warnings else ""
                log.warning("skipped an example (%d so far): %s%s", self.count, error, rest)

    def __getstate__(self):
        return {"count": self.count, "_warnings": self._warnings}

    def __setstate__(self, state):
        self.__dict__.update(state, _lock=threading.Lock())


def query_batches(
    source: sources.Source, style: Style, batch: int, *, seed: int, workers: int = 0, shard: tuple[int, int] = (0, 1),
    skips: SkipCounter | None = None, budget: int = BUDGET, shuffle_objects: bool = False,
) -> Iterable[Batch]:  # fmt: skip
    """Endless shuffled batches of queries. Large pictures and their masks are shrunk (working_size.py).

    Args:
      source: examples by index (data/sources.py).
      style: how examples become prompts.
      batch: B of this process.
      seed: of the shuffle, which has another order in each pass.
      workers: processes that prepare batches; 0 = a thread of this process.
      shard: (index, count) of this process among those that share each batch (numbered_batches.py).
      skips: counts broken pictures and prompts that cannot be built.
      budget: bytes of the batches that a thread makes ahead, at least one (prefetch.py). Each worker process makes one
        batch ahead instead.
      shuffle_objects: whether the objects of an example have another order each time (object_order.py).

    Raises DataError if the source is empty. The iterator raises it if none of very many examples in a row can be
    used.
    """
    if not len(source):
        raise DataError(f"no examples in {source!r}; expected at least one")

    pixels, share, index = working_pixels(style.geometry), Share(batch, *shard), _order(source, seed)
    source = shown(source, style)
    if style.geometry is not None:  # without pictures in the prompt, boxes may be in pixels of the file
        source = sources.shrunk(source, pixels)

    def load(place: int, attempt: int):
        example = _reordered(source[index(place, attempt)], shuffle_objects, seed, place, attempt)
        return fit(example, pixels), *prompt(example, style)

    row = usable_row(load, len(source), skips or SkipCounter())
    stack = functools.partial(batches.stack_queries, style=style, numbers=share.rows)
    return numbered_batches(row, stack, share, workers, budget)


def evaluation_batches(
    source: sources.Source, style: Style, batch: int, count: int, skips: SkipCounter | None = None,
    shard: tuple[int, int] = (0, 1),
) -> Iterator[Batch | None]:  # fmt: skip
    """The first `count` examples of a source in order, in batches of `batch` places; the last one may have fewer.

    Examples that cannot be used are left out, and counted in `skips`. Pictures and targets have the size of the files.

    Args:
      shard: (index, count) of this process among those that share each batch. It gets about batch / count places of
        each, and None for a batch in which it has no usable example. All processes get equally many batches.
    """
    skips, size, source = skips or SkipCounter(), min(count, len(source)), shown(source, style)
    for start in range(0, size, batch):
        width = min(batch, size - start)
        first, last = (start + width * (shard[0] + i) // shard[1] for i in (0, 1))
        rows = [(index, row) for index in range(first, last) if (row := _usable(source, style, index, skips))]
        yield batches.stack_queries([row for _, row in rows], style, [index for index, _ in rows]) if rows else None


def first_usable(source: sources.Source, style: Style, count: int) -> Batch | None:
    """A batch of the first of the first `count` examples that can be used; None if there is none."""
    silent, source = SkipCounter(warnings=0), shown(source, style)
    rows = (_usable(source, style, index, silent) for index in range(min(count, len(source))))
    row = next(filter(None, rows), None)
    return None if row is None else batches.stack_queries([row], style)


def _usable(source: sources.Source, style: Style, index: int, skips: SkipCounter) -> tuple | None:
    """The row of an example for `batches.stack_queries`; None, and counted, if it cannot be used."""
    try:
        example = fit_scene(source[index])
        return example, *prompt(example, style)
    except (ImageError, PromptError, OSError) as error:
        skips.add(error)
        return None


def single_batch(example: Example, style: Style) -> Batch:
    """A batch of one query. Raises PromptError."""
    return batches.stack_queries([(example, *prompt(example, style))], style)


def demonstration_batches(
    style: Style, batch: int, *, seed: int, length: int, objects: Callable[[int], int], size: int,
    direct: float = 0.0, task_weights: Mapping[str, float] = SEGMENTATION, frames: int = 0, workers: int = 0,
    shard: tuple[int, int] = (0, 1), skips: SkipCounter | None = None, budget: int = BUDGET,
    shuffle_objects: bool = False,
) -> Iterable[Demonstration]:  # fmt: skip
    """Endless batches of oracle transcripts (types.Demonstration) on TwinWorld's training split, in its order.

    Args:
      style: how examples become prompts; its geometry must not resize the pictures (twinworld/patch_targets.py).
      batch: B of this process.
      seed: of the scenes.
      length: tokens that a transcript may have; examples with longer ones are left out.
      objects: example index -> number of objects in its scene: the curriculum.
      size: side of the pictures, pixels.
      direct: share of the transcripts that answer with an empty thought.
      task_weights: task -> weight above 0; the tasks are interleaved (mixture.py).
      frames: of a video; 0 = pictures.
      workers: processes that prepare batches; 0 = a thread of this process.
      shard: (index, count) of this process among those that share each batch (numbered_batches.py).
      skips: counts the examples that are left out.
      budget, shuffle_objects: as in `query_batches`.

    The iterator raises DataError if none of very many examples in a row can be used.
    """
    names, places = tuple(task_weights), mixture.interleave(tuple(task_weights.values()))
    style = dataclasses.replace(style, frames=max(frames, 1))

    def load(place: int, attempt: int):
        count, task, index = objects(place), names[places.at(place)[0]], _scene(place, attempt)
        example = tasks.example(
            task, seed, "train", index, video=frames > 0, size=size, frames=frames, min_objects=count, max_objects=count
        )
        example = _reordered(example, shuffle_objects, seed, place, attempt)
        row = demonstration(example, style, length, np.random.default_rng([seed, index]).random() >= direct)
        return *row, *patch_targets.targets(example, style.geometry, style.frames)

    stack = functools.partial(batches.stack_demonstrations, style=style, fixed=True)
    row = usable_row(load, sources.TRAIN, skips or SkipCounter())
    return numbered_batches(row, stack, Share(batch, *shard), workers, budget)


def annotated_demonstrations(
    source: sources.Source, style: Style, batch: int, *, seed: int, length: int, direct: float = 0.0,
    workers: int = 0, shard: tuple[int, int] = (0, 1), skips: SkipCounter | None = None, budget: int = BUDGET,
    shuffle_objects: bool = False,
) -> Iterable[Demonstration]:  # fmt: skip
    """Endless shuffled batches of oracle transcripts (types.Demonstration) of a source whose examples have a scene.

    The other arguments are those of `query_batches` and `demonstration_batches`. Examples without a scene or an answer
    in it, and those that are too long, are left out. The batches have no targets for the dense loss.
    """
    index, source = _order(source, seed), shown(source, style)
    if style.geometry is not None:  # as in `query_batches`
        source = sources.shrunk(source, working_pixels(style.geometry))

    def load(place: int, attempt: int):
        number = index(place, attempt)
        example = _reordered(source[number], shuffle_objects, seed, place, attempt)
        return demonstration(example, style, length, np.random.default_rng([seed, number]).random() >= direct)

    row = usable_row(load, len(source), skips or SkipCounter())
    stack = functools.partial(batches.stack_demonstrations, style=style)
    return numbered_batches(row, stack, Share(batch, *shard), workers, budget)


def demonstration(example: Example, style: Style, length: int, reasons: bool = True) -> tuple:
    """(fields of the prompt, fields of its pictures, token, mask, reason) of the oracle's transcript of an example.

    A brief prompt does not say whether ids or boxes are wanted, and ids are right for every task that points. With the
    constructor "specialists" the transcript has a request, and a twin without loss that `length` does not count; with
    "given" the prompt shows the twin, so the transcript has thought and answer alone.

    Raises PromptError if there is nothing to imitate, or the transcript has more than `length` tokens.
    """
    fields, pictures, canvas, twin = prompt_with_twin(example, style)
    if style.constructor == "given":
        text = demonstrations.given_reply(example, twin, reasons)
        return fields, pictures, *demonstrations.encode_transcript(text, style, length)
    if style.constructor == "specialists":
        parts = asking_demonstrations.asking_transcript(example, canvas, style, reasons)
        return fields, pictures, *asking_demonstrations.encode_asking(parts, style, length)
    text = demonstrations.oracle(example, canvas, reasons, style.words == "brief", style.named)
    return fields, pictures, *demonstrations.encode_transcript(text, style, length)


def practice_batches(
    style: Style, batch: int, *, seed: int, queries: int, drills: int, objects: Callable[[int], int],
    task_weights: Mapping[str, float] = SEGMENTATION, frames: int = 0, workers: int = 0,
    shard: tuple[int, int] = (0, 1), skips: SkipCounter | None = None, budget: int = BUDGET,
) -> Iterable[Demonstration]:  # fmt: skip
    """Endless batches of exercises: twins in words, each with the oracle's thoughts and answers to several queries.

    They are types.Demonstration without pictures, G = `drills` + `queries`. The other arguments are those of
    `demonstration_batches`. A query that is too long is replaced by another.
    """
    canvas = Canvas(style.frame, (picture_examples.SMALLEST, picture_examples.SMALLEST), tuple(range(frames)))
    style = dataclasses.replace(style, length=PRACTICE_VIDEO if frames else PRACTICE_TWIN)
    length = PRACTICE_SUMMARY if "summary" in task_weights else PRACTICE_QUERY
    names, places = tuple(task_weights), mixture.interleave(tuple(task_weights.values()))

    def load(place: int, attempt: int):
        kinds = [names[places.at(place * queries + k)[0]] for k in range(queries + SPARE)]
        index = _scene(place, attempt)
        scene, exercises = practice.practice(seed, index, objects(place), kinds, drills, frames)
        twin = from_scene(scene, canvas, style.named)
        return demonstrations.exercise(twin, exercises, style, length, queries + drills, drills)

    row = usable_row(load, sources.TRAIN, skips or SkipCounter(warnings=0))
    return numbered_batches(row, batches.stack_practice, Share(batch, *shard), workers, budget)


def shown(source: sources.Source, style: Style) -> sources.Source:
    """The source as prompts show it: the truth does not choose the objects of a twin that the prompt shows."""
    return sources.truth_free(source) if style.constructor == "given" else source


def _reordered(example: Example, shuffle_objects: bool, *key: int) -> Example:
    """The example, with its objects in an order that `key` draws where `shuffle_objects` asks for it."""
    return object_order.shuffled(example, np.random.default_rng(key)) if shuffle_objects else example


def _scene(place: int, attempt: int) -> int:
    """The number of the scene of TwinWorld's training split for a place; a further attempt draws another one."""
    return place % sources.TRAIN if attempt == 0 else (place + sources.TRAIN // 2 + attempt) % sources.TRAIN


def _order(source: sources.Source, seed: int) -> Callable[[int, int], int]:
    """A function (place, attempt) -> index in the source. The places have no end, and attempt 0 is the first.

    The source is shuffled anew in each pass, and each part of a mixture by itself. Further attempts for a place give
    other examples of the same part.
    """
    if not isinstance(source, mixture.Mixture):
        order = grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()
        return lambda place, attempt: order[substitute(place, attempt)]
    # Each part has a seed of its own: parts may share their scenes, and must not show them at the same time.
    seeds = np.random.SeedSequence(seed).generate_state(len(source.parts)).tolist()
    orders = [grain.MapDataset.range(len(part)).seed(s).shuffle().repeat() for part, s in zip(source.parts, seeds)]
    places = source.places

    def index(place: int, attempt: int) -> int:
        part, number = places.at(place)
        return places.place(part, orders[part][substitute(number, attempt)])

    return index
