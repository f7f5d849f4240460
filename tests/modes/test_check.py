"""--mode=check: what it says, writes and returns, for usable and unusable data; and the summary of a training."""

import json
import logging
import shutil

import numpy as np
import pytest
from coco_folders import note, rectangle, write_coco_folder
from PIL import Image

from configs import seg
from dtr1_jax import config
from dtr1_jax.data import sources
from dtr1_jax.modes import check, dispatch
from dtr1_jax.policies import pretrained


def settings(source="twinworld", root="", **more):
    c = seg.get_config()
    c.data.source, c.data.root = source, str(root)
    for name, value in more.items():
        group, _, field = name.partition("__")
        c[group][field] = value
    return c


def findings(c, out):
    text, usable = check.run(config.from_configdict(c), str(out))
    return text.splitlines(), usable, json.loads((out / "check.json").read_text())


@pytest.fixture
def folder(tmp_path):
    """A COCO folder of twelve photos, of which 2.png has the content of 1.png."""
    notes = [note(rectangle(2, 2, 30, 25), image=i, number=i) for i in range(1, 13)]
    root = write_coco_folder(tmp_path, [*notes, note([[1, 2]], number=99)], pictures=12)
    (root / "annotations" / "instances_other.json").unlink()
    for i in range(1, 13):
        Image.fromarray(np.full((30, 40, 3), 9 * i, np.uint8)).save(root / "train2017" / f"{i}.png")
    return root


def test_a_folder_of_twelve_photos(folder, tmp_path):
    lines, usable, found = findings(settings("coco", folder), tmp_path / "out")
    assert usable and found["usable"] and lines[-1].startswith("usable: ")
    train, heldout = found["train"], found["heldout"]
    assert train["examples"] + heldout["examples"] == 48 and heldout["examples"] >= 4
    assert train["tasks"] == {"segmentation": train["examples"]} and train["labels"] == {"dog": train["examples"] // 4}
    assert train["objects"] == {"fewest": 1, "mean": 1.0, "most": 1} and train["prompt"]["too_long"] == 0
    assert "left out 1 polygons of fewer than 3 points" in train["warnings"][0]
    assert any("left out 1 polygons" in line for line in lines)
    assert Image.open(tmp_path / "out" / "sheet.png").size[0] == 6 * 400
    assert found["shared_pictures"]["count"] == 0


def test_a_picture_in_both_splits_is_named(folder, tmp_path):
    c = config.from_configdict(settings("coco", folder))
    files = [[p.file for p in sources.open_source(c.data, s).annotations.pictures] for s in ("train", "heldout")]
    photos = folder / "train2017"
    shutil.copy(photos / files[0][0], photos / files[1][0])
    lines, _, found = findings(settings("coco", folder), tmp_path / "out")
    assert found["shared_pictures"]["examples"] == [[str(photos / files[0][0]), str(photos / files[1][0])]]
    assert any(line.startswith("pictures in both splits: 1 of ") for line in lines)


def test_broken_data_is_counted_and_no_data_is_not_usable(folder, tmp_path, capsys):
    broken = sorted((folder / "train2017").iterdir())
    broken[0].write_bytes(b"no picture")
    found = findings(settings("coco", folder), tmp_path / "out")[2]
    assert sum(sum(found[name]["unusable"].values()) for name in ("train", "heldout")) == 4
    for file in broken:
        file.write_bytes(b"no picture")
    assert dispatch.run("check", settings("coco", folder), None) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("not usable: train: none of ") and "not a picture of a known kind" in last


@pytest.mark.parametrize("source", ["coco", "davis", "jsonl", "easy_vqa"])
def test_no_such_folder(source, tmp_path, capsys):
    more = {"data__task": "vqa"} if source == "easy_vqa" else {}
    assert dispatch.run("check", settings(source, tmp_path / "no", **more), None) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("not usable: train: ") and str(tmp_path / "no") in lines[-1]


def test_generated_data(tmp_path):
    _, usable, found = findings(settings(data__task="vqa"), tmp_path / "out")
    assert usable and found["heldout"]["examples"] == sources.HELDOUT and found["train"]["answers"]
    assert found["shared_pictures"]["files"] == 0


def test_data_without_the_policy_s_files(folder, tmp_path):
    lines, usable, found = findings(settings("coco", folder, policy__path=str(tmp_path / "none")), tmp_path / "out")
    assert usable and "prompt" not in found["train"]
    assert any(line.startswith("prompts and tiny targets are not counted: ") for line in lines)


def test_bad_settings_and_folders_are_one_line(folder, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    options = dispatch.Options(out=str(tmp_path / "file" / "out"))
    assert dispatch.run("check", settings("coco", folder), None, options) == 1
    assert dispatch.run("check", None, None) == 1
    errors = capsys.readouterr().err.splitlines()
    assert [e.startswith("error: ") for e in errors] == [True, True]


def test_control_characters_do_not_reach_the_terminal(tmp_path):
    rows = [{"image": f"{k}.png", "query": "x", "boxes": [], "id": f"\x1b[31m{k}"} for k in range(2)]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    text, usable = check.run(config.from_configdict(settings("jsonl", tmp_path / "a.jsonl")))
    assert not usable and "\x1b" not in text


def test_training_logs_five_lines(caplog):
    c = config.from_configdict(settings())
    opened = [sources.open_source(c.data, split) for split in ("train", "heldout")]
    with caplog.at_level(logging.INFO):
        check.describe(c, *opened, pretrained.load_policy(c).style)
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 5 and lines[0].startswith("data: twinworld: train 2,147,483,647 (2,147,483,647 segmentation)")
    assert lines[-1].endswith("--mode=check says more")
