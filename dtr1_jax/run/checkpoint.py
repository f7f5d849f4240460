"""Training state on disk, from which a run continues exactly where it stopped.

A workdir holds `config.json`, the settings of the run that made it, and a folder `checkpoints/<step>/` for each saved
step. Such a folder has the arrays of the state and a small JSON document: the position in the data, the metric, and the
shape, dtype and checksum of every array. A checkpoint is written under a temporary name and renamed when it is
complete, so a killed process does not harm the earlier ones.

A run that is asked to stop saves a step before its evaluation. The metric then comes later, and stands beside the
folder, in `checkpoints/metric-<step>.json`.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from dtr1_jax import places
from dtr1_jax.run import atomic, run_settings
from dtr1_jax.run.array_summary import array_differences, summarize_arrays

NEWEST, BEST = "newest", "best"  # names of a step, beside its number
Step = int | Literal["newest", "best"]
# Causes that say nothing about the files of a checkpoint: reading it may succeed another time.
_PASSING = ("RESOURCE_EXHAUSTED", "PERMISSION_DENIED", "UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "out of memory")
_PROVES_DAMAGE = (FileNotFoundError, NotADirectoryError, IsADirectoryError, UnicodeError)

_log = logging.getLogger(__name__)


class CheckpointError(ValueError):
    """A workdir or a checkpoint that cannot be used; the message says why and what to do."""


def parse_step(text: str) -> Step:
    """The step that a command line names, for `Checkpoints.restore`: "newest", "best" or a number of 0 or more.

    Raises CheckpointError for any other text.
    """
    if text in (NEWEST, BEST):
        return text
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise CheckpointError(f"--step: expected {NEWEST}, {BEST} or the number of a saved step, got {text[:80]!r}")
    return int(text)


@dataclasses.dataclass
class _KeepNewestAndBest:
    """Orbax preservation policy: keeps the newest `newest` steps and the step with the highest metric.

    Of steps with equal metrics the latest counts as the best. The metrics are stored in our own JSON document, because
    the checkpoint manager does not open a folder in which one of its metric files is broken.
    """

    newest: int
    metrics: dict[int, float]

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        del context
        steps = [info.step for info in checkpoints]
        newest, best = sorted(steps)[-self.newest :], _best_step(steps, self.metrics)
        return [s in newest or s == best for s in steps]


class _DamagedError(Exception):
    """A checkpoint whose files are missing or broken."""


class Checkpoints:
    """The checkpoints of one workdir. A context manager: leaving it waits for the last save.

    Attributes:
      workdir: absolute path of the run's folder.
      settings: dotted name -> value of the settings in config.json, those that the run started with.
    """

    def __init__(
        self, workdir: str | pathlib.Path, config_dict: dict[str, Any], *, keep: int,
        fields: tuple[str, ...] | None = None, read_only: bool = False,
    ):  # fmt: skip
        """Opens the folder, and makes it if it is missing.

        Args:
          workdir: folder of the run.
          config_dict: the settings as a nested dict that JSON can hold.
          keep: number of newest checkpoints to keep, besides the best.
          fields: dotted names of the settings (or sections) that must equal those in config.json; None = all but
            run_settings.FREE.
          read_only: change nothing in the workdir: make no folder and no config.json. `save` then raises.

        Raises CheckpointError if the workdir cannot be written, or if its run started with other settings.
        """
        self.workdir = places.absolute(workdir)
        places.check_for_checkpoints(self.workdir)
        folder = self.workdir / "checkpoints"
        self._read_only = read_only
        try:
            if not read_only:
                places.make_folder(folder)
            self.settings = run_settings.settle(self.workdir / "config.json", config_dict, fields, write=not read_only)
        except run_settings.SettingsError as e:
            raise CheckpointError(str(e)) from e
        except OSError as e:
            raise CheckpointError(
                f"cannot {'read' if read_only else 'write to'} workdir {self.workdir}: {e.strerror or e}; expected a"
                f" folder that this user may {'read' if read_only else 'create and write'}; choose another --workdir"
            ) from e
        for path in sorted(folder.glob("*.orbax-checkpoint-tmp*")):
            _log.warning("ignoring the half-written checkpoint %s", path)
        self._metrics: dict[int, float] = {}
        self._damaged: set[int] = set()
        self._without_metadata: set[int] = set()
        self._manager = ocp.CheckpointManager(
            folder,
            options=ocp.CheckpointManagerOptions(
                preservation_policy=_KeepNewestAndBest(keep, self._metrics), create=not read_only, read_only=read_only
            ),
            item_handlers={"state": ocp.StandardCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()},
        )
        for step in self.steps:
            try:
                self._note_metric(step, self._read_metadata(step)["metric"])
                self._note_metric(step, self._read_later_metric(step))
            except places.PlaceError:  # without its metric the best step would count as an old one, and be removed
                self._manager.close()
                raise
            except Exception:
                # A step with a broken JSON document cannot be the best; `restore` reports what is wrong with it.
                self._without_metadata.add(step)
                _log.debug("no metric of checkpoint %d", step, exc_info=True)

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    @property
    def steps(self) -> tuple[int, ...]:
        """Steps of the complete checkpoints, oldest first."""
        return tuple(sorted(self._manager.all_steps()))

    def best(self) -> int | None:
        """The complete step with the highest metric (of equal ones the latest), or None if no step has a metric."""
        return _best_step(self.steps, self._metrics)

    def metric(self, step: int) -> float | None:
        """The metric of a complete step; None if it has none."""
        return self._metrics.get(step)

    def add_metric(self, step: int, metric: float) -> None:
        """Gives a step that is saved, or is being saved, the metric of an evaluation that came later.

        Does nothing if the step has a metric or `metric` is not finite. Raises CheckpointError if it cannot be written.
        """
        if step in self._metrics or not math.isfinite(metric):
            return
        try:
            if jax.process_index() == 0:
                with atomic.replacing(self._later_metric(step)) as partial:
                    partial.write_text(json.dumps({"step": step, "metric": float(metric)}) + "\n", "utf-8")
        except OSError as e:
            raise self._save_error(f"the metric of checkpoint {step}", e) from e
        self._note_metric(step, metric)

    def save(self, step: int, state: Any, data_state: dict, metric: float | None = None, *, wait: bool = False) -> None:
        """Saves the state of training after `step` steps.

        The state is copied, and the copy written to disk in the background: the caller may donate the state at once.

        Args:
          step: number of training steps before this state. If it is saved already, only its metric is added, where it
            has none.
          state: pytree of arrays, not of typed PRNG keys.
          data_state: position in the data, a dict that JSON can hold.
          metric: higher is better; a step with None or NaN cannot be the best.
          wait: return only when the checkpoint is complete.

        Raises CheckpointError if this save, or the one before it, failed; TypeError if JSON cannot hold data_state.
        """
        if self._read_only:
            raise CheckpointError(f"{self._manager.directory} was opened to be read; step {step} is not saved")
        state = jax.tree.map(lambda x: x if isinstance(x, jax.Array) else jnp.array(x), state)
        meta = {
            "data": data_state,
            "metric": metric if metric is None or math.isfinite(metric) else None,
            "arrays": summarize_arrays(state),
        }
        json.dumps(meta)  # so that a TypeError is raised here and not in the background thread
        try:
            self._move_damaged()
            if step in self.steps:
                _log.info("checkpoint %d exists already", step)
                if meta["metric"] is not None:
                    self.add_metric(step, meta["metric"])
            else:
                self._remove_later_metrics()
                self._note_metric(step, meta["metric"])
                args = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
                self._manager.save(step, args=args, force=True)
        except Exception as e:
            raise self._save_error(f"checkpoint {step}", e) from e
        if wait:
            self.wait()

    def wait(self) -> None:
        """Blocks until the last save is complete. Raises CheckpointError if it failed."""
        try:
            self._manager.wait_until_finished()
        except Exception as e:
            raise self._save_error("the last checkpoint", e) from e

    def restore(self, template: Any, step: Step = NEWEST) -> tuple[Any, dict[str, Any], int] | None:
        """Reads one checkpoint; its arrays are bit for bit those that were saved.

        Training continues from the newest step. The modes that only read a checkpoint get `step` from
        `parse_step`. A step that is chosen by its number or as the best is never replaced by another one.

        Args:
          template: pytree of arrays or jax.ShapeDtypeStruct. Its shardings decide where the arrays go, on any mesh;
            arrays without a sharding go to the first device.
          step: "newest", the newest step that can be read: damaged ones are skipped with a warning, and moved aside
            (never deleted) by the next `save`. "best", the step with the highest metric. Or a number.

        Returns (state, data_state, step), or None if `step` is "newest" and nothing is saved.
        Raises CheckpointError, with the steps that are there, if the step does not exist, is half-written or damaged;
        if no step has a metric, for "best"; if no step can be read, for "newest"; if the checkpoint does not have the
        arrays of the template; and if memory or access rights are missing, which says nothing about the checkpoint.
        """
        self.wait()
        if step != NEWEST:
            chosen = self._choose(step)
            try:
                return self._restore_one(chosen, template)
            except _DamagedError as error:
                self._damaged.add(chosen)
                raise CheckpointError(
                    f"the checkpoint of step {chosen} in {self._manager.directory} is damaged ({error}); "
                    + self._other_steps(self._damaged)
                ) from error
        faults = []
        for candidate in self.steps[::-1]:
            try:
                return self._restore_one(candidate, template)
            except _DamagedError as error:
                faults.append(f"step {candidate}: {error}")
                self._damaged.add(candidate)
                _log.warning("ignoring the damaged checkpoint %s", faults[-1])
        if faults:
            raise CheckpointError(
                f"no readable checkpoint in {self._manager.directory}:\n  "
                + "\n  ".join(faults)
                + "\nmove the folder away to start over, or use a new --workdir"
            )
        return None

    def close(self) -> None:
        """Waits for the last save and closes the folder. Raises CheckpointError if that save failed."""
        try:
            self.wait()
        finally:
            self._manager.close()

    def _choose(self, step: Step) -> int:
        """The number of a complete step. Raises CheckpointError if there is no such step, or no best one."""
        if step == BEST:
            broken = sorted(self._without_metadata.intersection(self.steps))
            if broken:
                _log.warning("checkpoints %s cannot be chosen as the best: their metric cannot be read", broken)
            best = self.best()
            if best is None:
                raise CheckpointError(
                    f"no checkpoint in {self._manager.directory} has a metric, so none is the best; "
                    + self._other_steps()
                )
            return best
        if step in self.steps:
            return step
        folder, cause = self._manager.directory, ""
        if any(folder.glob(f"{step}.orbax-checkpoint-tmp*")):
            cause = ": it is half-written, because its process was killed or is still saving"
        elif any(folder.glob(f"damaged-{step}-*")):
            cause = ": it was damaged and is moved aside"
        raise CheckpointError(f"no checkpoint of step {step} in {folder}{cause}; {self._other_steps()}")

    def _other_steps(self, without: set[int] = frozenset()) -> str:
        """The last part of a message about a step that cannot be used."""
        steps = tuple(s for s in self.steps if s not in without)
        return f"the steps that can be used are {steps}" if steps else "there is no complete checkpoint"

    def _restore_one(self, step: int, template: Any) -> tuple[Any, dict[str, Any], int]:
        """Reads one step. Raises _DamagedError for a broken file, CheckpointError if the template differs."""
        try:
            meta = self._read_metadata(step)
            differences = array_differences(meta["arrays"], template)
            if not differences:
                return self._read_state(step, template, meta["arrays"]), meta["data"], step
        except Exception as e:  # for some broken files the libraries below raise a bare Exception
            if (cause := _passing_cause(e)) is not None:
                raise CheckpointError(
                    f"the checkpoint of step {step} in {self._manager.directory} could not be read now"
                    f" ({type(cause).__name__}: {str(cause)[:200]}); it stays as it is. Free memory, or see to it that"
                    " this user may read the files, and try again"
                ) from e
            raise _DamagedError(f"{type(e).__name__}: {str(e)[:200]}") from e
        raise CheckpointError(
            f"checkpoint {step} in {self._manager.directory} does not fit this model and optimizer:\n  "
            + "\n  ".join(differences)
            + "\nuse the settings and code it was saved with, or a new --workdir"
        )

    def _read_metadata(self, step: int) -> dict:
        return self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]

    def _read_state(self, step: int, template, arrays: dict):
        """The arrays of `step`. Raises if a file is missing or broken, or if the checksum of an array differs."""
        first_device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        placed = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, "sharding", None) or first_device),
            template,
        )
        args = ocp.args.Composite(state=ocp.args.StandardRestore(placed))
        state = self._manager.restore(step, args=args)["state"]
        # The storage library verifies its index but not the numbers: it would not notice a flipped bit in a chunk.
        broken = [name for name, now in summarize_arrays(state).items() if now["sum"] != arrays[name]["sum"]]
        if broken:
            raise CheckpointError(f"checksum differs for {', '.join(broken[:5])} ({len(broken)} arrays)")
        return state

    def _later_metric(self, step: int) -> pathlib.Path:
        return self.workdir / "checkpoints" / f"metric-{step}.json"

    def _read_later_metric(self, step: int) -> float | None:
        """The metric that `add_metric` wrote; None if there is none or the file is broken.

        Raises PlaceError if a bucket cannot be read.
        """
        try:
            return json.loads(places.read_text(self._later_metric(step)))["metric"]
        except places.PlaceError:
            raise
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None

    def _remove_later_metrics(self) -> None:
        """Removes the metrics of steps that are gone: a step that is made anew gets a metric of its own."""
        if jax.process_index() == 0:
            for path in (self.workdir / "checkpoints").glob("metric-*.json"):
                if path not in map(self._later_metric, self.steps):
                    path.unlink(missing_ok=True)

    def _note_metric(self, step: int, metric) -> None:
        if isinstance(metric, (int, float)) and math.isfinite(metric):
            self._metrics[step] = float(metric)

    def _move_damaged(self) -> None:
        """Renames damaged steps: they would count among the newest, and their numbers could not be saved again."""
        if not self._damaged:
            return
        if jax.process_index() == 0:
            for step in self._damaged:
                source = self._manager.directory / str(step)
                names = (source.parent / f"damaged-{step}-{n}" for n in range(10_000))
                places.move(source, next(path for path in names if not path.exists()))
        for step in self._damaged:
            self._metrics.pop(step, None)
        self._damaged.clear()
        self._manager.reload()

    def _save_error(self, name: str, error: Exception) -> CheckpointError:
        return CheckpointError(
            f"could not save {name} to {self._manager.directory}: {type(error).__name__}: {error};"
            " earlier checkpoints are untouched; check disk space and permissions"
        )


def _passing_cause(error: BaseException) -> BaseException | None:
    """The cause of a failed reading that does not lie in the files, such as too little memory; None if it may."""
    seen: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in seen:
        if isinstance(cause, MemoryError) or any(word in str(cause) for word in _PASSING):
            return cause
        if isinstance(cause, OSError) and not isinstance(cause, _PROVES_DAMAGE):
            return cause
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
    return None


def _best_step(steps: Iterable[int], metrics: Mapping[int, float]) -> int | None:
    return max((s for s in steps if s in metrics), key=lambda s: (metrics[s], s), default=None)
