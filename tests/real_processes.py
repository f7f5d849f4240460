"""Several processes of one run on this machine, each with virtual CPU devices."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence

import tiny


def launch(program: str, arguments: Sequence[str], processes: int, devices: int, **more: str) -> list[subprocess.Popen]:
    """Starts `program`, a Python file, in `processes` processes with `devices` devices each; `tiny.finish` waits.

    `more` are environment variables; RANK in a value becomes the number of the process.
    """
    with socket.socket() as s:
        s.bind(("localhost", 0))
        port = s.getsockname()[1]
    env = {key: value for key, value in os.environ.items() if not key.startswith("JAX_COORD")} | {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"
        " --xla_cpu_collective_call_terminate_timeout_seconds=600",
        "JAX_PLATFORMS": "cpu", "PYTHONPATH": os.pathsep.join((str(tiny.ROOT), str(tiny.ROOT / "tests"))),
    }  # fmt: skip
    if processes > 1:
        env |= {
            "JAX_COORDINATOR_ADDRESS": f"localhost:{port}", "JAX_NUM_PROCESSES": str(processes),
            "JAX_PROCESS_ID": "RANK", "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
        }  # fmt: skip
    own = ("JAX_PROCESS_ID", *more)
    return [
        subprocess.Popen(
            [sys.executable, program, *arguments],
            env=env | {name: value.replace("RANK", str(rank)) for name, value in (env | more).items() if name in own},
            cwd=tiny.ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for rank in range(processes)
    ]  # fmt: skip
