"""grain pipelines: shuffle, shard, prepare, batch; deterministic and resumable by a small state dict."""

from __future__ import annotations

import dataclasses
import functools
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import grain
import numpy as np

from dtr1_jax import types
from dtr1_jax.data import image_files, json_files, mixture, prompts, sources
from dtr1_jax.data import patches as patching
from dtr1_jax.data.twinworld import patch_targets, picture_examples
from dtr1_jax.data.twinworld import practice as lessons
from dtr1_jax.data.twinworld import tasks as worlds
from dtr1_jax.twin import text
from dtr1_jax.twin.coordinates import Canvas

# demonstrations are padded to a multiple of so many tokens, those longer than LONG to twice that: few are compiled
BUCKET, LONG = 32, 160
# tokens of an exercise, at most: its twin, of a picture and of a video; a query, thought and answer, or a summary
PRACTICE_TWIN, PRACTICE_FILM, PRACTICE_QUERY, PRACTICE_SUMMARY = 160, 384, 64, 160
SEGMENTATION = MappingProxyType({"segmentation": 1.0})  # the task that all the others are built on
SPARE = 3  # queries drawn for those that are longer
STEPS, TOKENS, PATCHES = 4, 128, 256  # see bucket_tokens and bucket_patches
ENDLESS = 2**53  # places of a mixture
PASSES, PATIENCE = 10, 2000  # unusable examples in a row that are endured: so many passes, and never more than so many

log = logging.getLogger(__name__)
_shapes: set[tuple[int, int]] = set()  # that were logged


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
        raise json_files.DataError(f"no examples in {source!r}; expected at least one")

    fixed = shard[1] > 1

    def read(index: int):
        example = source[index]
        fields, pictures, canvas = prompts.prompt(example, style)
        if fixed and pictures and len(pictures["segment_bn"]) > _ceiling(style):
            raise prompts.PromptError(
                f"{example.uid}: its pictures have {len(pictures['segment_bn'])} patches, more than the "
                f"{_ceiling(style)} to which they are padded in a run of several processes; use one process"
            )
        return example, fields, pictures, canvas

    prepare = _tolerant(read, len(source), skipped or Skipped())
    # indices, not examples, go through the shuffle, so that an example is read once and in a prefetch thread
    data = _order(source, seed)[shard[0] :: shard[1]]
    stack = functools.partial(_stack_queries, style=style, fixed=fixed)
    return _iterate(data.map(prepare), batch, stack, workers)


def evaluation(source, style: prompts.Style, batch: int, count: int, skipped: Skipped | None = None) -> Iterator[Batch]:
    """The first `count` examples in order, in batches; the last may be smaller. Unusable ones are counted, left out."""
    skipped, ready = skipped or Skipped(), []
    for index in range(min(count, len(source))):
        try:
            example = source[index]
            ready.append((example, *prompts.prompt(example, style)))
        except (image_files.ImageError, prompts.PromptError) as error:
            skipped.add(error)
        if len(ready) == batch:
            yield _stack_queries(ready, style)
            ready = []
    if ready:
        yield _stack_queries(ready, style)


def single(example: types.Example, style: prompts.Style) -> Batch:
    """A batch of one. Raises PromptError."""
    return _stack_queries([(example, *prompts.prompt(example, style))], style)


def join(first: types.Prompt, second: types.Prompt) -> types.Prompt:
    """The rows of both, padded to the larger shape."""
    count = max(len(p.token_bp[0]) for p in (first, second))
    fields = [[_padded_prompt(row, count) for row in _rows(p)] for p in (first, second)]
    both = [p.images for p in (first, second)]
    images = None
    if both[0] is not None:
        patches = max(len(x.segment_bn[0]) for x in both)
        images = patching.stack([patching.pad(row, patches) for x in both for row in _rows(x)])
    rows = fields[0] + fields[1]
    return types.Prompt(**{name: np.stack([r[name] for r in rows]) for name in rows[0]}, images=images)


def bucket_tokens(count: int, most: int) -> int:
    """The length to which prompts of at most `count` tokens are padded: one of at most STEPS, the last `most`.

    Steps are equal, a multiple of 16 and at least TOKENS: 512, 1024, 1536 and 2048 for `most` = 2048.
    """
    step = max(TOKENS, -(-most // STEPS // 16) * 16)
    return min(-(-count // step) * step, most)


def bucket_patches(count: int, geometry: patching.Geometry) -> int:
    """The number of patches to which those of a query's pictures are padded.

    PATCHES x 1, 1.5, 2, 3, 4, 6, 8, ..., but not more than a picture of `max_pixels` has where that is enough. Where
    every picture has as many, several have what so many have.
    """
    if geometry.rule == "square" and count > geometry.patches:
        return -(-count // geometry.patches) * geometry.patches
    size = PATCHES
    while size < count:
        size = size * 3 // 2 if size & (size - 1) == 0 else size // 3 * 4
    block = geometry.merge**2
    size = -(-size // block) * block
    return min(size, geometry.patches) if count <= geometry.patches else size


def demonstrations(
    style: prompts.Style, batch: int, *, seed: int, length: int, objects: Callable[[int], int], size: int,
    direct: float = 0.0, tasks: Mapping[str, float] = SEGMENTATION, frames: int = 0, workers: int = 0,
    shard: tuple[int, int] = (0, 1), skipped: Skipped | None = None,
) -> grain.IterDataset:  # fmt: skip
    """Endless batches of oracle transcripts on TwinWorld's training split, in its order.

    Args:
      style: how examples become prompts; its geometry must take the pictures as they are, see dense.targets.
      batch: B of this process.
      seed: of the scenes.
      length: tokens that a transcript may have; longer ones are left out.
      objects: example index -> number of objects in its scene: the curriculum.
      size: side of the pictures, pixels.
      direct: share of the transcripts that answer with an empty thought.
      tasks: weights above 0; the tasks are interleaved (mixture.py).
      frames: of a video; 0 = pictures.
      workers: processes that prepare batches; 0 = a thread of this process. Each takes every so many-th example.
      shard: (index, count) of this process among those that share the data.
      skipped: counts the examples that are left out.

    The iterator raises files.DataError where none of very many examples in a row can be used.
    """
    names, places = tuple(tasks), mixture.interleave(tuple(tasks.values()))
    style = dataclasses.replace(style, frames=max(frames, 1))

    def read(index: int):
        count, task = objects(index), names[places.at(index)[0]]
        example = worlds.example(
            task, seed, "train", index, video=frames > 0, size=size, frames=frames, min_objects=count, max_objects=count
        )
        fields, pictures, canvas = prompts.prompt(example, style)
        reasons = np.random.default_rng([seed, index]).random() >= direct
        # a brief prompt does not tell ids from boxes, and ids are right for all that point
        written = prompts.oracle(example, canvas, reasons, by_id=style.words == "brief")
        tokens = prompts.demonstration(written, style, length)
        return fields, pictures, *tokens, *patch_targets.targets(example, style.geometry, style.frames)

    prepare = _tolerant(read, sources.TRAIN, skipped or Skipped())
    data = grain.MapDataset.range(sources.TRAIN)[shard[0] :: shard[1]]
    return _iterate(data.map(prepare), batch, functools.partial(_stack_demonstrations, style=style), workers)


def practice(
    style: prompts.Style, batch: int, *, seed: int, queries: int, drills: int, objects: Callable[[int], int],
    tasks: Mapping[str, float] = SEGMENTATION, frames: int = 0, workers: int = 0, shard: tuple[int, int] = (0, 1),
    skipped: Skipped | None = None,
) -> grain.IterDataset:  # fmt: skip
    """Endless batches of twins, each with the oracle's thoughts and answers to `queries` queries and `drills` drills.

    They are types.Demonstration without pictures. Arguments as of `demonstrations`. Queries that are too long give way
    to others.
    """
    canvas = Canvas(style.frame, (picture_examples.SMALLEST, picture_examples.SMALLEST), tuple(range(frames)))
    style = dataclasses.replace(style, length=PRACTICE_FILM if frames else PRACTICE_TWIN)
    length = PRACTICE_SUMMARY if "summary" in tasks else PRACTICE_QUERY
    names, places = tuple(tasks), mixture.interleave(tuple(tasks.values()))

    def read(index: int):
        kinds = [names[places.at(index * queries + k)[0]] for k in range(queries + SPARE)]
        things, asked = lessons.practice(seed, index, objects(index), kinds, drills, frames)
        twin = text.from_scene(things, canvas)
        return prompts.exercise(twin, asked, style, length, queries + drills, drills)

    prepare = _tolerant(read, sources.TRAIN, skipped or Skipped(shown=0))
    data = grain.MapDataset.range(sources.TRAIN)[shard[0] :: shard[1]]
    return _iterate(data.map(prepare), batch, _stack_practice, workers)


def _order(source, seed: int) -> grain.MapDataset:
    """Endless indices of a source, shuffled anew in each pass; of a mixture, each part by itself, interleaved."""
    if not isinstance(source, mixture.Mixture):
        return grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat()
    # each part is shuffled in its own way, since several may share their scenes
    seeds = np.random.SeedSequence(seed).generate_state(len(source.parts)).tolist()
    rows = [grain.MapDataset.range(len(part)).seed(s).shuffle().repeat() for part, s in zip(source.parts, seeds)]
    places = source.places

    def index(place: int) -> int:
        part, number = places.at(place)
        return places.place(part, rows[part][number])

    return grain.MapDataset.range(ENDLESS).map(index)


def _tolerant(read: Callable[[int], tuple], examples: int, skipped: Skipped) -> Callable[[int], tuple | None]:
    """`read`, with None, which grain leaves out, for an example that can not be used.

    Where none can be, an endless stream of them would be silence, so after many in a row it raises DataError.
    """
    most, in_a_row = min(PASSES * examples, PATIENCE), 0

    def prepare(index: int):
        nonlocal in_a_row
        try:
            row = read(index)
        except (image_files.ImageError, prompts.PromptError) as error:
            skipped.add(error)
            in_a_row += 1
            if in_a_row >= most:
                raise json_files.DataError(
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


def _rows(arrays) -> list[dict]:
    """Rows of a types.Prompt or types.Images as fields without the batch axis."""
    names = [f.name for f in dataclasses.fields(arrays) if f.name != "images"]
    count = len(next(iter(vars(arrays).values())))
    values = {name: getattr(arrays, name) for name in names}
    return [{n: None if x is None else x[i] for n, x in values.items()} for i in range(count)]


def _padded_prompt(fields: dict, count: int) -> dict:
    """Fields of types.Prompt with `count` tokens; what is padded is masked, so that only the slots must be -1."""
    out = {}
    for name, x in fields.items():
        missing = [(0, count - len(x))] + [(0, 0)] * (x.ndim - 1) if x.ndim else None
        out[name] = np.pad(x, missing, constant_values=-1 if name == "slot_bp" else 0) if missing else x
    return out


def _stack_prompt(rows, style, fixed):
    """types.Prompt of [(fields of the prompt, fields of its pictures or None)], cut to a bucket unless `fixed`.

    Several processes must have the same shapes without asking one another, so theirs are the largest there can be.
    """
    length, most = style.length, max(int(r[0]["mask_bp"].sum()) for r in rows)
    if not fixed:
        length = bucket_tokens(most, style.length)
    fields = [{n: x[:length] if x.ndim else x for n, x in r[0].items()} for r in rows]
    images, patches = None, 0
    if style.geometry is not None:
        count = max(len(r[1]["segment_bn"]) for r in rows)
        patches = _ceiling(style) if fixed else bucket_patches(count, style.geometry)
        images = patching.stack([patching.pad(r[1], patches) for r in rows])
    if (length, patches) not in _shapes:
        _shapes.add((length, patches))
        log.info("a new shape of prompts, to be compiled: %d tokens and %d patches", length, patches)
    return types.Prompt(**{name: np.stack([f[name] for f in fields]) for name in fields[0]}, images=images)


def _ceiling(style):
    """Patches that the pictures of a query can have: those of its frames, or as many as the prompt has room for."""
    if style.geometry.rule == "square":
        return style.geometry.patches * style.frames
    return style.length * style.geometry.merge**2


def _stack_queries(rows, style, fixed=False):
    examples, fields, pictures, canvases = zip(*rows)
    return Batch(list(examples), list(canvases), _stack_prompt(list(zip(fields, pictures)), style, fixed))


def _stack_practice(rows):
    fields = {name: np.stack([r[0][name] for r in rows]) for name in rows[0][0]}
    token, mask, reason = (np.stack(x) for x in list(zip(*rows))[1:])
    if token.shape[-1] > PRACTICE_QUERY:
        token, mask, reason = (x[..., : _bucket(mask)] for x in (token, mask, reason))
    return types.Demonstration(_cut_prompt(types.Prompt(**fields, images=None)), token, mask, reason, None, None)


def _cut_prompt(prompt):
    """The prompts without the padding that all of them have, up to a bucket."""
    keep = _bucket(prompt.mask_bp)
    cut = {name: getattr(prompt, name)[:, :keep] for name in ("token_bp", "mask_bp", "position_bp3", "slot_bp")}
    return dataclasses.replace(prompt, **cut)


def _stack_demonstrations(rows, style):
    prompt = _cut_prompt(_stack_prompt([r[:2] for r in rows], style, fixed=True))
    token, mask, reason, classes, boxes = (np.stack(x) for x in list(zip(*rows))[2:])
    keep = _bucket(mask)
    return types.Demonstration(prompt, token[..., :keep], mask[..., :keep], reason[..., :keep], classes, boxes)


def _bucket(mask):
    """Length to which right-padded rows can be cut; long ones have fewer steps."""
    longest = int(mask.sum(-1).max())
    step = BUCKET if longest <= LONG else 2 * BUCKET
    return min(mask.shape[-1], -(-longest // step) * step)
