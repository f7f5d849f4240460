"""Operations of an update and bytes of decoding agree with the traced program; the JSON line has all fields."""

import dataclasses
import json
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scripts
from jax.extend import core as extend
from jax.interpreters import partial_eval

from dtr1_jax.models import policy
from dtr1_jax.models.spec import Spec
from dtr1_jax.rl import update
from dtr1_jax.types import Rollout

speed = scripts.load_script("experiments/speed.py")
with pytest.MonkeyPatch.context() as patch:  # as if run beside it
    patch.setitem(sys.modules, "speed", speed)
    utilization = scripts.load_script("experiments/utilization.py")
WIDE = Spec(
    vocab=512, width=256, layers=3, heads=4, kv_heads=2, head_dim=32, hidden=512, qk_norm=False, remat=False, unroll=3
)
WORK = utilization.Work(WIDE, queries=2, group=4, prompt_tokens=16, new_tokens=32, rows=2, dtype="float32")


def products(jaxpr) -> float:
    """Operations of the products in a jaxpr; a condition counts its largest branch."""
    total = 0.0
    for eqn in jaxpr.eqns:
        inner = [products(sub) for sub in extend.jaxprs_in_params(eqn.params)]
        if eqn.primitive.name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            shape = eqn.invars[0].aval.shape
            total += 2 * math.prod(eqn.outvars[0].aval.shape) * math.prod(shape[axis] for axis in contracted)
        elif eqn.primitive.name == "cond":
            total += max(inner)
        else:
            total += sum(inner) * eqn.params.get("length", 1)
    return total


def traced(work) -> tuple[float, int]:
    """(operations of the products in an update by LoRA, number of LoRA weights)."""
    b, g, s = work.queries, work.group, work.new_tokens
    base = policy.init(jax.random.key(0), WIDE)
    lora = policy.init_lora(jax.random.key(1), base, utilization.RANK, "decoder/.*")
    completions = Rollout(
        token_bgs=np.ones((b, g, s), np.int32), mask_bgs=np.ones((b, g, s), bool),
        logp_bgs=np.zeros((b, g, s), np.float32), stopped_bg=np.ones((b, g), bool),
    )  # fmt: skip
    batch = update.Minibatch(speed.prompts(work, 0), completions, np.ones((b, g), np.float32))
    knobs = dataclasses.replace(speed.GRPO, micro_group=work.rows)
    state = update.State({"lora": lora}, speed.TX.init({"lora": lora}))
    jaxpr = jax.make_jaxpr(
        lambda state: update.update(
            state, {"base": base}, batch, None, spec=WIDE, tx=speed.TX, knobs=knobs, temperature=1.0, micro=work.micro
        )
    )(state)
    used, _ = partial_eval.dce_jaxpr(jaxpr.jaxpr, [True] * len(jaxpr.jaxpr.outvars))  # XLA leaves out the rest too
    return products(used), sum(x.size for x in jax.tree.leaves(lora))


@pytest.mark.parametrize("change", [{}, {"prompt_tokens": 64}, {"group": 8}, {"new_tokens": 64}, {"micro": 2}])
def test_operations_of_an_update_agree_with_the_traced_program(change):
    work = dataclasses.replace(WORK, **change)
    operations, adapters = traced(work)
    assert utilization.operations(work, adapters) == pytest.approx(operations, rel=0.1)


def test_traffic_by_hand():
    spec = dataclasses.replace(WIDE, layers=1, kv_heads=1, head_dim=2)  # a token has 4 numbers in the cache
    work = utilization.Work(spec, queries=1, group=2, prompt_tokens=10, new_tokens=3, rows=1)
    # three steps over 100 weights; 10 tokens of the prompt once; 0, 1 and 2 tokens of each of two completions
    assert utilization.traffic(work, 100) == 2 * (3 * 100 + 3 * 10 * 4 + (0 + 1 + 2) * 2 * 4)


@pytest.fixture(autouse=True)
def quiet(monkeypatch):
    """The program sets the log handler of the whole process, which other tests would inherit."""
    monkeypatch.setattr(utilization.console, "set_up_logging", lambda: None)


def test_prints_one_line(monkeypatch, capsys):
    monkeypatch.setattr(utilization.published_sizes, "get_spec", lambda name: WIDE)
    sizes = ["--queries=1", "--group=2", "--rows=1", "--prompt_tokens=8", "--new_tokens=4", "--layers=1"]
    knobs = ["--rounds=1", "--side=64", "--read-mb=1", "--dtype=float32", "--peak-tflops=2", "--no-remat"]
    utilization.main(sizes + knobs)
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["layers"] == 1 and line["remat"] is False and line["limit_tflops"] == 2
    assert line["device"] == jax.devices()[0].device_kind
    assert line["mfu"] == pytest.approx(line["update_tflops"] / 2, rel=1e-3)
    assert line["decode_share"] == pytest.approx(line["decode_gb_s"] / line["limit_gb_s"], rel=1e-3)
    base = jax.eval_shape(lambda: policy.init(jax.random.key(0), dataclasses.replace(WIDE, layers=1)))
    assert line["parameters"] == sum(x.size for x in jax.tree.leaves(base))


@pytest.mark.parametrize("wrong, message", [
    ("--new_tokens=1", "--new_tokens: expected 2 or more, got 1"),
    ("--queries=0", "--queries: expected 1 or more, got 0"),
    ("--rows=3", "--rows (3) to divide --group"), ("--micro=3", "--micro (3) --queries"), ("--policy=qwen9", "'qwen9'"),
])  # fmt: skip
def test_wrong_arguments_are_named(wrong, message, capsys):
    with pytest.raises(SystemExit) as exit_:
        utilization.main([wrong])
    assert exit_.value.code == 2 and message in capsys.readouterr().err


def test_weights_have_the_dtype_of_the_argument():
    base, lora = utilization.initial(dataclasses.replace(WIDE, layers=1), "bfloat16")
    assert {x.dtype for x in jax.tree.leaves(base)} == {jnp.dtype("bfloat16")}
    assert {x.dtype for x in jax.tree.leaves(lora)} == {jnp.dtype("float32")}
