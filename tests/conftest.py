"""Eight virtual CPU devices and a compilation cache for every test and what it starts, both set before JAX starts."""

import os
import pathlib
import sys

import pytest

# Eight devices on two busy cores may wait long for one another; XLA's default is to abort the process after 40 s.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "")
    + " --xla_force_host_platform_device_count=8"
    + " --xla_cpu_collective_call_warn_stuck_timeout_seconds=120"
    + " --xla_cpu_collective_call_terminate_timeout_seconds=600"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# XLA serves all virtual devices of a process by one pool of threads. By default it has one for each device, or for each
# core where these are more. Steps of eight devices have waited for ever on two cores: a device that waits for the
# others may hold a thread that another program of theirs needs.
os.environ.setdefault("PJRT_NPROC", "32")

# Most of a test's time is compilation, and the next run, process or worker compiles the same programs.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parents[1] / ".pytest_cache" / "jax"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")


@pytest.fixture(scope="module", autouse=True)
def programs_are_let_go():
    """Each compiled program holds several memory mappings, of which Linux gives a process 65530; JAX keeps thousands of
    programs, and where no mapping is left XLA aborts the process."""
    yield
    if "jax" in sys.modules:
        sys.modules["jax"].clear_caches()


@pytest.fixture(scope="session")
def path(tmp_path_factory) -> str:
    """The weights of tests/tiny.py's policy, as config.policy.path names them."""
    import tiny

    return tiny.weights_file(tmp_path_factory.mktemp("policy"))


@pytest.fixture
def small(monkeypatch):
    """Whole runs with tests/tiny.py's policy in place of the shipped one; gives monkeypatch."""
    import tiny

    tiny.install(monkeypatch)
    return monkeypatch


@pytest.fixture
def trained(monkeypatch):
    """The logits of the policy that an export writes: a function, see exports.trained_logits."""
    import exports

    return exports.trained_logits(monkeypatch)
