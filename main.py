"""`python main.py --config=configs/seg.py --workdir=runs/seg --mode=train [--config.section.name=value]`; --help."""

import sys

from absl import app, flags
from ml_collections import config_flags

# Names that are not there are let in, so that config.py refuses all faults of the settings at once.
CONFIG = config_flags.DEFINE_config_file(
    "config", None, "settings; --config.section.name=value changes one (without it, eval, infer and export take those "
    "that the run in --workdir was begun with)", lock_config=False, accept_new_attributes=True,
)  # fmt: skip
WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run: metrics, checkpoints, report (default: runs/<task>)")
MODE = flags.DEFINE_enum(
    "mode", "train", ["train", "sft", "eval", "infer", "export", "plan"],
    "train: GRPO; sft: cold start; eval: held-out scores; infer: one question; export: a Hugging Face folder; "
    "plan: the memory it takes",
)  # fmt: skip
BEGUN = ("eval", "infer", "export")  # modes that take the settings of --workdir where there is no --config
IMAGE = flags.DEFINE_multi_string("image", None, "infer: a picture; may be given several times")
VIDEO = flags.DEFINE_string("video", None, "infer: a video file or a folder of frames; the answer is about it")
QUERY = flags.DEFINE_string("query", None, "infer: what to look for, or to say")
TASK = flags.DEFINE_string(
    "task", None, "infer: segmentation | grounding | vqa | summary, the form of the answer (default: config.data.task)"
)
OUT = flags.DEFINE_string("out", None, "export: the folder to write; it must not exist yet")
ADAPTER = flags.DEFINE_bool("adapter", False, "export: the LoRA alone, as PEFT reads it, instead of merged weights")
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "join a run on several hosts, where that is not clear by itself")


def parse(argv: list[str]) -> list[str]:
    """What is left of the command line behind the flags. Leaves with one line where a flag does not fit."""
    try:
        rest = flags.FLAGS(argv)
        if CONFIG.value is None and not (WORKDIR.value and MODE.value in BEGUN):
            raise flags.Error(
                "--config is missing; expected a file such as configs/seg.py, or, for eval, infer and export, the "
                "--workdir of a run"
            )
        if rest[1:]:
            raise flags.Error(f"not understood: {' '.join(rest[1:])}; settings are given as --name=value")
        return rest
    except flags.UnrecognizedFlagError as error:
        if error.flagname.startswith("config."):
            sys.exit(f"error: --{error.flagname} changes a setting of --config, which is missing; give both")
        sys.exit(f"error: {error}")
    except flags.Error as error:
        sys.exit(f"error: {error}")
    except (OSError, KeyError, AttributeError, TypeError) as error:  # a setting of a group that is not there
        text = error.args[0] if isinstance(error, KeyError) else error
        sys.exit(f"error: settings: {' '.join(str(text).split())}")


def main(argv: list[str]) -> None:
    """Hands the settings to the mode."""
    del argv
    try:
        from dtr1_jax.modes import cli  # not before: `--help` and bad flags need not wait for JAX

        cli.quiet()
        status = cli.run(
            MODE.value,
            CONFIG.value,
            WORKDIR.value,
            image=IMAGE.value,
            query=QUERY.value,
            video=VIDEO.value,
            task=TASK.value,
            distributed=DISTRIBUTED.value,
            out=OUT.value,
            adapter=ADAPTER.value,
        )
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
