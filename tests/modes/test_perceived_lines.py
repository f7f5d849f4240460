"""Lines of `--mode=perceive` where something failed, or where pictures or names are unusual: what they say is true."""

import dataclasses

import numpy as np
import perceive_runs
import pytest
from perceive_runs import coco, davis, lines, photos, settings
from PIL import Image

from dtr1_jax.data import sources
from dtr1_jax.modes import perceive


@pytest.fixture(autouse=True)
def tools(monkeypatch):
    """The fakes in the place of the models."""
    return perceive_runs.install(monkeypatch)


def read_back(c, out, split="train"):
    return sources.open_source(dataclasses.replace(c.data, source="jsonl", root=str(out / "twins.jsonl")), split)


def test_where_the_detector_fails_nobody_says_that_there_is_nothing(tmp_path, tools):
    tools.detector.broken = {(80, 120)}
    c, out = settings(data__source="coco", data__root=coco(tmp_path / "coco")), tmp_path / "out"
    text = perceive.run(c, None, None, str(out))
    assert "0 objects, 0 skipped, 8 with_failures, 8 detection_failed" in text
    assert all("objects" not in line and "answer" not in line["oracle"] for line in lines(out))
    assert all(line["detected"] is False for line in lines(out, "provenance.jsonl"))
    assert not any(example.empty_scene or example.scene for example in read_back(c, out))


def test_where_there_is_nothing_the_line_says_so(tmp_path, tools):
    tools.detector.score = 0.1
    c, out = settings(data__source="coco", data__root=coco(tmp_path / "coco")), tmp_path / "out"
    assert "0 with_failures, 0 detection_failed" in perceive.run(c, None, None, str(out))
    assert all(line["objects"] == [] for line in lines(out))
    assert not any("detected" in line for line in lines(out, "provenance.jsonl"))
    assert all(example.empty_scene for example in read_back(c, out))


def test_no_pseudo_queries_where_the_detector_fails_on_a_frame(tmp_path, tools):
    """Else an object that was seen in the other frames would seem to leave."""
    davis(tmp_path / "davis")
    third, look = np.asarray(Image.open(tmp_path / "davis/JPEGImages/a/00002.png")), tools.detector.look

    def breaks_on_the_third(images):
        if any(np.array_equal(image, third) for image in images):
            raise RuntimeError("the model broke")
        look(images)

    tools.detector.look = breaks_on_the_third
    c = settings(specialists__pseudo_queries=12)
    text = perceive.run(c, None, str(tmp_path / "davis/JPEGImages/a"), str(tmp_path / "out"))
    assert "1 detection_failed" in text
    (line,) = lines(tmp_path / "out")
    assert "objects" not in line and "relations" not in line and "query" not in line


def test_no_pseudo_queries_where_the_detector_fails_on_a_picture(tmp_path, tools):
    tools.detector.broken = {(80, 120)}
    perceive.run(settings(specialists__pseudo_queries=2), photos(tmp_path / "in", 1), None, str(tmp_path / "out"))
    assert [sorted(line) for line in lines(tmp_path / "out")] == [["id", "image"]]
