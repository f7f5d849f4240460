"""Lines of `--mode=perceive` where something failed, or where pictures or names are unusual: what they say is true."""

import dataclasses
import os

import fake_specialists as fakes
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


@pytest.mark.parametrize("is_video", [False, True])
def test_pseudo_queries_about_more_pixels_than_specialists_see(tmp_path, is_video):
    """The target is that of the shrunk picture at the size of the file, so edges move by a pixel or two."""
    c, out = settings(specialists__pseudo_queries=12, specialists__max_pixels=60 * 90, data__frames=4), tmp_path / "out"
    davis(tmp_path / "davis")
    video = str(tmp_path / "davis/JPEGImages/a") if is_video else None
    perceive.run(c, None if is_video else photos(tmp_path / "in", 4), video, str(out))
    small = lines(out)[0]["objects"][0]
    assert (small["rles"]["0"] if is_video else small["rle"])["size"] == [60, 90]
    found = read_back(c, out)
    assert len(found) >= 3
    for example in (found[i] for i in range(len(found))):
        scene = [x for x in example.scene if x.id in example.answer_ids]
        masks = example.target.masks if is_video else example.target.mask[None]
        frames = example.video.frames if is_video else example.image[None]
        drawn = np.any([(frames == fakes.COLOURS[x.label]).all(-1) for x in scene], 0)
        assert masks.shape == drawn.shape and scene
        assert (masks & drawn).sum() > 0.9 * (masks | drawn).sum()


def test_pseudo_queries_about_a_name_that_is_not_utf8(tmp_path):
    folder = tmp_path / "in"
    photos(folder, 1)
    os.rename(folder / "0.png", os.fsencode(folder) + b"/caf\xe9.png")
    c, out = settings(specialists__pseudo_queries=4), tmp_path / "out"
    perceive.run(c, str(folder), None, str(out))
    found = lines(out)
    assert found and all(line["query"] and line["image"] == "../in/caf\udce9.png" for line in found)
    perceive.run(c, str(folder), None, str(out))
    assert lines(out) == found


def test_ids_are_unique_where_several_tasks_share_a_picture(tmp_path):
    mix = {"data__mix__vqa": 0.0, "data__mix__summary": 0.0}
    c = settings(data__source="coco", data__root=coco(tmp_path / "coco"), data__task="unified", **mix)
    out = tmp_path / "out"
    perceive.run(c, None, None, str(out))
    ids = [line["id"] for line in lines(out)]
    assert len(set(ids)) == len(ids) == 16 and ids[0].endswith(("/segmentation/0", "/grounding/0"))
    assert ids == [line["id"] for line in lines(out, "provenance.jsonl")]
    before, after = sources.open_source(c.data, "train"), read_back(c, out)
    assert [(e.query, e.task) for e in after] == [(before[i].query, before[i].task) for i in range(len(before))]
