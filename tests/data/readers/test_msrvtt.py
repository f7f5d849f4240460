"""MSR-VTT: one query for each video with all its captions; files of one or of all splits; faults are counted."""

import dataclasses
import logging

import pytest
from worded_folders import msrvtt_file, write_msrvtt

from dtr1_jax.data import outlines
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import msrvtt


def opened(root, split="train", frames=2):
    return dataclasses.replace(msrvtt.open_msrvtt_source(str(root), split, "summary"), frames=frames)


def test_by_hand(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        source = opened(write_msrvtt(tmp_path))
    assert "2 videos, but the published split has 6513" in caplog.text
    assert "4 captions, but the published split has 130260" in caplog.text and "left out" not in caplog.text
    first, second = source
    assert (first.uid, first.query) == ("msrvtt/train/video0", "describe the video in one sentence.")
    assert first.target.references == ("a man cooks video0", "a person cooks video0")
    assert second.target.references == ("a man cooks video1", "a person cooks video1")
    assert (first.task, first.benchmark) == ("summary", "msrvtt") and first.video.index.tolist() == [0, 3]
    assert outlines.task_counts(source) == {"summary (video)": 2}
    assert [e.uid for e in opened(tmp_path, "heldout")] == ["msrvtt/validate/video2"]


@pytest.mark.parametrize(
    ("name", "split"),
    [("test_videodatainfo.json", "test"), ("MSRVTT_data.json", "test"), ("MSRVTT_data.json", "train"),
     ("annotation/MSR_VTT.json", "validate")],
)  # fmt: skip
@pytest.mark.parametrize("inside", ["TestVideo", "videos/all", "videos", ""])
def test_layouts(tmp_path, name, split, inside):
    (tmp_path / "annotation").mkdir()
    value = msrvtt_file((("video7", split), ("video8", "other")))
    assert opened(write_msrvtt(tmp_path, value, name, inside), split)[0].video.total == 4


VALUE = msrvtt_file()
VIDEO, SENTENCE = VALUE["videos"][0], VALUE["sentences"][0]
FAULTS = [  # (videos, sentences, number of queries, words of the warning)
    ([], [SENTENCE | {"sen_id": 99, "video_id": "video77"}], 2,
     "1 captions of a video that is not listed (such as video77"),
    ([], [SENTENCE | {"sen_id": 99, "caption": 3}], 2, "1 captions that are no text (such as sen_id 99)"),
    ([], [SENTENCE], 2, "1 captions whose sen_id stands twice"),
    ([], [None, {"video_id": "../x"}], 2, "2 captions without"),
    ([VIDEO], [], 2, "1 videos that stand twice (such as video0)"),
    ([VIDEO | {"video_id": "../a"}, VIDEO | {"video_id": 7}, 3], [], 2, "3 videos without a usable video_id"),
    ([VIDEO | {"video_id": "video9"}], [], 2, "1 videos without captions (such as video9)"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(FAULTS)))
def test_faults_are_counted(tmp_path, caplog, number):
    videos, sentences, count, warning = FAULTS[number]
    value = VALUE | {"videos": VALUE["videos"] + videos, "sentences": VALUE["sentences"] + sentences}
    with caplog.at_level(logging.WARNING):
        source = opened(write_msrvtt(tmp_path, value))
    assert len(source) == count and warning in caplog.text


def test_refusals(tmp_path):
    with pytest.raises(DataError, match=r"expected train_val_videodatainfo.json.* got no test_videodatainfo.json"):
        opened(tmp_path, "test")
    with pytest.raises(DataError, match="one of train, validate, test"):
        opened(tmp_path, "val")
    with pytest.raises(DataError, match="expected queries, got none to use"):
        opened(write_msrvtt(tmp_path / "a", msrvtt_file((("video0", "public"),))), "train")
    root = write_msrvtt(tmp_path / "b")
    (root / "TrainValVideo").rename(root / "elsewhere")
    with pytest.raises(DataError, match=r"expected the video .*video0.mp4, got no such file"):
        opened(root)
    (root / "train_val_videodatainfo.json").write_text("[]")
    with pytest.raises(DataError, match="breaks off or is malformed"):
        opened(root)
