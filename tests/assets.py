"""Real data that lie beside the repository, where they are at all."""

import os
import pathlib

import pytest

ROOT = pathlib.Path(os.environ.get("DTR1_ASSETS") or pathlib.Path(__file__).parents[2] / "shared" / "assets")


def path(name: str) -> pathlib.Path:
    """The file or folder `name` of the assets; skips the test where it is absent."""
    found = ROOT / name
    if not found.exists():
        pytest.skip(f"no {name} in {ROOT}; set DTR1_ASSETS to the folder of test data")
    return found
