"""Which sightings of a video's frames are one object, by a segmenter that remembers what an object looks like (SAM 2).

Frames are taken in their order. Sightings that no known object explains are new objects, and each is tracked from its
frame to both ends of the video. So an object is also found where the detector overlooked it. An object that was lost
and is found again has two tracks: they are one object if they have the same masks where both are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from dtr1_jax.specialists.findings import TrackedMasks
from dtr1_jax.specialists.frame_rows import Row
from dtr1_jax.specialists.sam2.video_prompts import Prompt
from dtr1_jax.specialists.sightings import Sighting, is_same, overlap
from dtr1_jax.twin import masks as mask_codes

# (frames, prompts on frame 0) -> the masks of each frame, as Sam2.track
TrackFn = Callable[[list[np.ndarray], list[Prompt]], Iterator[TrackedMasks]]


@dataclasses.dataclass
class _Object:
    """An object, in each of T frames: its tracked sighting or None, and what the detector saw of it there."""

    tracked: Row
    seen: dict[int, Sighting]


def rows(
    frames: Sequence[Sequence[Sighting]], images: Sequence[np.ndarray], track: TrackFn, merge_iou: float, by: str
) -> list[Row]:
    """The objects of a video, a row of T sightings or None each.

    Labels and scores are the detector's, where it saw the object, and otherwise those of the sighting that was tracked.
    Masks, and boxes where the detector saw nothing, are those of the tracker.

    Args:
      frames: the sightings of each of T frames.
      images: the frames, uint8[h, w, 3], of one size.
      track: tracks objects from the first of some frames to the last.
      merge_iou: IoU from which a tracked mask and a sighting with its label are one object.
      by: name of the tracker.

    Raises ValueError if the tracker gives something else than a mask of a frame's size for each object and frame, and
    what the tracker raises.
    """
    objects: list[_Object] = []
    for t, found in enumerate(frames):
        left = _unexplained(objects, t, found, merge_iou)
        for new in _tracked(track, images, t, left, by) if left else []:
            old = next((one for one in objects if _are_one(one, new, merge_iou)), None)
            if old is None:
                objects.append(new)
            else:
                old.tracked = [a if a is not None else b for a, b in zip(old.tracked, new.tracked)]
                old.seen = new.seen | old.seen
    return [_row(one) for one in objects]


def _unexplained(objects: list[_Object], t: int, found: Sequence[Sighting], merge_iou: float) -> list[Sighting]:
    """The sightings in frame t that are none of the objects; notes the others. The largest overlaps come first."""
    pairs = sorted(
        ((overlap(there, one), i, k) for i, known in enumerate(objects) if (there := known.tracked[t]) is not None
         for k, one in enumerate(found) if is_same(there, one, merge_iou)),
        key=lambda pair: (-pair[0], pair[1:]),
    )  # fmt: skip
    explained: set[int] = set()
    for _, i, k in pairs:
        if k not in explained and t not in objects[i].seen:
            explained.add(k)
            objects[i].seen[t] = found[k]
    return [one for k, one in enumerate(found) if k not in explained]


def _tracked(
    track: TrackFn, images: Sequence[np.ndarray], t: int, sightings: Sequence[Sighting], by: str
) -> list[_Object]:
    """Objects that were seen in frame t, tracked to both ends.

    In frame t each is what the detector saw, where the tracker cannot see it.
    """
    prompts = [
        Prompt(0, i, box=one.box) if one.mask is None else Prompt(0, i, mask=one.mask)
        for i, one in enumerate(sightings)
    ]
    later = list(track(list(images[t:]), prompts))
    earlier = list(track(list(images[t::-1]), prompts))[1:] if t else []
    found = [*reversed(earlier), *later]
    if len(found) != len(images):
        raise ValueError(f"the tracker gave masks of {len(found)} frames, expected {len(images)}")
    objects = []
    for i, one in enumerate(sightings):
        row = [_sighting(at, i, one, image, by) for at, image in zip(found, images)]
        row[t] = row[t] or one
        objects.append(_Object(row, {t: one}))
    return objects


def _sighting(found: TrackedMasks, i: int, seed: Sighting, image: np.ndarray, by: str) -> Sighting | None:
    """Object i of a frame, or None where it cannot be seen."""
    row = found.objects.index(i)
    mask = np.asarray(found.masks[row], bool)
    if mask.shape != image.shape[:2]:
        raise ValueError(f"the tracker gave a mask of {mask.shape}, expected {image.shape[:2]}")
    if not found.visible[row] or not mask.any():
        return None
    score, box = float(found.scores[row]), np.asarray(mask_codes.bbox(mask), np.float64)
    return dataclasses.replace(seed, box=box, mask=mask, mask_by=by, mask_score=score if np.isfinite(score) else None)


def _are_one(old: _Object, new: _Object, merge_iou: float) -> bool:
    """Whether two tracks are the same in most frames in which both are."""
    both = [(a, b) for a, b in zip(old.tracked, new.tracked) if a is not None and b is not None]
    return 2 * sum(is_same(a, b, merge_iou) for a, b in both) > len(both)


def _row(one: _Object) -> Row:
    """The tracked sightings with label, score and box of what the detector saw."""
    return [
        at if at is None or (seen := one.seen.get(t)) is None
        else dataclasses.replace(at, label=seen.label, score=seen.score, others=seen.others, box=seen.box)
        for t, at in enumerate(one.tracked)
    ]  # fmt: skip
