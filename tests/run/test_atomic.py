"""Files appear whole or not at all, with the rights that the umask leaves, whoever writes them."""

import os
import stat

import numpy as np
import pytest

from dtr1_jax.models.weights import exporting, native
from dtr1_jax.run import atomic

ARRAYS = {"x": np.ones(3, np.float32)}
WRITERS = {
    "weights of ours": lambda path: native.save_native(path, ARRAYS),
    "tensors": lambda path: exporting.save_tensors(path, ARRAYS),
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


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt])
def test_a_fault_leaves_what_was_there_and_nothing_else(tmp_path, fault):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(fault), atomic.replacing(path) as partial:
        partial.write_text("half")
        raise fault
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_what_a_killed_process_left_is_no_obstacle(tmp_path):
    path = tmp_path / "file"
    (tmp_path / "file.partial").write_text("a longer text of a process that was killed")
    (tmp_path / "file.partial").chmod(0o400)
    with atomic.replacing(path) as partial:
        partial.write_text("new")
    assert path.read_text() == "new" and [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"), atomic.replacing(tmp_path / "nothing" / "file"):
        raise AssertionError("there is nowhere to write to")
