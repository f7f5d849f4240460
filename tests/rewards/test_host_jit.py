"""Rewards run on the CPU of the host: the device, the results, and JAX without a CPU."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dtr1_jax.rewards import answer_matching, host_jit, score, video_overlap


def test_it_computes_on_the_first_cpu_whatever_the_default_is(monkeypatch):
    if jax.device_count() < 2:
        pytest.skip("needs 2 devices")
    (cpu, other), seen, fetch = jax.local_devices(backend="cpu")[:2], [], jax.device_get

    def fetched(tree):
        seen.append({device for x in jax.tree.leaves(tree) for device in x.devices()})
        return fetch(tree)

    monkeypatch.setattr(host_jit.jax, "device_get", fetched)
    with jax.default_device(other):  # an accelerator would stand here
        assert (jnp.zeros(3) + 1).devices() == {other}
        result = host_jit.host_jit(lambda x, y: {"sum": x + y})(np.arange(3.0), np.ones(3))
    assert seen == [{cpu}] and isinstance(result["sum"], np.ndarray) and result["sum"].tolist() == [1, 2, 3]


def test_without_a_cpu_it_computes_on_the_default_device(monkeypatch):
    def no_cpu(backend):
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setattr(host_jit.jax, "local_devices", no_cpu)
    host_jit._cpu.cache_clear()
    try:
        assert host_jit._cpu() is None
        assert host_jit.host_jit(lambda x: 2 * x)(np.float32(3)) == 6
    finally:
        host_jit._cpu.cache_clear()


def test_all_programs_of_the_reward_are_such_functions():
    for module in (answer_matching, score, video_overlap):
        jitted = [name for name, value in vars(module).items() if hasattr(value, "lower") and hasattr(value, "trace")]
        assert jitted == [], module.__name__
