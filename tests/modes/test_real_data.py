"""A step of training and an evaluation on real videos, photos and questions, where they are at hand."""

import zipfile

import assets
import numpy as np
import pytest
import tiny

from dtr1_jax.modes import train
from dtr1_jax.run import run_log


def trained(path, workdir, figure, **changes):
    """The held-out `figure` before and after a step, in which no example was left out."""
    c = tiny.settings(path, train__steps=1, policy__prompt_tokens=96, **changes)
    train.run(c, workdir)
    rows = run_log.read_run_log(workdir)
    assert [row["train/examples_skipped"] for row in rows if "train/loss" in row] == [0]
    found = [row[figure] for row in rows if figure in row]
    assert len(found) == 2 and np.isfinite(found).all()


@pytest.mark.parametrize("name", ["davis2016_subset", "cutie_judo/examples"])
def test_videos_with_masks(path, small, tmp_path, name):
    figure = "eval/segmentation/video/jf"
    trained(path, tmp_path, figure, data__source="davis", data__root=str(assets.path(name)), data__frames=4)


def test_photos(path, small, tmp_path):
    root = str(assets.path("coco_mini"))
    trained(path, tmp_path, "eval/segmentation/picture/giou", data__source="coco", data__root=root)


def test_easy_vqa(path, small, tmp_path):
    (wheel,) = assets.path("easy_vqa").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "wheel")
    root = str(tmp_path / "wheel" / "easy_vqa" / "data")
    figure = "eval/vqa/picture/accuracy"
    trained(path, tmp_path / "run", figure, data__source="easy_vqa", data__root=root, data__task="vqa")
