"""What to change if a step does not fit a slice."""

import types

import pytest
from plan_settings import settings

from dtr1_jax.modes import slice_table
from dtr1_jax.policies import chips

CHIP = chips.CHIPS["v5e"]
GIB = 2**30


def advice(update, rollout, resident=1.0, sizes=(1, 16, 1), tensor=4, **changes):
    m, sampling = (
        types.SimpleNamespace(shape=dict(zip(("data", "fsdp", "tensor"), s)))
        for s in (sizes, (1, sizes[1] * sizes[2] // tensor, tensor))
    )
    c = settings("qwen2_5_vl_7b", **changes)
    need = {"update": update * GIB, "rollout": rollout * GIB}
    return "\n".join(slice_table.advice(c, m, sampling, CHIP, need, int(resident * GIB)))


def test_what_fits_needs_no_advice():
    assert advice(15, 15, resident=12) == ""


@pytest.mark.parametrize("phase, changes, wanted, other", [
    ((20, 1), {}, "grpo.micro_group=2 (now 4)", "mesh.rollout above"),
    ((20, 1), {"grpo_micro_queries": 2}, "grpo.micro_queries=1 (now 2)", "remat"),
    ((20, 1), {"policy_remat": "off"}, "policy.remat=on", "micro_queries=1"),
    ((20, 1), {"grpo_micro_group": 1}, "mesh.tensor above 1", "micro_group"),
    ((1, 20), {}, "mesh.rollout above 4", "micro_group"),
    ((1, 20), {}, "policy.weights_dtype=int8", "remat"),
    ((1, 20), {"policy_weights_dtype": "int8"}, "rollout.queries (now 16)", "weights_dtype"),
    ((20, 1), {"resident": 12, "sizes": (4, 4, 1)}, "mesh.fsdp larger at the cost of config.mesh.data", "mesh.rollout"),
    ((20, 1), {"resident": 12, "lora_rank": 0, "policy_weights_dtype": "float32", "grpo_beta": 0.1},
     "lora.rank=16 trains adapters", "int8"),
    ((20, 1), {"resident": 12, "lora_rank": 0, "policy_weights_dtype": "float32", "grpo_beta": 0.1},
     "grpo.beta=0 needs no reference", "mesh.rollout"),
])  # fmt: skip
def test_the_settings_of_the_phase_that_does_not_fit(phase, changes, wanted, other):
    text = advice(*phase, **changes)
    assert wanted in text and other not in text and "a slice with more chips" in text
