"""The run log and the warnings of a run whose workdir is in a bucket, to which nothing can be appended."""

import json

import buckets
import pytest

from dtr1_jax import places
from dtr1_jax.run import run_log, warnings_file

URL = "gs://bucket/run"


@pytest.fixture(autouse=True)
def bucket():
    with buckets.installed():
        yield


def steps() -> list[int]:
    return [row["step"] for row in run_log.read_run_log(URL)]


def test_lines_arrive_where_they_are_asked_for(monkeypatch):
    with run_log.RunLog(URL) as writer:
        writer.write(1, {"train/reward": 0.5})
        assert steps() == []
        writer.flush()
        assert steps() == [1]
        writer.write(2, {"train/reward": 0.25})
        assert steps() == [1]
        monkeypatch.setattr(run_log, "PUBLISH", 0.0)
        writer.write(3, {"train/reward": float("nan")})
        assert steps() == [1, 2, 3]
        monkeypatch.undo()
        writer.write(4, {})
        writer.write_text(4, "samples", "a \x1b table")
    assert steps() == [1, 2, 3, 4] and run_log.read_run_log(URL)[2] == {"step": 3, "train/reward": None}
    assert buckets.objects["bucket/run/samples/step_000004.md"][0] == rb"a \x1b table"
    events = [name for name in buckets.objects if name.startswith("bucket/run/tb/events.out.tfevents")]
    assert len(events) == 1 and b"train/reward" in buckets.objects[events[0]][0]


def test_a_resumed_run_goes_on_from_the_lines_of_the_first():
    buckets.put("bucket/run/metrics.jsonl", b'{"step": 1}\n{"step": 2}\n{"step": 3, "cut o')
    with run_log.RunLog(URL) as writer:
        writer.truncate(1)
        assert steps() == [1]  # at once: an evaluation that is still in the log would count as done
        writer.write(2, {"x": 1.0})
    assert steps() == [1, 2]
    with run_log.RunLog(URL, tensorboard=False) as writer:
        writer.truncate(-1)
    assert steps() == [] == json.loads("[" + buckets.objects["bucket/run/metrics.jsonl"][0].decode() + "]")


def test_a_network_that_fails_for_a_while_stops_no_run(monkeypatch, caplog):
    def refuse(self, here, there, **_):
        raise RuntimeError("503")

    with run_log.RunLog(URL) as writer:
        with monkeypatch.context() as patch:
            patch.setattr(buckets.Bucket, "put_file", refuse)
            patch.setattr(run_log, "PUBLISH", 0.0)
            writer.write(1, {"train/reward": 0.5})
            assert "could not be copied, and is tried again" in caplog.text and "503" in caplog.text
            with pytest.raises(places.PlaceError, match="503"):
                writer.flush()  # a checkpoint must not be ahead of the log
        writer.write(2, {})
    assert steps() == [1, 2]


def test_the_lines_are_there_when_a_run_fails():
    with pytest.raises(ValueError):
        with run_log.RunLog(URL) as writer:
            writer.write(1, {})
            raise ValueError
    assert steps() == [1]


def test_warnings(monkeypatch):
    assert warnings_file.read_warnings(URL) == []
    warnings_file.append_warning(URL, 1, "a", "first")
    warnings_file.append_warning(URL, 3, "b", "zweite ä")
    assert [row["message"] for row in warnings_file.read_warnings(URL)] == ["first", "zweite ä"]
    buckets.put("bucket/run/warnings.jsonl", buckets.objects["bucket/run/warnings.jsonl"][0] + b'{"cut o')
    warnings_file.append_warning(URL, 4, "c", "third")
    assert [row["step"] for row in warnings_file.read_warnings(URL)] == [1, 3, 4]
    with monkeypatch.context() as patch:
        patch.setattr(buckets.Bucket, "cat_file", lambda self, path, **_: 1 / 0)
        with pytest.raises(places.PlaceError):
            warnings_file.truncate_warnings(URL, 1)  # nothing is cut that could not be read
    assert len(warnings_file.read_warnings(URL)) == 3
    warnings_file.truncate_warnings(URL, 1)
    assert [row["step"] for row in warnings_file.read_warnings(URL)] == [1]
