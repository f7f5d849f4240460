"""`config.json` of a workdir: the settings that its run started with, and what may differ when it continues."""

from __future__ import annotations

import json
import logging
import pathlib
from typing import Any

import jax

from dtr1_jax import places
from dtr1_jax.run import atomic

# Settings (or sections) that may change when a run continues: they affect neither the state nor the order of the data.
FREE = (
    "train", "optim.decay_steps", "sft.steps", "checkpoint", "mesh", "rollout.parts", "policy.remat",
    "policy.attention", "reward.workers", "reward.deadline", "data.prefetch_mb", "specialists.batch",
    "specialists.cache_mb", "specialists.workers",
)  # fmt: skip

# Settings that came after version 0.2.0, with the values by which earlier runs acted: their config.json lacks them.
ADDED = {
    "data": {"prefetch_mb": 512, "phrases": "", "name": "", "shuffle_objects": False},
    "grpo": {"importance": "off", "importance_low": 0.0, "importance_high": 3.0},
    "mesh": {"rollout": 0},
    "optim": {"decay_steps": 0},
    "policy": {"ids": "number", "adapter": "", "attention": "einsum", "relations": True},
    # The tokens are read for policy.constructor=specialists only.
    "rollout": {"parts": 1, "ahead": 0, "construct_tokens": 64, "twin_tokens": 160},
    "specialists": {
        "detector": "", "threshold": 0.0, "phrases": "", "max_objects": 40, "merge_iou": 0.6, "segmenter": "grabcut",
        "depth": "", "depth_tie": 0.02, "tracker": "auto", "gap": 4, "colour_share": 0.3, "dtype": "float32",
        "max_pixels": 1 << 20, "batch": 8, "cache_mb": 256, "workers": 2, "deadline": 2.0,
        "pseudo_queries": 0, "examples": 0,
    },
    "train": {"profile": 0},
}  # fmt: skip
GROUPS = ("specialists",)  # those of ADDED that earlier versions lacked as a whole
# Reward columns that no query of an earlier run had, so that any weight of them acts as none.
UNOWNED = ("economy",)

_log = logging.getLogger(__name__)


class SettingsError(ValueError):
    """A config.json that is broken, or that differs from the settings of this run."""


def with_added(settings: Any) -> Any:
    """The settings of a run, perhaps of an earlier version, with those of ADDED that are missing.

    `settings` is any value that JSON can hold; what is no group of settings stays as it is.
    """
    if not isinstance(settings, dict):
        return settings
    whole = all(isinstance(settings.get(name), dict) for name in ADDED if name not in GROUPS)
    settings = {name: {} for name in GROUPS if whole} | settings
    groups = {name: values for name, values in ADDED.items() if isinstance(settings.get(name), dict)}
    return settings | {name: values | settings[name] for name, values in groups.items()}


def settle(
    path: pathlib.Path, config_dict: dict[str, Any], fields: tuple[str, ...] | None = None, *, write: bool = True
) -> dict[str, Any]:
    """Writes config.json if there is none, else compares the settings with it.

    Args:
      path: of config.json.
      config_dict: the settings as a nested dict that JSON can hold.
      fields: dotted names of the settings (or sections) that must equal those in the file; None = all but FREE.
      write: whether the file may be written; if not, a missing one is only warned about.

    Returns the settings in the file, dotted name -> value. Raises SettingsError with the settings that differ, or if
    the file does not hold settings; OSError if it cannot be read or written.
    """
    text = json.dumps(config_dict, indent=2, sort_keys=True) + "\n"
    if not places.exists(path):
        if not write:
            _log.warning("%s is missing, so nobody can check that its run had the settings of now", path)
        elif jax.process_index() == 0:
            with atomic.replacing(path) as partial:
                partial.write_text(text, "utf-8")
        return flatten(json.loads(text))
    try:
        old = flatten(with_added(json.loads(places.read_text(path))))
    except (ValueError, RecursionError, AttributeError) as e:
        raise SettingsError(f"{path}: the settings of a run cannot be read ({e}); use a new --workdir") from e
    new = flatten(with_added(json.loads(text)))  # through JSON too, so that a tuple equals the list it was saved as

    def must_equal(name: str) -> bool:
        listed = any(name == p or name.startswith(p + ".") for p in (FREE if fields is None else fields))
        return listed if fields is not None else not listed

    def value(flat: dict[str, Any], name: str) -> Any:
        """A column without a weight weighs 0, as columns did before they existed; one of UNOWNED weighs anything."""
        if name.startswith("reward.weights."):
            return flat.get(name, new[name] if name.rpartition(".")[2] in UNOWNED and name in new else 0.0)
        return flat.get(name, "(not set)")

    lines = [
        f"{name}: workdir has {value(old, name)!r}, this run has {value(new, name)!r}"
        for name in sorted({*old, *new})
        if must_equal(name) and value(old, name) != value(new, name)
    ]
    if lines:
        raise SettingsError(
            f"the run in {path.parent} was started with other settings:\n  "
            + "\n  ".join(lines)
            + "\nuse a new --workdir, or set these back; the workdir is unchanged"
        )
    return old


def flatten(tree: dict, prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`."""
    flat = {}
    for key, value in tree.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return flat
