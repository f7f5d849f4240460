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

from dtr1_jax import config, places
from dtr1_jax.data.patches import Geometry
from dtr1_jax.models import published_sizes
from dtr1_jax.models.weights import adapters, exporting, native
from dtr1_jax.modes import mesh_choice, results
from dtr1_jax.policies import end_token_files, policy_files, pretrained, state
from dtr1_jax.policies.pretrained import PretrainedPolicy
from dtr1_jax.run import atomic, checkpoint

# The files of a checkpoint besides its weights and config.json; training changes no more than their end tokens.
_SIDE_FILES = (
    "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt", "chat_template*",
    "preprocessor_config.json", "video_preprocessor_config.json", "processor_config.json",
)  # fmt: skip

log = logging.getLogger(__name__)


def run(c: config.Config, workdir: Path | None, out: str | None, adapter: bool = False, step: str = "newest") -> Path:
    """Writes a checkpoint of `workdir` (None: the policy's own weights) into a new folder `out`; returns the folder.

    Without `adapter` the folder holds the policy with its LoRA merged: config.json, safetensors in the dtype of the
    checkpoint that training began from, and its tokenizer and processor files. With `adapter` it holds the LoRA alone,
    as PEFT reads it, joined with that of config.policy.adapter, and the tokenizer. Both end completions where training
    did, and where the base does. The folder appears whole or not at all.

    Args:
      step: the checkpoint: "newest", "best" or a number, as state.trained_weights takes it.

    Raises ConfigError if `out` is missing, not empty or cannot be made, if the workdir has no checkpoint, if
    `adapter` is set but there is no LoRA or PEFT could not load its base, or if there are several processes;
    WeightsError if PEFT has no form for an adapter; and the errors of reading the policy.
    """
    target = _check(c, workdir, out, adapter, step)
    pretrained_policy = pretrained.load_policy(c)
    if adapter:  # Checked before the weights are read, because that takes long.
        check_adapter(c, pretrained_policy)
    c = _unrounded(c, _config_json(c, pretrained_policy), trained=workdir is not None)
    device_mesh = mesh_choice.make(c, pretrained_policy.spec)
    with _partial(target) as partial:
        if workdir is None:
            params, lora = state.untrained_weights(c, pretrained_policy, device_mesh)
        else:
            params, lora, _ = state.trained_weights(c, pretrained_policy, device_mesh, workdir, step)
        if adapter:
            write_adapter(c, pretrained_policy, partial, lora, target)
        else:
            write_merged(c, pretrained_policy, partial, params, lora)
        if not places.is_bucket(target):
            if target.exists():
                target.rmdir()  # _check made sure that it is empty.
            os.replace(partial, target)
    return target


def check_adapter(c: config.Config, pretrained_policy: PretrainedPolicy) -> None:
    """Raises ConfigError or WeightsError if the adapters of these settings cannot be written for PEFT."""
    if pretrained_policy.checkpoint is None:
        raise config.ConfigError(
            f"--adapter: PEFT loads its base from a Hugging Face folder or a .gguf file, but "
            f"{policy_files.weights_path(c)} is a file of our own; leave --adapter out to export the merged weights"
        )
    lora = jax.eval_shape(lambda base: state.initial_adapters(c, base), pretrained.template(pretrained_policy))
    exporting.modules(lora, _config_json(c, pretrained_policy))


def write_adapter(
    c: config.Config, pretrained_policy: PretrainedPolicy, folder: Path, lora: dict, target: Path
) -> None:
    """Writes adapters, joined with those of config.policy.adapter, and the tokenizer into `folder`, as PEFT reads them.

    `target` is the folder's later name, for messages. Raises WeightsError if PEFT has no form for an adapter.
    """
    values, base = _config_json(c, pretrained_policy), policy_files.weights_path(c)
    settings, earlier = c.lora, pretrained.read_adapter(c, pretrained_policy)
    if earlier is not None:
        lora = adapters.joined(earlier, lora, c.lora.scale)
        rank = next(x.shape[-1] for path, x in native.flatten(lora).items() if path.endswith("/a"))
        settings = dataclasses.replace(c.lora, rank=rank, alpha=float(rank), rslora=False)
    exporting.write_adapter(folder, lora, settings, values, *policy_files.base_model(c))
    _say_how_to_load(base, target)
    end_token_files.warn_of_base(pretrained_policy.style.tokenizer, values, base, target)
    _write_side_files(c, pretrained_policy, folder, tokenizer_only=True)
    end_token_files.write(folder, pretrained_policy.style.tokenizer, values, base)


def write_merged(
    c: config.Config, pretrained_policy: PretrainedPolicy, folder: Path, params: dict, lora: dict | None
) -> None:
    """Writes weights with their adapters merged into `folder`, with config.json, tokenizer and processor files."""
    values, tokenizer = _config_json(c, pretrained_policy), pretrained_policy.style.tokenizer
    tensors = exporting.tensors(params, lora, pretrained_policy.spec.lora_scale, values)
    exporting.write_folder(folder, tensors, _dtype(values))
    exporting.write_json(folder / "config.json", end_token_files.with_ends(values, tokenizer))
    _write_side_files(c, pretrained_policy, folder, tokenizer_only=False)
    end_token_files.write(folder, tokenizer, values, policy_files.weights_path(c))


def _check(c: config.Config, workdir: Path | None, out: str | None, adapter: bool, step: str) -> Path:
    """The folder to write. Raises ConfigError for every mistake that shows before any file is read."""
    if not out:
        raise config.ConfigError("--mode=export needs --out=DIR, a new or empty folder")
    if workdir is None and step != checkpoint.NEWEST:
        raise config.ConfigError(
            f"--step={step} needs the --workdir of a run; without it the pretrained weights are written"
        )
    target = places.path(out)
    _check_empty(target)
    if jax.process_count() > 1:
        raise config.ConfigError("--mode=export runs in one process: expected 1, got several; leave out --distributed")
    if adapter and not c.lora.rank:
        raise config.ConfigError("--adapter: config.lora.rank = 0 trains all weights, so there is no adapter to write")
    if workdir is not None and not places.is_folder(places.path(workdir) / "checkpoints"):
        raise config.ConfigError(
            f"{workdir}: no checkpoints to export; leave --workdir out for the policy's own weights"
        )
    return target


def _check_empty(target: Path) -> None:
    with places.named_errors(target):
        filled = target.exists() and (not target.is_dir() or any(target.iterdir()))
    if filled:
        raise config.ConfigError(f"--out={target}: expected a new or empty folder; nothing was changed")


@contextlib.contextmanager
def _partial(out: Path) -> Iterator[Path]:
    """A new folder beside `out`, removed again where the block raises. Raises ConfigError if it cannot be made.

    For a folder of a bucket it is one of this machine, which is copied there at the end of the block.
    """
    if places.is_bucket(out):
        results.open_folder(out, "--out")
        with atomic.replacing_folder(out) as partial:
            yield partial
            _check_empty(out)  # again: another export may have ended here since, and would be replaced
        return
    partial = out.with_name(out.name + ".partial")
    try:
        partial.mkdir(parents=True)
    except FileExistsError:
        raise config.ConfigError(
            f"--out={out}: {partial} is in the way, left by an export that was killed, or your own; nothing was"
            " changed; move it away or choose another --out"
        ) from None
    except OSError as error:
        raise config.ConfigError(
            f"--out={out}: cannot be made: {error.strerror or error}; expected a folder that this user may create"
        ) from None
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _config_json(c: config.Config, pretrained_policy: PretrainedPolicy) -> dict[str, Any]:
    """The config.json of the exported policy. Nothing in it points to code."""
    values = {k: v for k, v in pretrained.config_values(c, pretrained_policy).items() if k != "auto_map"}
    values.setdefault("architectures", [published_sizes.CLASSES[values["model_type"]]])
    values["dtype"] = _dtype(values)
    return values


def _unrounded(c: config.Config, values: dict[str, Any], trained: bool) -> config.Config:
    """Settings that read the weights without rounding; training may have read them in bfloat16 or int8."""
    dtype = "bfloat16" if _dtype(values) == "bfloat16" else "float32"
    if c.policy.weights_dtype in (dtype, "float32"):
        return c
    if trained:
        log.warning(
            "the logits of the export differ slightly from those in training: config.policy.weights_dtype = %r rounded"
            " the weights in training, and the export has the unrounded ones (with --adapter, its base model has them)",
            c.policy.weights_dtype,
        )
    return dataclasses.replace(c, policy=dataclasses.replace(c.policy, weights_dtype=dtype))


def _dtype(values: dict[str, Any]) -> str:
    """The dtype that config.json names, float32 where it names none. Raises ConfigError for one we cannot write."""
    text = values.get("text_config") or {}
    dtype = next((d[k] for d in (values, text) for k in ("dtype", "torch_dtype") if d.get(k)), "float32")
    if dtype not in exporting.DTYPES:
        raise config.ConfigError(f"config.json: dtype: expected one of {', '.join(exporting.DTYPES)}, got {dtype!r}")
    return dtype


def _say_how_to_load(base: Path, adapter: Path) -> None:
    if base.is_file():
        log.info(
            "the base is a .gguf file. To load the adapter: base = transformers.AutoModelForCausalLM.from_pretrained("
            "%r, gguf_file=%r, dtype='float32'); model = peft.PeftModel.from_pretrained(base, %r)",
            str(base.resolve().parent), base.name, str(adapter),
        )  # fmt: skip


def _write_side_files(
    c: config.Config, pretrained_policy: PretrainedPolicy, target: Path, tokenizer_only: bool
) -> None:
    """Writes the tokenizer's files into `target` and, unless `tokenizer_only`, those of the processor."""
    source = policy_files.weights_path(c)
    if source.is_file():  # A GGUF file or one of ours has no files beside it: the tokenizer in memory is written.
        pretrained_policy.style.tokenizer.hf.save_pretrained(target)
        if pretrained_policy.style.geometry is not None and not tokenizer_only:
            exporting.write_json(target / "preprocessor_config.json", _preprocessor(pretrained_policy.style.geometry))
        return
    for pattern in _SIDE_FILES:
        if tokenizer_only and pattern.endswith("_config.json"):
            continue
        for file in source.glob(pattern):
            if file.suffix in (".json", ".txt", ".jinja") and file.is_file():
                shutil.copyfile(file, target / file.name)


def _preprocessor(geometry: Geometry) -> dict[str, Any]:
    """The preprocessor_config.json of one of our own policies, which shrink every picture to a square of one size.

    The Hugging Face processor has no such rule. With equal lower and upper limits it gives a square picture this size;
    a picture of another shape keeps its shape.
    """
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
