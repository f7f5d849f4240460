"""Bounds of what devices send each other in a rollout and an update, so that a layout cannot become worse unseen."""

import functools
import re

import jax
import pytest
import scripts

from dtr1_jax import mesh
from dtr1_jax.models import policy
from dtr1_jax.policies import ahead_of_time
from dtr1_jax.policies import collectives as reading
from dtr1_jax.rl import compaction

pytestmark = pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")
ITEM = 4  # bytes of a number: the CPU computes in float32
script = scripts.load_script("experiments/collectives.py")


@functools.cache
def settings(sizes, *more):
    return script.arguments([f"--mesh={sizes}", "--layers=1", "--queries=8", "--prompt=16", "--new=8", *more])


@functools.cache
def measured(sizes, phase, *more):
    """(settings, sizes of the policy, fields, messages)."""
    args = settings(sizes, *more)
    return args, script.spec_of(args), *script.measure(args, phase)


def rows(args):
    """Completions on a device."""
    data, fsdp, _ = args.mesh
    return args.queries // (data * fsdp) * args.group


@pytest.mark.parametrize("sizes", ["1,8,1", "2,4,1"])
def test_decoding_sends_no_more_than_whether_all_rows_have_ended(sizes):
    _, _, fields, messages = measured(sizes, "rollout")
    assert fields["bytes_per_token"] <= 16
    assert fields["largest"] <= 4096 and reading.total(messages) <= 4096  # nothing is sent in the prefill either


@pytest.mark.parametrize("sizes", ["1,4,2", pytest.param("1,2,4", marks=pytest.mark.slow)])
def test_decoding_over_tensor_sends_states_and_sums_over_blocks(sizes):
    """With tensor = 4, each of the 2 kv heads is on two devices; its keys are not sent."""
    args, spec, fields, _ = measured(sizes, "rollout")
    state = rows(args) * (spec.width + args.lora) * ITEM  # adapters send their inner values beside a state
    block = rows(args) * 4 * spec.vocab**0.5 * ITEM
    assert fields["largest_per_token"] <= max(state, block)
    assert fields["bytes_per_token"] <= (2 * spec.layers + 1) * state + 2 * block
    assert fields["largest_per_token"] < rows(args) * spec.vocab * ITEM / args.mesh[2] / 4  # no logits


@pytest.mark.parametrize("sizes", ["1,8,1", pytest.param("1,4,2", marks=pytest.mark.slow)])
def test_rows_that_leave_the_batch_send_nothing(sizes):
    """The smaller loops send no more than the first, and nothing is sent between the loops."""
    work = sizes, "rollout", "--queries=16", "--new=64"
    _, _, one, messages = measured(*work)
    args, _, fields, of_loops = measured(*work, "--compaction")
    assert len(of_loops) > len(messages) and args.queries // 8 * args.group >= compaction.LEAST_ROWS
    assert fields["largest_per_token"] <= max(one["largest_per_token"], 4)  # 4: whether the rows fit
    assert fields["bytes_per_token"] <= 3 * (
        one["bytes_per_token"] + 8
    )  # each loop also asks whether the next may begin
    assert reading.total(m for m in of_loops if not m.unknown) == reading.total(m for m in messages if not m.unknown)


@pytest.mark.parametrize(
    "sizes", ["1,8,1", pytest.param("1,4,2", marks=pytest.mark.slow), pytest.param("2,4,1", marks=pytest.mark.slow)]
)
def test_an_update_sends_weights_by_layer(sizes):
    """LoRA: weights are gathered for each layer and part, forward and backward, and the output projection for each
    micro-group, by slices; adapters are sent once."""
    args, spec, fields, messages = measured(sizes, "update")
    data, fsdp, tensor = args.mesh
    params = jax.eval_shape(lambda: policy.init(jax.random.key(0), spec))
    bytes_of = {name: sum(x.size for x in jax.tree.leaves(tree)) * ITEM for name, tree in params.items()}
    gathers = [m for m in messages if m.kind == "all-gather"]
    head = bytes_of["head"] // tensor
    assert fields["largest"] <= bytes_of["decoder"] // tensor < head  # no more than the weights of its one layer
    parts = args.queries // (args.micro_queries * data * fsdp)
    groups = args.group // args.micro_group
    passes = parts * (1 + groups) * 2  # prompts and micro-groups, forward and backward
    decoder = passes * bytes_of["decoder"] // tensor
    tower = parts * 2 * bytes_of["vision"]  # its queries, keys and values are whole over tensor
    adapters = (
        4 * sum(x.size for x in jax.tree.leaves(ahead_of_time.weight_shapes(script.settings_of(args), spec)[0])) * ITEM
    )
    assert reading.total(gathers) <= 1.1 * (decoder + tower + parts * groups * 2 * head + adapters)
    if tensor == 1:  # over tensor, states are summed up in each layer
        tokens = args.queries // (data * fsdp) * (args.prompt + args.group * args.new)
        states = tokens * spec.width * ITEM
        others = reading.total(m for m in messages if m.kind != "all-gather")
        assert others <= 1.1 * (2 * adapters + 2 * states) + 4096


@pytest.mark.parametrize("sizes", [(1, 4, 2), pytest.param((1, 1, 8), marks=pytest.mark.slow)])
def test_the_states_that_an_update_keeps_are_cut_over_tensor(sizes, tmp_path):
    """Each device keeps the inputs of the layers for its part of the tokens, and none for all tokens."""
    written = {}
    for part in ("tensor", ()):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(mesh.ACTIVATIONS, "sequence", part)  # (): no axis of the mesh
            jax.clear_caches()
            args = settings(",".join(map(str, sizes)), "--layers=3", "--prompt=48", "--new=24", f"--hlo={tmp_path}")
            script.measure(args, "update")
        text = (tmp_path / "update.txt").read_text()
        width = script.spec_of(args).width
        written[part] = (
            {int(n) for n in re.findall(rf"f32\[3,1,1,(\d+),{width}\]", text)},
            {int(n) for n in re.findall(rf"f32\[3,1,{args.micro_group},(\d+),{width}\]", text)},
        )
    tensor = sizes[2]
    assert written["tensor"] == ({48 // tensor}, {24 // tensor})
    assert written[()] == ({48}, {23})


@pytest.mark.slow
def test_full_training_reduces_the_gradients_of_a_layer_and_no_activations():
    args, spec, fields, _ = measured("1,8,1", "update", "--lora=0")
    params = jax.eval_shape(lambda: policy.init(jax.random.key(0), spec))
    total = sum(x.size for x in jax.tree.leaves(params)) * ITEM
    # XLA sums up the gradients of the layer and of the output projection in one message.
    assert fields["largest"] <= sum(x.size for x in jax.tree.leaves((params["decoder"], params["head"]))) * ITEM
    passes = args.queries // (args.micro_queries * 8) * (1 + args.group // args.micro_group)
    assert fields["bytes"] <= 3.3 * passes * total  # gathered twice, gradients reduced once


def test_the_lines_name_what_is_sent():
    _, _, fields, messages = measured("1,8,1", "update")
    (line,) = reading.lines(messages, 1)
    top = max(messages, key=lambda m: m.bytes * m.trips)
    assert f"{top.bytes * top.trips:,} B = {top.kind} {top.shape} x {top.trips}" in line
    assert fields["bytes"] == sum(fields["by_kind"].values())
