"""Folders for results: made before the work, refused where they cannot be written, never the same twice."""

import pytest

from dtr1_jax import config
from dtr1_jax.modes import results


def test_a_folder_that_can_not_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(config.ConfigError, match=r"cannot write to .*file/run: Not a directory; .*another --workdir"):
        results.open_folder(tmp_path / "file" / "run")
    with pytest.raises(config.ConfigError, match=r"another --out$"):
        results.open_folder(tmp_path / "file" / "run", "--out")
    assert list(results.open_folder(tmp_path / "a" / "b").iterdir()) == []
