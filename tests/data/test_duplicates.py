"""Files in two splits: found by content, not by name or size, and only the files of equal size are read."""

import pytest

from dtr1_jax.data import duplicates


@pytest.fixture
def folders(tmp_path):
    """Writes files (name -> content) into the folders a and b, and returns their paths."""

    def write(first, second):
        paths = []
        for folder, files in (("a", first), ("b", second)):
            (tmp_path / folder).mkdir()
            for name, content in files.items():
                (tmp_path / folder / name).write_bytes(content)
            paths.append([tmp_path / folder / name for name in files])
        return paths

    return write


def names(shared):
    return [(a.name, b.name) for a, b in shared.pairs]


def test_content_decides(folders):
    first, second = folders(
        {"1.jpg": b"cat", "2.jpg": b"dog!", "3.jpg": b"bird"}, {"1.jpg": b"bat", "9.jpg": b"dog!", "8.jpg": b"fish"}
    )
    found = duplicates.shared_files(first, second)
    assert names(found) == [("2.jpg", "9.jpg")] and found.complete


def test_the_same_path_and_links_count(folders, tmp_path):
    first, _ = folders({"1.jpg": b"cat", "2.jpg": b"dog"}, {})
    link = tmp_path / "link.jpg"
    link.symlink_to(first[0])
    assert names(duplicates.shared_files(first, [first[1], link])) == [("2.jpg", "2.jpg"), ("1.jpg", "link.jpg")]


def test_a_limit_on_bytes_is_told(folders):
    first, second = folders({"1": b"x" * 100, "2": b"cat"}, {"1": b"x" * 100, "2": b"cat"})
    found = duplicates.shared_files(first, second, most_bytes=50)
    assert names(found) == [("2", "2")] and not found.complete


def test_missing_and_empty_files_are_left_out(folders, tmp_path):
    first, second = folders({"1": b""}, {"1": b""})
    assert duplicates.shared_files([*first, tmp_path / "no"], [*second, tmp_path / "no"]) == duplicates.Shared((), True)
