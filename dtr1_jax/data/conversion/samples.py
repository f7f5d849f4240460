"""A query as it stands in a foreign file, before the frame of its coordinates is known; and the rows left out."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator
from typing import Any

SHOWN = 3  # examples of a reason in a report

Box = tuple[float, float, float, float]


class LeftOut(ValueError):
    """A row that does not become a line. The message is the reason, in words that fit after a number of rows."""

    def __init__(self, reason: str, example: object = ""):
        super().__init__(reason)
        self.example = example


@dataclasses.dataclass(frozen=True)
class FrameTarget:
    """The target in frames of a video, before the places of these frames are known.

    Attributes:
      kind: the field of a JSON line that it becomes: rles, masks or tracks.
      keys: what names each frame, its file or number; None = there is one value for each frame of the video.
      values: by frame, of all objects: lists of RLEs or boxes with None where an object is not there, or paths of PNGs.
      names: the files of the frames that the row lists; () = all of the video.
    """

    kind: str
    keys: tuple[str, ...] | None
    values: tuple[Any, ...]
    names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Sample:
    """One query of a foreign file. Boxes are in the file's own frame and order, which `notation` names.

    Attributes:
      location: FILE:LINE or FILE, row N, for messages.
      pictures: references, the target is in the first: a path, a data URL, bytes, or {"bytes", "path"}.
      query: the user's words.
      notation: a key of frame_evidence.RULES; boxes of one notation have one frame and one order in the whole file.
      boxes: the target; None = it is in another field.
      masks: the target as RLEs of COCO, or polygons in pixels (a list of objects, each a list of [x, y, x, y, ...]).
      mask: the target as a reference to a picture of a mask.
      answers: the target in words.
      objects: (label, box) of the scene.
      choices: of a vqa query.
      stated: (w, h) of the picture as the file states it, pixels.
      split: the part of the data set that it belongs to.
      video: the path of a video, in place of pictures.
      tracks: RLEs of the objects of a video by frame number.
      task: of a query with answers, vqa or summary; of others, if the file says it.
      polygons: the target as [x, y, x, y, ...] in pixels, each an object.
      by_frame: the target in frames of a video.
      category, level: as in types.Example, "" and 0 where not known.
    """

    location: str
    pictures: tuple[Any, ...]
    query: str
    notation: str = ""
    boxes: tuple[Box, ...] | None = None
    masks: tuple[Any, ...] | None = None
    mask: Any = None
    answers: tuple[str, ...] = ()
    objects: tuple[tuple[str, Box], ...] = ()
    choices: tuple[str, ...] = ()
    stated: tuple[int, int] | None = None
    split: str | None = None
    video: str | None = None
    tracks: dict[str, Any] | None = None
    task: str | None = None
    polygons: tuple[tuple[float, ...], ...] | None = None
    by_frame: FrameTarget | None = None
    category: str = ""
    level: int = 0


class Tally:
    """Counts by name, in the order of their first appearance, each with its first examples."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self._examples: dict[str, list[str]] = {}
        self._remarks: set[str] = set()

    def remark(self, name: str, example: object = "", count: int = 1) -> None:
        """Counts `name`, of which nothing is left out."""
        self._remarks.add(name)
        self.add(name, example, count)

    def add(self, name: str, example: object = "", count: int = 1) -> None:
        """Counts `name`; `example` is a name of a file, a place or a value."""
        self.counts[name] += count
        examples = self._examples.setdefault(name, [])
        text = "".join(c if c.isprintable() else "?" for c in str(example)[:80])
        if text and text not in examples and len(examples) < SHOWN:
            examples.append(text)

    def lines(self, remarks: bool = False) -> Iterator[str]:
        """Each name with its count and examples: "3 pictures that are not found (such as a.jpg)".

        With `remarks`, those of `remark`; otherwise the others.
        """
        for name, count in self.counts.items():
            if (name in self._remarks) == remarks:
                examples = ", ".join(self._examples[name])
                yield f"{count} {name}" + (f" (such as {examples})" if examples else "")
