"""The public benchmarks by their name in the settings: the tasks that each serves, and the reader that opens it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

from dtr1_jax import config
from dtr1_jax.data.readers import (
    clevr,
    coco_captions,
    gqa,
    grefcoco,
    llm_seg,
    mevis,
    msrvtt,
    nextqa,
    reasonseg,
    reasonvos,
    ref_davis,
    ref_ytvos,
    refcoco,
    revos,
    tfds_references,
    vqav2,
    vrt,
)
from dtr1_jax.data.readers.benchmark import Benchmark
from dtr1_jax.types import POINTING

# (root, split, task, most objects of a scene) -> the examples of a split
Opener = Callable[[str, str, str, int], Benchmark]


def _refcoco(root: str, split: str, task: str, most: int, *, name: str) -> Benchmark:
    return refcoco.open_refcoco_source(name, root, split, task, max_objects=most)


SOURCES: dict[str, tuple[tuple[str, ...], Opener]] = {
    **{name: (POINTING, functools.partial(_refcoco, name=name)) for name in refcoco.NAMES},
    "grefcoco": (POINTING, lambda root, split, task, most: grefcoco.open_grefcoco_source(
        root, split, task, max_objects=most)),
    "reasonseg": (("segmentation",), lambda root, split, task, _: reasonseg.open_reasonseg_source(root, split, task)),
    "llm_seg": (POINTING, lambda root, split, task, _: llm_seg.open_llm_seg_source(root, split, task)),
    "vrt": (POINTING, lambda root, split, task, most: vrt.open_vrt_source(root, split, task, max_objects=most)),
    "clevr": (("vqa",), lambda root, split, task, _: clevr.open_clevr_source(root, split, task)),
    "vqav2": (("vqa",), lambda root, split, task, _: vqav2.open_vqav2_source(root, split, task)),
    "gqa": (("vqa",), lambda root, split, task, _: gqa.open_gqa_source(root, split, task)),
    "coco_captions": (("summary",), lambda root, split, task, _: coco_captions.open_coco_captions_source(
        root, split, task)),
    "nextqa": (("vqa",), lambda root, split, task, _: nextqa.open_nextqa_source(root, split, task)),
    "msrvtt": (("summary",), lambda root, split, task, _: msrvtt.open_msrvtt_source(root, split, task)),
    "mevis": (("segmentation",), lambda root, split, task, _: mevis.open_mevis_source(root, split, task)),
    "revos": (("segmentation",), lambda root, split, task, _: revos.open_revos_source(root, split, task)),
    "ref_davis17": (("segmentation",), lambda root, split, task, _: ref_davis.open_ref_davis_source(
        root, split, task)),
    "ref_ytvos": (("segmentation",), lambda root, split, task, _: ref_ytvos.open_ref_ytvos_source(root, split, task)),
    "reasonvos": (("segmentation",), lambda root, split, task, _: reasonvos.open_reasonvos_source(root, split, task)),
}  # fmt: skip
# the benchmarks about videos
VIDEOS = ("nextqa", "msrvtt", "mevis", "revos", "ref_davis17", "ref_ytvos", "reasonvos")
FRAMES = 8  # of an example about a video, if the settings give no number
# source -> the tasks for which it has targets
SERVED = {"tfds": POINTING} | {name: tasks for name, (tasks, _) in SOURCES.items()}


def open_public_source(data: config.Data, split: str, task: str) -> Benchmark:
    """The examples of a split of the benchmark that data.source names, for one task. Raises DataError."""
    if data.source == "tfds":
        return tfds_references.open_tfds_source(data.root, data.name, split, task, max_objects=data.max_objects)
    source = SOURCES[data.source][1](data.root, split, task, data.max_objects)
    return dataclasses.replace(source, frames=data.frames or FRAMES) if data.source in VIDEOS else source
