"""Requests become twins in the text: the host's part of a completion whose twin specialists make.

All text here was written by a policy. Whatever it is, every completion gets an insertion: the twin that it asked for,
or a twin without objects where its request is missing, malformed or failed.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence

import numpy as np

from dtr1_jax.asking import requested_work
from dtr1_jax.asking.requested_work import Work
from dtr1_jax.data.batches import Batch
from dtr1_jax.data.prompts import Style
from dtr1_jax.rewards import economy
from dtr1_jax.rewards.mask_cells import resize_mask
from dtr1_jax.specialists.embedding_cache import content_key
from dtr1_jax.specialists.perceived import PerceivedScene, Perceiver
from dtr1_jax.twin import budget, schema, strict_json
from dtr1_jax.twin.construct import SEGMENT, Request
from dtr1_jax.twin.coordinates import Canvas
from dtr1_jax.twin.schema import Twin
from dtr1_jax.twin.text import from_scene
from dtr1_jax.twin.transcript import inserted_text, open_request
from dtr1_jax.types import Example, Video

WARNINGS = 5  # calls with failures that are warned of

log = logging.getLogger(__name__)
_warnings = 0


@dataclasses.dataclass(frozen=True)
class Insertion:
    """What the host puts into one completion behind its request.

    Attributes:
      ids: the tokens; () = nothing fits into rollout.twin_tokens.
      twin: the twin that these tokens say; None if `ids` is empty.
      masks: id -> the pixels that a segmenter found, at the example's own size: bool[h, w] for a picture; for a video
        bool[T, h, w], empty in frames that were not looked at. Objects without such pixels are left out.
      looked: bool[T], the frames of the video that were looked at; None = a picture.
    """

    ids: tuple[int, ...] = ()
    twin: Twin | None = None
    masks: Mapping[int, np.ndarray] = dataclasses.field(default_factory=dict)
    looked: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Perception:
    """The insertions of B x G completions, and what was asked for.

    Attributes:
      insertions: B lists of G.
      work: of each of the B queries. A look counts at the first query that asks for it, and the calls of the
        perceiver's memory count at the first query.
    """

    insertions: list[list[Insertion]]
    work: list[Work]


def perceive(
    texts: Sequence[Sequence[str]], batch: Batch, style: Style, perceiver: Perceiver, twin_tokens: int
) -> Perception:
    """The insertions of completions that were sampled up to the end of their requests.

    The perceiver is called once, with each different picture and request of the batch once.

    Args:
      texts: B lists of G, any strings.
      batch: the B queries.
      style: the tokenizer, and the form of ids.
      perceiver: runs the specialists.
      twin_tokens: most tokens of an insertion; a twin that is too long loses objects (twin/budget.py).
    """
    asked: dict[tuple, tuple[np.ndarray | Video, Request]] = {}
    rows: list[list[tuple[tuple | None, Request | None, str]]] = []
    for group, example, canvas in zip(texts, batch.examples, batch.canvases, strict=True):
        visual = example.image if example.video is None else example.video
        picture = _key(visual)
        rows.append([])
        for text in group:
            request, tail = open_request(text, canvas.frames)
            key = None if request is None else (picture, request)
            if key is not None:
                asked.setdefault(key, (visual, request))
            rows[-1].append((key, request, tail))
    visuals, requests = [visual for visual, _ in asked.values()], [request for _, request in asked.values()]
    hits, misses = perceiver.cache.hits, perceiver.cache.misses
    scenes = dict(zip(asked, perceiver.perceive(visuals, requests) if asked else (), strict=True))
    hits, misses = perceiver.cache.hits - hits, perceiver.cache.misses - misses
    failures = [failure for scene in scenes.values() for failure in scene.failures]
    if failures:
        _warn_of(failures)
    known: dict[tuple, Insertion] = {}
    insertions: list[list[Insertion]] = []
    for b, of_query in enumerate(rows):
        insertions.append([])
        for key, request, tail in of_query:
            cell = (b, key, tail)
            if cell not in known:
                scene = scenes[key] if key is not None else None
                known[cell] = _insertion(scene, request, tail, batch.examples[b], batch.canvases[b], style, twin_tokens)
            insertions[-1].append(known[cell])
    work = _work(rows, scenes, insertions, batch.examples)
    if work:
        work[0] = dataclasses.replace(work[0], hits=hits, lookups=hits + misses)
    return Perception(insertions, work)


def _work(
    rows: Sequence[Sequence[tuple[tuple | None, Request | None, str]]], scenes: Mapping[tuple, PerceivedScene],
    insertions: Sequence[Sequence[Insertion]], examples: Sequence[Example],
) -> list[Work]:  # fmt: skip
    """What each query asked for, see Perception."""
    counted: set[tuple] = set()
    work = []
    for of_query, inserted, example in zip(rows, insertions, examples, strict=True):
        twins = [one.twin for one in inserted if one.twin is not None]
        objects = sum(len(twin.objects) for twin in twins)
        parts = [Work(queries=1, completions=len(of_query), twins=len(twins), objects=objects)]
        for (key, request, _), one in zip(of_query, inserted, strict=True):
            if key is None or request is None:
                continue
            parts.append(requested_work.of_request(request, *economy.units(request, one.twin, example)))
            if key not in counted:
                counted.add(key)
                parts.append(requested_work.of_look(request, bool(scenes[key].failures)))
        work.append(requested_work.added(parts))
    return work


def _warn_of(failures: list[str]) -> None:
    """Warns of the first failures of this process; a run counts them all in train/looks_failed."""
    global _warnings
    _warnings += 1
    if _warnings <= WARNINGS:
        rest = "; more will only be counted" if _warnings == WARNINGS else ""
        log.warning("specialists: %d things could not be done, the first: %s%s", len(failures), failures[0], rest)


def _key(visual: np.ndarray | Video) -> tuple:
    numbers = tuple(map(int, visual.index)) if isinstance(visual, Video) else ()
    return content_key(visual.frames if isinstance(visual, Video) else visual), numbers


def _insertion(
    scene: PerceivedScene | None, request: Request | None, tail: str, example: Example, canvas: Canvas, style: Style,
    twin_tokens: int,
) -> Insertion:  # fmt: skip
    """What is put into a completion whose text goes on with `tail` behind its request.

    The token with the end of the closing tag may hold the beginning of the next part as well, such as "<" or a line
    break. Then the insertion is the rest of that part.
    """
    empty = Twin(canvas.size, (), frames=canvas.frames, named=style.named)
    twin = empty if scene is None or request is None else scene_twin(scene, request, canvas, style.named)
    twin = twin if style.relations else dataclasses.replace(twin, relations=())
    for candidate in (twin, empty):
        phrases = " ".join(request.phrases) if request is not None else ""
        insertion = _written(candidate, tail, example.query, phrases, canvas, style, twin_tokens)
        if insertion is not None:
            break
    else:
        log.warning(
            "%s: a twin without objects has more than rollout.twin_tokens = %d tokens, so nothing was put into the "
            "completion; raise it", example.uid, twin_tokens,
        )  # fmt: skip
        return Insertion()
    if scene is None or request is None or insertion.twin is None or not insertion.twin.objects:
        return insertion
    masks, looked = real_masks(scene, request, insertion.twin, example, canvas)
    return dataclasses.replace(insertion, masks=masks, looked=looked)


def scene_twin(scene: PerceivedScene, request: Request, canvas: Canvas, named: bool) -> Twin:
    """The twin of a perceived scene, with the frames that were looked at.

    A scene that no twin can hold (an object with boxes for other frames, or frames that were not shown) becomes a twin
    without objects, and a warning.
    """
    looked = (scene.frames or request.frames) if canvas.frames else ()
    if not set(looked) <= set(canvas.frames):
        log.warning("specialists: a scene has frames that were not shown, %s: nothing is taken from it", looked[:8])
        return Twin(canvas.size, (), frames=request.frames, named=named)
    part = dataclasses.replace(canvas, frames=looked)
    try:
        twin = from_scene(scene.instances[: schema.MAX_OBJECTS], part, named)
    except (ValueError, TypeError, OverflowError) as error:
        log.warning("specialists: a scene cannot be written as a twin: %s", error)
        return Twin(canvas.size, (), frames=part.frames, named=named)
    ids = {item.id for item in twin.objects}
    relations = tuple(r for r in scene.relations if {r[0], r[2]} <= ids)
    return dataclasses.replace(twin, relations=relations[: schema.MAX_RELATIONS])


def _written(
    twin: Twin, tail: str, query: str, phrases: str, canvas: Canvas, style: Style, room: int
) -> Insertion | None:
    """The twin as tokens behind `tail`, cut to `room` tokens; None if it does not fit, or is not sound as text."""
    tokenizer, tags = style.tokenizer, len(style.tokenizer.encode("<twin></twin>\n")) + 2
    fitted = budget.fit(
        twin, room - tags, query=phrases, first_ids=budget.named_ids(twin, query),
        count=lambda text: len(tokenizer.encode(text)),
    )  # fmt: skip
    text, begun = inserted_text(fitted), tail.lstrip()
    ids = tokenizer.encode(text.removeprefix(begun) if begun and text.startswith(begun) else text)
    if len(ids) > room:
        return None
    # Some tokenizers normalise characters or lack them: the twin is the one that the tokens say.
    said = tokenizer.decode(ids).strip()
    said = begun + said if text.startswith(begun) else said
    try:
        value = strict_json.loads(said.removeprefix("<twin>").removesuffix("</twin>"))
    except ValueError:
        return None
    read, _ = schema.read_twin(value, size=canvas.size, limit=canvas.limit, frames=fitted.frames)
    return None if read is None else Insertion(tuple(ids), read)


def real_masks(
    scene: PerceivedScene, request: Request, twin: Twin, example: Example, canvas: Canvas
) -> tuple[dict[int, np.ndarray], np.ndarray | None]:
    """(id -> mask, the frames that were looked at) of the twin's objects, as `Insertion` has them."""
    shape, ids = example.image.shape[:2], {item.id for item in twin.objects}
    segmented = [x for x in scene.instances if x.id in ids] if SEGMENT in request.ops else []
    if not canvas.frames:
        return {x.id: resize_mask(x.mask, shape) for x in segmented if _is_mask(x.mask, 2)}, None
    places = [canvas.frames.index(number) for number in twin.frames]
    looked = np.isin(np.arange(len(canvas.frames)), places)
    masks = {}
    for x in segmented:
        if _is_mask(x.masks, 3) and len(x.masks) == len(places):
            masks[x.id] = np.zeros((len(canvas.frames), *shape), bool)
            masks[x.id][places] = [resize_mask(mask, shape) for mask in x.masks]
    return masks, looked


def _is_mask(mask: np.ndarray | None, axes: int) -> bool:
    return isinstance(mask, np.ndarray) and mask.dtype == bool and mask.ndim == axes and bool(mask.any())
