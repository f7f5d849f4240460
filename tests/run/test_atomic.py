"""Files appear whole or not at all, with the rights that the umask allows, with any writer."""

import os
import stat

import numpy as np
import pytest

from dtr1_jax.models.weights import exporting, native
from dtr1_jax.run import atomic

ARRAYS = {"x": np.ones(3, np.float32)}
WRITERS = {
    "native weights": lambda path: native.save_native(path, ARRAYS),
    "tensors": lambda path: exporting.save(path, ARRAYS),
    "json": lambda path: exporting.write_json(path, {"a": 1}),
}


@pytest.fixture(params=[0o022, 0o027, 0o077])
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize("writer", WRITERS)
def test_rights_are_those_of_any_new_file(tmp_path, writer, umask):
    path, other = tmp_path / "file", tmp_path / "other"
    WRITERS[writer](path)
    other.touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(other.stat().st_mode) == 0o666 & ~umask
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "other"]


def test_the_old_file_is_there_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with atomic.replacing(path) as partial:
        partial.write_text("new")
        assert path.read_text() == "old" and partial.parent == tmp_path
    assert path.read_text() == "new" and [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_an_error_the_old_file_is_unchanged_and_alone(tmp_path, error):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(error), atomic.replacing(path) as partial:
        partial.write_text("half")
        raise error
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_the_partial_file_of_a_killed_process_is_replaced(tmp_path):
    path = tmp_path / "file"
    (tmp_path / "file.partial").write_text("a longer text of a process that was killed")
    (tmp_path / "file.partial").chmod(0o400)
    with atomic.replacing(path) as partial:
        partial.write_text("new")
    assert path.read_text() == "new" and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"), atomic.replacing(tmp_path / "nothing" / "file"):
        raise AssertionError("there is nowhere to write to")
