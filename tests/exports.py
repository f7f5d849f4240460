"""Checkpoints that are exported and read again, for the tests of the export."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import default
from dtr1_jax import config
from dtr1_jax.models import policy
from dtr1_jax.modes import export
from dtr1_jax.policies import pretrained, state
from dtr1_jax.types import Prompt

IDS = [3, 200, 41, 7, 960, 12, 33, 600, 601, 5, 1200]


def settings(path, **lora):
    values = default.get_config("auto")
    values.policy.path = str(path)
    values.policy.dtype = values.policy.weights_dtype = "float32"
    values.policy.constructor = "given"
    values.lora.update({"rank": 4, "alpha": 8.0} | lora)
    values.mesh.data = -1
    return values


def adapters(base, rank=4, seed=3, targets="decoder/.*"):
    """Adapters that are not the identity."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda w: policy.init_lora(jax.random.key(0), w, rank, targets), base)
    return jax.tree.map(lambda x: (0.2 * rng.normal(size=x.shape)).astype(np.float32), shapes)


def pretend(monkeypatch) -> dict:
    """Makes the newest checkpoint hold adapters that are not the identity; returns what it held, once it was read."""
    held = {}

    def trained_weights(c, pretrained_policy, device_mesh, workdir, step):
        base = pretrained.read_weights(c, pretrained_policy)
        held.update(spec=pretrained_policy.spec, base=base, lora=adapters(base, c.lora.rank, targets=c.lora.targets))
        return base, held["lora"], 1

    monkeypatch.setattr(state, "trained_weights", trained_weights)
    return held


def trained_logits(monkeypatch):
    """A function that gives the logits of the adapters that `pretend` puts into the newest checkpoint."""
    held = pretend(monkeypatch)

    def logits(adapted=True, ids=IDS):
        token = jnp.asarray([[[*ids[1:], 0]]])
        first = Prompt(
            token_bp=jnp.asarray([ids[:1]]), mask_bp=jnp.ones((1, 1), bool), position_bp3=jnp.zeros((1, 1, 3), int),
            slot_bp=jnp.full((1, 1), -1), next_b=jnp.ones(1, int), images=None,
        )  # fmt: skip
        base, shape, lora = held["base"], held["spec"], held["lora"] if adapted else None
        prefix = policy.prefill(base, lora, shape, first)
        return np.asarray(policy.logits(base, shape, policy.hidden(base, lora, shape, prefix, token)))[0, 0]

    return logits


def run(tmp_path, values, adapter=False, name="out"):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True, exist_ok=True)
    return export.run(config.from_configdict(values), tmp_path / "run", str(tmp_path / name), adapter)


def auto(family):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    return transformers.AutoModelForImageTextToText if family.endswith("vl") else transformers.AutoModelForCausalLM
