"""experiments/specialists/detectors_and_depth.py: matching by hand, annotations of real photos, and the JSON line."""

import json
import pathlib

import numpy as np
import pytest
import scripts

from dtr1_jax.specialists.findings import Detections
from tests import assets

script = scripts.load_script("experiments/specialists/detectors_and_depth.py")
A, B, FAR = (0.0, 0.0, 0.4, 0.4), (0.5, 0.5, 1.0, 1.0), (0.0, 0.8, 0.1, 0.9)


def found(*rows):
    boxes = np.array([box for _, box in rows], np.float32).reshape(-1, 4)
    return Detections(boxes, np.linspace(0.9, 0.6, len(rows), dtype=np.float32), tuple(label for label, _ in rows))


@pytest.mark.parametrize(
    ("detections", "things", "expected"),
    [
        ([("dog", A), ("dog", B)], [("dog", A, False), ("dog", B, False)], (2, 2, 2)),
        ([("cat", A)], [("dog", A, False)], (1, 0, 1)),
        ([("dog", A), ("dog", A)], [("dog", A, False)], (1, 1, 2)),  # each thing once
        ([("dog", FAR)], [("dog", A, False)], (1, 0, 1)),
        ([("dog", FAR)], [("dog", (0, 0.7, 1, 1), True)], (0, 0, 0)),  # inside a crowd
        ([("cat", FAR)], [("dog", (0, 0.7, 1, 1), True)], (0, 0, 1)),
        ([], [("dog", A, False)], (1, 0, 0)),
        ([("dog", (0.0, 0.0, 0.4, 0.2))], [("dog", A, False)], (1, 1, 1)),  # an IoU of 0.5
        ([("dog", (0.0, 0.0, 0.4, 0.19))], [("dog", A, False)], (1, 0, 1)),
    ],
)
def test_counts_by_hand(detections, things, expected):
    assert script.counts(found(*detections), things) == expected


def test_annotations_of_the_photos():
    root = assets.path("coco_mini").parent
    photos = script.things(root)
    assert len(photos) == len({path.name for path in photos}) > 200 and all(path.is_file() for path in photos)
    rows = [row for things in photos.values() for row in things]
    assert len(rows) > 1000 and any(crowd for _, _, crowd in rows)
    boxes = np.array([box for _, box, _ in rows])
    assert (boxes > -1e-3).all() and (boxes < 1 + 1e-2).all() and (boxes[:, 2:] > boxes[:, :2]).all()


def test_the_line(monkeypatch, capsys):
    root = assets.path("weights/coco_ssd_tfjs").parents[1]
    ssd = script.ssd
    monkeypatch.setattr(script, "ssd", lambda folder: ssd(folder, most=3))
    monkeypatch.setattr(script, "fastdepth", lambda folder: {"fastdepth_spearman": None, "fastdepth_missing": "x"})
    script.main([f"--assets={root}"])
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["ssd_photos"] == 3 and 0 < line["ssd_recall"] < 1 and 0 < line["ssd_precision"] <= 1


def test_fastdepth_orders_the_motorcycle():
    pytest.importorskip("skimage", reason="the photo is in scikit-image")
    pytest.importorskip("onnxruntime", reason="needs the extra [onnx]")
    root = assets.path("weights/fastdepth").parents[1]
    assert script.fastdepth(root)["fastdepth_spearman"] > 0.5


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "skimage", None)
    result = script.fastdepth(pathlib.Path("nowhere"))
    assert result["fastdepth_spearman"] is None and "skimage" in result["fastdepth_missing"]
