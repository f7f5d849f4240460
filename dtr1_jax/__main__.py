"""`python -m dtr1_jax --config=configs/seg.py --workdir=runs/seg [--mode=train] [--config.section.name=value]`;
--help.
"""

import os
import shlex
import sys

from absl import app, flags
from ml_collections import config_flags

from dtr1_jax import settings_of_run

MODES = {
    "train": "GRPO",
    "sft": "cold start",
    "eval": "held-out scores",
    "infer": "one question about a picture or video",
    "perceive": "twins of pictures, a video or a data set, by specialists",
    "export": "a Hugging Face folder",
    "plan": "the memory it takes; with --topology a whole step on a TPU slice",
    "check": "what is in a data set",
    "rescore": "the table of a predictions.jsonl again",
    "fetch": "published weights of vision models and of a small policy",
    "convert": "JSON lines from the format of another trainer or tool",
}
OF_RUN = ("eval", "infer", "export")  # These modes take the settings of the run in --workdir where --config is missing.
WITHOUT_SETTINGS = ("rescore", "fetch", "convert")

# A setting that does not exist is let in here, because config.py then refuses all faults of the settings at once.
CONFIG = config_flags.DEFINE_config_file(
    "config", None, "settings, such as configs/seg.py; --config.section.name=value changes one. Without --config, "
    "eval, infer and export take the settings of the run in --workdir", lock_config=False, accept_new_attributes=True,
)  # fmt: skip
WORKDIR = flags.DEFINE_string(
    "workdir", None, "folder of the run, also in a gs:// bucket: metrics, checkpoints, report (default: runs/<task>)"
)
MODE = flags.DEFINE_enum(
    "mode", "train",
    ["train", "sft", "eval", "infer", "perceive", "export", "plan", "check", "rescore", "fetch", "convert"],
    "; ".join(f"{mode}: {meaning}" for mode, meaning in MODES.items()),
)  # fmt: skip
STEP = flags.DEFINE_string(
    "step", "newest", "eval, infer, export: which checkpoint of --workdir: newest | best | the number of a step"
)
NAME = flags.DEFINE_string(
    "name", None, "eval: the name of this evaluation, a folder in WORKDIR/evaluations (default: from data and step)"
)
EMULATE = flags.DEFINE_string(
    "emulate", "", "eval: figures as other projects compute them, beside the benchmark's own: visionreasoner | "
    "onethinker | lmms_eval, with commas between",
)  # fmt: skip
PREDICTIONS = flags.DEFINE_string("predictions", None, "rescore: the predictions.jsonl of an evaluation")
IMAGE = flags.DEFINE_multi_string("image", None, "infer: a picture; may be given several times")
IMAGES = flags.DEFINE_string(
    "images",
    None,
    "perceive: a folder of pictures (default, without --video: the data set of the settings); convert: a folder in "
    "which the pictures of --from are looked for first",
)
VIDEO = flags.DEFINE_string(
    "video", None, "infer, perceive: a video file or a folder of frames; the answer, or the twin, is about it"
)
QUERY = flags.DEFINE_string("query", None, "infer: the query, such as 'the thing that holds wine'")
TASK = flags.DEFINE_string(
    "task", None, "infer: segmentation | grounding | vqa | summary, the form of the answer (default: config.data.task)"
)
OUT = flags.DEFINE_string(
    "out",
    None,
    "export: the folder to write, a new or empty one; check: the folder for check.json and sheet.png; "
    "perceive: the folder for twins.jsonl, which a run that was stopped goes on with; "
    "fetch: the folder for the weights; "
    "convert: the file of JSON lines to write",
)
FROM = flags.DEFINE_string("from", None, "convert: the file or folder in the format of another trainer or tool")
FRAME = flags.DEFINE_string(
    "frame", "", "convert: what the coordinates of --from are, pixel | stated | unit | square | norm1000 | norm1024 "
    "(default: by the rule of the format and by the boxes)",
)  # fmt: skip
BOX = flags.DEFINE_string(
    "box", "", "convert: the order of the four numbers of a box, xyxy | xywh | yxyx | cxcywh (default: likewise)"
)
FIELDS = flags.DEFINE_string(
    "fields", "", "convert: which key of the rows of --from holds what, such as query:question,image:path,masks:rle, "
    "or a JSON file {name: key} (default: the format is recognised)",
)  # fmt: skip
MODELS = flags.DEFINE_string(
    "models", None, "fetch: names with commas between, or all; a name that is not known prints the table of names "
    "(default: what configs/photo.py takes)",
)  # fmt: skip
ADAPTER = flags.DEFINE_bool("adapter", False, "export: the LoRA alone, as PEFT reads it, instead of merged weights")
TOPOLOGY = flags.DEFINE_string(
    "topology", None, "plan: a TPU slice such as v5e:4x4, for which update and rollout are compiled, without a TPU; "
    "needs pip install 'dtr1_jax[tpu]'",
)  # fmt: skip
LAYERS = flags.DEFINE_integer(
    "layers", 0, "plan --topology: layers of the policy's decoder that are planned; 0 = all, where the rollout of a "
    "deep policy is compiled at two small depths, and its figures are continued",
)  # fmt: skip
FAST = flags.DEFINE_bool("fast", False, "plan --topology: compile with low effort")
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "join a run on several hosts; on a TPU pod this is the default")


def parse(argv: list[str]) -> list[str]:
    """Reads the flags; returns the words that are no flags. Exits with one line where a flag does not fit."""
    try:
        rest = flags.FLAGS(with_settings_of_run(argv))
        if CONFIG.value is None and MODE.value not in WITHOUT_SETTINGS:
            raise flags.Error(
                "--config is missing; expected a file such as configs/seg.py, or, for eval, infer and export, the "
                "--workdir of a run"
            )
        if (LAYERS.value or FAST.value) and not TOPOLOGY.value:
            raise flags.Error("--layers and --fast need --topology, a TPU slice such as v5e:4x4")
        if TOPOLOGY.value and MODE.value != "plan":
            raise flags.Error(f"--topology needs --mode=plan, got --mode={MODE.value}")
        if rest[1:]:
            raise flags.Error(f"unexpected arguments: {' '.join(rest[1:])}; write settings as --name=value")
        return rest
    except flags.UnrecognizedFlagError as error:
        if error.flagname.startswith("config."):
            sys.exit(f"error: --{error.flagname} changes a setting of --config, which is missing; give both")
        sys.exit(f"error: {error}")
    except (flags.Error, ValueError) as error:  # ValueError: the settings of a run that cannot be read
        sys.exit(f"error: {error}")
    except (OSError, KeyError, AttributeError, TypeError) as error:  # a setting of a group that does not exist
        text = error.args[0] if isinstance(error, KeyError) else error
        sys.exit(f"error: settings: {' '.join(str(text).split())}")


def with_settings_of_run(argv: list[str]) -> list[str]:
    """The command line with --config=settings_of_run.py:WORKDIR, if the mode allows it and --config is missing.

    Raises ValueError if the settings of that run cannot be read, or if a model of it would be downloaded and the
    command line does not name it. Prints the other settings that are not taken over, see settings_of_run.py.
    """
    words = [argv[0], *flags.FLAGS.read_flags_from_files(argv[1:])]
    workdir, named = value_of(words, "workdir"), value_of(words, "config")
    file = settings_of_run.__file__
    if named is None and workdir and value_of(words, "mode") in OF_RUN:
        words = [words[0], f"--config={file}:{workdir}", *words[1:]]
    elif named is not None and named.partition(":")[0].endswith(os.path.basename(file)):
        workdir = named.partition(":")[2]  # The user names the file that is otherwise put in.
    else:
        return argv
    # It raises here with a clear message; the flag would print a traceback.
    withheld = {n: v for n, v in settings_of_run.withheld(workdir).items() if value_of(words, f"config.{n}") is None}
    models = [name for name in _needed(value_of(words, "mode")) if name in withheld]
    if models:
        added = " ".join(f"--config.{name}={shlex.quote(withheld[name])}" for name in models)
        raise ValueError(
            f"{', '.join(models)} of the run in {workdir} would be downloaded, which only the command line may ask "
            f"for, because a workdir may come from somebody else: add {added}, or name folders with these files"
        )
    for name in withheld:
        print(
            f"not taken over from {workdir}/config.json: {name}, because a workdir may come from somebody else; add "
            f"--config.{name}=VALUE to set it",
            file=sys.stderr,
        )
    return words


def _needed(mode: str | None) -> list[str]:
    """The settings of models without which a mode would give other results than with them."""
    policy = ("policy.path", "policy.adapter")
    return [name for name in settings_of_run.MODELS if mode != "export" or name in policy]


def value_of(argv: list[str], name: str) -> str | None:
    """The last value of a flag on the command line, which is not parsed yet; None if the flag is missing."""
    value = None
    for word, following in zip(argv[1:], [*argv[2:], None]):
        if word == "--":
            break
        flag, equals, text = word.lstrip("-").partition("=")
        if word.startswith("-") and flag == name:
            value = text if equals else following
    return value


def main(argv: list[str]) -> None:
    """Hands the settings to the mode and exits with its status."""
    del argv
    try:
        from dtr1_jax.modes import dispatch  # Here, so that --help and bad flags need not wait for JAX.
        from dtr1_jax.run import console

        console.set_up_logging()
        status = dispatch.run(
            MODE.value,
            CONFIG.value,
            WORKDIR.value,
            dispatch.Options(
                step=STEP.value,
                name=NAME.value,
                predictions=PREDICTIONS.value,
                image=IMAGE.value,
                images=IMAGES.value,
                video=VIDEO.value,
                query=QUERY.value,
                task=TASK.value,
                out=OUT.value,
                models=MODELS.value,
                source=FROM.value,
                frame=FRAME.value,
                box=BOX.value,
                fields=FIELDS.value,
                emulate=EMULATE.value,
                adapter=ADAPTER.value,
                topology=TOPOLOGY.value,
                layers=LAYERS.value,
                fast=FAST.value,
                distributed=DISTRIBUTED.value,
            ),
        )
    except KeyboardInterrupt:
        status = 130
    sys.exit(status)


if __name__ == "__main__":
    app.run(main, flags_parser=parse)
