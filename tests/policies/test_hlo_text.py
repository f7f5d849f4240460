"""The text of compiled programs, as the TPU compiler and XLA on the CPU write it: shapes, operands, trips, branches."""

import pytest

from dtr1_jax.policies import hlo_text

TPU = """HloModule jit_f

%condition (p: (s32[], bf16[8,128])) -> pred[] {
  %p = (s32[]{:T(128)}, bf16[8,128]{1,0:T(8,128)(2,1)}) parameter(0)
  %limit = s32[]{:T(128)} constant(28)
  %counter = s32[]{:T(128)} get-tuple-element(%p), index=0
  ROOT %less = pred[]{:T(512)} compare(%counter, %limit), direction=LT
}

%body (p: (s32[], bf16[8,128])) -> (s32[], bf16[8,128]) {
  %p = (s32[]{:T(128)}, bf16[8,128]{1,0:T(8,128)(2,1)}) parameter(0)
  %x = bf16[8,128]{1,0:T(8,128)(2,1)S(1)} get-tuple-element(%p), index=1
  %y = bf16[8,128]{1,0:T(8,128)(2,1)} fusion(%x, /*index=1*/%x), kind=kLoop, calls=%inner, metadata={op_name="jit(f)/mul"}
  ROOT %t = (s32[]{:T(128)}, bf16[8,128]{1,0:T(8,128)(2,1)}) tuple(%counter, %y)
}

%inner (a: bf16[8,128], b: bf16[8,128]) -> bf16[8,128] {
  %a = bf16[8,128]{1,0} parameter(0)
  ROOT %m = bf16[8,128]{1,0} multiply(%a, %a)
}

ENTRY %main (x: bf16[8,128]) -> (s32[], bf16[8,128]) {
  %x = bf16[8,128]{1,0:T(8,128)(2,1)} parameter(0)
  %zero = s32[]{:T(128)} constant(0)
  %start = (s32[]{:T(128)}, bf16[8,128]{1,0:T(8,128)(2,1)}) tuple(%zero, %x)
  ROOT %loop = (s32[]{:T(128)}, bf16[8,128]{1,0:T(8,128)(2,1)}) while(%start), condition=%condition, body=%body
}
"""  # noqa: E501


def names(instruction, _):
    return [instruction.name] if instruction.code == "multiply" else []


def test_instructions():
    module = hlo_text.parse(TPU)
    body = module.computations["body"]
    assert module.entry == "main" and list(body) == ["p", "x", "y", "t"]
    y = body["y"]
    assert (y.code, y.operands, y.called, y.source, y.is_root) == ("fusion", ("x", "x"), ["inner"], "jit(f)/mul", False)
    assert [s.text for s in body["p"].shapes] == ["s32[]", "bf16[8,128]"] and body["t"].is_root
    assert body["x"].shapes[0].on_chip and not y.shapes[0].on_chip
    assert y.shapes[0].bytes == y.shapes[0].held == 8 * 128 * 2 and hlo_text.Shape("u4", (6,)).bytes == 3
    assert list(module.inside(y)) == ["a", "m"] and module.inside(body["x"]) == {}


@pytest.mark.parametrize("shape, bytes_, held", [
    ("bf16[16,100]{1,0:T(8,128)(2,1)}", 2 * 16 * 100, 2 * 16 * 128), ("f32[3,100]{0,1:T(8,128)}", 1200, 4 * 128 * 104),
    ("bf16[16,8,1,128,1]{4,3,1,0,2:T(8,128)(2,1)}", 2 * 2**14, 2 * 2**21),  # one place of a transposed cache
    ("f32[5]{0:T(1024)}", 20, 4096), ("f32[5]{0}", 20, 20), ("f32[]", 4, 4), ("s32[]{:T(128)}", 4, 4),
])  # fmt: skip
def test_arrays_are_held_in_tiles(shape, bytes_, held):
    (got,) = (
        hlo_text.parse(f"ENTRY %main () -> f32[] {{\n  ROOT %x = {shape} parameter(0)\n}}\n")
        .computations["main"]["x"]
        .shapes
    )
    assert (got.bytes, got.held) == (bytes_, held)


def test_what_a_loop_calls_counts_for_each_trip():
    assert hlo_text.uses(hlo_text.parse(TPU), names, lambda _: 1) == [hlo_text.Use("m", 28)]
    known = TPU.replace("body=%body", 'body=%body, backend_config={"known_trip_count":{"n":"5"}}')
    assert hlo_text.uses(hlo_text.parse(known), names, lambda _: 1) == [hlo_text.Use("m", 5)]


@pytest.mark.parametrize("kind", ["s32", "u32"])
@pytest.mark.parametrize("step, moved, trips", [(1, False, 28), (2, False, 14), (3, True, 10)])
def test_a_loop_may_count_in_larger_steps(kind, step, moved, trips):
    """As those that the TPU compiler makes of a product whose parts are sent on; the new count may be a copy."""
    lines = (
        f"  %counter = {kind}[]{{:T(128)}} get-tuple-element(%p), index=0\n"
        f"  %step = {kind}[]{{:T(128)}} constant({step})\n  %next = {kind}[]{{:T(128)}} add(%counter, %step)\n"
        f"  %copied = {kind}[]{{:T(128)}} copy(%next)\n  ROOT %t"
    )
    last = "%copied" if moved else "%next"
    text = TPU.replace("  ROOT %t", lines).replace("tuple(%counter, %y)", f"tuple({last}, %y)").replace("s32", kind)
    assert hlo_text.uses(hlo_text.parse(text), names, lambda _: 1) == [hlo_text.Use("m", trips)]


@pytest.mark.parametrize("old, new", [
    ("constant(28)", "parameter(1)"), ("compare(%counter, %limit), direction=LT", "and(%counter, %limit)"),
    ("direction=LT", "direction=NE"), ("compare(%counter, %limit)", "compare(%limit, %counter)"),
    ("get-tuple-element(%p), index=0\n  ROOT", "add(%p, %p)\n  ROOT"),
])  # fmt: skip
def test_a_loop_without_a_number_has_an_unknown_count(old, new):
    assert hlo_text.uses(hlo_text.parse(TPU.replace(old, new)), names, lambda _: 1) == [hlo_text.Use("m", 1, "loop")]


def test_a_limit_may_stand_first():
    text = TPU.replace("compare(%counter, %limit), direction=LT", "compare(%limit, %counter), direction=GT")
    assert hlo_text.uses(hlo_text.parse(text), names, lambda _: 1) == [hlo_text.Use("m", 28)]


def test_an_instruction_with_items_hides_what_it_calls():
    def items(instruction, _):
        return ["fused"] if instruction.code == "fusion" else names(instruction, _)

    assert [use.item for use in hlo_text.uses(hlo_text.parse(TPU), items, lambda _: 1)] == ["fused"]


def test_a_text_without_entry_is_refused():
    with pytest.raises(ValueError, match="no entry computation"):
        hlo_text.parse("%f (x: f32[]) -> f32[] {\n}")
