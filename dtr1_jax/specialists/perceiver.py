"""Fills the scenes of requests by the specialists of the settings: detect, merge, segment, depth, track.

    with perceiver.open_perceiver(c) as look:
        (scene,) = look.perceive([photo], [Request(("mug", "kettle"), ("detect", "segment", "depth"))])

What a request does not ask for is not done: without `segment` the masks are the filled boxes, and colours are not
named; without `depth` no object has a depth; without `track` an object of a video is what one frame shows, so that a
thing in three frames is three objects.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Hashable, Sequence

import cv2
import numpy as np

from dtr1_jax import camera_motion, config
from dtr1_jax.specialists import assembly, frame_rows, looks, memory_rows, phrase_classes, toolbox
from dtr1_jax.specialists.embedding_cache import EmbeddingCache, content_key
from dtr1_jax.specialists.looks import Sized
from dtr1_jax.specialists.model_calls import Failed
from dtr1_jax.specialists.perceived import PerceivedScene
from dtr1_jax.specialists.pictures import checked
from dtr1_jax.specialists.sightings import Sighting, distinct
from dtr1_jax.specialists.toolbox import Toolbox
from dtr1_jax.twin.construct import DEPTH, SEGMENT, TRACK, Request
from dtr1_jax.types import Video


@dataclasses.dataclass
class _Job:
    """One request: its pictures (of a video, the frames to look at), and what failed so far."""

    request: Request
    images: list[np.ndarray]
    keys: list[Hashable]
    video: Video | None
    places: list[int]  # of the looked-at frames in the video
    failures: list[str]
    phrases: tuple[str, ...] = ()  # for the detector; () = all its classes
    labels: frozenset[str] | None = None  # the classes that the phrases mean; None = any
    detected: bool = False  # whether the detector looked at all pictures


class SpecialistPerceiver:
    """Runs specialists on pictures and videos; see perceived.Perceiver.

    Attributes:
      description: the specialists by name.
      classes: the classes that the detector knows; None = it takes any phrase, or there is none.
      cache: what was found before; `cache.hits` and `cache.misses` count.
    """

    def __init__(self, tools: Toolbox, c: config.Specialists):
        self._tools, self._c = tools, c
        self.cache = EmbeddingCache(c.cache_mb << 20)
        self.classes = tools.classes
        roles = ("detector", "segmenter", "depth", "tracker")
        self.description = ", ".join(f"{role}: {tools.names.get(role) or 'none'}" for role in roles)

    def perceive(self, visuals: list[np.ndarray | Video], requests: list[Request]) -> list[PerceivedScene]:
        """The scenes of n requests; never raises for sound requests, see perceived.Perceiver.

        Pictures of more than `c.max_pixels` pixels are shrunk first, and their masks have the smaller size.
        """
        if len(visuals) != len(requests):
            raise ValueError(f"expected as many visuals as requests, got {len(visuals)} and {len(requests)}")
        prepared = [self._prepared(visual, request) for visual, request in zip(visuals, requests)]
        scenes: dict[Hashable, PerceivedScene] = {}
        jobs: dict[Hashable, _Job] = {}
        names: list[Hashable] = []
        for i, job in enumerate(prepared):
            name = (tuple(job.keys), job.request) if job.keys else ("nothing", i)
            names.append(name)
            kept = self.cache.get(("scene", name)) if name not in jobs and name not in scenes else None
            if kept is not None:
                scenes[name] = kept.value
            elif name not in scenes:
                jobs[name] = job
        for name, scene in zip(jobs, self._scenes(list(jobs.values()))):
            scenes[name] = scene
            size = sum(300 + (x.mask.nbytes if x.masks is None else x.masks.nbytes) for x in scene.instances)
            if not scene.failures:  # a failure may pass
                self.cache.put(("scene", name), Sized(scene, size))
        return [scenes[name] for name in names]

    def close(self) -> None:
        """Ends the processes of the specialists. May be called twice."""
        self._tools.close()

    def __enter__(self) -> SpecialistPerceiver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _prepared(self, visual: np.ndarray | Video, request: Request) -> _Job:
        """The request with its pictures; a picture that is none is a failure."""
        job = _Job(request, [], [], visual if isinstance(visual, Video) else None, [], [])
        try:
            if job.video is None:
                job.images = checked([visual])
            else:
                index = np.asarray(job.video.index).tolist()
                unknown = [number for number in request.frames if number not in index]
                job.places = [index.index(n) for n in request.frames if n in index] if request.frames else list(
                    range(len(index))
                )  # fmt: skip
                job.failures += [f"frames: {unknown[:8]} were not shown, so nobody looked at them"] if unknown else []
                job.images = checked([job.video.frames[place] for place in job.places])
            job.images = [_shrunk(image, self._c.max_pixels) for image in job.images]
            job.keys = [content_key(image) for image in job.images]
        except Exception as error:  # a caller may pass anything
            job.images, job.keys = [], []
            job.failures.append(f"picture: {' '.join(str(error).split())}"[:300])
        self._choose(job)
        return job

    def _choose(self, job: _Job) -> None:
        """What the detector has to look for."""
        if self._tools.detector is None:
            job.failures.append("detect: there is no detector; set config.specialists.detector")
        elif self.classes is None:
            job.phrases = job.request.phrases
        else:
            named = {phrase: phrase_classes.classes_of(phrase, self.classes) for phrase in job.request.phrases}
            unknown = [phrase for phrase, classes in named.items() if not classes]
            if unknown:
                words = ", ".join(phrase[:64] for phrase in unknown[:16])
                job.failures.append(f"detect: the detector has no class for {words}; it knows {len(self.classes)}")
            job.labels = frozenset(name for classes in named.values() for name in classes)
        job.detected = bool(job.keys and (job.phrases or job.labels))

    def _scenes(self, jobs: list[_Job]) -> list[PerceivedScene]:
        pictures = {key: image for job in jobs for key, image in zip(job.keys, job.images)}
        seen = self._detect(jobs, pictures)
        seen = self._segment(jobs, pictures, seen)
        asked = [key for job, frames in zip(jobs, seen) if DEPTH in job.request.ops and any(frames) for key in job.keys]
        maps: dict = {}
        if self._tools.depth is not None:
            maps = looks.depths(self._tools, self._c, pictures, asked, self.cache)
        return [self._safely_assembled(job, frames, maps) for job, frames in zip(jobs, seen)]

    def _detect(self, jobs: list[_Job], pictures: looks.Pictures) -> list[list[list[Sighting]]]:
        """For each job and each of its pictures the distinct objects, best score first."""
        wanted = [job for job in jobs if self._tools.detector is not None and (job.phrases or job.labels)]
        asked = [(key, job.phrases) for job in wanted for key in job.keys]
        found = looks.sightings(self._tools, self._c, pictures, asked, self.cache) if asked else {}
        results = []
        for job in jobs:
            frames: list[list[Sighting]] = []
            for key in job.keys:
                some = found.get((key, job.phrases), [])
                if isinstance(some, Failed):
                    job.failures.append(f"detect: {some.message}")
                    job.detected, some = False, []
                some = [one for one in some if job.labels is None or one.label in job.labels]
                frames.append(self._few(job, distinct(some, self._c.merge_iou)))
            results.append(frames)
        return results

    def _few(self, job: _Job, found: list[Sighting]) -> list[Sighting]:
        most = self._c.max_objects
        if len(found) > most:
            job.failures.append(
                f"detect: {len(found) - most} objects with the lowest scores were left out"
                f" (specialists.max_objects = {most})"
            )
        return found[:most]

    def _segment(
        self, jobs: list[_Job], pictures: looks.Pictures, seen: list[list[list[Sighting]]]
    ) -> list[list[list[Sighting]]]:
        """The sightings with masks, where the request asks for them, and merged by them."""
        asked = [
            (key, _rounded(one))
            for job, frames in zip(jobs, seen) if SEGMENT in job.request.ops
            for key, found in zip(job.keys, frames) for one in found if one.mask is None
        ]  # fmt: skip
        made = looks.masks(self._tools, self._c, pictures, asked, self.cache)
        by = "grabcut" if self._tools.segmenter is None else self._tools.names.get("segmenter", "segmenter")
        results = []
        for job, frames in zip(jobs, seen):
            if SEGMENT not in job.request.ops:
                results.append([[_without_mask(one) for one in found] for found in frames])
                continue
            causes: collections.Counter[str] = collections.Counter()
            masked = []
            for key, found in zip(job.keys, frames):
                with_masks = []
                for one in found:
                    result = made.get((key, _rounded(one))) if one.mask is None else None
                    if isinstance(result, Failed):
                        causes[result.message] += 1
                    elif result is not None and not _is_filled_box(by, result[0], pictures[key], one):
                        one = dataclasses.replace(one, mask=result[0], mask_score=result[1], mask_by=by)
                    with_masks.append(one)
                masked.append(distinct(with_masks, self._c.merge_iou))
            job.failures += [
                f"segment: {count} objects have the filled box for a mask: {cause}" for cause, count in causes.items()
            ]
            results.append(masked)
        return results

    def _safely_assembled(self, job: _Job, frames: list[list[Sighting]], maps: dict) -> PerceivedScene:
        try:
            return dataclasses.replace(self._assembled(job, frames, maps), detected=job.detected)
        except Exception as error:  # such as too little memory for the masks of one request
            failure = f"assembly: {type(error).__name__}: {' '.join(str(error).split())}"[:300]
            return PerceivedScene((), failures=(*job.failures, failure), detected=False)

    def _assembled(self, job: _Job, frames: list[list[Sighting]], maps: dict) -> PerceivedScene:
        numbers = tuple(int(job.video.index[place]) for place in job.places) if job.video is not None else ()
        if not any(frames):
            return PerceivedScene((), frames=numbers, failures=tuple(job.failures))
        depths = self._depths(job, maps)
        rows, path = self._rows(job, frames)
        names = self._tools.names
        makers = assembly.Makers(
            names.get("detector", ""), names.get("depth", ""), names.get("tracker", "") if _tracks(job) else ""
        )
        looked = assembly.Looked(job.images, depths, numbers, path)
        return assembly.assemble(looked, rows, makers, self._c, job.failures)

    def _depths(self, job: _Job, maps: dict) -> list:
        if DEPTH not in job.request.ops:
            return [None] * len(job.keys)
        if self._tools.depth is None:
            job.failures.append("depth: there is no depth model; set config.specialists.depth")
        failed = [maps[key] for key in job.keys if isinstance(maps.get(key), Failed)]
        job.failures += [f"depth: {one.message}" for one in failed[:1]]
        return [None if isinstance(maps.get(key), Failed) else maps.get(key) for key in job.keys]

    def _rows(self, job: _Job, frames: list[list[Sighting]]) -> tuple[list, list[np.ndarray | None] | None]:
        """(a row of sightings for each object, the camera's path or None)."""
        if job.video is None:
            return [[one] for one in frames[0]], None
        link = self._tools.link if TRACK in job.request.ops else None
        if TRACK in job.request.ops and link is None:
            job.failures.append("track: there is no tracker, so each frame has objects of its own")
        rows = self._remembered_rows(job, frames) if link is not None else None
        if rows is None:
            rows, failure = frame_rows.rows(frames, job.images, link, self._c.gap)
            job.failures += [f"track: {failure}"] if failure else []
        there = [[row[t] for row in rows if row[t] is not None] for t in range(len(frames))]
        path = _camera(job, there) if _tracks(job) and link is not None else None
        return self._few_rows(job, rows), path

    def _remembered_rows(self, job: _Job, frames: list[list[Sighting]]) -> list[frame_rows.Row] | None:
        """The rows by the segmenter's memory; None if it has none, or fails."""
        if self._tools.track is None or not _tracks(job):
            return None
        name = self._tools.names.get("tracker", "memory")
        try:
            rows = memory_rows.rows(frames, job.images, self._tools.track, self._c.merge_iou, name)
        except Exception as error:  # a model may raise anything
            words = f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
            job.failures.append(f"track: the memory failed, so boxes were linked by their overlap: {words}")
            return None
        if SEGMENT in job.request.ops:
            return rows
        return [[None if one is None else _without_mask(one) for one in row] for row in rows]

    def _few_rows(self, job: _Job, rows: list) -> list:
        most = self._c.max_objects
        if len(rows) > most:
            job.failures.append(f"track: {len(rows) - most} objects were left out (specialists.max_objects = {most})")
        return sorted(rows, key=lambda row: -sum(one.score for one in row if one is not None))[:most]


def open_perceiver(c: config.Config) -> SpecialistPerceiver:
    """Opens the specialists of `c.specialists` on all devices of this process.

    Raises ConfigError naming the setting whose model cannot be opened.
    """
    return SpecialistPerceiver(toolbox.open_toolbox(c.specialists), c.specialists)


def _tracks(job: _Job) -> bool:
    return job.video is not None and TRACK in job.request.ops and len(job.places) > 1


def _without_mask(one: Sighting) -> Sighting:
    return dataclasses.replace(one, mask=None, mask_by="box", mask_score=None)


def _rounded(one: Sighting) -> looks.Box:
    """The box to four decimals, by which equal boxes are found."""
    return tuple(round(float(value), 4) for value in one.box)


def _is_filled_box(by: str, mask: np.ndarray, image: np.ndarray, one: Sighting) -> bool:
    """Whether GrabCut gave up and returned the box, which it does for small objects."""
    return by == "grabcut" and np.array_equal(mask, assembly.box_mask(image, one.box))


def _shrunk(image: np.ndarray, most: int) -> np.ndarray:
    scale = (most / (image.shape[0] * image.shape[1])) ** 0.5
    if scale >= 1:
        return image
    size = max(1, int(image.shape[1] * scale)), max(1, int(image.shape[0] * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _camera(job: _Job, frames: Sequence[Sequence[Sighting]]) -> list[np.ndarray | None] | None:
    """Where the looked-at frames lie in the first of them; None if it cannot be measured.

    It is measured over all frames between them. Where that fails, since nobody knows the objects of these frames, it
    is measured over the looked-at frames alone.
    """
    first, last = job.places[0], job.places[-1]
    objects = []
    for image, found in zip(job.images, frames):
        masks = [assembly.box_mask(image, one.box) if one.mask is None else one.mask for one in found]
        objects.append(np.any(masks, axis=0) if masks else np.zeros(image.shape[:2], bool))
    known = dict(zip(job.places, objects))
    try:
        path = camera_motion.camera_path(
            list(job.video.frames[first : last + 1]), [known.get(place) for place in range(first, last + 1)]
        )
        chosen = [path[place - first] for place in job.places]
        if any(matrix is None for matrix in chosen) and len(chosen) < len(path):
            chosen = camera_motion.camera_path(job.images, objects)
    except (cv2.error, ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
        job.failures.append(f"camera: its motion cannot be measured: {error}"[:300])
        return None
    if any(matrix is None for matrix in chosen):
        job.failures.append("camera: the background cannot be followed to the last frame; some velocities are of boxes")
    return chosen
