"""`--mode=fetch`: published weights for a policy that asks specialists about photos, with their hashes checked."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from dtr1_jax import config, places
from dtr1_jax.models.weights import fetched_models
from dtr1_jax.models.weights.fetching import FetchError
from dtr1_jax.models.weights.published_files import FIRST, MODELS, Model
from dtr1_jax.modes import results

ALL = "all"


def run(out: str | None, models: str | None) -> tuple[str, bool]:
    """Downloads models; returns (what was done and the flags that take the weights, whether all are here).

    A model that cannot be downloaded costs the others nothing.

    Args:
      out: the folder for the weights; each model gets a folder of its own in it.
      models: names of published_files.MODELS, with commas between; None = published_files.FIRST.

    Raises ConfigError: no --out, or a name that is not known; PlaceError: --out is in a bucket; LockError: another
    process fetches into this folder.
    """
    if not out:
        raise config.ConfigError("--mode=fetch needs --out, a folder for the weights, such as --out=weights")
    chosen = _chosen(models)
    folder = places.here(out, "--out", "fetch to a folder of this machine, and copy it afterwards")
    results.open_folder(folder, "--out")
    lines, here = [], []
    with results.locked(folder, "fetch"):
        for model in chosen:
            try:
                count = fetched_models.fetch(model, folder)
            except (FetchError, OSError) as error:
                lines.append(f"{_about(model)}: NOT HERE\n  " + str(error).replace("\n", "\n  "))
                continue
            lines.append(f"{_about(model)}: {_fetched(count)}")
            here.append(model)
    flags = [model.flag(folder) for model in here]
    lines += ["", "The settings that take these weights:", *(f"  {flag}" for flag in flags)] if flags else []
    if any(model.opens.endswith(".onnx") for model in here) and importlib.util.find_spec("onnxruntime") is None:
        lines += ["A .onnx file needs onnxruntime: pip install 'dtr1_jax[onnx]'"]
    if {model.name for model in here} >= set(FIRST) and folder == Path("weights"):
        lines += ["configs/photo.py has these settings for --out=weights:", f"  {EXAMPLE}"]
    return "\n".join(lines), len(here) == len(chosen)


EXAMPLE = (
    "python main.py --mode=infer --config=configs/photo.py --workdir=runs/photo --image=photo.jpg"
    ' --query="what to look for"'
)


def _chosen(models: str | None) -> list[Model]:
    """The models of --models, each once. Raises ConfigError."""
    names = list(FIRST) if models is None else [name.strip() for name in models.split(",")]
    names = list(MODELS) if names == [ALL] else list(dict.fromkeys(names))
    unknown = [name for name in names if name not in MODELS]
    if unknown:
        table = "\n".join(f"  {name}: {_about(model)}" for name, model in MODELS.items())
        raise config.ConfigError(
            f"--models: expected names of this table with commas between, or {ALL}, got {', '.join(unknown)}\n{table}"
        )
    return [MODELS[name] for name in names]


def _fetched(count: int) -> str:
    return f"{count} file{'s' * (count > 1)} fetched" if count else "was here already"


def _about(model: Model) -> str:
    return f"{model.role}: {model.title} ({model.licence}, {model.size / 1e6:.0f} MB)"
