"""Settings of a policy on one device, for the tests of the memory plan."""

from configs import seg
from dtr1_jax import config


def settings(name: str = "tiny", **changes) -> config.Config:
    """The settings of a policy on one device; names as `rollout_queries`."""
    values = seg.get_config(name)
    values.mesh.data = 1
    for path, value in changes.items():
        group, _, key = path.partition("_")
        values[group][key] = value
    return config.from_configdict(values)
