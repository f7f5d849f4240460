"""grain pipelines: shuffle, shard, prepare, batch; deterministic and resumable by a small state dict."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Iterator

import grain
import numpy as np

from dtr1_jax import types
from dtr1_jax.data import files, images, prompts, sources, vision
from dtr1_jax.data.twinworld import dense, generate
from dtr1_jax.twin import text
from dtr1_jax.twin.text import Canvas

BUCKET = 32  # demonstrations are padded to a multiple of so many tokens, so that few shapes are compiled
PRACTICE_TWIN, PRACTICE_QUERY = 160, 64  # tokens of an exercise, at most: its twin; a query, thought and answer
PASSES, PATIENCE = 10, 2000  # unusable examples in a row that are endured: so many passes, and never more than so many

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Batch:
    """B queries, ready for the policy.

    Attributes:
      examples: the B examples.
      canvases: what the policy sees of each picture.
      prompt: types.Prompt of numpy arrays.
    """

    examples: list[types.Example]
    canvases: list[Canvas]
    prompt: types.Prompt


class Skipped:
    """Counts the examples that could not be used and warns of the first few.

    Safe between threads; a worker process warns and counts on its own.
    """

    def __init__(self, shown: int = 5):
        self.count = 0
        self._shown = shown
        self._lock = threading.Lock()

    def add(self, error: Exception) -> None:
        """Counts one."""
        with self._lock:
            self.count += 1
            if self.count <= self._shown:
                rest = "; more will only be counted" if self.count == self._shown else ""
                log.warning("skipped an example (%d so far): %s%s", self.count, error, rest)

    def __getstate__(self):
        return {"count": self.count, "_shown": self._shown}

    def __setstate__(self, state):
        self.__dict__.update(state, _lock=threading.Lock())


def queries(
    source, style: prompts.Style, batch: int, *, seed: int, workers: int = 0, shard: tuple[int, int] = (0, 1),
    skipped: Skipped | None = None,
) -> grain.IterDataset:  # fmt: skip
    """Endless shuffled batches of queries.

    Args:
      source: examples by index (data/sources.py).
      batch: B of this process.
      seed: of the shuffle; a different order in each pass.
      workers: processes that prepare batches; 0 = a thread of this process.
      shard: (index, count) of this process among those that share the data.
      skipped: counts broken pictures and prompts that can not be made.

    Raises files.DataError where the source is empty and, from the iterator, where none of very many examples in a row
    can be used.
    """
    if not len(source):
        raise files.DataError(f"no examples in {source!r}; expected at least one")

    def read(index: int):
        example = source[index]
        return example, *prompts.prompt(example, style)

    prepare = _tolerant(read, len(source), skipped or Skipped())
    # indices, not examples, go through the shuffle, so that an example is read once and in a prefetch thread
    data = grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()[shard[0] :: shard[1]]
    return _iterate(data.map(prepare), batch, _stack_queries, workers)


def evaluation(source, style: prompts.Style, batch: int, count: int, skipped: Skipped | None = None) -> Iterator[Batch]:
    """The first `count` examples in order, in batches; the last may be smaller. Unusable ones are counted, left out."""
    skipped, ready = skipped or Skipped(), []
    for index in range(min(count, len(source))):
        try:
            example = source[index]
            ready.append((example, *prompts.prompt(example, style)))
        except (images.ImageError, prompts.PromptError) as error:
            skipped.add(error)
        if len(ready) == batch:
            yield _stack_queries(ready)
            ready = []
    if ready:
        yield _stack_queries(ready)


def single(example: types.Example, style: prompts.Style) -> Batch:
    """A batch of one. Raises PromptError."""
    return _stack_queries([(example, *prompts.prompt(example, style))])


def demonstrations(
    style: prompts.Style, batch: int, *, seed: int, length: int, objects: Callable[[int], tuple[int, int]],
    size: int, direct: float = 0.0, workers: int = 0, shard: tuple[int, int] = (0, 1), skipped: Skipped | None = None,
) -> grain.IterDataset:  # fmt: skip
    """Endless batches of oracle transcripts on TwinWorld's training split, in its order.

    Args:
      style: how examples become prompts; its geometry must take the pictures as they are, see dense.targets.
      batch: B of this process.
      seed: of the scenes.
      length: tokens that a transcript may have; longer ones are left out.
      objects: example index -> (fewest, most) objects of its scene: the curriculum.
      size: side of the pictures, pixels.
      direct: share of the transcripts that answer with an empty thought.
      workers: processes that prepare batches; 0 = a thread of this process. Each takes every so many-th example.
      shard: (index, count) of this process among those that share the data.
      skipped: counts the examples that are left out.

    The iterator raises files.DataError where none of very many examples in a row can be used.
    """

    def read(index: int):
        fewest, most = objects(index)
        example = generate.example(seed, "train", index, size=size, min_objects=fewest, max_objects=most)
        fields, pictures, canvas = prompts.prompt(example, style)
        reasons = np.random.default_rng([seed, index]).random() >= direct
        tokens = prompts.demonstration(prompts.oracle(example, canvas, reasons), style, length)
        return fields, pictures, *tokens, *dense.targets(example, style.geometry)

    prepare = _tolerant(read, sources.TRAIN, skipped or Skipped())
    data = grain.MapDataset.range(sources.TRAIN)[shard[0] :: shard[1]]
    return _iterate(data.map(prepare), batch, _stack_demonstrations, workers)


def practice(
    style: prompts.Style, batch: int, *, seed: int, queries: int, drills: int, objects: Callable[[int], int],
    workers: int = 0, shard: tuple[int, int] = (0, 1), skipped: Skipped | None = None,
) -> grain.IterDataset:  # fmt: skip
    """Endless batches of twins, each with the oracle's thoughts and answers to `queries` queries and `drills` drills.

    They are types.Demonstration without pictures. Arguments as of `demonstrations`, but `objects` gives one number. A
    scene with a query too long is left out.
    """
    canvas = Canvas(style.frame, (generate.SMALLEST, generate.SMALLEST))
    style = dataclasses.replace(style, length=PRACTICE_TWIN)

    def read(index: int):
        things, asked = generate.practice(seed, index, objects(index), queries, drills)
        twin = text.from_scene(things, canvas)
        return prompts.exercise(twin, [(q.text, q.thought, tuple(q.ids)) for q in asked], style, PRACTICE_QUERY)

    prepare = _tolerant(read, sources.TRAIN, skipped or Skipped(shown=0))
    data = grain.MapDataset.range(sources.TRAIN)[shard[0] :: shard[1]]
    return _iterate(data.map(prepare), batch, _stack_practice, workers)


def _tolerant(read: Callable[[int], tuple], examples: int, skipped: Skipped) -> Callable[[int], tuple | None]:
    """`read`, with None, which grain leaves out, for an example that can not be used.

    Where none can be, an endless stream of them would be silence, so after many in a row it raises DataError.
    """
    most, in_a_row = min(PASSES * examples, PATIENCE), 0

    def prepare(index: int):
        nonlocal in_a_row
        try:
            row = read(index)
        except (images.ImageError, prompts.PromptError) as error:
            skipped.add(error)
            in_a_row += 1
            if in_a_row >= most:
                raise files.DataError(
                    f"none of {in_a_row} examples in a row could be used (there are {examples}); the last: {error}"
                ) from error
            return None
        in_a_row = 0
        return row

    return prepare


def _iterate(data, batch, stack, workers):
    reading = grain.ReadOptions(num_threads=1, prefetch_buffer_size=4 * batch)
    data = data.to_iter_dataset(reading).batch(batch, batch_fn=stack)
    if workers:
        data = data.mp_prefetch(grain.multiprocessing.MultiprocessingOptions(num_workers=workers))
    return data


def _stack_prompt(rows):
    fields = {name: np.stack([r[0][name] for r in rows]) for name in rows[0][0]}
    return types.Prompt(**fields, images=vision.stack([r[1] for r in rows]))


def _stack_queries(rows):
    examples, fields, pictures, canvases = zip(*rows)
    return Batch(list(examples), list(canvases), _stack_prompt(list(zip(fields, pictures))))


def _stack_practice(rows):
    fields = {name: np.stack([r[0][name] for r in rows]) for name in rows[0][0]}
    token, mask, reason = (np.stack(x) for x in list(zip(*rows))[1:])
    return types.Demonstration(_cut_prompt(types.Prompt(**fields, images=None)), token, mask, reason, None, None)


def _cut_prompt(prompt):
    """The prompts without the padding that all of them have, up to a bucket."""
    keep = _bucket(prompt.mask_bp)
    cut = {name: getattr(prompt, name)[:, :keep] for name in ("token_bp", "mask_bp", "position_bp3", "slot_bp")}
    return dataclasses.replace(prompt, **cut)


def _stack_demonstrations(rows):
    prompt = _cut_prompt(_stack_prompt(rows))
    token, mask, reason, classes, boxes = (np.stack(x) for x in list(zip(*rows))[2:])
    keep = _bucket(mask)
    return types.Demonstration(prompt, token[..., :keep], mask[..., :keep], reason[..., :keep], classes, boxes)


def _bucket(mask):
    """Length to which right-padded rows can be cut."""
    return min(mask.shape[-1], -(-int(mask.sum(-1).max()) // BUCKET) * BUCKET)
