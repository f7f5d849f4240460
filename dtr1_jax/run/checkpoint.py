"""Training state on disk: what a run needs to go on exactly where it was.

A workdir holds `config.json`, the settings it was begun with, and `checkpoints/<step>/`, each with the arrays of the
state and a small JSON document (data position, metric, and a shape, dtype and checksum for every array). A step is
written beside its place and renamed when complete, so a killed process leaves the steps before it as they were.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
import os
import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

from dtr1_jax.run import atomic

# Settings that may change between two starts of one run: they touch neither the state nor the order of the data.
FREE = ("train", "sft.steps", "checkpoint", "mesh", "policy.remat", "reward.workers", "reward.deadline")

_log = logging.getLogger(__name__)


class CheckpointError(ValueError):
    """A workdir or a checkpoint that can not be used; the message says why and what to do."""


@dataclasses.dataclass
class _Keep:
    """Preservation policy: the newest `newest` steps and the one with the highest metric (the later one of equals).

    The metrics are ours and not the checkpoint manager's, which fails to open a folder if one metric file is broken.
    """

    newest: int
    metrics: dict[int, float]

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        del context
        steps = [info.step for info in checkpoints]
        known = [s for s in steps if s in self.metrics]
        kept = {*sorted(steps)[-self.newest :], *sorted(known, key=lambda s: (self.metrics[s], s))[-1:]}
        return [s in kept for s in steps]


class Checkpoints:
    """The checkpoints of one workdir. A context manager: leaving it waits for the last save.

    Args:
      workdir: folder of the run; made if missing.
      config_dict: the settings as a nested dict that JSON can hold.
      keep: number of newest checkpoints to keep, besides the best.
      fields: dotted names of the settings that must equal those the workdir was begun with. None: all but FREE.

    Raises CheckpointError if the workdir can not be written, or was begun with other settings.
    """

    def __init__(self, workdir, config_dict: dict, *, keep: int, fields: tuple[str, ...] | None = None):
        self.workdir = pathlib.Path(workdir).absolute()
        folder = self.workdir / "checkpoints"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # dotted name -> value of the settings that the workdir was begun with
            self.begun = _settle_config(self.workdir / "config.json", config_dict, fields)
        except OSError as e:
            raise CheckpointError(
                f"can not write to workdir {self.workdir}: {e.strerror or e}; expected a folder that this user may"
                " create and write; choose another --workdir"
            ) from e
        for path in sorted(folder.glob("*.orbax-checkpoint-tmp*")):
            _log.warning("ignoring the half-written checkpoint %s", path)
        self._metrics: dict[int, float] = {}
        self._damaged: set[int] = set()
        self._manager = ocp.CheckpointManager(
            folder,
            options=ocp.CheckpointManagerOptions(preservation_policy=_Keep(keep, self._metrics)),
            item_handlers={"state": ocp.StandardCheckpointHandler(), "meta": ocp.JsonCheckpointHandler()},
        )
        for step in self.steps:
            try:
                self._note_metric(step, self._meta(step)["metric"])
            except Exception:
                # A broken document only takes this step out of the choice of the best; `restore` says what is wrong.
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
        """Step of the kept checkpoint with the highest metric, or None where no step has one."""
        known = [s for s in self.steps if s in self._metrics]
        return max(known, key=lambda s: (self._metrics[s], s), default=None)

    def save(self, step: int, state: Any, data_state: dict, metric: float | None = None, *, wait: bool = False) -> None:
        """Saves the state after `step` updates.

        The disk is written in the background from a copy; the state may be donated at once.

        Args:
          step: number of updates made; a step that is already saved is left as it is.
          state: pytree of arrays, not of typed PRNG keys.
          data_state: position in the data, a dict that JSON can hold.
          metric: higher is better; None or NaN: not a candidate for the best.
          wait: return only when the checkpoint is complete.

        Raises CheckpointError if this save, or the one before it, failed; TypeError if JSON can not hold data_state.
        """
        state = jax.tree.map(lambda x: x if isinstance(x, jax.Array) else jnp.array(x), state)
        meta = {
            "data": data_state,
            "metric": metric if metric is None or math.isfinite(metric) else None,
            "arrays": _describe(state),
        }
        json.dumps(meta)  # here and not in the background thread, so that the caller sees it
        try:
            self._move_damaged()
            if step in self.steps:
                _log.info("checkpoint %d exists already", step)
            else:
                self._note_metric(step, meta["metric"])
                args = ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta))
                self._manager.save(step, args=args, force=True)
        except Exception as e:
            raise self._failed(f"checkpoint {step}", e) from e
        if wait:
            self.wait()

    def wait(self) -> None:
        """Blocks until the last save is complete. Raises CheckpointError if it failed."""
        try:
            self._manager.wait_until_finished()
        except Exception as e:
            raise self._failed("the last checkpoint", e) from e

    def restore(self, template: Any, step: int | None = None) -> tuple[Any, dict, int] | None:
        """The newest checkpoint that can be read whole, or the one of `step`; None where nothing is saved.

        A damaged checkpoint is skipped with a warning, and moved aside (never deleted) when the next one is saved.

        Args:
          template: pytree of arrays or jax.ShapeDtypeStruct; its shardings rule where the arrays go, whatever mesh
            they were saved from. Without a sharding they go to the first device.
          step: for looking at an older state. Training goes on from the newest.

        Returns (state, data_state, step), the arrays bit for bit as saved.
        Raises CheckpointError if `step` is not there or is damaged, if checkpoints exist but none can be read, or if
        one holds other arrays than the template.
        """
        self.wait()
        if step is not None and step not in self.steps:
            raise CheckpointError(f"no checkpoint of step {step} in {self._manager.directory}; there are {self.steps}")
        wanted = self.steps[::-1] if step is None else (step,)
        faults = []
        for s in wanted:
            try:
                meta = self._meta(s)
                differences = _differences(meta["arrays"], template)
                if not differences:
                    return self._state(s, template, meta["arrays"]), meta["data"], s
            except Exception as e:  # any broken file: the libraries below raise bare Exception for some of them
                faults.append(f"step {s}: {type(e).__name__}: {str(e)[:200]}")
                self._damaged.add(s)
                _log.warning("ignoring the damaged checkpoint %s", faults[-1])
                continue
            raise CheckpointError(
                f"checkpoint {s} in {self._manager.directory} does not fit this model and optimizer:\n  "
                + "\n  ".join(differences)
                + "\nuse the settings and code it was saved with, or a new --workdir"
            )
        if faults:
            raise CheckpointError(
                f"no readable checkpoint in {self._manager.directory}:\n  "
                + "\n  ".join(faults)
                + "\nmove the folder away to start over, or use a new --workdir"
            )
        return None

    def close(self) -> None:
        """Waits for the last save and lets go of the folder. Raises CheckpointError if that save failed."""
        try:
            self.wait()
        finally:
            self._manager.close()

    def _meta(self, step: int) -> dict:
        return self._manager.restore(step, args=ocp.args.Composite(meta=ocp.args.JsonRestore()))["meta"]

    def _state(self, step: int, template, arrays: dict):
        """The arrays of `step`. Raises if a file is missing or broken, or an array is not what was saved."""
        here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        wanted = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=getattr(x, "sharding", None) or here), template
        )
        args = ocp.args.Composite(state=ocp.args.StandardRestore(wanted))
        state = self._manager.restore(step, args=args)["state"]
        # The storage below checks its index but not the numbers: a flipped bit in a chunk would pass in silence.
        broken = [name for name, now in _describe(state).items() if now["sum"] != arrays[name]["sum"]]
        if broken:
            raise CheckpointError(f"checksum differs for {', '.join(broken[:5])} ({len(broken)} arrays)")
        return state

    def _note_metric(self, step: int, metric) -> None:
        if isinstance(metric, (int, float)) and math.isfinite(metric):
            self._metrics[step] = float(metric)

    def _move_damaged(self) -> None:
        """Makes room for new steps: damaged ones would count among the newest and block their own number."""
        if not self._damaged:
            return
        if jax.process_index() == 0:
            for step in self._damaged:
                source = self._manager.directory / str(step)
                free = next(n for n in range(10_000) if not (source.parent / f"damaged-{step}-{n}").exists())
                os.rename(source, source.parent / f"damaged-{step}-{free}")
        for step in self._damaged:
            self._metrics.pop(step, None)
        self._damaged.clear()
        self._manager.reload()

    def _failed(self, what: str, error: Exception) -> CheckpointError:
        return CheckpointError(
            f"could not save {what} to {self._manager.directory}: {type(error).__name__}: {error};"
            " earlier checkpoints are untouched; check disk space and permissions"
        )


def _settle_config(path: pathlib.Path, config: dict, fields: tuple[str, ...] | None) -> dict[str, Any]:
    """Writes config.json, or compares it; returns what it says. Raises CheckpointError naming what differs."""
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    if not path.exists():
        if jax.process_index() == 0:
            with atomic.replacing(path) as partial:
                partial.write_text(text, "utf-8")
        return _flatten(json.loads(text))
    try:
        old = _flatten(json.loads(path.read_text("utf-8")))
    except (ValueError, RecursionError, AttributeError) as e:
        raise CheckpointError(f"{path} is not the settings of a run ({e}); use a new --workdir") from e
    new = _flatten(json.loads(text))  # through JSON too, so that a tuple equals the list it was saved as

    def binds(name: str) -> bool:
        listed = any(name == p or name.startswith(p + ".") for p in (FREE if fields is None else fields))
        return listed if fields is not None else not listed

    missing = "(not set)"
    lines = [
        f"{name}: workdir has {old.get(name, missing)!r}, this run has {new.get(name, missing)!r}"
        for name in sorted({*old, *new})
        if binds(name) and old.get(name, missing) != new.get(name, missing)
    ]
    if lines:
        raise CheckpointError(
            f"workdir {path.parent} was begun with other settings:\n  "
            + "\n  ".join(lines)
            + "\nuse a new --workdir, or set these back; nothing was changed"
        )
    return old


def _flatten(tree: dict, prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`."""
    flat = {}
    for key, value in tree.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return flat


def _leaves(tree) -> dict[str, Any]:
    paths, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in paths}


def _describe(state) -> dict[str, dict]:
    """Name -> shape, dtype and checksum of each array."""
    leaves = jax.block_until_ready(_leaves(state))
    # One after the other: programs with collectives that are in flight together can block one another on CPU devices.
    sums = {name: int(_checksum(x)) for name, x in leaves.items()}
    return {n: {"shape": list(x.shape), "dtype": str(x.dtype), "sum": sums[n]} for n, x in leaves.items()}


@jax.jit
def _checksum(x) -> jax.Array:
    """uint32[], sum of bits(x_i) * (2 i + 1) mod 2^32: any one changed element changes it, any sharding gives the same.

    On the device and on sharded arrays as they lie, where a CRC would first bring all to one host.
    """
    if x.dtype == jnp.bool_:
        x = x.astype(jnp.uint8)
    bits = jax.lax.bitcast_convert_type(x, {1: jnp.uint8, 2: jnp.uint16}.get(x.dtype.itemsize, jnp.uint32))
    index, stride = jnp.zeros(bits.shape, jnp.uint32), 1
    for axis in reversed(range(bits.ndim)):
        index += jax.lax.broadcasted_iota(jnp.uint32, bits.shape, axis) * jnp.uint32(stride % 2**32)
        stride *= bits.shape[axis]
    return jnp.sum(bits.astype(jnp.uint32) * (2 * index + 1), dtype=jnp.uint32)


def _differences(saved: dict[str, dict], template) -> list[str]:
    """One line for each array that the checkpoint and the template do not share; at most ten."""
    have = {name: f"{x['dtype']}{x['shape']}" for name, x in saved.items()}
    want = {name: f"{x.dtype}{list(x.shape)}" for name, x in _leaves(template).items()}
    lines = [
        f"{name}: expected {want.get(name, 'nothing')}, the checkpoint has {have.get(name, 'nothing')}"
        for name in sorted({*have, *want})
        if have.get(name) != want.get(name)
    ]
    return lines[:10] + ([f"and {len(lines) - 10} more"] if len(lines) > 10 else [])
