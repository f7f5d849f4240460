"""A checked --mode and its settings in, an exit status out; a user's errors become one clear message each."""

from __future__ import annotations

import dataclasses
import logging
import os
import sys
from pathlib import Path

import jax
from ml_collections import ConfigDict

from dtr1_jax import config, places, plain_text
from dtr1_jax.data import image_files, json_files, prompts, tokenizer
from dtr1_jax.models.weights import native
from dtr1_jax.modes import (
    check,
    convert,
    evaluate,
    export,
    fetch,
    infer,
    mesh_choice,
    perceive,
    plan,
    rescore,
    sft,
    slice_plan,
    train,
)
from dtr1_jax.policies import ahead_of_time
from dtr1_jax.run import checkpoint, hosts, interrupt, run_settings, workdir_lock
from dtr1_jax.run.worker_pool import WorkerError

# Errors that the user's settings or files cause: they are printed without a traceback.
EXPECTED = (
    config.ConfigError, checkpoint.CheckpointError, native.WeightsError, json_files.DataError, image_files.ImageError,
    prompts.PromptError, tokenizer.TokenizerError, WorkerError, train.DivergedError, workdir_lock.LockError,
    hosts.HostsError, OSError,
)  # fmt: skip
STOPPED = interrupt.STATUS


@dataclasses.dataclass(frozen=True)
class Options:
    """The flags besides --mode, --config and --workdir; dtr1_jax/__main__.py says what each means."""

    step: str = "newest"
    name: str | None = None
    predictions: str | None = None
    image: str | list[str] | None = None
    images: str | None = None
    video: str | None = None
    query: str | None = None
    task: str | None = None
    out: str | None = None
    models: str | None = None
    source: str | None = None
    frame: str = ""
    box: str = ""
    fields: str = ""
    emulate: str = ""
    adapter: bool = False
    topology: str | None = None
    layers: int = 0
    fast: bool = False
    distributed: bool = False


def run(mode: str, settings: ConfigDict | None, workdir: str | None, options: Options = Options()) -> int:
    """Runs a mode; returns the exit status: 0 done, 1 an error of the user's (printed), 130 stopped by a signal.

    `settings` may be None for a mode that needs none (rescore, fetch, convert).
    """
    try:
        if mode == "check":
            return _check(settings, options)
        if mode == "fetch":
            text, complete = fetch.run(options.out, options.models)
            print(plain_text.for_terminal(text))
            return 0 if complete else 1
        if mode == "convert":
            text = convert.run(options.source, options.out, options.images, options.frame, options.box, options.fields)
            print(plain_text.for_terminal(text))
        elif mode == "rescore":
            # It starts no accelerator, which another run may hold.
            print(plain_text.for_terminal(rescore.run(options.predictions)))
        else:
            say(_result(mode, settings, workdir, options))
    except EXPECTED as error:
        print(plain_text.for_terminal(f"error: {error}"), file=sys.stderr)
        return 1
    except interrupt.Interrupted as error:
        print(f"{error} and saved; the same command goes on from there", file=sys.stderr)
        return STOPPED
    except KeyboardInterrupt:
        print("stopped at once; what was saved before is untouched", file=sys.stderr)
        return STOPPED
    return 0


def _check(settings: ConfigDict | None, options: Options) -> int:
    """Runs the mode check, which touches no device: 0 = the data can be used, 1 = it cannot."""
    if settings is None:
        raise config.ConfigError("--mode=check needs --config, such as --config=configs/seg.py")
    text, usable = check.run(config.from_configdict(settings), options.out)
    print(text)
    return 0 if usable else 1


def _result(mode: str, settings: ConfigDict | None, workdir: str | None, options: Options) -> str:
    """Runs a mode; returns the text to print."""
    if settings is None:
        raise config.ConfigError(f"--mode={mode} needs --config, such as --config=configs/seg.py")
    c = config.from_configdict(settings)
    folder = places.path(workdir or f"runs/{c.data.task}")
    if mode in ("train", "sft"):
        places.check_for_checkpoints(folder)
    if options.topology:
        ahead_of_time.prepare()
    join_processes(options.distributed)
    flags = {"mode": mode, "workdir": str(folder)} | dataclasses.asdict(options)
    del flags["distributed"]  # A host may also join by its environment.
    with hosts.together(flags | run_settings.flatten(config.to_dict(c), "config.")):
        return _work(mode, c, folder if workdir else None, folder, options)


def _work(mode: str, c: config.Config, named: Path | None, folder: Path, options: Options) -> str:
    """`_result` after the processes have joined; `named` is the folder of --workdir, and `folder` also its default."""
    if mode == "train":
        return f"report: {train.run(c, folder)}"
    if mode == "sft":
        return f"weights: {sft.run(c, folder)}"
    if mode == "eval":
        return evaluate.run(c, folder, options.name, options.step, options.emulate)
    if mode == "infer":
        return "answer: " + str(
            infer.run(
                c, folder, options.image, options.query, video=options.video, task=options.task, step=options.step
            )
        )
    if mode == "export":
        target = export.run(c, named, options.out, options.adapter, options.step)
        return f"exported: {target}"
    if mode == "perceive":
        return perceive.run(c, options.images, options.video, options.out)
    if mode == "plan" and options.topology:
        return slice_plan.run(c, options.topology, options.layers, options.fast)
    if mode == "plan":
        return plan.run(mesh_choice.settled(c))
    raise config.ConfigError(
        "--mode: expected train, sft, eval, infer, perceive, export, plan, check, rescore, fetch or convert, got "
        f"{mode!r}"
    )


def say(text: str) -> None:
    """Prints a result, once for all processes of a run."""
    if jax.process_index() == 0:
        print(plain_text.for_terminal(text))


def _open_pathways(distributed: bool) -> None:
    """Makes JAX know the platform `proxy`. Raises ConfigError if its package is missing, or for --distributed."""
    if distributed:
        raise config.ConfigError(
            "--distributed: expected one process with JAX_PLATFORMS=proxy, because Pathways shows it the devices of all"
            " hosts; leave the flag out"
        )
    try:
        import pathwaysutils
    except ImportError as error:
        raise config.ConfigError(
            f"JAX_PLATFORMS=proxy needs pathwaysutils, which cannot be imported ({error}); pip install pathwaysutils"
        ) from error
    pathwaysutils.initialize()


def join_processes(required: bool = False) -> None:
    """Joins the other processes of a run on several hosts; must come before anything touches a device.

    It does so where `required`, where JAX_COORDINATOR_ADDRESS is set, and on the workers of a TPU pod. JAX finds the
    processes by itself on TPU pods and under Slurm, Open MPI and Kubernetes. Elsewhere start one process on each host
    with JAX_COORDINATOR_ADDRESS=host:port, JAX_NUM_PROCESSES and JAX_PROCESS_ID (0, 1, ...). Raises ConfigError.

    With JAX_PLATFORMS=proxy, Pathways shows the devices of all hosts to one process, which joins nobody.
    """
    if "proxy" in os.environ.get("JAX_PLATFORMS", "").split(","):
        _open_pathways(required)
        return
    pod = "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")
    if not (required or pod or "JAX_COORDINATOR_ADDRESS" in os.environ):
        return
    names = {"num_processes": "JAX_NUM_PROCESSES", "process_id": "JAX_PROCESS_ID"}
    # JAX's own handler of SIGTERM only notes that it came, so that a mode without interrupt.Flag would go on.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(**{k: int(os.environ[name]) for k, name in names.items() if name in os.environ})
    except (ValueError, RuntimeError) as error:
        raise config.ConfigError(
            f"cannot join the processes of this run: {error}; expected a TPU pod, Slurm, Open MPI or Kubernetes, or"
            " JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID"
        ) from error
    if jax.process_index():
        logging.getLogger("dtr1_jax").setLevel(logging.WARNING)  # The first process speaks for all.
