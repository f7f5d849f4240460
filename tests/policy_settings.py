"""Settings of a policy by its files, for the tests that open policies."""

from configs import default
from dtr1_jax import config


def settings(**changes):
    values = default.get_config()
    for name, value in changes.items():
        values.policy[name] = value
    return config.from_configdict(values)


def of_files(path, name="auto", **changes):
    values = default.get_config(name)
    values.policy.path = str(path)
    values.policy.constructor = "given"
    values.policy.update(changes)
    return config.from_configdict(values)
