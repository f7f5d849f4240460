"""Cold starts in seconds: a policy of one thin layer on one device, and settings of a few steps."""

import dataclasses
import functools

import jax

from configs import default
from dtr1_jax import config, mesh
from dtr1_jax.data import batches
from dtr1_jax.models import spec

TOWER = dataclasses.replace(spec.TINY.vision, width=16, layers=1, heads=2, hidden=16)
THIN = dataclasses.replace(
    spec.TINY, width=16, layers=1, heads=2, kv_heads=1, head_dim=8, hidden=16, sections=(2, 1, 1), vision=TOWER
)  # fmt: skip


def install(monkeypatch):
    """Puts the thin policy in the place of `tiny`, on one device, and gives all batches one shape: less to compile."""
    monkeypatch.setitem(spec.SPECS, "tiny", THIN)
    monkeypatch.setattr(mesh, "make", functools.partial(mesh.make, devices=jax.devices()[:1]))
    monkeypatch.setattr(batches, "BUCKET", 1000)


def settings(**changes):
    values = default.get_config()
    values.data.max_objects = 2
    values.sft.steps, values.sft.batch, values.sft.warmup, values.sft.log_every = 4, 4, 1, 1
    values.sft.tower, values.sft.practice = 0.5, 4
    values.checkpoint.every = 0
    for name, value in changes.items():
        *section, key = name.split("__")
        (values[section[0]] if section else values)[key] = value
    return config.from_configdict(values)
