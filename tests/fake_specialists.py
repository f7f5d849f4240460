"""A perceiver that finds what a function says, and counts what it is asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from dtr1_jax.specialists.perceived import PerceivedScene
from dtr1_jax.twin.construct import DEPTH, SEGMENT, Request
from dtr1_jax.types import Example, Instance, Video


@dataclasses.dataclass
class FakePerceiver:
    """Calls `see(visual, request)` for each request, and keeps the calls: lists of (visual, request)."""

    see: Callable[[np.ndarray | Video, Request], PerceivedScene]
    description: str = "a fake"
    calls: list = dataclasses.field(default_factory=list)
    closed: bool = False

    def perceive(self, visuals, requests):
        self.calls.append(list(zip(visuals, requests)))
        return [self.see(visual, request) for visual, request in zip(visuals, requests)]

    def close(self):
        self.closed = True


def annotated(examples: list[Example]) -> FakePerceiver:
    """Finds the annotated objects that the phrases name, as specialists without faults would."""
    scenes = [(e.image if e.video is None else e.video.frames, e.scene) for e in examples]

    def see(visual, request):
        pixels = visual.frames if isinstance(visual, Video) else visual
        scene = next(scene for known, scene in scenes if np.array_equal(known, pixels))
        return PerceivedScene(
            tuple(asked_of(x, request) for x in scene if x.label in request.phrases), (), {}, request.frames
        )

    return FakePerceiver(see)


def asked_of(item: Instance, request: Request) -> Instance:
    """The object with the fields that the request asks for."""
    changes = {} if DEPTH in request.ops else {"depth": 0}
    if SEGMENT not in request.ops:
        changes["mask"] = np.zeros_like(item.mask)
    return dataclasses.replace(item, **changes)


def nothing(visual, request) -> PerceivedScene:
    """No object, whatever is asked."""
    return PerceivedScene((), frames=request.frames)
