"""The figures of real weights: their names, and that they are computed as the script says."""

import json
from pathlib import Path

import assets
import numpy as np
import scripts

real_weights = scripts.load_script("experiments/specialists/real_weights.py")
photos = real_weights.photos
TRUTH = np.zeros((2, 8, 10), bool)
TRUTH[0, 2:6, 1:7] = True
TRUTH[1, 7, 9] = True


def photo() -> photos.Photo:
    boxes, clicks = zip(*map(photos._box_and_click, TRUTH))
    return photos.Photo(np.zeros((8, 10, 3), np.uint8), ("a", "b"), TRUTH, np.stack(boxes), np.stack(clicks))


class Right:
    """Answers boxes with the truth, and clicks with the mask of the first object for both."""

    def embed(self, images):
        return images

    def segment(self, images, boxes=None, points=None):
        return [type("Masks", (), {"masks": TRUTH if points is None else TRUTH[[0, 0]]})]


def test_boxes_are_tight_and_clicks_are_inside():
    one = photo()
    np.testing.assert_allclose(one.boxes, [[0.1, 0.25, 0.7, 0.75], [0.9, 0.875, 1, 1]])
    for (x, y), mask in zip(one.clicks, TRUTH):
        assert mask[int(y * 8), int(x * 10)]


def test_the_last_line_is_json(monkeypatch, capsys):
    monkeypatch.setattr(real_weights.specialists, "load", lambda path: Right())
    monkeypatch.setattr(real_weights.photos, "read_photos", lambda assets, every: iter([photo()]))
    monkeypatch.setattr(real_weights, "others", lambda assets: {"ssd_recall": 0.5})
    real_weights.main(["--assets=none", "--reference=0"])
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["mobile_sam_box_iou"] == 1 and line["mobile_sam_point_iou"] == 0.5 and line["ssd_recall"] == 0.5
    assert line["box_iou"] == 1 and line["objects"] == 2 and 0 <= line["grabcut_iou"] <= 1


def test_other_models_are_left_out_where_their_file_is_missing(monkeypatch):
    monkeypatch.setattr(real_weights.importlib.util, "find_spec", lambda name: None)
    assert real_weights.others(Path("none")) == {}


def test_the_filled_box_on_the_assets():
    """The mean IoU that the filled box has with the annotated objects of the photos with instances."""
    root = assets.path("coco_mini").parent
    found = list(photos.read_photos(root, every=8, files=photos.FILES[:1]))
    assert len(found) == 10 and all(one.masks.any((1, 2)).all() for one in found)
