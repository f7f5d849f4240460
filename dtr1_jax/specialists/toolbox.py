"""Opens the specialists that the settings name, and checks that each can do its work."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax

from dtr1_jax import config, mesh
from dtr1_jax.checked_fields import ConfigError
from dtr1_jax.models.config_fields import SpecError
from dtr1_jax.models.weights.hub import HubError
from dtr1_jax.models.weights.native import WeightsError
from dtr1_jax.specialists import catalogue
from dtr1_jax.specialists.segmenter import DESCRIPTIONS, Segmenter
from dtr1_jax.specialists.trackers import linking

PREFIX = "sam:"  # may stand before the path of a segmenter, as in reward.segmenter
_METHODS = {"detector": "detect", "segmenter": "segment", "depth": "estimate"}


@dataclasses.dataclass(frozen=True)
class Toolbox:
    """The opened specialists; None = there is none.

    Attributes:
      detector: `detect(images, [phrases])`, a list of Detections.
      segmenter: `segment(images, boxes=[float32[n, 4]])`, a list of Masks.
      grabcut: masks of boxes without a model.
      depth: `estimate(images)`, a list of DepthMap.
      link: (frames, detections, gap, high, low) -> tracks, as specialists/trackers/linking.py.
      names: who each of detector, segmenter, depth and tracker is, for the provenance.
      track: (frames, prompts) -> masks of each frame, as memory_rows.TrackFn; goes before `link`, which is used where
        it fails.
    """

    detector: Any = None
    segmenter: Any = None
    grabcut: Segmenter | None = None
    depth: Any = None
    link: Callable[..., list] | None = None
    names: dict[str, str] = dataclasses.field(default_factory=dict)
    track: Callable[..., Any] | None = None

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The classes of the detector; None = it takes any phrase, or there is no detector."""
        if self.detector is None or takes_phrases(self.detector):
            return None
        return tuple(getattr(self.detector, "classes", ()) or self.detector.spec.classes)

    def close(self) -> None:
        """Ends the processes of all that have some. May be called twice."""
        for tool in (self.detector, self.segmenter, self.grabcut, self.depth):
            if hasattr(tool, "close"):
                tool.close()


def takes_phrases(detector: Any) -> bool:
    """Whether a detector looks for any phrase, or else for classes of its own."""
    return "phrases" in inspect.signature(detector.detect).parameters


def open_toolbox(c: config.Specialists) -> Toolbox:
    """Opens the specialists of the settings on all devices of this process.

    Raises ConfigError naming the setting: a path that cannot be opened, or a model that does other work.
    """
    opened: dict[str, Any] = {}
    try:
        for role, value in (("detector", c.detector), ("segmenter", c.segmenter), ("depth", c.depth)):
            path = value.removeprefix(PREFIX) if role == "segmenter" else value
            if path and not (role == "segmenter" and path in DESCRIPTIONS):
                opened[role] = _open(role, path, c.dtype)
        if c.segmenter == "grabcut":
            opened["grabcut"] = Segmenter("grabcut", c.workers, c.deadline)
    except BaseException:
        Toolbox(**opened).close()
        raise
    names = {role: f"{type(tool).__name__} of {getattr(c, role)}" for role, tool in opened.items() if role in _METHODS}
    names |= {"segmenter": c.segmenter or "box"} if "segmenter" not in opened else {}
    link = linking.link if c.tracker != "none" else None
    track = _video_memory(opened.get("segmenter")) if c.tracker in ("auto", "memory") else None
    if c.tracker == "memory" and track is None:
        Toolbox(**opened).close()
        raise ConfigError(
            "config.specialists.tracker = memory: expected a segmenter with a video memory, such as"
            f" facebook/sam2.1-hiera-tiny, got config.specialists.segmenter = {c.segmenter!r}; or set"
            " specialists.tracker=iou"
        )
    names |= {"tracker": "iou" if track is None else f"memory of {names['segmenter']}"} if link else {}
    return Toolbox(**opened, link=link, track=track, names=names)


def _video_memory(segmenter: Any) -> Callable[..., Any] | None:
    """The method `track` of a SAM 2 that was made for videos; None for other segmenters."""
    if getattr(getattr(segmenter, "spec", None), "memory", None) is None or not hasattr(segmenter, "track"):
        return None
    return functools.partial(segmenter.track, remember=True)


def _open(role: str, path: str, dtype: str) -> Any:
    devices = mesh.make(config.Mesh(data=-1, fsdp=1, tensor=1), jax.local_devices())
    try:
        tool = catalogue.load(path, mesh=devices, dtype=dtype)
    except (WeightsError, SpecError, HubError, ValueError, OSError, ImportError) as error:
        names = f"; without a model: {' or '.join(DESCRIPTIONS)}" if role == "segmenter" else ""
        raise ConfigError(f"config.specialists.{role}: {error}{names}") from error
    if not hasattr(tool, _METHODS[role]):
        able = ", ".join(name for name in _METHODS.values() if hasattr(tool, name)) or "none of these"
        raise ConfigError(
            f"config.specialists.{role}: expected a model that can {_METHODS[role]}, got {path}, which can {able}"
        )
    if role == "detector" and not takes_phrases(tool) and not Toolbox(detector=tool).classes:
        raise ConfigError(f"config.specialists.detector: {path} names no classes; add them to its description")
    return tool
