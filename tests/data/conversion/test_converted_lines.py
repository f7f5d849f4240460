"""A foreign data set that is converted when it is opened: the lines, the cache, and what it says."""

import logging

import pytest

from dtr1_jax.data.conversion import converted_lines
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import jsonl


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("DTR1_JAX_COPIES", raising=False)


def rows(count=3, **more):
    return [
        {"image": f"{k}.png", "problem": "the mug", "solution": [4 + k, 5, 400, 300], "dataset": "rec"} | more
        for k in range(count)
    ]


def test_the_lines_of_a_file(case, caplog):
    with caplog.at_level(logging.INFO):
        file = converted_lines.converted_lines(str(case.write(rows())))
    source = jsonl.open_jsonl_source(str(file), "train", "grounding", max_objects=7)
    example = source[0]
    assert example.image.shape == (480, 640, 3) and example.query == "the mug"
    assert "read as VLM-R1" in caplog.text and "coordinates" in caplog.text and "pixels" in caplog.text
    assert not any(case.root.glob("*lines*")), "nothing is written beside the user's files"


def test_a_file_that_is_the_same_is_converted_once_and_a_changed_one_again(case, monkeypatch):
    file = case.write(rows())
    first = converted_lines.converted_lines(str(file))
    real = converted_lines._write
    calls = []
    monkeypatch.setattr(converted_lines, "_write", lambda *a: (calls.append(a), real(*a)))
    assert converted_lines.converted_lines(str(file)) == first and not calls
    case.write(rows(2))
    second = converted_lines.converted_lines(str(file))
    assert len(calls) == 1 and second != first and len(second.read_text().splitlines()) == 2


def test_what_cannot_be_converted_names_the_command_with_more_flags(case):
    with pytest.raises(DataError, match=r"got none that can be used.*--mode=convert --from="):
        converted_lines.converted_lines(str(case.write(rows(image="none.png"))))


def test_a_folder_that_cannot_be_written(case, monkeypatch, tmp_path):
    (tmp_path / "full").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "full"))
    with pytest.raises(DataError, match=r"cannot be written to .*set XDG_CACHE_HOME"):
        converted_lines.converted_lines(str(case.write(rows())))
