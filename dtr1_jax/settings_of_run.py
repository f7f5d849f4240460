"""The settings with which the run in a workdir was begun, as a file that --config can name: FILE:WORKDIR.

`--mode=eval`, `infer` and `export` take these if there is a --workdir and no --config. A workdir may come from somebody
else. So settings that reach outside this machine are not taken over: with them, a config.json could send any
environment variable to any server, or have files downloaded. They come from the command line or from a file that
--config names.
"""

import json

from ml_collections import ConfigDict

# Settings that decide where requests go, which key goes with them, and where their results are written.
OUTSIDE = ("reward.judge.url", "reward.judge.key_env", "reward.judge.cache")
# Settings whose value would be downloaded if it is the name of a hub repository.
MODELS = (
    "policy.path", "policy.adapter", "reward.segmenter", "specialists.detector", "specialists.segmenter",
    "specialists.depth",
)  # fmt: skip
# Further settings whose value would be copied to this machine if it is the address of a bucket.
INPUTS = ("data.root", "data.phrases", "reward.sentences", "reward.idf", "specialists.phrases")

# The value of a setting that is not taken over, where "" has no meaning.
WITHOUT = {"reward.segmenter": "grabcut", "specialists.segmenter": "grabcut"}
_PREFIX = "sam:"  # of the path of a segmenter


def get_config(workdir: str = "") -> ConfigDict:
    """The settings in `workdir`/config.json, with "" for those that reach outside this machine (see `withheld`).

    Raises ValueError naming the file where it cannot be read.
    """
    return _read(workdir)[0]


def withheld(workdir: str) -> dict[str, str]:
    """The settings of the run in `workdir` that get_config does not take over: dotted name -> value in the file.

    Those of OUTSIDE, those of MODELS that are the name of a hub repository, which would be downloaded, and those of
    MODELS and INPUTS that are in a bucket, which would be copied. Raises ValueError as get_config does.
    """
    return _read(workdir)[1]


def _read(workdir: str) -> tuple[ConfigDict, dict[str, str]]:
    from dtr1_jax import config, places  # Here, because JAX comes with it and --help need not wait for JAX.
    from dtr1_jax.policies import policy_files
    from dtr1_jax.run import run_settings

    try:
        path = places.path(workdir) / "config.json"
        settings = ConfigDict(run_settings.with_added(json.loads(places.read_text(path))))
        paths = {name: _value(settings, name).removeprefix(_PREFIX) for name in (*MODELS, *INPUTS)}
        hub = [name for name in MODELS if policy_files.is_hub_id(paths[name])]
        buckets = [name for name, path in paths.items() if places.is_bucket(path)]
        names = [*OUTSIDE, *hub, *buckets]
        values = {name: _value(settings, name) for name in names}
        settings.update_from_flattened_dict({name: WITHOUT.get(name, "") for name, value in values.items() if value})
        config.from_configdict(settings)  # without the settings that are left out: their faults do not matter
        return settings, {name: value for name, value in values.items() if value}
    except (OSError, ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError) as error:
        raise ValueError(
            f"{workdir}/config.json: expected a JSON object with the settings of a run, as --mode=train writes"
            f" it; give --config, such as --config=configs/seg.py, instead: {getattr(error, 'strerror', None) or error}"
        ) from error


def _value(settings: ConfigDict, name: str) -> str:
    """The text of a setting by its dotted name, "" if it is missing. Raises TypeError if it is no text."""
    for part in name.split("."):
        if not isinstance(settings, ConfigDict) or part not in settings:
            return ""
        settings = settings[part]
    if not isinstance(settings, str):
        raise TypeError(f"{name}: expected a str, got {type(settings).__name__}")
    return settings
