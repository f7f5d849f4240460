"""The journal of `--mode=perceive`: what failed is tried again, and the record of an input that is done counts."""

import json

import perceive_runs
import pytest
from perceive_runs import davis, lines, photos, settings

from dtr1_jax.data.json_files import DataError
from dtr1_jax.modes import perceive, perceive_journal


@pytest.fixture(autouse=True)
def tools(monkeypatch):
    """The fakes in the place of the models."""
    return perceive_runs.install(monkeypatch)


def test_an_input_that_was_skipped_is_tried_again(tmp_path):
    """Its frame was not there when its examples were read."""
    c = settings(data__source="davis", data__root=davis(tmp_path / "davis"), data__frames=4)
    out, frame = tmp_path / "out", tmp_path / "davis/JPEGImages/a/00000.png"
    whole = frame.read_bytes()
    frame.write_bytes(b"no picture")
    for _ in range(2):
        assert "20 inputs, 10 lines, 20 objects, 10 skipped" in perceive.run(c, None, None, str(out))
    frame.write_bytes(whole)
    assert "20 inputs, 20 lines, 40 objects, 0 skipped" in perceive.run(c, None, None, str(out))
    perceive.run(c, None, None, str(tmp_path / "new"))
    assert lines(out) == lines(tmp_path / "new")


def test_a_picture_on_which_the_detector_failed_is_tried_again(tmp_path, tools):
    folder, out = photos(tmp_path / "in", 3), tmp_path / "out"
    tools.detector.broken = {(80, 120)}
    assert "3 lines, 0 objects, 0 skipped, 3 with_failures, 3 detection_failed" in perceive.run(
        settings(), folder, None, str(out)
    )
    tools.detector.broken = ()
    assert "3 lines, 6 objects, 0 skipped, 0 with_failures, 0 detection_failed" in perceive.run(
        settings(), folder, None, str(out)
    )
    assert len(lines(out)) == len(lines(out, "provenance.jsonl")) == 3


def test_a_record_that_is_done_counts_wherever_it_stands(tmp_path):
    """With other numbers of processes, the records of an input are in several parts."""
    (tmp_path / "parts").mkdir()

    def write(process, *records):
        text = "".join(json.dumps(record) + "\n" for record in records)
        (tmp_path / f"parts/{process}.jsonl").write_text(text)

    def line(index, name):
        return {"index": index, "lines": [{"id": name}], "provenance": {"id": name, "objects": []}}

    failed = line(2, "failed") | {"provenance": {"id": "failed", "objects": [], "detected": False}}
    write(0, line(0, "first"), {"index": 1, "skipped": "a"}, {"index": 2, "skipped": "b"}, line(3, "third"))
    write(1, {"index": 0, "skipped": "c"}, line(1, "second"), failed, line(3, "again"))
    assert perceive_journal.finished(tmp_path) == {0, 1, 3}
    counts = perceive_journal.publish(tmp_path, {})["counts"]
    assert [row["id"] for row in lines(tmp_path)] == ["first", "second", "failed", "again"]
    assert counts == {
        "inputs": 4, "lines": 4, "objects": 0, "skipped": 0, "with_failures": 0, "detection_failed": 1,
    }  # fmt: skip


def test_no_input_that_can_be_read_is_an_error(tmp_path):
    folder, out = photos(tmp_path / "in", 3), tmp_path / "out"
    for file in (tmp_path / "in").iterdir():
        file.write_bytes(b"no picture")
    for _ in range(2):
        with pytest.raises(
            DataError, match=r"none of 3 inputs could be read: .*0\.png.*; correct the files, and start"
        ):
            perceive.run(settings(), folder, None, str(out))


def test_a_video_that_cannot_be_read_is_an_error(tmp_path):
    (tmp_path / "v.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match=r"none of 1 inputs could be read: .*v\.mp4"):
        perceive.run(settings(), None, str(tmp_path / "v.mp4"), str(tmp_path / "out"))
