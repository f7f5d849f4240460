"""`python main.py --config=configs/seg.py --workdir=runs/seg --mode=train|sft|eval|infer [--config.section.name=value]`."""

import sys

from absl import app, flags
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file("config", None, "settings; --config.section.name=value changes one")
WORKDIR = flags.DEFINE_string("workdir", None, "folder of the run: metrics, checkpoints, report (default: runs/<task>)")
MODE = flags.DEFINE_enum(
    "mode", "train", ["train", "sft", "eval", "infer"],
    "train: GRPO; sft: cold start; eval: held-out scores; infer: one picture",
)  # fmt: skip
IMAGE = flags.DEFINE_string("image", None, "infer: a JPEG or PNG file")
QUERY = flags.DEFINE_string("query", None, "infer: what to look for")


def main(argv: list[str]) -> None:
    """Hands the settings to the mode."""
    from dtr1_jax import cli  # not before: `--help` and bad flags need not wait for JAX

    if argv[1:]:
        raise app.UsageError(f"not understood: {' '.join(argv[1:])}")
    sys.exit(cli.run(MODE.value, CONFIG.value, WORKDIR.value, image=IMAGE.value, query=QUERY.value))


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main)
