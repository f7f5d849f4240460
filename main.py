"""`python main.py --config=configs/seg.py --workdir=runs/seg [--mode=train] [--config.section.name=value]`; --help.

The same as `python -m dtr1_jax`; dtr1_jax/__main__.py has the flags.
"""

from absl import app, flags

from dtr1_jax import __main__ as program

flags.adopt_module_key_flags(program)  # Without this, --help would list no flag.

if __name__ == "__main__":
    app.run(program.main, flags_parser=program.parse)
