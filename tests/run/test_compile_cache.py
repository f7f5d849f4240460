"""A broken entry of the compile cache costs one compilation, and the next run finds a good one."""

import os
import subprocess
import sys

import tiny

from dtr1_jax.run import compile_cache

PROGRAM = """
import jax, jax.numpy as jnp
from dtr1_jax.run import console
console.set_up_logging()

@jax.jit
def add(x):
    return jnp.sin(x) @ x.T + 1

print(float(add(jnp.ones((20, 20)))[0, 0]))
"""


def run(cache, **env):
    settings = {"JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1", "JAX_PLATFORMS": "cpu"}  # fmt: skip
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, env=tiny.environment(**settings, **env), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done


def entry(cache):
    (path,) = cache.glob("jit_add-*-cache")
    return path


def test_broken_entries_are_replaced(tmp_path):
    first = run(tmp_path)
    whole = entry(tmp_path).read_bytes()
    for broken, warnings in ((whole[: len(whole) // 2], "default"), (b"", "ignore")):
        entry(tmp_path).write_bytes(broken)
        again = run(tmp_path, PYTHONWARNINGS=warnings)
        assert again.stdout == first.stdout
        assert "compiling jit_add again" in again.stderr and "UserWarning" not in again.stderr
        assert len(entry(tmp_path).read_bytes()) > len(whole) // 2
    assert run(tmp_path).stderr == ""  # it is good now


def test_only_the_entries_of_the_program_are_removed(tmp_path):
    digest = "0a" * 32
    names = [f"jit_f-{digest}-cache", f"jit_f-{digest[::-1]}-cache"]
    others = [f"jit_f_two-{digest}-cache", f"jit_f-{digest}-atime", "jit_f", f"a_jit_f-{digest}-cache", "jit_f-x-cache"]
    for name in names + others:
        (tmp_path / name).touch()
    assert compile_cache.remove_entries("jit_f", tmp_path) == 2
    assert sorted(os.listdir(tmp_path)) == sorted(others)
    assert compile_cache.remove_entries("jit_f", tmp_path / "none") == 0
