"""`--mode=perceive`: files that a data source reads, runs that go on after they were killed, and bad inputs."""

import dataclasses
import json
import logging
from pathlib import Path

import fake_specialists as fakes
import jax
import numpy as np
import perceive_runs
import pytest
import tiny
import worded_folders
from perceive_runs import coco, davis, lines, photos, settings
from PIL import Image

from dtr1_jax import config
from dtr1_jax.data import sources
from dtr1_jax.modes import perceive, perceive_inputs, perceive_journal, train
from dtr1_jax.run import interrupt, run_log


@pytest.fixture(autouse=True)
def tools(monkeypatch):
    """The fakes in the place of the models."""
    return perceive_runs.install(monkeypatch)


def test_a_folder_of_pictures(tmp_path):
    out = tmp_path / "out"
    text = perceive.run(settings(), photos(tmp_path / "in"), None, str(out))
    assert f"{out / 'twins.jsonl'} 5 inputs, 5 lines, 10 objects, 0 skipped, 0 with_failures" in text
    first = lines(out)[0]
    assert first["image"] == "../in/0.png" and first["id"] == "0.png" and "query" not in first
    person, dog = first["objects"]
    assert (person["label"], person["box"], person["depth"]) == ("person", [10, 10, 40, 60], 2)
    assert (dog["label"], dog["attributes"], dog["rle"]["size"]) == ("dog", ["blue"], [80, 120])
    assert first["relations"] == [[1, "left of", 2]]
    facts = lines(out, "provenance.jsonl")[0]
    assert facts["objects"][0]["label"] == {"by": "boxes", "score": 0.9}
    header = json.loads((out / "header.json").read_text())
    assert header["models"].startswith("detector: boxes") and header["specialists"]["depth"] == "fake"
    assert header["phrases"] == list(fakes.Detector.classes)
    assert np.asarray(Image.open(out / "sheet.png")).shape[1] > 1000


def test_a_data_set_keeps_its_queries_and_targets(tmp_path):
    """COCO's own examples, read again from the lines: only the objects are other ones."""
    root, out = coco(tmp_path / "coco"), tmp_path / "out"
    c = settings(data__source="coco", data__root=root)
    perceive.run(c, None, None, str(out))
    again = dataclasses.replace(c.data, source="jsonl", root=str(out / "twins.jsonl"))
    for split in ("train", "heldout"):
        before, after = sources.open_source(c.data, split), sources.open_source(again, split)
        assert len(before) == len(after) == 4
        for one, other in zip((before[i] for i in range(4)), (after[i] for i in range(4))):
            assert (one.uid, one.query, one.task) == (other.uid, other.query, other.task)
            assert (one.program, one.category, one.level) == (other.program, other.category, other.level)
            np.testing.assert_array_equal(one.target.mask, other.target.mask)
            assert other.relations == ((1, "left of", 2),)
            np.testing.assert_allclose(one.target.boxes, other.target.boxes, atol=1e-6)
            assert [x.label for x in other.scene] == ["person", "dog"] and other.answer_ids == one.answer_ids
            assert [x.depth for x in other.scene] == [2, 1] and other.scene[1].attributes == ("blue",)
            for mine, theirs in zip(one.scene, other.scene):
                np.testing.assert_array_equal(mine.mask, theirs.mask)


def test_grounding_keeps_its_boxes(tmp_path):
    c = settings(data__source="coco", data__root=coco(tmp_path / "coco"), data__task="grounding")
    perceive.run(c, None, None, str(tmp_path))
    again = dataclasses.replace(c.data, source="jsonl", root=str(tmp_path / "twins.jsonl"))
    one, other = sources.open_source(c.data, "train")[0], sources.open_source(again, "train")[0]
    np.testing.assert_allclose(one.target.boxes, other.target.boxes, atol=1e-5)
    assert other.answer_ids == one.answer_ids


def test_an_answer_that_was_not_seen_is_not_named(tmp_path, tools):
    tools.detector.score = 0.4  # below the detector's own threshold
    c = settings(data__source="coco", data__root=coco(tmp_path / "coco"))
    perceive.run(c, None, None, str(tmp_path))
    found = lines(tmp_path)
    assert all(line["objects"] == [] for line in found)
    assert all(("answer" in line["oracle"]) == (line["rle"] == []) for line in found)


def test_generated_pictures_are_written(tmp_path):
    c = settings(data__source="twinworld", specialists__examples=2, data__task="vqa")
    perceive.run(c, None, None, str(tmp_path))
    found = lines(tmp_path)
    assert len(found) == 4 and all((tmp_path / line["image"]).is_file() and line["answers"] for line in found)
    with pytest.raises(config.ConfigError, match=r"config\.specialists\.examples: expected a number above 0"):
        perceive.run(settings(), None, None, str(tmp_path / "other"))


def test_pictures_of_similar_names_are_two_files(tmp_path):
    example = sources.open_source(settings(data__source="twinworld").data, "train")[0]
    names = ("a/b", "a_b", "x" * 300, "x" * 300 + "/y", "b\udce9")
    written = [perceive_inputs._copied(dataclasses.replace(example, uid=name), tmp_path)["image"][0] for name in names]
    assert len(set(written)) == len(names) and written[1].name == "a_b.png" and all(map(Path.is_file, written))


def test_videos_of_a_data_set(tmp_path):
    c = settings(data__source="davis", data__root=davis(tmp_path / "davis"), data__frames=4)
    perceive.run(c, None, None, str(tmp_path))
    again = dataclasses.replace(c.data, source="jsonl", root=str(tmp_path / "twins.jsonl"))
    before, after = sources.open_source(c.data, "train"), sources.open_source(again, "train")
    assert len(before) == len(after) == 10
    for i in range(10):
        one, other = before[i], after[i]
        assert one.query == other.query and one.video.index.tolist() == other.video.index.tolist()
        np.testing.assert_array_equal(one.target.masks, other.target.masks)
        np.testing.assert_allclose(one.target.tracks, other.target.tracks, atol=1e-6)
        assert [x.label for x in other.scene] == ["person", "dog"] and other.answer_ids == one.answer_ids
        np.testing.assert_allclose(other.scene[0].boxes, one.scene[0].boxes, atol=1e-4)
        np.testing.assert_array_equal(other.scene[0].masks, one.scene[0].masks)
        steps = np.diff(one.video.index).mean()
        np.testing.assert_allclose(other.scene[0].velocity, (8 * steps / 120, 0), atol=1e-4)


def test_questions_with_options_about_videos(tmp_path):
    """Options stay options; where two have the same words, which no line can say, they stay in the query."""
    rows = [worded_folders.question_row(*row) for row in worded_folders.QUESTIONS[:2]]
    rows[1] |= {"a4": rows[1]["a0"]}
    root = worded_folders.write_nextqa(tmp_path / "nextqa", "train", rows)
    worded_folders.write_nextqa(root, "val")
    c = settings(data__source="nextqa", data__root=str(root), data__task="vqa", data__frames=3)
    perceive.run(c, None, None, str(tmp_path))
    again = dataclasses.replace(c.data, source="jsonl", root=str(tmp_path / "twins.jsonl"))
    before, after = sources.open_source(c.data, "train"), sources.open_source(again, "train")
    assert [(e.uid, e.query, e.target.references) for e in before] == [
        (e.uid, e.query, e.target.references) for e in after
    ]
    assert [len(e.target.choices) for e in after] == [5, 0] and before[1].target.references == ("(A)",)
    np.testing.assert_array_equal(before[0].video.frames, after[0].video.frames)


def test_one_video(tmp_path):
    davis(tmp_path / "davis")
    perceive.run(settings(), None, str(tmp_path / "davis/JPEGImages/a"), str(tmp_path / "out"))
    (line,) = lines(tmp_path / "out")
    assert line["video"] == "../davis/JPEGImages/a" and line["frames"] == [0, 1, 2, 3]
    assert line["objects"][0]["track"]["3"] == [34, 10, 64, 60]
    assert line["objects"][0]["velocity"] == [8, 0] and set(line["objects"][0]["rles"]) == {"0", "1", "2", "3"}


def test_pseudo_queries(tmp_path):
    c = settings(specialists__pseudo_queries=4)
    perceive.run(c, photos(tmp_path / "in", 6), None, str(tmp_path / "out"))
    found = lines(tmp_path / "out")
    assert 12 <= len(found) <= 24 and all("/pseudo/" in line["id"] and line["query"] for line in found)
    source = sources.open_source(
        dataclasses.replace(c.data, source="jsonl", root=str(tmp_path / "out/twins.jsonl")), "train"
    )
    for i in range(len(source)):
        example = source[i]
        assert example.target.mask.any() and example.answer_ids and example.program


def test_pseudo_queries_about_a_video(tmp_path):
    """A person goes to the right, and a dog stands still: the targets are their perceived masks in each frame."""
    davis(tmp_path / "davis")
    c = settings(specialists__pseudo_queries=12)
    perceive.run(c, None, str(tmp_path / "davis/JPEGImages/a"), str(tmp_path / "out"))
    found = lines(tmp_path / "out")
    steps = {line["oracle"]["program"][0]: line for line in found if line["oracle"].get("program")}
    assert {"moves right"} <= set(steps) <= {"moves right", "moves", "still", "stays"} and len(found) >= 4
    source = sources.open_source(
        dataclasses.replace(c.data, source="jsonl", root=str(tmp_path / "out/twins.jsonl"), frames=4), "train"
    )
    for i in range(len(source)):
        example = source[i]
        labels = {x.label for x in example.scene if x.id in example.answer_ids}
        ((name, (_, label)),) = [example.program]
        assert labels == {label} and label in example.query
        assert name == "stays" or (name == "still") == (label == "dog")
        chosen = [x for x in example.scene if x.id in example.answer_ids]
        np.testing.assert_array_equal(example.target.masks, np.any([x.masks for x in chosen], 0))
    again = tmp_path / "again"
    perceive.run(c, None, str(tmp_path / "davis/JPEGImages/a"), str(again))
    assert [line["query"] for line in lines(again)] == [line["query"] for line in found]


def test_a_killed_run_goes_on(tmp_path, tools, caplog):
    """It stops after the first batch, with half a line written; the same command does the rest, each picture once."""
    folder, out = photos(tmp_path / "in"), tmp_path / "out"
    whole = tmp_path / "whole"
    perceive.run(settings(), folder, None, str(whole))
    add = perceive_journal.Journal.add

    def killed(self, records):
        add(self, records)
        self._file.write(b'{"index": 2, "lines": [{"image"')
        self._file.flush()
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(perceive_journal.Journal, "add", killed)
        with pytest.raises(KeyboardInterrupt):
            perceive.run(settings(), folder, None, str(out))
    assert not (out / "twins.jsonl").exists()
    seen = tools.detector.pictures
    with caplog.at_level(logging.INFO):
        perceive.run(settings(), folder, None, str(out))
    assert tools.detector.pictures - seen == 5  # three that were missing; two more are drawn on the sheet
    assert "2 of 5 inputs are done already" in caplog.text and "perceived 3 of 3" in caplog.text
    for name in ("twins.jsonl", "provenance.jsonl"):
        assert (out / name).read_text().replace("out", "") == (whole / name).read_text().replace("whole", "")
    perceive.run(settings(), folder, None, str(out))
    assert len(lines(out)) == 5


def test_a_signal_stops_it_after_the_batch(tmp_path, monkeypatch):
    folder, out = photos(tmp_path / "in"), tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interrupt.Flag, "__enter__", lambda self: (setattr(self, "is_set", True), self)[1])
        with pytest.raises(interrupt.Interrupted, match="after step 2"):
            perceive.run(settings(), folder, None, str(out))
    assert len(lines(out)) == 2
    perceive.run(settings(), folder, None, str(out))
    assert [line["id"] for line in lines(out)] == [f"{i}.png" for i in range(5)]


def test_processes_share_the_inputs(tmp_path, monkeypatch):
    """Two processes, one after the other: each does its half, and the files have all in order."""
    folder, out = photos(tmp_path / "in"), tmp_path / "out"
    monkeypatch.setattr(jax, "process_count", lambda *_: 2)
    monkeypatch.setattr(perceive.mesh, "least", int)
    monkeypatch.setattr(perceive.results.mesh, "least", int)
    for process in (1, 0):
        monkeypatch.setattr(perceive.jax, "process_index", lambda *_, k=process: k)
        if process:
            monkeypatch.setattr(perceive.results, "locked", lambda *_: interrupt.Flag())
        perceive.run(settings(), folder, None, str(out))
    assert [line["id"] for line in lines(out)] == [f"{i}.png" for i in range(5)]
    parts = {path.name: path.read_text().count("\n") for path in (out / "parts").iterdir()}
    assert parts == {"0.jsonl": 3, "1.jsonl": 2}


def test_other_settings_need_another_folder(tmp_path):
    folder, out = photos(tmp_path / "in"), str(tmp_path / "out")
    perceive.run(settings(), folder, None, out)
    perceive.run(settings(specialists__batch=5), folder, None, out)
    with pytest.raises(
        config.ConfigError, match=r"another run: expected specialists.max_objects = 1, got \d+; choose another --out"
    ):
        perceive.run(settings(specialists__max_objects=1), folder, None, out)
    (tmp_path / "in" / "9.png").write_bytes((tmp_path / "in" / "0.png").read_bytes())
    with pytest.raises(config.ConfigError, match="twins of another run: expected inputs ="):
        perceive.run(settings(), folder, None, out)


def test_bad_pictures_are_skipped_with_a_count(tmp_path, caplog):
    folder, out = photos(tmp_path / "in"), tmp_path / "out"
    (tmp_path / "in" / "3.png").write_bytes(b"no picture")
    (tmp_path / "in" / "notes.txt").write_text("x")
    text = perceive.run(settings(), folder, None, str(out))
    assert "5 inputs, 4 lines, 8 objects, 1 skipped" in text and "3.png" in caplog.text
    assert [line["id"] for line in lines(out)] == ["0.png", "1.png", "2.png", "4.png"]


def test_failures_are_in_the_provenance(tmp_path, tools):
    tools.depth.broken = {(80, 120)}
    text = perceive.run(settings(), photos(tmp_path / "in", 2), None, str(tmp_path / "out"))
    assert "2 with_failures" in text
    assert lines(tmp_path / "out", "provenance.jsonl")[0]["failures"] == ["depth: RuntimeError: the model broke"]
    assert "depth" not in lines(tmp_path / "out")[0]["objects"][0]


@pytest.mark.parametrize(
    ("changes", "images", "out", "message"),
    [
        ({}, "in", None, "needs --out"),
        ({"specialists__detector": ""}, "in", "out", r"config\.specialists\.detector: expected a detector"),
        (
            {},
            "in",
            "in",
            "--out=.*in: expected another folder than --images, because sheet.png in it would be an input",
        ),
        ({}, "in", "in/0.png", r"cannot write to .*0\.png: .*; choose another --out$"),
        ({}, "nowhere", "out", "--images: .*nowhere: cannot be read"),
        ({}, "empty", "out", "--images: expected a folder with pictures"),
        ({"specialists__phrases": "dog,<b>"}, "in", "out", r"config\.specialists\.phrases: expected 1 to 64 printable"),
        (
            {"specialists__phrases": " , "},
            "in",
            "out",
            r"phrases: .* none in ' , '; leave it empty to look for all 4 classes",
        ),
        (
            {"specialists__phrases": "zebra,quark"},
            "in",
            "out",
            r"phrases: expected some of the 4 classes .*got zebra, quark",
        ),
    ],
)
def test_settings_that_cannot_be_used(tmp_path, changes, images, out, message):
    photos(tmp_path / "in", 1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(config.ConfigError, match=message):
        perceive.run(settings(**changes), str(tmp_path / images), None, out and str(tmp_path / out))


def test_a_detector_without_classes_needs_phrases(tmp_path, monkeypatch):
    perceive_runs.install(monkeypatch, fakes.OpenDetector())
    with pytest.raises(config.ConfigError, match=r"config\.specialists\.phrases: expected what to look for"):
        perceive.run(settings(specialists__phrases=","), photos(tmp_path / "in", 1), None, str(tmp_path / "out"))


def test_one_kind_of_input(tmp_path):
    with pytest.raises(config.ConfigError, match="expected one of them, got both"):
        perceive.run(settings(), photos(tmp_path / "in", 1), "v.mp4", str(tmp_path))
    with pytest.raises(config.ConfigError, match=r"--video: expected a video file .* got v\.mp4"):
        perceive.run(settings(), None, "v.mp4", str(tmp_path))


def test_results_that_would_be_read_as_inputs(tmp_path):
    video = davis(tmp_path / "davis") + "/JPEGImages/a"
    with pytest.raises(config.ConfigError, match="expected another folder than --video"):
        perceive.run(settings(), None, video, f"{video}/../a")
    (tmp_path / "twins.jsonl").write_text("{}\n")
    c = settings(data__source="jsonl", data__root=str(tmp_path / "twins.jsonl"))
    with pytest.raises(config.ConfigError, match=r"of config\.data\.root, because twins\.jsonl would be replaced"):
        perceive.run(c, None, None, str(tmp_path))
    assert {path.name for path in tmp_path.iterdir()} == {"davis", "twins.jsonl"}


def test_phrases_of_a_file(tmp_path):
    (tmp_path / "phrases.txt").write_text("dog\n\n  red   car \ndog\n")
    c = settings(specialists__phrases=str(tmp_path / "phrases.txt"))
    perceive.run(c, photos(tmp_path / "in", 1), None, str(tmp_path / "out"))
    assert json.loads((tmp_path / "out/header.json").read_text())["phrases"] == ["dog", "red car"]
    assert [one["label"] for one in lines(tmp_path / "out")[0]["objects"]] == ["dog"]


def test_a_policy_trains_on_perceived_twins(tmp_path, monkeypatch):
    """A step and two evaluations on the lines of perceived COCO photos, whose prompts show the twins."""
    perceive.run(settings(data__source="coco", data__root=coco(tmp_path / "coco")), None, None, str(tmp_path / "out"))
    tiny.install(monkeypatch)
    c = tiny.settings(
        tiny.weights_file(tmp_path), train__steps=1, policy__prompt_tokens=300, policy__constructor="given",
        data__source="jsonl", data__root=str(tmp_path / "out/twins.jsonl"),
    )  # fmt: skip
    train.run(c, tmp_path / "run")
    rows = run_log.read_run_log(tmp_path / "run")
    assert [row["train/examples_skipped"] for row in rows if "train/loss" in row] == [0]
    figures = [row["eval/segmentation/picture/giou"] for row in rows if "eval/segmentation/picture/giou" in row]
    assert len(figures) == 2 and np.isfinite(figures).all()
