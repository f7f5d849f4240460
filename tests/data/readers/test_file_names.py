"""Names of files: spellings that are found, names that leave their folder, and addresses."""

import pytest

from dtr1_jax.data.readers import file_names


@pytest.mark.parametrize(
    "file, name",
    [
        ("img/0.jpg", "img\\0.jpg"),
        ("img/a b.jpg", "img/a%20b.jpg"),
        ("img/a b.jpg", "img%5Ca%20b.JPG"),
        ("img/a%20b.jpg", "img/a%20b.jpg"),
        ("0.JPG", "0.jpg"),
        ("0.jpg", "0.JPG"),
        ("caf\u00e9.png", "cafe\u0301.png"),
        ("cafe\u0301.png", "caf\u00e9.png"),
        ("img/0.jpg", "./img//0.jpg"),
    ],
)
def test_a_file_is_found_under_its_other_spellings(tmp_path, file, name):
    path = tmp_path / "second" / file
    path.parent.mkdir(parents=True)
    path.touch()
    assert file_names.stays_inside(name)
    assert file_names.find_file([tmp_path / "first", tmp_path / "second"], name).samefile(path)


def test_the_exact_name_comes_first_and_a_missing_file_keeps_its_name(tmp_path):
    for name in ("a%20b.png", "a b.png"):
        (tmp_path / name).touch()
    assert file_names.find_file([tmp_path], "a%20b.png").name == "a%20b.png"
    assert file_names.find_file([tmp_path], "x\\y.png") == tmp_path / "x\\y.png"
    assert file_names.find_file([tmp_path], "x" * 300 + ".png").parent == tmp_path
    assert not file_names.is_file(tmp_path / "a\0b") and not file_names.is_folder(tmp_path / ("y" * 300))


@pytest.mark.parametrize(
    "name",
    ["", "/etc/passwd", "../a.png", "a/../../b.png", "..\\a.png", "%2e%2e/a.png", "%2fetc/passwd", "C:\\photos\\a.png",
     "c:/a.png", "\\\\server\\a.png", "a\0b", "https://example.com/0.jpg",
     "file:///etc/passwd", "data:image/png;base64,AA"],
)  # fmt: skip
def test_names_that_leave_their_folder(name):
    assert not file_names.stays_inside(name)


def test_addresses():
    assert all(
        map(file_names.is_url, ("http://x/0.jpg", "HTTPS://x", "s3://b/0.jpg", "gs://b", "data:image/png;base64,"))
    )
    assert not any(map(file_names.is_url, ("0.jpg", "img/0.jpg", "C:\\0.jpg", "a:b.jpg", "http/0.jpg")))
