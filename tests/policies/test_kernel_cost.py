"""Operations and traffic of the attention kernels in the text of a program for TPUs, by hand."""

import pytest

from dtr1_jax.models import flash
from dtr1_jax.policies import hlo_text, kernel_cost, program_cost

# As the TPU compiler writes the kernels of 2 rows with 4 query heads and 2 kv heads of 128 values: 512 queries, 1024
# keys, 3 blocks of 512 x 512 in a head. The tables of blocks are small, and left out of the counts.
OPERANDS = """
  %table = s8[1,1,2]{2,1,0} parameter(0)
  %q = bf16[2,4,512,128]{3,2,1,0} parameter(1)
  %k = bf16[2,2,1024,128]{3,2,1,0} parameter(2)
  %q_rows = s32[2,512,128]{2,1,0} parameter(3)
  %k_columns = s32[2,8,1024]{2,1,0} parameter(4)
  %q_columns = s32[2,8,512]{2,1,0} parameter(5)
  %k_rows = s32[2,1024,128]{2,1,0} parameter(6)
  %sums = f32[2,4,1,512]{3,2,1,0} parameter(7)
  %sums8 = f32[2,4,8,512]{3,2,1,0} parameter(8)
"""
NOTES = """frontend_attributes={kernel_metadata={
"xprof_metadata":"{\\"block_q\\": 512}"
}}, metadata={op_name="jit(f)/transpose(jvp(SCOPE))/KERNEL_segmented/pallas_call"}, backend_config={"body":"T}"}"""
SCOPE = flash.scope(3, 512)
HEADS, PLACES, HEAD = 8, 3 * 512, 128 * 2  # heads of all rows; places of 3 blocks; bytes of a place of a head


def program(result, operands, kernel, scope=SCOPE):
    notes = NOTES.replace("SCOPE", scope).replace("KERNEL", kernel)
    line = f'ROOT %y = {result} custom-call({operands}), custom_call_target="tpu_custom_call", {notes}'
    module = hlo_text.parse(f"ENTRY %main () -> f32[] {{\n{OPERANDS}  {line}\n}}\n")
    assert list(module.computations["main"])[-1] == "y"
    return module


def cost(*args, **kwargs):
    return program_cost.together(program_cost.read(program(*args, **kwargs)))


@pytest.mark.parametrize("kernel, result, operands, products, count", [
    (
        "splash_mha_fwd", "(bf16[2,4,512,128]{3,2,1,0}, f32[2,4,512,128]{3,2,1,0})",
        "%table, %table, %table, %q, %k, %k, %q_rows, %k_columns", 2,
        # keys, values and the keys' numbers pass by; queries and output once, and the sums and numbers in 128 lanes
        HEADS * PLACES * (2 * HEAD + 8 * 4) + HEADS * 512 * (2 * HEAD + 2 * 128 * 4),
    ),
    (
        "splash_mha_dq", "bf16[2,4,512,128]{3,2,1,0}",
        "%table, %table, %table, %q, %k, %k, %q_rows, %k_columns, %sums, %q, %sums", 3,
        HEADS * PLACES * (2 * HEAD + 8 * 4) + HEADS * 512 * (3 * HEAD + 2 * 4 + 128 * 4),
    ),
    (
        "splash_mha_dkv", "(bf16[2,2,1024,128]{3,2,1,0}, bf16[2,2,1024,128]{3,2,1,0})",
        "%table, %table, %table, %q, %k, %k, %q_columns, %k_rows, %sums8, %q, %sums8", 4,
        # queries, gradients of the output, their numbers and two sums pass by
        HEADS * PLACES * (2 * HEAD + 3 * 8 * 4) + 4 * 2 * 2 * 1024 * HEAD + 2 * 1024 * 128 * 4,
    ),
])  # fmt: skip
def test_a_kernel_by_hand(kernel, result, operands, products, count):
    found = cost(result, operands, kernel)
    assert found.flops == products * HEADS * 3 * 2 * 512 * 512 * 128 and found.hbm_bytes == count


def test_arrays_inside_the_chip_are_no_traffic():
    on_chip = "(bf16[2,4,512,128]{3,2,1,0:S(1)}, f32[2,4,512,128]{3,2,1,0:S(1)})"
    operands = "%table, %table, %table, %q, %k, %k, %q_rows, %k_columns"
    assert cost(on_chip, operands, "splash_mha_fwd").hbm_bytes == (
        HEADS * PLACES * (2 * HEAD + 8 * 4) + HEADS * 512 * (HEAD + 128 * 4)
    )


def test_another_kernel_moves_its_operands():
    """Its operations are not known, and count 0."""
    found = cost("bf16[2,2,1024,128]{3,2,1,0}", "%q, %k", "my_kernel", scope="else")
    assert found.flops == 0 and found.hbm_bytes == 2 * 4 * 512 * HEAD + 2 * 2 * 2 * 1024 * HEAD


def test_kernels_that_are_not_understood_are_named():
    """By their name, or by a scope that does not say their blocks; ours is understood."""
    operands = "%table, %table, %table, %q, %k, %k, %q_rows, %k_columns"
    result = "(bf16[2,4,512,128]{3,2,1,0}, f32[2,4,512,128]{3,2,1,0})"
    assert kernel_cost.not_understood(program(result, operands, "splash_mha_fwd")) == []
    assert kernel_cost.not_understood(program(result, operands, "splash_mha_forward")) == ["y"]
    assert kernel_cost.not_understood(program(result, operands, "splash_mha_fwd", scope="else")) == ["y"]
