"""What a user names: pictures, videos and folders of frames are told apart."""

import dataclasses

import numpy as np
import processors
import pytest
from PIL import Image

from dtr1_jax.data import image_files, visuals
from dtr1_jax.types import Video

GEOMETRY = processors.geometry("qwen3_vl")


def test_kinds(tmp_path):
    folder = tmp_path / "clip.frames"
    folder.mkdir()
    for i in range(6):
        Image.new("RGB", (20, 10), (40 * i,) * 3).save(folder / f"{i}.png")
    picture = visuals.load_visual(folder / "2.png", GEOMETRY)
    assert picture.shape == (10, 20, 3) and picture.max() == 80
    (tmp_path / "photo").write_bytes((folder / "3.png").read_bytes())  # no suffix: a picture
    assert visuals.load_visual(tmp_path / "photo", GEOMETRY).max() == 120
    video = visuals.load_visual(folder, GEOMETRY, fps=3.0)
    assert isinstance(video, Video) and video.index.tolist() == [0, 2, 3, 5] and video.fps == 3.0
    np.testing.assert_array_equal(visuals.first_frame((video, picture)), video.frames[0])
    np.testing.assert_array_equal(visuals.first_frame((picture, video)), picture)


def test_a_video_for_a_policy_that_takes_none(tmp_path):
    (tmp_path / "clip.mp4").write_bytes(b"x")
    for geometry in (None, dataclasses.replace(GEOMETRY, video=None)):
        with pytest.raises(image_files.ImageError, match=r"clip\.mp4: this policy takes no videos"):
            visuals.load_visual(tmp_path / "clip.mp4", geometry)
    with pytest.raises(image_files.ImageError, match=r"clip\.mp4: not a video"):
        visuals.load_visual(tmp_path / "clip.mp4", GEOMETRY)
    with pytest.raises(image_files.ImageError, match=r"none\.mp4: no such file"):
        visuals.load_visual(tmp_path / "none.mp4", GEOMETRY)
