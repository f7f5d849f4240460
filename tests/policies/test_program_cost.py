"""Operations and memory traffic: of programs that XLA compiles here, and of text as the TPU compiler writes it."""

import jax
import jax.numpy as jnp
import pytest

from dtr1_jax.policies import hlo_text, program_cost


def read(text):
    found = program_cost.read(hlo_text.parse(text))
    loops = program_cost.loops(found)
    assert len(loops) < 2
    return program_cost.together(found), program_cost.together(found, loops[0]) if loops else program_cost.Cost()


def test_a_loop_of_products_counts_each_trip():
    """XLA's own analysis counts the body of the loop once."""

    def f(w_lio, x_bi):
        return jax.lax.scan(lambda x_bi, w_io: (jnp.tanh(x_bi @ w_io), None), x_bi, w_lio)[0]

    compiled = jax.jit(f).lower(jnp.ones((7, 64, 64)), jnp.ones((16, 64))).compile()
    cost, each = read(compiled.as_text())
    assert cost.flops == 7 * 2 * 16 * 64 * 64 and each.flops == 0
    weights, states = 7 * 64 * 64 * 4, 7 * 16 * 64 * 4
    # Each weight is read once, each state written once and read; the copies of XLA on the CPU may come on top.
    assert weights + 2 * states <= cost.hbm_bytes <= 3 * (weights + 2 * states)


def test_a_loop_without_known_end_counts_apart():
    def f(w_io, x_bi):
        return jax.lax.while_loop(lambda x: x.sum() < 1e6, lambda x: x @ w_io, x_bi @ w_io)

    cost, each = read(jax.jit(f).lower(jnp.ones((32, 32)), jnp.ones((8, 32))).compile().as_text())
    assert cost.flops == each.flops == 2 * 8 * 32 * 32


def program(*lines, others=""):
    return f"{others}\nENTRY %main () -> f32[] {{\n" + "\n".join(f"  {line}" for line in lines) + "\n}\n"


def test_a_convolution_whose_window_is_a_batch():
    """16 x 4 products of [8, 32] with [32, 24]; a naive count would have 16 x 4 windows for each of the 16 x 4."""
    text = program(
        "%a = bf16[16,4,8,32]{3,2,1,0:T(8,128)(2,1)} parameter(0)",
        "%b = bf16[16,4,32,24]{3,2,1,0:T(8,128)(2,1)} parameter(1)",
        "ROOT %c = f32[16,4,8,24]{3,2,1,0:T(8,128)} convolution(%a, %b), window={size=16x4 stride=15x3"
        " lhs_dilate=16x4}, dim_labels=01bf_01io->01bf",
    )
    cost, _ = read(text)
    assert cost.flops == 16 * 4 * 2 * 8 * 32 * 24
    assert cost.hbm_bytes == 16 * 4 * (2 * (8 * 128 + 32 * 128) + 4 * 8 * 128)  # in tiles of 128 values


def test_a_convolution_that_sums_over_its_window():
    """The gradient of a kernel: 5 positions of a window are summed up besides 8 rows, one product each."""
    text = program(
        "%a = f32[5,32,8]{2,1,0} parameter(0)",
        "%b = f32[5,8,24]{2,1,0} parameter(1)",
        "ROOT %c = f32[1,32,24]{2,1,0} convolution(%a, %b), window={size=5}, dim_labels=0bf_0io->0bf",
    )
    assert read(text)[0].flops == 2 * 5 * 32 * 8 * 24
    padded = text.replace("window={size=5}", "window={size=5 pad=2_2}").replace("f32[1,32,24]", "f32[5,32,24]")
    assert read(padded)[0].flops == 2 * (3 + 4 + 5 + 4 + 3) * 32 * 8 * 24  # the other places are padding


SLICE = """%fused (p: f32[28,64,64], q: s32[], r: f32[16,64]) -> f32[16,64] {
  %p = f32[28,64,64]{2,1,0} parameter(0)
  %q = s32[] parameter(1)
  %r = f32[16,64]{1,0} parameter(2)
  %s = f32[1,64,64]{2,1,0} dynamic-slice(%p, %q, %z, %z), dynamic_slice_sizes={1,64,64}
  %w = f32[64,64]{1,0} bitcast(%s)
  ROOT %d = f32[16,64]{1,0} dot(%r, %w), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}
"""


def test_a_fusion_reads_a_slice_of_a_stack():
    lines = (
        "%stack = f32[28,64,64]{2,1,0} parameter(0)", "%i = s32[] parameter(1)", "%x = f32[16,64]{1,0} parameter(2)",
        "ROOT %y = f32[16,64]{1,0} fusion(%stack, %i, %x), kind=kOutput, calls=%fused",
    )  # fmt: skip
    cost, _ = read(program(*lines, others=SLICE))
    assert cost == program_cost.Cost(2 * 16 * 64 * 64, 4 * (64 * 64 + 1 + 2 * 16 * 64))
    inside = [line.replace("f32[16,64]{1,0} p", "f32[16,64]{1,0:T(8,128)S(1)} p") for line in lines]
    assert read(program(*inside, others=SLICE))[0].hbm_bytes == 4 * (64 * 64 + 1 + 16 * 64)
    nested = SLICE.replace("%fused", "%inner") + (
        "%fused (a: f32[28,64,64], b: s32[], c: f32[16,64]) -> f32[16,64] {\n  %a = f32[28,64,64] parameter(0)\n"
        "  %b = s32[] parameter(1)\n  %c = f32[16,64] parameter(2)\n"
        "  ROOT %f = f32[16,64] fusion(%a, %b, %c), kind=kLoop, calls=%inner\n}\n"
    )
    assert read(program(*lines, others=nested))[0] == cost


WRITE = """%fused (p: bf16[16,8,1024], q: bf16[16,8,1], r: s32[]) -> bf16[16,8,1024] {
  %p = bf16[16,8,1024]{2,1,0} parameter(0)
  %q = bf16[16,8,1]{2,1,0} parameter(1)
  %r = s32[] parameter(2)
  ROOT %u = bf16[16,8,1024]{2,1,0} dynamic-update-slice(%p, %q, %z, %z, %r)
}
"""


def test_a_fusion_writes_into_a_part_of_a_cache():
    text = program(
        "%cache = bf16[16,8,1024]{2,1,0} parameter(0)", "%new = bf16[16,8,1]{2,1,0} parameter(1)",
        "%slot = s32[] parameter(2)",
        "ROOT %y = bf16[16,8,1024]{2,1,0} fusion(%cache, %new, %slot), kind=kLoop, calls=%fused",
        others=WRITE,
    )  # fmt: skip
    assert read(text)[0].hbm_bytes == 2 * (16 * 8 * 2) + 4


def test_a_product_hands_on_a_message_in_pieces():
    """The product reads and writes its own arrays; the gathered array, which it passes on, was written by the start."""
    gather = 'f32[64,64]{1,0} all-gather(%p0), replica_groups=[1,4]<=[4], frontend_attributes={chain_id="0"}'
    others = f"""%begin (p0: f32[16,64]) -> (f32[16,64], f32[64,64]) {{
  %p0 = f32[16,64]{{1,0}} parameter(0)
  %g = {gather}
  ROOT %s = (f32[16,64]{{1,0}}, f32[64,64]{{1,0}}) custom-call(%g), custom_call_target="AsyncCollectiveStart"
}}
%product (p0: f32[16,64], p1: f32[64,64], p2: f32[8,64], p3: f32[64,64]) -> (f32[8,64], f32[16,64], f32[64,64]) {{
  %p0 = f32[16,64]{{1,0}} parameter(0)
  %p1 = f32[64,64]{{1,0}} parameter(1)
  %p2 = f32[8,64]{{1,0}} parameter(2)
  %p3 = f32[64,64]{{1,0}} parameter(3)
  %g = {gather}
  %y = f32[8,64]{{1,0}} dot(%p2, %p3), lhs_contracting_dims={{1}}, rhs_contracting_dims={{0}}
  ROOT %t = (f32[8,64]{{1,0}}, f32[16,64]{{1,0}}, f32[64,64]{{1,0}}) tuple(%y, %p0, %p1)
}}
"""
    parameters = (
        "%x = f32[8,64]{1,0} parameter(0)", "%w = f32[64,64]{1,0} parameter(1)", "%part = f32[16,64]{1,0} parameter(2)",
    )  # fmt: skip
    begin = (
        "%a = (f32[16,64]{1,0}, f32[64,64]{1,0}) fusion(%part), kind=kCustom, "
        "output_to_operand_aliasing={{0}: (0, {})}, calls=%begin"
    )
    ready = "%place = f32[64,64]{1,0} get-tuple-element(%a), index=1"
    product = (
        "ROOT %y = (f32[8,64]{1,0}, f32[16,64]{1,0}, f32[64,64]{1,0}) fusion(%part, %place, %x, %w), kind=kOutput, "
        "output_to_operand_aliasing={{1}: (0, {}), {2}: (1, {})}, calls=%product"
    )
    cost, _ = read(program(*parameters, begin, ready, product, others=others))
    started, computed = 4 * (16 * 64 + 64 * 64), 4 * (8 * 64 + 64 * 64 + 8 * 64)
    assert cost == program_cost.Cost(2 * 8 * 64 * 64, started + computed)


def test_layers_of_a_tower_take_two_branches():
    """A loop of 32 layers, 4 of them with full attention: (28 x the window branch + 4 x the full one)."""
    others = """%windows (x: f32[4,8]) -> f32[4,8] {
  ROOT %a = f32[4,8]{1,0} copy(%x)
  %x = f32[4,8]{1,0} parameter(0)
}
%full (x: f32[4,8]) -> f32[4,8] {
  %x = f32[4,8]{1,0} parameter(0)
  %b = f32[8,8]{1,0} parameter(1)
  ROOT %a = f32[4,8]{1,0} dot(%x, %b), lhs_contracting_dims={1}
}
%body (t: s32[]) -> s32[] {
  ROOT %c = f32[4,8]{1,0} conditional(%i, %x, %x), branch_computations={%windows, %full}, metadata={op_name="NAME"}
}
%condition (t: s32[]) -> pred[] {
  ROOT %p = pred[] parameter(0)
}
"""
    line = 'ROOT %w = s32[] while(%x), condition=%condition, body=%body, backend_config={"known_trip_count":{"n":"32"}}'
    windows, full = program_cost.Cost(0, 256), program_cost.Cost(2 * 4 * 8 * 8, 128 + 256 + 128)

    def cost(name, share):
        module = hlo_text.parse(program(line, others=others.replace("NAME", name)))
        return program_cost.together(program_cost.read(module, share))

    name = "jit(f)/while/body/TowerBlock/cond"
    assert cost(name, 4 / 32) == windows.times(28).plus(full.times(4))
    assert cost(name, None) == cost("jit(f)/cond", 4 / 32) == full.times(32)
    assert cost("conditional", 4 / 32) == full.times(32)
    # The backward pass, whose name the compiler may drop at low effort.
    inner = ', metadata={op_name="jit(f)/transpose/TowerBlock/cond/branch_1_fun/dot_general"}'
    others = others.replace("lhs_contracting_dims={1}", "lhs_contracting_dims={1}" + inner)
    assert cost("conditional", 4 / 32) == windows.times(28).plus(full.times(4))


@pytest.mark.parametrize("line, count", [
    ("ROOT %y = f32[4,8]{1,0} copy(%x)", 2 * 128), ("ROOT %y = f32[32]{0} bitcast(%x)", 0),
    ("ROOT %y = f32[2,8]{1,0} slice(%x), slice={[0:2], [0:8]}", 2 * 64),
    ("ROOT %y = f32[2,8]{1,0} dynamic-slice(%x, %i, %i), dynamic_slice_sizes={2,8}", 2 * 64),
    ("ROOT %y = f32[4,8]{1,0} dynamic-update-slice(%x, %part, %i, %i)", 2 * 32),
    ("ROOT %y = (f32[4,8]{1,0:S(1)}, f32[4,8]{1,0}, u32[]) copy-start(%x)", 128),  # into the chip
    ("ROOT %y = f32[2,8]{1,0:S(1)} slice(%x), slice={[0:2], [0:8]}", 64),
    ("ROOT %y = ((f32[4,8]{1,0}), f32[2,8]{1,0:S(1)}, s32[]{:S(2)}) slice-start(%x), slice={[0:2], [0:8]}", 64),
    ("ROOT %y = f32[2,8]{1,0} slice(%chip), slice={[0:2], [0:8]}", 64),
    ('ROOT %y = f32[4,8]{1,0} custom-call(), custom_call_target="AllocateBuffer"', 0),
    ("ROOT %y = f32[8,8]{1,0} all-gather(%x), replica_groups=[1,2]<=[2], dimensions={0}", 128 + 256),
    ("ROOT %y = f32[4,8]{1,0} copy-done(%x)", 0),
])  # fmt: skip
def test_what_an_instruction_moves(line, count):
    parameters = (
        "%x = f32[4,8]{1,0} parameter(0)", "%part = f32[1,8]{1,0} parameter(1)", "%i = s32[] parameter(2)",
        "%chip = f32[4,8]{1,0:S(1)} parameter(3)",
    )  # fmt: skip
    assert read(program(*parameters, line))[0].hbm_bytes == count


def test_a_slice_of_a_padded_array_reads_no_padding():
    """Of [4, 8], padded to [16, 8], a fusion reads 4 of 16 rows; in the mean, one of them is no padding."""
    others = """%sliced (x: f32[4,8], i: s32[]) -> f32[4,8] {
  %x = f32[4,8]{1,0} parameter(0)
  %i = s32[] parameter(1)
  %zero = f32[] constant(0)
  %wide = f32[16,8]{1,0} pad(%x, %zero), padding=0_12x0_0
  ROOT %y = f32[4,8]{1,0} dynamic-slice(%wide, %i, %i), dynamic_slice_sizes={4,8}
}
"""
    parameters = ("%x = f32[4,8]{1,0} parameter(0)", "%i = s32[] parameter(1)")
    line = "ROOT %y = f32[4,8]{1,0} fusion(%x, %i), kind=kLoop, calls=%sliced"
    assert read(program(*parameters, line, others=others))[0].hbm_bytes == 128 / 4 + 4 + 128
