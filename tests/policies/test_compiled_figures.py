"""Figures of compiled programs: of one with known messages, of two depths, and of one that is too large."""

import types

import jax
import jax.numpy as jnp
import pytest

from dtr1_jax import config, mesh
from dtr1_jax.policies import compiled_figures
from dtr1_jax.policies.collectives import Message
from dtr1_jax.policies.compiled_figures import Figures, Part
from dtr1_jax.policies.roofline import Work


def layers(count):
    """Each layer gathers its weights from 8 devices; a loop without known end sums up a state in each trip."""
    m = mesh.make(config.Mesh(1, 8, 1), jax.devices()[:8])
    whole = mesh.replicated(m)

    def f(w_lio, x_bi):
        def layer(x_bi, w_io):
            return jnp.tanh(x_bi @ jax.lax.with_sharding_constraint(w_io, whole)), None

        x_bi, _ = jax.lax.scan(layer, x_bi, w_lio)
        return jax.lax.while_loop(lambda x: x.sum() > 1, lambda x: x / 2, x_bi)

    cut = mesh.of_activation(m, (count, 64, 64), (None, "width", None))
    shapes = (
        jax.ShapeDtypeStruct((count, 64, 64), jnp.float32, sharding=cut),
        jax.ShapeDtypeStruct((16, 64), jnp.float32, sharding=mesh.batch(m)),
    )
    return compiled_figures.compiled(jax.jit(f).lower(*shapes))[1]


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
def test_two_depths_give_the_figures_of_a_third():
    first, second, third = (layers(count) for count in (2, 4, 9))
    got = compiled_figures.extrapolated(first, second, (2, 4), 9)
    assert got.arguments == third.arguments == (9 * 8 * 64 + 2 * 64) * 4
    assert got.once.work.flops == third.once.work.flops == 9 * 2 * 2 * 64 * 64
    assert got.once.work.sent_bytes == third.once.work.sent_bytes == 9 * 64 * 64 * 4 * 7 / 8
    assert got.once.message_bytes == third.once.message_bytes == {"all-gather": 9 * 64 * 64 * 4}
    assert got.once.message_count == third.once.message_count == 9
    assert [loop.message_bytes for loop in got.loops] == [{"all-reduce": 4}]
    assert got.loops[0].work.sent_bytes == 2 * 4 * 7 / 8
    assert got.once.largest.bytes == 64 * 64 * 4
    assert got.once.work.hbm_bytes == pytest.approx(third.once.work.hbm_bytes, rel=0.02)


def test_a_line_through_what_only_one_depth_has():
    def of(count, kinds, largest):
        part = Part(Work(count, 2 * count, 3 * count), kinds, count, largest)
        return Figures(10 * count, 100, count, part, (part, part))

    small, large = Message("all-gather", "f32[2]", 8), Message("all-reduce", "f32[9]", 36)
    got = compiled_figures.extrapolated(of(2, {"a": 4}, large), of(4, {"a": 8, "b": 6}, small), (2, 4), 8)
    assert (got.arguments, got.temporary, got.results, got.memory) == (80, 100, 8, 188)
    assert got.once.work == Work(8, 16, 24) and got.once.message_bytes == {"a": 16, "b": 18}
    assert got.once.largest is large and got.loops == (got.once, got.once)


def test_loops_are_told_apart_in_their_order():
    """Two loops without known end; the second one has a product, and runs after the first."""

    def f(x_ii):
        x_ii = jax.lax.while_loop(lambda x: x.sum() > 1, lambda x: x / 2, x_ii)
        return jax.lax.while_loop(lambda x: x.sum() < 1, lambda x: jnp.tanh(x @ x), x_ii)

    figures = compiled_figures.compiled(jax.jit(f).lower(jax.ShapeDtypeStruct((16, 16), jnp.float32)))[1]
    assert [loop.work.flops for loop in figures.loops] == [0, 2 * 16**3] and figures.once.work.flops == 0


def test_kernels_that_count_no_operations_are_warned_of(caplog):
    memory = types.SimpleNamespace(
        argument_size_in_bytes=4, temp_size_in_bytes=0, output_size_in_bytes=4, alias_size_in_bytes=0
    )  # fmt: skip
    kernel = '%k.{} = f32[1]{{0}} custom-call(%x), custom_call_target="tpu_custom_call"'
    kernels = "\n  ".join(kernel.format(n) for n in range(7))
    text = f"ENTRY %main (x: f32[1]) -> f32[1] {{\n  %x = f32[1]{{0}} parameter(0)\n  {kernels}\n}}\n"
    assert compiled_figures.figures(text, memory).once.work.flops == 0
    assert "7 kernel(s) of the compiled program count no operations" in caplog.text
    assert "too high: k.0, k.1, k.2, k.3, k.4. --config" in caplog.text
    caplog.clear()
    compiled_figures.figures(text.replace("tpu_custom_call", "AssumeGatherIndicesInBound"), memory)
    assert caplog.text == ""


def test_parts_times_weights():
    parts = Part(Work(8, 4, 2), {"a": 6}, 2, None), Part(Work(4, 8, 0), {"b": 2}, 4, Message("b", "f32[2]", 8))
    got = compiled_figures.weighted(parts, (0.5, 0.25))
    assert got == Part(Work(5, 4, 1), {"a": 3, "b": 0.5}, 2, parts[1].largest)
    with pytest.raises(ValueError):
        compiled_figures.weighted(parts, (1,))


@pytest.mark.parametrize("message, needed", [
    ("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.50G of 15.75G hbm. Exceeded", 20.5 * 2**30),
    ("RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (256.00G) exceeds"
     " available HBM (15.25G).", 256 * 2**30),
    ("RESOURCE_EXHAUSTED: something else", 0),
])  # fmt: skip
def test_a_program_that_is_too_large_says_how_large(message, needed):
    def compile_(options):
        raise jax.errors.JaxRuntimeError(message)

    with pytest.raises(compiled_figures.TooLargeError) as error:
        compiled_figures.compiled(types.SimpleNamespace(compile=compile_))
    assert error.value.needed == needed


def test_other_errors_of_the_compiler_stay():
    def compile_(options):
        raise jax.errors.JaxRuntimeError("INTERNAL: broken")

    with pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"):
        compiled_figures.compiled(types.SimpleNamespace(compile=compile_))
