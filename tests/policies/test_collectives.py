"""The messages in HLO text: written by hand, and of programs whose messages are known."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding

from dtr1_jax import config, mesh
from dtr1_jax.policies import collectives

MODULE = """HloModule jit_f, entry_computation_layout={(f32[2,8]{1,0})->f32[]}

%add (x: f32[], y: f32[]) -> f32[] {
  ROOT %sum = f32[] add(%x, %y)
}

%inner_body (p: (s32[], f32[4,16])) -> (s32[], f32[4,16]) {
  %ag = f32[4,16]{1,0} all-gather(%w), channel_id=1, replica_groups=[1,4]<=[4], dimensions={0}, metadata={op_name="jit(f)/gather"}
  ROOT %t = (s32[], f32[4,16]) tuple(%n, %ag)
}

%inner_condition (p: (s32[], f32[4,16])) -> pred[] {
  %limit = s32[] constant(7)
  %n = s32[] get-tuple-element(%p), index=0
  ROOT %lt = pred[] compare(%n, %limit), direction=LT
}

%outer_body (p: (s32[], f32[4,16])) -> (s32[], f32[4,16]) {
  %loop = (s32[], f32[4,16]) while(%p), condition=%inner_condition, body=%inner_body
  %rs = bf16[2,16]{1,0} reduce-scatter(%v), channel_id=2, replica_groups={{0,1},{2,3}}, dimensions={0}, to_apply=%add
  ROOT %t = (s32[], f32[4,16]) tuple(%n, %ag)
}

%outer_condition (p: (s32[], f32[4,16])) -> pred[] {
  ROOT %lt = pred[] compare(%n, %limit), direction=LT
}

%short (p: f32[8]) -> f32[8] {
  ROOT %ar = f32[8]{0} all-reduce(%p), channel_id=3, replica_groups={}, to_apply=%add
}

%long (p: f32[8]) -> f32[8] {
  ROOT %ar = (f32[8]{0}, s8[100]{0}) all-reduce(%p, %q), channel_id=4, replica_groups={}, to_apply=%add
}

%decode_body (p: (pred[], f32[8])) -> (pred[], f32[8]) {
  %choice = f32[8] conditional(%i, %p, %p), branch_computations={%short, %long}
  %called = f32[8] fusion(%choice), kind=kLoop, calls=%short
  ROOT %t = (pred[], f32[8]) tuple(%b, %called)
}

%decode_condition (p: (pred[], f32[8])) -> pred[] {
  %any = pred[] all-reduce(%alive), channel_id=5, replica_groups={}, to_apply=%add
  ROOT %both = pred[] and(%any, %room)
}

ENTRY %main (a: f32[2,8]) -> f32[] {
  %outer = (s32[], f32[4,16]) while(%init), condition=%outer_condition, body=%outer_body, backend_config={"known_trip_count":{"n":"3"}}
  %decode = (pred[], f32[8]) while(%init), condition=%decode_condition, body=%decode_body
  %start = (f32[2,8]{1,0}, f32[2,8]{1,0}, u32[], u32[]) collective-permute-start(%a), channel_id=6, source_target_pairs={{0,1},{1,0}}
  %done = f32[2,8]{1,0} collective-permute-done(%start)
  %swap = f32[2,8]{1,0} all-to-all(%done), channel_id=7, replica_groups={{0,1}}, dimensions={0}
  ROOT %r = f32[] constant(0)
}
"""  # noqa: E501


def test_messages_by_hand():
    found = {(m.kind, m.shape, m.bytes, m.trips, m.unknown) for m in collectives.read(MODULE)}
    assert found == {
        ("all-gather", "f32[4,16]", 256, 21, ""),  # 7 trips, which the condition says, in each of 3
        ("reduce-scatter", "bf16[2,16]", 128, 3, ""),  # the operand has twice the rows
        ("all-reduce", "f32[8]+s8[100]", 132, 1, "decode"),  # the branch with more bytes
        ("all-reduce", "f32[8]", 32, 1, "decode"),
        ("all-reduce", "pred[]", 1, 1, "decode"),
        ("collective-permute", "f32[2,8]", 64, 1, ""),  # what starts counts, what is done does not
        ("all-to-all", "f32[2,8]", 64, 1, ""),
    }


def test_sums_by_hand():
    messages = collectives.read(MODULE)
    assert collectives.total(messages) == 21 * 256 + 3 * 128 + 132 + 32 + 1 + 64 + 64
    assert collectives.bytes_each_trip(messages) == 132 + 32 + 1
    assert collectives.largest(messages).shape == "f32[4,16]" and collectives.largest([]) is None
    assert collectives.by_kind(messages) == {
        "all-gather": 5376, "all-reduce": 165, "all-to-all": 64, "collective-permute": 64, "reduce-scatter": 384,
    }  # fmt: skip
    assert next(m.source for m in messages if m.kind == "all-gather") == "jit(f)/gather"


@pytest.mark.parametrize("groups, devices", [
    ("{{0,1,2,3},{4,5,6,7}}", 4), ("[2,8]<=[16]", 8), ("[4,2]<=[2,4]T(1,0)", 2),
    ("mesh['axis_0'=1,'axis_1'=8,'axis_2'=2] {'axis_1'}", 8), ("mesh['a'=4,'b'=2] {'a','b'}", 8),
    ("mesh['a'=8] {'a':(2)4}", 4), ("mesh['axis_0'=4,'axis_1'=4], device_ids=([4,4]T(1,0)) {'axis_0'}", 4),
])  # fmt: skip
def test_a_reduce_scatter_counts_its_operand(groups, devices):
    text = f"ENTRY %main () -> f32[] {{\n  %x = f32[10]{{0}} reduce-scatter(%y), replica_groups={groups}\n}}"
    (message,) = collectives.read(text)
    assert message.bytes == 40 * devices


def test_a_sum_of_which_a_device_keeps_a_part():
    """The TPU compiler writes a reduce-scatter as a fusion; a slice of something else stays an all-reduce."""
    fused = """%all-reduce-scatter.1 (input: bf16[4,1024]) -> bf16[4,256] {{
  %input = bf16[4,1024]{{1,0}} parameter(0)
  %ar = bf16[4,1024]{{1,0}} all-reduce(%input), channel_id=1, replica_groups={{{{0,1,2,3}}}}, to_apply=%add
  %at = u32[] constant(256)
  ROOT %part = bf16[4,256]{{1,0}} dynamic-slice(%{sliced}, %zero, %at), dynamic_slice_sizes={{4,256}}
}}

ENTRY %main (x: bf16[4,1024]) -> bf16[4,256] {{
  ROOT %kept = bf16[4,256]{{1,0}} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.1
}}
"""
    (message,) = collectives.read(fused.format(sliced="ar"))
    assert (message.kind, message.shape, message.bytes) == ("reduce-scatter", "bf16[4,256]", 8192)
    assert message.sent_bytes == 8192 * 3 / 4 and message.group == 4
    (message,) = collectives.read(fused.format(sliced="input"))
    assert (message.kind, message.shape, message.sent_bytes) == ("all-reduce", "bf16[4,1024]", 2 * 8192 * 3 / 4)


def test_a_sum_of_one_device_alone_sends_nothing():
    text = "ENTRY %main () -> f32[] {{\n  %x = f32[10]{{0}} all-reduce(%y), replica_groups={}, to_apply=%add\n}}"
    assert collectives.read(text.format("{{0},{1},{2},{3}}")) == []
    assert collectives.read(text.format("mesh['data'=1,'fsdp'=4] {'data'}")) == []
    (message,) = collectives.read(text.format("{}"))  # all devices, whose number the line does not say
    assert (message.group, message.sent_bytes) == (0, 2 * 40)


def test_a_message_in_pieces_counts_once():
    """As the TPU compiler writes a gathering that goes on while two products are computed."""
    gather = "f32[16,8]{1,0} all-gather(%p0), channel_id=7, replica_groups=[1,4]<=[4], dimensions={0}"
    gather += ', frontend_attributes={chain_id="3"}'
    text = f"""%begin (p0: f32[4,8]) -> (f32[4,8], f32[16,8], u32[]) {{
  %p0 = f32[4,8]{{1,0}} parameter(0)
  %g0 = {gather}
  ROOT %s = (f32[4,8]{{1,0}}, f32[16,8]{{1,0}}, u32[]) custom-call(%g0), custom_call_target="AsyncCollectiveStart"
}}

%product (p0: f32[4,8], p1: f32[16,8], p2: u32[]) -> (f32[16,8], u32[]) {{
  %p0 = f32[4,8]{{1,0}} parameter(0)
  %p1 = f32[16,8]{{1,0}} parameter(1)
  %p2 = u32[] parameter(2)
  %g1 = {gather}
  ROOT %t = (f32[16,8]{{1,0}}, u32[]) tuple(%p1, %p2)
}}

%end (p0: f32[4,8], p1: f32[16,8], p2: u32[]) -> f32[16,8] {{
  %p0 = f32[4,8]{{1,0}} parameter(0)
  %g2 = {gather}
  ROOT %d = f32[16,8]{{1,0}} custom-call(%p0, %p1, %g2), custom_call_target="AsyncCollectiveDone"
}}

ENTRY %main (x: f32[4,8]) -> f32[16,8] {{
  %a = (f32[4,8]{{1,0}}, f32[16,8]{{1,0}}, u32[]) fusion(%x), kind=kCustom, calls=%begin
  %b = (f32[16,8]{{1,0}}, u32[]) fusion(%x, %y, %z), kind=kOutput, calls=%product
  %c = (f32[16,8]{{1,0}}, u32[]) fusion(%x, %y, %z), kind=kOutput, calls=%product
  ROOT %d = f32[16,8]{{1,0}} fusion(%x, %y, %z), kind=kCustom, calls=%end
}}
"""
    for way in ("custom-call(%g0)", "custom-call(%part)"):  # directly, or through another instruction
        line = "%part = f32[16,8]{1,0} copy(%g0)\n  ROOT %s" if "part" in way else "ROOT %s"
        (message,) = collectives.read(text.replace("custom-call(%g0)", way).replace("ROOT %s", line))
        assert (message.kind, message.bytes, message.trips, message.sent_bytes) == ("all-gather", 512, 1, 384)


def test_a_text_without_entry_is_refused():
    with pytest.raises(ValueError, match="no entry computation"):
        collectives.read("%f (x: f32[]) -> f32[] {\n}")


@pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
def test_a_program_with_known_messages():
    """Each of 3 layers gathers its weights; a loop without known end sums up one number in each trip."""
    m = mesh.make(config.Mesh(1, 8, 1), jax.devices()[:8])
    whole, cut = mesh.replicated(m), mesh.of_activation(m, (3, 64, 64), (None, "width", None))

    def f(w_lio, x_bi):
        def layer(x_bi, w_io):
            return jnp.tanh(x_bi @ jax.lax.with_sharding_constraint(w_io, whole)), None

        x_bi, _ = jax.lax.scan(layer, x_bi, w_lio)
        return jax.lax.while_loop(lambda x: x.sum() > 1, lambda x: x / 2, x_bi)

    shapes = (
        jax.ShapeDtypeStruct((3, 64, 64), jnp.float32, sharding=cut),
        jax.ShapeDtypeStruct((16, 64), jnp.float32, sharding=NamedSharding(m, mesh.batch(m).spec)),
    )
    messages = collectives.read(jax.jit(f).lower(*shapes).compile().as_text())
    gathers = [x for x in messages if x.kind == "all-gather"]
    assert [(x.bytes, x.trips) for x in gathers] == [(64 * 64 * 4, 3)]
    assert collectives.bytes_each_trip(messages) == 4 and len(messages) == 2
