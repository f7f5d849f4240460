"""`--mode=perceive`: twins of pictures, a video or a whole data set ahead of time, by the specialists of the settings.

The run can be killed and started again: it goes on with the inputs that are not done. Several processes share the
inputs. perceive_journal.py says which files are written.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dtr1_jax import config, draw, mesh, places
from dtr1_jax.data import json_files
from dtr1_jax.data.pipeline import SkipCounter
from dtr1_jax.modes import perceive_inputs, perceive_journal, perceived_lines, results
from dtr1_jax.modes.perceive_inputs import Inputs, Item
from dtr1_jax.report import scene_sheet
from dtr1_jax.run import atomic, interrupt
from dtr1_jax.specialists import catalogue, perceiver
from dtr1_jax.specialists.perceived import PerceivedScene
from dtr1_jax.specialists.perceiver import SpecialistPerceiver
from dtr1_jax.twin.construct import DEPTH, DETECT, SEGMENT, TRACK, Request
from dtr1_jax.types import Video

SECONDS = 10.0  # between two lines about the progress
DRAWN = 24  # scenes on the sheet
# Fields of the header that a continued run must share; headers of earlier versions lack those of ADDED.
SAME = ("format", "inputs", perceive_journal.FILES, "specialists", "models", "phrases", "seed")
ADDED = (perceive_journal.FILES, "seed")
FREE = ("batch", "cache_mb", "workers", "deadline")  # settings that may change when a run goes on

log = logging.getLogger(__name__)


def run(c: config.Config, images: str | None, video: str | None, out: str | None) -> str:
    """Perceives all inputs that are not done yet; returns what was done, in words.

    Args:
      c: the settings; `c.specialists` names the models.
      images: a folder of pictures.
      video: a video file or a folder of frames. Without both, the data set of `c.data` is taken.
      out: the folder for the results.

    A folder that an earlier version began has no digests of its inputs' files and no seed, so these are not compared.

    Raises ConfigError: no --out, no detector, inputs or models that cannot be opened, or a folder with results of
    other inputs or settings. Raises DataError if no input could be read. Raises interrupt.Interrupted after a signal;
    what was done is kept.
    """
    if not out:
        raise config.ConfigError("--mode=perceive needs --out, a folder for the twins")
    catalogue.require_detector(c.specialists)
    folder = places.here(out, "--out", "write to a folder of this machine, and copy it afterwards")
    perceive_inputs.check_out(c.data, images, video, folder)
    results.open_folder(folder, "--out")
    with interrupt.Flag() as stop, results.locked(folder, "perceive"):
        inputs = perceive_inputs.open_inputs(c, images, video, folder)
        with perceiver.open_perceiver(c) as look:
            words = perceive_inputs.phrases(c.specialists, look.classes)
            header = _header(c, inputs, look, words)
            _begin(folder, header)
            stopped = _work(c, inputs, look, words, folder, stop)
            stopped = bool(mesh.most(stopped))  # The parts of all processes are written.
            unread = ""
            if jax.process_index() == 0:
                header = perceive_journal.publish(folder, header)
                unread = "" if stopped else perceive_journal.unread(folder, header["counts"])
                _draw_sheet(inputs, look, words, c, folder, perceive_journal.finished(folder))
            has_none = bool(mesh.most(bool(unread)))
    if has_none:
        raise json_files.DataError(unread or "no input could be read, as the first process says")
    if stopped:
        raise interrupt.Interrupted(header.get("counts", {}).get("inputs", 0))
    counts = header.get("counts", {})
    return f"twins: {folder / perceive_journal.TWINS} " + ", ".join(f"{n} {name}" for name, n in counts.items())


def request(visual: np.ndarray | Video, words: tuple[str, ...], c: config.Specialists) -> Request:
    """All that the specialists of the settings can say of a picture or video."""
    is_video = isinstance(visual, Video)
    wanted = {DETECT: True, SEGMENT: True, DEPTH: bool(c.depth), TRACK: is_video and c.tracker != "none"}
    frames = tuple(int(number) for number in visual.index) if is_video else ()
    return Request(words, tuple(op for op, asked in wanted.items() if asked), frames)


def _header(c: config.Config, inputs: Inputs, look: SpecialistPerceiver, words: tuple[str, ...]) -> dict[str, Any]:
    settings = {name: value for name, value in vars(c.specialists).items() if name not in FREE}
    return {
        "format": 1, "inputs": inputs.name, perceive_journal.FILES: inputs.files, "models": look.description,
        "phrases": list(words), "specialists": settings, "seed": c.data.seed if c.specialists.pseudo_queries else None,
    }  # fmt: skip


def _begin(folder: Path, header: dict[str, Any]) -> None:
    """Compares the header with that of an earlier run, and writes it.

    The first process does so for all: each may have a copy of the data, whose files were written at other times.

    Raises ConfigError in all processes if the folder holds results of other inputs or settings, and DataError if its
    header cannot be read.
    """
    fault: Exception | None = None
    if jax.process_index() == 0:
        try:
            perceive_journal.check_header(folder, header, SAME, ADDED)
            perceive_journal.write_header(folder, header)
        except (config.ConfigError, json_files.DataError) as error:
            fault = error
    if mesh.least(fault is None) == 0:
        raise fault or config.ConfigError(f"{folder} holds twins of another run, as the first process says")


def _work(
    c: config.Config, inputs: Inputs, look: SpecialistPerceiver, words: tuple[str, ...], folder: Path,
    stop: interrupt.Flag,
) -> bool:  # fmt: skip
    """Perceives the inputs of this process that are not done; returns whether a signal stopped it."""
    process, count = jax.process_index(), jax.process_count()
    done = perceive_journal.finished(folder, inputs.known)
    mesh.least(True)  # all processes have read what is done, before any adds to it
    mine = [index for index in range(inputs.count) if index not in done and index % count == process]
    if done:
        log.info("%d of %d inputs are done already", len(done), inputs.count)
    progress, skips = _Progress(len(mine)), SkipCounter()
    with perceive_journal.Journal(folder, process) as journal:
        for start in range(0, len(mine), c.specialists.batch):
            batch = mine[start : start + c.specialists.batch]
            records = _records(c, inputs, look, words, batch, skips)
            journal.add(records)
            progress.add(records)
            if stop.is_set:
                return True
    return False


def _records(
    c: config.Config, inputs: Inputs, look: SpecialistPerceiver, words: tuple[str, ...], batch: list[int],
    skips: SkipCounter,
) -> list[dict[str, Any]]:  # fmt: skip
    """One record for each index, with its lines or the reason why it was skipped."""
    found: list[dict[str, Any]] = []
    loaded: list[tuple[int, Item]] = []
    files: dict[int, dict[str, Any]] = {}
    for index in batch:
        files[index] = {} if inputs.known is None else {perceive_journal.FILES: inputs.known(index)[1]}
        try:
            loaded.append((index, inputs.load(index)))
        except (ValueError, OSError) as error:  # ImageError is a ValueError
            skips.add(error)
            found.append({"index": index, "skipped": str(error)[:300]})
    asked = [request(item.visual, words, c.specialists) for _, item in loaded]
    scenes = look.perceive([item.visual for _, item in loaded], asked)
    for (index, item), scene in zip(loaded, scenes):
        lines = perceived_lines.lines(item, scene, c.specialists.pseudo_queries, c.data.seed)
        facts = perceived_lines.provenance(item, scene)
        found.append({"index": index, **files[index], "lines": lines, "provenance": facts})
    return found


class _Progress:
    """Logs the rate and the time left, at most every SECONDS seconds."""

    def __init__(self, total: int):
        self._total, self._done, self._objects, self._skipped = total, 0, 0, 0
        self._start = self._last = time.monotonic()

    def add(self, records: list[dict[str, Any]]) -> None:
        """Counts finished records."""
        self._done += len(records)
        self._skipped += sum("skipped" in record for record in records)
        self._objects += sum(len(record["provenance"]["objects"]) for record in records if "provenance" in record)
        now = time.monotonic()
        if now - self._last >= SECONDS or self._done == self._total:
            self._last = now
            rate = self._done / max(now - self._start, 1e-9)
            log.info(
                "perceived %d of %d (%.2f a second, %s left), %.1f objects each, %d skipped",
                self._done, self._total, rate, _duration((self._total - self._done) / rate),
                self._objects / max(self._done - self._skipped, 1), self._skipped,
            )  # fmt: skip


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _draw_sheet(
    inputs: Inputs, look: SpecialistPerceiver, words: tuple[str, ...], c: config.Config, folder: Path, done: set[int]
) -> None:
    """Draws DRAWN of the scenes, at even distances; those that cannot be loaded are left out."""
    order = sorted(done)
    chosen = [order[i] for i in np.unique(np.linspace(0, len(order) - 1, DRAWN).round().astype(int))] if order else []
    tiles = []
    for index in chosen:
        try:
            item = inputs.load(index)
        except (ValueError, OSError):  # counted before
            continue
        (scene,) = look.perceive([item.visual], [request(item.visual, words, c.specialists)])
        tiles.append(_tile(item, scene))
    if tiles:
        with atomic.replacing(folder / perceive_inputs.SHEET) as partial:
            partial.write_bytes(draw.to_png(scene_sheet.sheet(tiles)))


def _tile(item: Item, scene: PerceivedScene) -> np.ndarray:
    image = item.visual.frames[0] if isinstance(item.visual, Video) else item.visual
    return scene_sheet.tile(item.uid, image, scene)
