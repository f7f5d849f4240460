"""The log lines of a run on stderr: ours plain, those of libraries with a name, and noise left out."""

import subprocess
import sys

CODE = """
import logging
from dtr1_jax.run import console
console.set_up_logging()
import jax
logging.getLogger("dtr1_jax.modes.train").info("going on from step 3")
logging.getLogger("dtr1_jax.data").warning("skipped an example")
logging.getLogger("somelib").warning("old file")
logging.getLogger("somelib").info("noise")
logging.getLogger("absl").warning("saved a checkpoint")
print(jax.config.jax_compilation_cache_dir)
"""


def test_lines_of_each_kind(tmp_path):
    from tiny import ROOT, environment

    env = environment(XDG_CACHE_HOME=str(tmp_path))
    env.pop("JAX_COMPILATION_CACHE_DIR", None)
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == [
        "going on from step 3", "warning: skipped an example", "warning: somelib: old file",
    ]  # fmt: skip
    assert done.stdout.strip() == str(tmp_path / "dtr1_jax" / "compiled")
