"""The settings with which the run in a workdir was begun, as a file that --config can name: FILE:WORKDIR.

`--mode=eval`, `infer` and `export` take these if there is a --workdir and no --config.
"""

import json
from pathlib import Path

from ml_collections import ConfigDict


def get_config(workdir: str = "") -> ConfigDict:
    """The settings in `workdir`/config.json. Raises ValueError naming the file where it cannot be read."""
    from dtr1_jax import config  # Here, because JAX comes with it and --help need not wait for JAX.

    path = Path(workdir).expanduser() / "config.json"
    try:
        settings = ConfigDict(json.loads(path.read_text("utf-8")))
        config.from_configdict(settings)
        return settings
    except (OSError, ValueError, TypeError, AttributeError, KeyError, OverflowError, RecursionError) as error:
        raise ValueError(
            f"{path}: expected a JSON object with the settings of a run, as --mode=train writes it; give --config, such"
            f" as --config=configs/seg.py, instead: {getattr(error, 'strerror', None) or error}"
        ) from error
