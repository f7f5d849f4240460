"""A step planned for a slice: the whole mode with devices of this CPU in place of chips, and its parts by hand."""

import dataclasses
import json

import jax
import pytest
import small
from plan_settings import settings

from dtr1_jax import config
from dtr1_jax.modes import slice_plan, slice_table
from dtr1_jax.policies import chips, compiled_figures
from dtr1_jax.policies.collectives import Message
from dtr1_jax.policies.compiled_figures import Figures, Part, TooLargeError
from dtr1_jax.policies.roofline import Work

GIB = 2**30
DEEP = dataclasses.replace(small.SPEC, layers=10)


def changed(**changes):
    sizes = {"rollout_queries": 8, "rollout_group": 2, "rollout_new_tokens": 4, "policy_prompt_tokens": 7}
    return settings("tiny", **{**sizes, "mesh_data": 1, "mesh_fsdp": -1, **changes})


@pytest.fixture
def slice_of_cpus(monkeypatch):
    monkeypatch.setattr(slice_plan.chips, "of_slice", lambda name: (chips.CHIPS["v5e"], 8))
    monkeypatch.setattr(slice_plan.ahead_of_time, "devices_of_slice", lambda name: jax.devices()[:8])
    monkeypatch.setattr(slice_plan.plan, "patches", lambda c, spec: 8)


def of_depth(spec, name="rollout"):
    """Figures that grow by the same number with each layer."""
    part = Part(Work(1e12 * spec.layers, 1e9, 1e8), {"all-gather": 1e8}, 7, Message("all-gather", "bf16[3]", 6))
    return Figures(spec.layers * GIB / 16, GIB, 0, part, (part,) * (name == "rollout"))


@pytest.fixture
def by_layers(slice_of_cpus, monkeypatch):
    """Nothing is compiled; the list has (phase, layers) of what would be."""
    compiled = []

    def fake(this, name, lower, layers):
        compiled.append((name, layers))
        return of_depth(dataclasses.replace(this.spec, layers=layers), name)

    monkeypatch.setattr(slice_plan, "_of_depth", fake)
    return compiled


needs_eight = pytest.mark.skipif(jax.device_count() < 8, reason="needs 8 devices")


@needs_eight
def test_a_deep_policy_is_compiled_with_all_layers(by_layers):
    planned = slice_plan.plan_slice(changed(), DEEP, "v5e:2x4")
    assert by_layers == [("update", 10), ("rollout", 10)]
    assert planned["extrapolated"] == {} and planned["layers"] == 10
    assert planned["decode"]["flops"] == pytest.approx(4e13) and planned["prefill"]["flops"] == 1e13  # four tokens
    assert planned["update"]["flops"] == 1e13 and planned["update"]["seconds"] == 1e13 / 197e12
    assert planned["collective_bytes"] == pytest.approx(1e8 * (1 + 1 + 4) + planned["weights_copy"]["hbm_bytes"] / 2)
    assert planned["fits"] and planned["advice"] == []
    text = "\n".join(slice_table.lines(planned))
    assert "EXTRAPOLATED" not in text and "fits: yes" in text


@needs_eight
def test_a_token_is_a_mean_over_the_loops_that_run(slice_of_cpus, monkeypatch):
    """Of 65 tokens, 33 have a short cache and 32 a long one; the loop for few rows never runs if no row ends early."""
    loops = tuple(Part(Work(flops, 0, 0), {}, 0, None) for flops in (1e13, 3e13, 1e20))

    def fake(this, name, lower, layers):
        return dataclasses.replace(of_depth(this.spec), loops=loops if name == "rollout" else ())

    monkeypatch.setattr(slice_plan, "_of_depth", fake)
    planned = slice_plan.plan_slice(changed(rollout_new_tokens=65, rollout_group=8), DEEP, "v5e:2x4")
    assert planned["decode"]["flops"] == pytest.approx(33 * 1e13 + 32 * 3e13)
    assert planned["decode"]["token_seconds"] == pytest.approx((33 * 1e13 + 32 * 3e13) / 65 / 197e12)


@needs_eight
def test_loops_that_are_not_understood_are_refused(slice_of_cpus, monkeypatch):
    """Their work would not count."""
    monkeypatch.setattr(slice_plan, "_of_depth", lambda this, name, lower, layers: of_depth(this.spec))
    with pytest.raises(config.ConfigError, match=r"v5e:2x4: the compiled update has 1 loops whose .* expected 0"):
        slice_plan.plan_slice(changed(), DEEP, "v5e:2x4")
    no_loops = dataclasses.replace(of_depth(DEEP), loops=())
    monkeypatch.setattr(slice_plan, "_of_depth", lambda this, name, lower, layers: no_loops)
    with pytest.raises(config.ConfigError, match=r"the compiled rollout has 0 loops whose .* expected 1"):
        slice_plan.plan_slice(changed(), DEEP, "v5e:2x4")


@needs_eight
def test_layers_are_planned_as_they_are(by_layers):
    planned = slice_plan.plan_slice(changed(), DEEP, "v5e:2x4", layers=6)
    assert by_layers == [("update", 6), ("rollout", 6)] and planned["extrapolated"] == {} and planned["layers"] == 6
    with pytest.raises(config.ConfigError, match="--layers=11: expected 1 to 10, the layers of tiny"):
        slice_plan.plan_slice(changed(), DEEP, "v5e:2x4", layers=11)


def test_levels_of_deepstack_are_kept():
    tower = dataclasses.replace(small.TOWER, layers=4, deepstack=(0, 1, 2))
    spec = dataclasses.replace(DEEP, vision=tower)
    assert slice_plan.depths(spec) == (3, 5) and slice_plan.depths(DEEP) == (2, 4)
    with pytest.raises(config.ConfigError, match="--layers=2: expected at least 3, one for each level of DeepStack"):
        slice_plan.with_layers(spec, 2)


def refusing(message, *names):
    """A compiler that refuses the programs `names` with all ten layers, and takes fewer."""

    def of_depth_or_refused(this, name, lower, layers):
        if name in names and layers == 10:
            raise TooLargeError(message)
        return of_depth(dataclasses.replace(this.spec, layers=layers), name)

    return of_depth_or_refused


@needs_eight
def test_what_the_compiler_refuses_does_not_fit(slice_of_cpus, monkeypatch):
    """With all layers it is too large; at two depths it can be compiled, so that the rest is known."""

    monkeypatch.setattr(slice_plan, "_of_depth", refusing("RESOURCE_EXHAUSTED: Used 20.00G of 15.75G hbm", "update"))
    planned = slice_plan.plan_slice(changed(lora_rank=2, grpo_micro_queries=0), DEEP, "v5e:2x4")
    assert not planned["fits"] and planned["hbm_bytes_per_chip"] == 20 * GIB
    assert planned["extrapolated"] == {"update": (2, 4)} and planned["mfu"] > 0
    # 2e12 and 4e12 at two depths are 1e13 at ten layers
    assert planned["update"]["flops"] == pytest.approx(1e13)
    assert "EXTRAPOLATED: the update was compiled with 2 and 4 layers" in "\n".join(slice_table.lines(planned))
    assert any("grpo.micro_queries=1 (now all)" in line for line in planned["advice"])

    def never(this, name, lower, layers):
        raise TooLargeError("RESOURCE_EXHAUSTED: words without a number")

    monkeypatch.setattr(slice_plan, "_of_depth", never)
    planned = slice_plan.plan_slice(changed(), DEEP, "v5e:2x4")
    assert planned["hbm_bytes_per_chip"] == planned["usable_bytes"] + 1 and planned["advice"]
    assert not planned["fits"] and planned["mfu"] is planned["step_seconds"] is planned["collective_bytes"] is None
    assert "fits: NO" in "\n".join(slice_table.lines(planned)) and json.dumps(planned)


@needs_eight
def test_the_weights_of_the_update_stay_beside_the_copy(by_layers):
    """With a copy a rollout has two sets of weights, without one it works with the update's."""
    for rollout, extra in ((0, lambda stays: stays["all"]), (-1, lambda stays: stays["all"] - stays["weights"])):
        planned = slice_plan.plan_slice(changed(mesh_rollout=rollout), DEEP, "v5e:2x4")
        stays = planned["memory"]["resident"]
        assert planned["memory"]["rollout"] == of_depth(DEEP).memory + extra(stays)
        assert 0 < stays["weights"] < stays["all"]
        assert (planned["weights_copy"] is None) == (rollout == -1)


@needs_eight
def test_what_was_refused_needs_at_least_what_is_counted(slice_of_cpus, monkeypatch):
    """Where the compiler does not say how much it needs, and by hand where it says how much besides the arguments."""

    monkeypatch.setattr(slice_plan, "_of_depth", refusing("RESOURCE_EXHAUSTED: words without a number", "rollout"))
    monkeypatch.setattr(slice_plan, "_counted", lambda this: {"update": 40 * GIB, "rollout": 30 * GIB})
    planned = slice_plan.plan_slice(changed(), DEEP, "v5e:2x4")
    assert planned["hbm_bytes_per_chip"] == planned["memory"]["rollout"] == 30 * GIB and not planned["fits"]
    assert planned["memory"]["update"] == of_depth(DEEP).memory  # compiled with all layers
    of_temporaries = "RESOURCE_EXHAUSTED: the total memory required for HLO temporaries (20.50G) exceeds available"
    monkeypatch.setattr(slice_plan, "_of_depth", refusing(of_temporaries, "update", "rollout"))
    planned = slice_plan.plan_slice(changed(), DEEP, "v5e:2x4")
    arguments = 10 * GIB / 16  # of ten layers
    assert planned["memory"]["update"] == 20.5 * GIB + arguments
    assert planned["memory"]["rollout"] == 20.5 * GIB + arguments + planned["memory"]["resident"]["all"]


@needs_eight
def test_a_batch_that_does_not_fit_the_mesh_is_refused(by_layers):
    with pytest.raises(config.ConfigError, match=r"rollout\.queries = 4 is not a multiple of mesh data x fsdp = 8"):
        slice_plan.plan_slice(changed(rollout_queries=4), DEEP, "v5e:2x4")
    with pytest.raises(config.ConfigError, match=r"1 x 3 x 1 = 3, but --topology=v5e:2x4 has 8 chips"):
        slice_plan.plan_slice(changed(mesh_fsdp=3), DEEP, "v5e:2x4")


@needs_eight
@pytest.mark.slow
def test_the_mode_with_devices_of_this_machine(slice_of_cpus, monkeypatch):
    """Both programs are compiled; the figures of a policy of 2 layers are those of its programs."""
    monkeypatch.setattr(slice_plan.plan, "policy_spec", lambda c: small.SPEC)
    *table, last = slice_plan.run(changed(lora_rank=2), "v5e:2x4").splitlines()
    planned = json.loads(last)
    assert {"fits", "hbm_bytes_per_chip", "step_seconds", "mfu", "collective_bytes"} <= set(planned)
    assert planned["fits"] and planned["extrapolated"] == {} and planned["rollout_mesh"]["tensor"] == 1
    update, decode = planned["update"], planned["decode"]
    assert update["by_kind"]["all-gather"] > 0 and update["collective_bytes"] == sum(update["by_kind"].values())
    assert decode["repeats"] == 4 and 0 < decode["bandwidth_share"] < 1
    # each chip has its own rows, so all of them together do what is needed, and rematerialisation besides
    assert planned["update_flops"] < 8 * update["flops"] < 4 * planned["update_flops"]
    assert planned["memory"]["update"] > planned["memory"]["resident"]["all"]
    assert any("MFU of the update" in line for line in table)


@pytest.mark.slow
def test_the_real_compiler():
    pytest.importorskip("libtpu", reason="needs libtpu: pip install 'dtr1_jax[tpu]'")
    c = settings("smollm2_135m", mesh_data=4, rollout_queries=4, train_eval_batch=4, rollout_new_tokens=32)
    c = dataclasses.replace(c, policy=dataclasses.replace(c.policy, prompt_tokens=64))
    planned = json.loads(slice_plan.run(c, "v5e:2x2", layers=1, fast=True).splitlines()[-1])
    assert planned["fits"] and planned["chips"] == 4 and 0 < planned["mfu"] < 1 and planned["fast"]
    assert compiled_figures.GIB > planned["hbm_bytes_per_chip"] > planned["memory"]["resident"]["all"]
