"""Rows become batches: padded and cut to a few sizes, since the device compiles its programs anew for each size."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np

from dtr1_jax import types
from dtr1_jax.data.patches import Geometry
from dtr1_jax.data.prompts import Style
from dtr1_jax.twin.coordinates import Canvas

# Transcripts are padded to a multiple of BUCKET tokens; those longer than LONG, to a multiple of twice BUCKET.
BUCKET, LONG = 32, 160
PRACTICE_QUERY = 64  # tokens of an exercise's query, thought and answer, at most; summaries have more (pipeline.py)
STEPS, TOKENS = 4, 128  # see bucket_tokens
PATCHES = 256  # see bucket_patches

log = logging.getLogger(__name__)
_logged: set[tuple[int, int]] = set()  # shapes of prompts that the log has announced


@dataclasses.dataclass(frozen=True)
class Batch:
    """B queries, ready for the policy.

    Attributes:
      examples: the B examples.
      canvases: the canvas of each query's first picture or video.
      prompt: types.Prompt of numpy arrays.
      number_b: int32[B], the number of each query, from which the random keys of its completions come: its row in the
        batch of all processes, or its place in an evaluation. None = 0, 1, ...
    """

    examples: list[types.Example]
    canvases: list[Canvas]
    prompt: types.Prompt
    number_b: np.ndarray | None = None

    @property
    def numbers(self) -> np.ndarray:
        """`number_b`, int32[B], also where it is None."""
        return np.arange(len(self.examples), dtype=np.int32) if self.number_b is None else self.number_b


def bucket_tokens(count: int, most: int) -> int:
    """Rounds a number of tokens up to one of at most STEPS padded lengths, so that few shapes are compiled.

    The padded lengths are multiples of a step (a multiple of 16, and at least TOKENS); the longest is cut to `most`.
    For `most` = 2048 they are 512, 1024, 1536 and 2048.

    Args:
      count: tokens of the longest prompt, at most `most`.
      most: the longest padded length, policy.prompt_tokens.
    """
    step = max(TOKENS, -(-most // STEPS // 16) * 16)
    return min(-(-count // step) * step, most)


def bucket_patches(count: int, geometry: Geometry) -> int:
    """The number of patches to which a query's pictures are padded, at least `count`.

    It is one of PATCHES x 1, 1.5, 2, 3, 4, 6, 8, ..., but at most `geometry.patches`, the patches of the largest
    picture, if `count` does not exceed them. With the rule "square", all pictures have the same number of patches, so a
    query with several pictures gets a multiple of this number.
    """
    if geometry.rule == "square" and count > geometry.patches:
        return -(-count // geometry.patches) * geometry.patches
    size = PATCHES
    while size < count:
        size = size * 3 // 2 if size & (size - 1) == 0 else size // 3 * 4
    block = geometry.merge**2
    size = -(-size // block) * block
    return min(size, geometry.patches) if count <= geometry.patches else size


def max_patches(style: Style) -> int:
    """The largest number of patches that the pictures of one query can have.

    With the rule "square" it is the patches of `style.frames` pictures; otherwise the number that fits into a prompt.
    """
    if style.geometry.rule == "square":
        return style.geometry.patches * style.frames
    return style.length * style.geometry.merge**2


def pad_patches(fields: dict, count: int) -> dict:
    """Pads the fields of one query's types.Images with zeros to `count` patches; fields that are None stay None."""
    return {
        name: None if x is None else np.pad(x, [(0, count - len(x))] + [(0, 0)] * (x.ndim - 1))
        for name, x in fields.items()
    }


def stack_images(rows: Sequence[dict]) -> types.Images:
    """Stacks the fields of B queries' pictures, all padded to one number of patches."""
    return types.Images(**{n: None if x is None else np.stack([row[n] for row in rows]) for n, x in rows[0].items()})


def stack_queries(
    rows: Sequence[tuple[types.Example, dict, dict | None, Canvas]], style: Style, numbers: Sequence[int] | None = None
) -> Batch:
    """Stacks B rows (example, and the three results of prompts.prompt), padded to the smallest bucket that holds them.

    The processes of a run may have different buckets; `with_shape` brings them to one.

    Args:
      rows: the rows.
      style: of the prompts.
      numbers: of the queries, see `Batch.number_b`; None = 0, 1, ...
    """
    examples, fields, pictures, canvases = zip(*rows)
    number_b = np.asarray(range(len(rows)) if numbers is None else numbers, np.int32)
    return Batch(list(examples), list(canvases), _stack_prompt(list(zip(fields, pictures)), style, False), number_b)


def stack_demonstrations(rows: Sequence[tuple], style: Style, fixed: bool = False) -> types.Demonstration:
    """Stacks B rows (fields of the prompt, fields of its pictures, token, mask, reason[, classes, boxes]).

    With `fixed`, the pictures are padded to the largest number of patches that there can be. Rows without classes and
    boxes cannot serve the dense loss.
    """
    prompt = _cut_prompt(_stack_prompt([row[:2] for row in rows], style, fixed))
    token, mask, reason, *dense = (np.stack(x) for x in list(zip(*rows))[2:])
    classes, boxes = dense or (None, None)
    length = _bucket(mask)
    return types.Demonstration(prompt, token[..., :length], mask[..., :length], reason[..., :length], classes, boxes)


def stack_practice(rows: Sequence[tuple[dict, np.ndarray, np.ndarray, np.ndarray]]) -> types.Demonstration:
    """Stacks B exercises (demonstrations.exercise)."""
    fields = {name: np.stack([row[0][name] for row in rows]) for name in rows[0][0]}
    token, mask, reason = (np.stack(x) for x in list(zip(*rows))[1:])
    if token.shape[-1] > PRACTICE_QUERY:
        token, mask, reason = (x[..., : _bucket(mask)] for x in (token, mask, reason))
    return types.Demonstration(_cut_prompt(types.Prompt(**fields, images=None)), token, mask, reason, None, None)


def join_prompts(first: types.Prompt, second: types.Prompt) -> types.Prompt:
    """One batch with the rows of both prompts, padded to the larger shape."""
    count = max(len(p.token_bp[0]) for p in (first, second))
    fields = [_pad_prompt(row, count) for p in (first, second) for row in _rows(p)]
    images = None
    if first.images is not None:
        both = (first.images, second.images)
        patches = max(len(x.segment_bn[0]) for x in both)
        images = stack_images([pad_patches(row, patches) for x in both for row in _rows(x)])
    return types.Prompt(**{name: np.stack([row[name] for row in fields]) for name in fields[0]}, images=images)


def shape_of(prompt: types.Prompt) -> tuple[int, int]:
    """(tokens, patches) to which the prompts of a batch are padded; patches is 0 without pictures."""
    return prompt.token_bp.shape[1], 0 if prompt.images is None else prompt.images.segment_bn.shape[1]


def with_shape(prompt: types.Prompt, tokens: int, patches: int) -> types.Prompt:
    """The prompts of numpy arrays, padded further, to a shape as `shape_of` gives it."""
    if shape_of(prompt) == (tokens, patches):
        return prompt
    fields = {f.name: getattr(prompt, f.name) for f in dataclasses.fields(prompt) if f.name != "images"}
    fields = {
        name: x if x.ndim == 1 else _grown(x, 1, tokens, -1 if name == "slot_bp" else 0) for name, x in fields.items()
    }
    images = prompt.images
    if images is not None:
        images = types.Images(
            **{name: None if x is None else _grown(x, 1, patches) for name, x in vars(images).items()}
        )
    return types.Prompt(**fields, images=images)


def with_lengths(demonstration: types.Demonstration, tokens: int, patches: int, length: int) -> types.Demonstration:
    """The demonstrations with prompts of a shape (`with_shape`) and texts of `length` tokens, padded at the end."""
    texts = {name: _grown(getattr(demonstration, name), 2, length) for name in ("token_bgs", "mask_bgs", "reason_bgs")}
    return dataclasses.replace(demonstration, prompt=with_shape(demonstration.prompt, tokens, patches), **texts)


def _grown(x: np.ndarray, axis: int, size: int, value: int = 0) -> np.ndarray:
    """Pads one axis at its end to `size`."""
    missing = [(0, size - n if i == axis else 0) for i, n in enumerate(x.shape)]
    return np.pad(x, missing, constant_values=value)


def _rows(arrays: types.Prompt | types.Images) -> list[dict]:
    """The rows of a batch as fields without the batch axis."""
    names = [f.name for f in dataclasses.fields(arrays) if f.name != "images"]
    count = len(next(iter(vars(arrays).values())))
    values = {name: getattr(arrays, name) for name in names}
    return [{n: None if x is None else x[i] for n, x in values.items()} for i in range(count)]


def _pad_prompt(fields: dict, count: int) -> dict:
    """Pads the fields of types.Prompt to `count` tokens. The mask hides the padding, so only the slots need a -1."""
    out = {}
    for name, x in fields.items():
        missing = [(0, count - len(x))] + [(0, 0)] * (x.ndim - 1) if x.ndim else None
        out[name] = np.pad(x, missing, constant_values=-1 if name == "slot_bp" else 0) if missing else x
    return out


def _stack_prompt(rows: Sequence[tuple[dict, dict | None]], style: Style, fixed: bool) -> types.Prompt:
    """Stacks rows (fields of the prompt, fields of its pictures), cut to a bucket unless `fixed`."""
    length, most = style.length, max(int(row[0]["mask_bp"].sum()) for row in rows)
    if not fixed:
        length = bucket_tokens(most, style.length)
    fields = [{n: x[:length] if x.ndim else x for n, x in row[0].items()} for row in rows]
    images, patches = None, 0
    if style.geometry is not None:
        count = max(len(row[1]["segment_bn"]) for row in rows)
        patches = max_patches(style) if fixed else bucket_patches(count, style.geometry)
        images = stack_images([pad_patches(row[1], patches) for row in rows])
    if (length, patches) not in _logged:
        _logged.add((length, patches))
        log.info("a new shape of prompts, to be compiled: %d tokens and %d patches", length, patches)
    return types.Prompt(**{name: np.stack([f[name] for f in fields]) for name in fields[0]}, images=images)


def _cut_prompt(prompt: types.Prompt) -> types.Prompt:
    """Cuts off the padding that all prompts of the batch have, up to a bucket."""
    length = _bucket(prompt.mask_bp)
    cut = {name: getattr(prompt, name)[:, :length] for name in ("token_bp", "mask_bp", "position_bp3", "slot_bp")}
    return dataclasses.replace(prompt, **cut)


def _bucket(mask: np.ndarray) -> int:
    """The length to which right-padded rows can be cut, given the bool mask of their real tokens.

    It holds the last True of each row. Inserted tokens, at which the mask is False, are not at the end.
    """
    longest = int((mask * np.arange(1, mask.shape[-1] + 1)).max(initial=0))
    step = BUCKET if longest <= LONG else 2 * BUCKET
    return min(mask.shape[-1], -(-longest // step) * step)
