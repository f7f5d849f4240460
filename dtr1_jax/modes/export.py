"""`--mode=export`: a trained policy as a Hugging Face folder, which transformers and vLLM load."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from dtr1_jax import config, mesh
from dtr1_jax.data import patches
from dtr1_jax.models import published
from dtr1_jax.models.weights import exporting
from dtr1_jax.modes import train
from dtr1_jax.policies import pretrained
from dtr1_jax.rl import update

# what stands beside the weights of a checkpoint and belongs to it whatever its weights are
_BESIDE = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template*",
    "preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json", "generation_config.json",
)  # fmt: skip

log = logging.getLogger(__name__)


def run(c: config.Config, workdir: Path | None, out: str | None, adapter: bool = False) -> Path:
    """Writes the newest checkpoint of `workdir` (None: the policy's own weights) into a new folder `out`; returns it.

    Merged: config.json, safetensors in the dtype of the checkpoint that was trained from, and its tokenizer and
    processor files. With `adapter`: the LoRA alone, as PEFT reads it, with the tokenizer. The folder is there whole or
    not at all.

    Raises ConfigError: no or an occupied folder or one that can not be made, no checkpoint, no LoRA to write alone or
    one of a base that PEFT can not load, several processes; WeightsError: an adapter that PEFT does not know; and the
    errors of reading.
    """
    if not out:
        raise config.ConfigError("--mode=export needs --out=DIR, a folder that does not exist yet")
    out = Path(out).expanduser()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise config.ConfigError(f"--out={out}: expected a new or empty folder; nothing was changed")
    if jax.process_count() > 1:
        raise config.ConfigError("--mode=export runs in one process: expected 1, got several; leave out --distributed")
    if adapter and not c.lora.rank:
        raise config.ConfigError("--adapter: config.lora.rank = 0 trains all weights, so there is no adapter to write")
    if workdir is not None and not (Path(workdir) / "checkpoints").is_dir():
        raise config.ConfigError(
            f"{workdir}: no checkpoints to export; leave --workdir out for the policy's own weights"
        )
    pretrained_policy = pretrained.load_policy(c)
    if adapter and pretrained.weights_path(c).is_file():
        raise config.ConfigError(
            f"--adapter: PEFT loads its base from a folder of Hugging Face, and {pretrained.weights_path(c)} is none;"
            " leave --adapter out and export the policy merged"
        )
    values = _config(c, pretrained_policy)
    if adapter:  # before the weights are read
        lora = jax.eval_shape(lambda base: train.adapters(c, base), pretrained.template(pretrained_policy))
        exporting.modules(lora, values)
    c = _unrounded(c, values, workdir is not None)
    device_mesh = mesh.make(c.mesh)
    with _partial(out) as partial:
        if workdir is None:
            params, lora = update.weights(*train.initial(c, pretrained_policy, device_mesh))
        else:
            params, lora = train.trained(c, pretrained_policy, device_mesh, workdir)
        if adapter:
            exporting.write_adapter(partial, lora, c.lora, values, *_base(c))
        else:
            parts = exporting.tensors(params, lora, pretrained_policy.spec.lora_scale, values)
            exporting.write_folder(partial, parts, _dtype(values))
            exporting.write_json(partial / "config.json", values)
        _beside(c, pretrained_policy, partial, tokenizer_only=adapter)
        if out.exists():
            out.rmdir()  # empty, as was made sure
        os.replace(partial, out)
    return out


@contextlib.contextmanager
def _partial(out: Path) -> Iterator[Path]:
    """A new folder beside `out`, gone again where the block raises. Raises ConfigError where it can not be made."""
    partial = out.with_name(out.name + ".partial")
    try:
        partial.mkdir(parents=True)
    except FileExistsError:
        raise config.ConfigError(
            f"--out={out}: {partial} is in the way, of an export that was killed or your own; nothing was changed; move"
            " it away or choose another --out"
        ) from None
    except OSError as error:
        raise config.ConfigError(
            f"--out={out}: can not be made: {error.strerror or error}; expected a folder that this user may create"
        ) from None
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _config(c: config.Config, pretrained_policy: pretrained.PretrainedPolicy) -> dict[str, Any]:
    """config.json of what is written; nothing in it points to code."""
    if pretrained_policy.checkpoint is not None:
        values = pretrained_policy.checkpoint.config
    elif c.policy.name == "tiny":
        values = published.TINY
    else:
        values = published.CONFIGS[c.policy.name]
    values = {k: v for k, v in values.items() if k != "auto_map"}
    values.setdefault("architectures", [published.CLASSES[values["model_type"]]])
    values["dtype"] = _dtype(values)
    return values


def _unrounded(c: config.Config, values: dict[str, Any], trained: bool) -> config.Config:
    """Settings that read the policy's weights as they are in its files, where they were rounded for training."""
    dtype = "bfloat16" if _dtype(values) == "bfloat16" else "float32"
    if c.policy.weights_dtype in (dtype, "float32"):
        return c
    if trained:
        log.warning(
            "config.policy.weights_dtype = %r: the adapters were trained on weights that were rounded, and what is"
            " written holds or names them as they were before: its logits differ from those of training by the"
            " rounding",
            c.policy.weights_dtype,
        )
    return dataclasses.replace(c, policy=dataclasses.replace(c.policy, weights_dtype=dtype))


def _dtype(values: dict[str, Any]) -> str:
    text = values.get("text_config") or {}
    found = next((d[k] for d in (values, text) for k in ("dtype", "torch_dtype") if d.get(k)), "float32")
    if found not in exporting.DTYPES:
        raise config.ConfigError(f"config.json: dtype: expected one of {', '.join(exporting.DTYPES)}, got {found!r}")
    return found


def _base(c: config.Config) -> tuple[str, str | None]:
    """How the adapter names the model it belongs to: (hub id, revision or None), else (where its files are, None)."""
    if not pretrained.is_hub_id(c.policy.path):
        return str(pretrained.weights_path(c).resolve()), None
    name, _, revision = c.policy.path.partition("@")
    return name, revision or None


def _beside(
    c: config.Config, pretrained_policy: pretrained.PretrainedPolicy, target: Path, tokenizer_only: bool
) -> None:
    where = pretrained.weights_path(c)
    if where.is_file():  # a GGUF file or one of ours: the tokenizer that was read, in the form of Hugging Face
        pretrained_policy.style.tokenizer.hf.save_pretrained(target)
        if pretrained_policy.style.geometry is not None and not tokenizer_only:
            exporting.write_json(target / "preprocessor_config.json", _preprocessor(pretrained_policy.style.geometry))
        return
    for pattern in _BESIDE:
        if tokenizer_only and pattern.endswith("_config.json"):
            continue
        for file in where.glob(pattern):
            if file.suffix in (".json", ".txt", ".jinja") and file.is_file():
                shutil.copyfile(file, target / file.name)


def _preprocessor(geometry: patches.Geometry) -> dict[str, Any]:
    """preprocessor_config.json of a policy of ours: limits that meet give every square picture the size of the rule
    "square" (others keep their shape there)."""
    low = geometry.max_pixels if geometry.rule == "square" else geometry.min_pixels
    return {
        "image_processor_type": "Qwen2VLImageProcessor",
        "patch_size": geometry.patch,
        "temporal_patch_size": geometry.temporal_patch,
        "merge_size": geometry.merge,
        "size": {"shortest_edge": low, "longest_edge": geometry.max_pixels},
        "image_mean": list(geometry.mean),
        "image_std": list(geometry.std),
    }
