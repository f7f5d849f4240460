"""`python main.py --config=configs/seg.py --workdir=runs/seg [--mode=train] [--config.section.name=value]`; --help.

The same as `python -m dtr1_jax`; dtr1_jax/__main__.py has the flags.
"""

from absl import app

from dtr1_jax.__main__ import main, parse

if __name__ == "__main__":
    app.run(main, flags_parser=parse)
