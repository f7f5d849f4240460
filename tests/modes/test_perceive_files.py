"""`--mode=perceive` on the folder of an earlier run: it goes on with the same inputs and settings only."""

import json
import os

import numpy as np
import perceive_runs
import pytest
from perceive_runs import coco, davis, lines, photos, settings
from PIL import Image

from dtr1_jax import config
from dtr1_jax.modes import perceive, perceive_files


@pytest.fixture(autouse=True)
def tools(monkeypatch):
    """The fakes in the place of the models."""
    return perceive_runs.install(monkeypatch)


def refused(message, c, images, video, out):
    """The run is refused, and the twins of the earlier run stay."""
    before = (out / "twins.jsonl").read_text()
    with pytest.raises(config.ConfigError, match=message):
        perceive.run(c, images, video, str(out))
    assert (out / "twins.jsonl").read_text() == before


def test_another_folder_of_the_same_name(tmp_path, caplog):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    out = tmp_path / "out"
    perceive.run(settings(), photos(tmp_path / "a/in", 2), None, str(out))
    perceive.run(settings(), str(tmp_path / "a/in"), None, str(out))
    assert "written at another time" not in caplog.text
    copies = photos(tmp_path / "b/in", 2)
    perceive.run(settings(), copies, None, str(out))
    assert "2 of 2 inputs that are done in" in caplog.text and "choose another --out" in caplog.text
    (tmp_path / "b/in/0.png").write_bytes((tmp_path / "b/in/0.png").read_bytes() + b"more")
    message = (
        r"out holds twins of other inputs: expected 0\.png as it was then, got other sizes and times of change; choo"
    )
    refused(message, settings(), copies, None, out)


def test_a_picture_that_took_the_place_of_another(tmp_path):
    folder, out = photos(tmp_path / "in", 2), tmp_path / "out"
    perceive.run(settings(), folder, None, str(out))
    (tmp_path / "in/0.png").rename(tmp_path / "in/7.png")
    refused(r"expected 1\.png as number 0, got 0\.png; choose another --out", settings(), folder, None, out)


def test_a_picture_that_was_corrected_is_read(tmp_path):
    """The others stay; where one of them changed too, its twin would be of the old picture."""
    folder, out = photos(tmp_path / "in", 3), tmp_path / "out"
    whole = (tmp_path / "in/1.png").read_bytes()
    (tmp_path / "in/1.png").write_bytes(b"no picture")
    assert "1 skipped" in perceive.run(settings(), folder, None, str(out))
    (tmp_path / "in/1.png").write_bytes(whole)
    assert "3 lines, 6 objects, 0 skipped" in perceive.run(settings(), folder, None, str(out))
    (tmp_path / "in/1.png").write_bytes(b"no picture")
    refused(r"expected 1\.png as it was then, got other sizes and times", settings(), folder, None, out)


def of_an_earlier_version(out):
    """Takes away what earlier versions did not write."""
    header = json.loads((out / "header.json").read_text())
    (out / "header.json").write_text(json.dumps({k: v for k, v in header.items() if k not in ("files", "seed")}))
    rows = [{k: v for k, v in row.items() if k != "files"} for row in lines(out, "parts/0.jsonl")]
    (out / "parts/0.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_folder_of_an_earlier_version_goes_on(tmp_path):
    """It says nothing of the files, but the names in its records do."""
    folder, out = photos(tmp_path / "in", 2), tmp_path / "out"
    perceive.run(settings(), folder, None, str(out))
    of_an_earlier_version(out)
    photos(tmp_path / "in", 2)
    perceive.run(settings(), folder, None, str(out))
    assert len(lines(out)) == 2
    (tmp_path / "in/0.png").rename(tmp_path / "in/7.png")
    refused(r"twins of other inputs: expected 1\.png as number 0, got 0\.png; choose", settings(), folder, None, out)


def test_a_data_set_of_an_earlier_version_goes_on(tmp_path):
    c, out = settings(data__source="coco", data__root=coco(tmp_path / "coco")), tmp_path / "out"
    perceive.run(c, None, None, str(out))
    of_an_earlier_version(out)
    perceive.run(c, None, None, str(out))
    assert len(lines(out)) == 8 and json.loads((out / "header.json").read_text())["files"]


def test_another_video_of_the_same_name(tmp_path):
    davis(tmp_path / "davis")
    video, out = tmp_path / "davis/JPEGImages/a", tmp_path / "out"
    perceive.run(settings(), None, str(video), str(out))
    Image.fromarray(np.zeros((80, 120, 3), np.uint8)).save(video / "00001.png")
    refused("expected a as it was then, got other sizes and times of change", settings(), None, str(video), out)


@pytest.mark.parametrize("source", ["jsonl", "coco"])
def test_an_edited_annotation_file(tmp_path, source, caplog):
    """It has as many lines, or pictures, as before. A copy has another time alone, and is warned of."""
    coco(tmp_path / "coco")
    root = tmp_path / "coco"
    file = next((root / "annotations").iterdir())
    if source == "jsonl":
        root = file = tmp_path / "coco/data.jsonl"
        row = {"image": "train2017/1.png", "query": "who", "boxes": [[1, 1, 9, 9]]}
        rows = [row | {"id": k, "split": split} for k, split in enumerate(("train", "heldout"))]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    c, out = settings(data__source=source, data__root=str(root)), root.parent / "out"
    perceive.run(c, None, None, str(out))
    perceive.run(c, None, None, str(out))
    assert "written at another time" not in caplog.text
    os.utime(file, ns=(5, 5))
    perceive.run(c, None, None, str(out))
    assert "written at another time" in caplog.text
    file.write_text(file.read_text() + "\n")
    refused("other inputs: expected .* got files with other sizes and times of change", c, None, None, out)


@pytest.mark.parametrize("out", ["", "twins"])
def test_results_in_the_folder_of_the_data_are_no_inputs(tmp_path, out):
    c, out = settings(data__source="coco", data__root=coco(tmp_path)), tmp_path / out
    before = perceive_files.of_data_set(c.data, out)
    perceive.run(c, None, None, str(out))
    assert (out / "parts/0.jsonl").is_file() and perceive_files.of_data_set(c.data, out) == before
    perceive.run(c, None, None, str(out))


def test_digests(tmp_path):
    """Each of the three changes alone."""
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        file.write_text("x")
        os.utime(file, ns=(5, 5))
    before = perceive_files.digests(files, tmp_path)

    def changed():
        return [k for k, v in perceive_files.digests(files, tmp_path).items() if v != before[k]]

    os.utime(files[1], ns=(5, 6))
    assert changed() == [perceive_files.TIMES]
    files[1].write_text("xy")
    os.utime(files[1], ns=(5, 5))
    assert changed() == [perceive_files.SIZES]
    files[1].write_text("x")
    files[1] = files[1].rename(tmp_path / "c")
    os.utime(files[1], ns=(5, 5))
    assert changed() == [perceive_files.NAMES]
    files[1].unlink()
    assert changed() == [perceive_files.NAMES, perceive_files.SIZES, perceive_files.TIMES]


def test_phrases_that_changed_in_their_file(tmp_path):
    folder, out, file = photos(tmp_path / "in", 1), tmp_path / "out", tmp_path / "phrases.txt"
    file.write_text("dog\nperson\n")
    c = settings(specialists__phrases=str(file))
    perceive.run(c, folder, None, str(out))
    file.write_text("dog\ncar\n")
    refused(r'expected phrases\[1\] = "car", got "person"; choose another --out', c, folder, None, out)


def test_the_seed_counts_where_it_chooses_queries(tmp_path):
    folder, out = photos(tmp_path / "in", 1), tmp_path / "out"
    perceive.run(settings(), folder, None, str(out))
    perceive.run(settings(data__seed=7), folder, None, str(out))
    c, asked = settings(specialists__pseudo_queries=2), tmp_path / "asked"
    perceive.run(c, folder, None, str(asked))
    c = settings(specialists__pseudo_queries=2, data__seed=7)
    refused("expected seed = 7, got 0; choose another --out", c, folder, None, asked)
