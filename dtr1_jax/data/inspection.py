"""Reads a data set before a run does: counts, faults and a sample of examples, as values that JSON can hold."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import logging
import re
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from dtr1_jax.data import outlines, patches
from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.prompts import PromptError, Style, prompt
from dtr1_jax.data.sources import Source, shrunk, truth_free
from dtr1_jax.data.working_size import DRAWN, fit, working_pixels
from dtr1_jax.types import POINTING, Example

MESSAGES = 5  # faults of examples that are kept in full
ROOMY = 1 << 17  # tokens up to which a prompt that is too long is counted
REASON = 160  # characters of a reason


@dataclasses.dataclass(frozen=True)
class Part:
    """What was found in one split.

    Attributes:
      facts: counts by name, for JSON; `Counter.facts` explains them.
      shown: some usable examples of the sample, in random order, small enough to be kept for drawing.
    """

    facts: dict[str, Any]
    shown: list[Example]


class Counter:
    """Counts what a sample of examples has, one example at a time."""

    def __init__(self, style: Style | None):
        self._style = style
        self.usable = self.pointing = self.empty = self.boxes = self.tiny_boxes = self.masks = self.tiny_masks = 0
        self._labels, self._answers, self._reasons = (collections.Counter() for _ in range(3))
        self._objects: list[int] = []
        self._cut = 0  # examples with more objects than their scene has
        self._sizes: list[tuple[int, int]] = []
        self._messages: list[str] = []
        self._too_long, self._longest = 0, (0, "")

    def fault(self, error: Exception) -> None:
        """Counts an example that cannot be used, by its reason without names and numbers."""
        text = " ".join(str(error).split())
        self._reasons[re.sub(r"\d+", "N", text.partition(": ")[2] or text)[:REASON]] += 1
        if len(self._messages) < MESSAGES:
            self._messages.append(text)

    def add(self, example: Example) -> None:
        """Counts one example. Raises PromptError if it cannot become a prompt."""
        if self._style is not None:
            self._count_prompt(example, self._style)
        self.usable += 1
        self._sizes.append(example.image.shape[1::-1])
        self._objects.append(len(example.scene))
        self._cut += example.hidden_objects > 0
        self._labels.update(item.label for item in example.scene)
        if example.target.references:
            self._answers[example.target.references[0]] += 1
        if example.task in POINTING:
            self._count_target(example)

    def _count_prompt(self, example: Example, style: Style) -> None:
        try:
            tokens = int(prompt(example, style)[0]["mask_bp"].sum())
        except PromptError as error:
            if style.constructor == "given":  # a longer prompt would show more of the twin
                raise
            roomy = dataclasses.replace(style, length=ROOMY)
            try:
                tokens = int(prompt(example, roomy)[0]["mask_bp"].sum())
            except PromptError:
                raise error from None
            self._longest = max(self._longest, (tokens, example.uid))
            self._too_long += 1
            raise
        self._longest = max(self._longest, (tokens, example.uid))

    def _count_target(self, example: Example) -> None:
        target = example.target
        boxes = target.boxes if target.tracks is None else target.tracks.reshape(-1, 4)
        boxes = boxes[boxes[:, 2] > boxes[:, 0]]
        mask = target.mask if target.masks is None else target.masks
        self.pointing += 1
        self.empty += int(not (len(boxes) or mask.any()))
        size = self._seen_size(example)
        if size is not None and self._style is not None and self._style.geometry is not None:
            patch = self._style.geometry.patch
            sides = (boxes[:, 2:] - boxes[:, :2]) * size
            self.boxes, self.tiny_boxes = self.boxes + len(boxes), self.tiny_boxes + int((sides.min(1) < patch).sum())
            frames = [frame for frame in mask.reshape(-1, *mask.shape[-2:]) if frame.any()]
            areas = [frame.mean() * size[0] * size[1] for frame in frames]
            self.masks, self.tiny_masks = (
                self.masks + len(areas),
                self.tiny_masks + sum(int(a < patch**2) for a in areas),
            )

    def _seen_size(self, example: Example) -> tuple[int, int] | None:
        """(w, h) of the picture or frame as the policy sees it, pixels; None if it sees none."""
        if self._style is None or self._style.geometry is None:
            return None
        (h, w), video = example.image.shape[:2], example.video
        if video is None:
            return patches.picture_size(w, h, self._style.geometry)
        return patches.video_size(
            max(len(video.frames), self._style.geometry.temporal_patch), w, h, self._style.geometry
        )

    def facts(self) -> dict[str, Any]:
        """The counts.

        `usable` of the sample can be used; `unusable` counts the others by reason. Of the queries that ask for objects
        (`pointing`), `empty_targets` want nothing. A box is tiny if a side is below `tiny_below` pixels of the picture
        as the policy sees it, a mask if its area is below the square of that. `labels` and `answers` have counts.
        `cut_scenes` have more objects than data.max_objects.
        """
        objects, geometry = self._objects, self._style.geometry if self._style else None
        sizes = sorted(self._sizes, key=lambda size: size[0] * size[1])
        found: dict[str, Any] = {
            "usable": self.usable, "unusable": dict(self._reasons.most_common()), "messages": self._messages,
            "pointing": self.pointing, "empty_targets": self.empty,
            "boxes": self.boxes, "tiny_boxes": self.tiny_boxes, "masks": self.masks, "tiny_masks": self.tiny_masks,
            "tiny_below": geometry.patch if geometry else None,
            "objects": {"fewest": min(objects), "mean": round(float(np.mean(objects)), 2), "most": max(objects)}
            if objects else None,
            "cut_scenes": self._cut,
            "sizes": [list(sizes[0]), list(sizes[-1])] if sizes else None,
            "labels": dict(self._labels.most_common()), "answers": dict(self._answers.most_common()),
        }  # fmt: skip
        if self._style is not None:
            found["prompt"] = {
                "limit": self._style.length, "longest": self._longest[0], "uid": self._longest[1],
                "too_long": self._too_long,
            }  # fmt: skip
        return found


def inspect(source: Source, style: Style | None, *, sample: int, seconds: float, seed: int = 0, shown: int = 0) -> Part:
    """Counts what a source knows of all examples, and what a sample of its decoded examples shows.

    Args:
      source: the examples of a split.
      style: how they become prompts; None = prompts and tiny targets are not counted.
      sample: most examples that are decoded, drawn at random.
      seconds: no further example is decoded after this time.
      seed: of the sample.
      shown: most examples to keep for drawing.
    """
    start, counter, kept, tried = time.monotonic(), Counter(style), [], 0
    if style is not None and style.constructor == "given":
        source = truth_free(source)
    if style is not None and style.geometry is not None:
        source = shrunk(source, working_pixels(style.geometry))
    for index in _sample(len(source), sample, seed):
        if tried and time.monotonic() - start > seconds:
            break
        tried += 1
        try:
            example = source[index]
            counter.add(example)
        except (ImageError, PromptError, OSError) as error:
            counter.fault(error)
            continue
        if len(kept) < shown:
            kept.append(fit(example, DRAWN))
    facts = {"examples": len(source), "tasks": outlines.task_counts(source), "sample": tried, **counter.facts()}
    labels = outlines.label_counts(source)
    facts["labels_of"] = "sample" if labels is None else "all"
    facts["labels"] = facts["labels"] if labels is None else labels
    return Part(facts, kept)


def _sample(length: int, most: int, seed: int) -> list[int]:
    """Different indices below `length` in random order, at most `most`."""
    rng = np.random.default_rng([seed, length % 2**32])
    if length <= 4 * most:
        return rng.permutation(length)[:most].tolist()
    indices: dict[int, None] = {}
    while len(indices) < most:
        indices[int(rng.integers(length))] = None
    return list(indices)


@contextlib.contextmanager
def collected_warnings() -> Iterator[list[str]]:
    """Collects the warnings that the readers log inside the context, in place of printing them."""
    texts: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: texts.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("dtr1_jax.data")
    propagate, log.propagate = log.propagate, False
    log.addHandler(handler)
    try:
        yield texts
    finally:
        log.removeHandler(handler)
        log.propagate = propagate
