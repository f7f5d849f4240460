"""Which frames the keys of a target mean: by hand for each way to name them; doubtful ones are left out."""

import pytest
from PIL import Image

from dtr1_jax.data.conversion import frame_targets
from dtr1_jax.data.conversion.samples import FrameTarget, LeftOut


def folder(tmp_path, names):
    for name in names:
        Image.new("RGB", (8, 6)).save(tmp_path / name)
    return tmp_path


FIVES = ("00000.png", "00005.png", "00010.png")
CASES = [  # (files, keys, places or the reason)
    (FIVES, ("00005", "00010"), [1, 2]), (FIVES, ("00010.png", "00000.png"), [2, 0]), (FIVES, ("5", "10"), [1, 2]),
    (FIVES, ("0", "5"), [0, 1]), (FIVES, ("0", "1"), [0, 1]), (FIVES, ("0",), [0]), (FIVES, ("1", "2"), [1, 2]),
    (FIVES, ("0", "7"), "frame numbers that they do not have"), (FIVES, ("0", "x"), "keys that name no frame"),
    (("1.png", "2.png", "3.png"), ("0", "1", "2"), [0, 1, 2]), (("1.png", "2.png", "3.png"), ("3",), [2]),
    (("1.png", "2.png", "3.png"), ("1", "2"), "names of the files or their places"),
    (("00001.png", "00002.png", "00003.png"), ("1", "2"), "names of the files or their places"),
    (("00001.png", "00002.png", "00003.png"), ("00001", "00002"), [0, 1]),
    (("a1.png", "a2.png"), ("a2",), [1]), (("a1.png", "a2.png"), ("1",), [1]),
    (("0.png", "1.png", "2.png"), ("2", "0"), [2, 0]), (("0.png", "1.png"), ("9999999999",), "keys that name no frame"),
    (("0.png", "1.png"), ("\u0661",), "keys that name no frame"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(CASES)))
def test_keys_of_frames_in_a_folder(tmp_path, number):
    names, keys, expected = CASES[number]
    path, target = folder(tmp_path, names), FrameTarget("rles", keys, ([None],) * len(keys))
    if isinstance(expected, str):
        with pytest.raises(LeftOut, match=expected):
            frame_targets.frame_places(target, path)
    else:
        assert frame_targets.frame_places(target, path) == expected


def test_lists_and_video_files(tmp_path):
    path = folder(tmp_path, FIVES)
    assert frame_targets.frame_places(FrameTarget("rles", None, ([None],) * 3), path) == [0, 1, 2]
    assert frame_targets.frame_places(FrameTarget("rles", None, ([None],) * 2, FIVES[1:]), path) == [1, 2]
    for target, reason in (
        (FrameTarget("rles", None, ([None],) * 2), "another number of targets than of frames"),
        (FrameTarget("rles", None, ([None],), ("9.png",)), "missing frames"),
    ):
        with pytest.raises(LeftOut, match=reason):
            frame_targets.frame_places(target, path)
    with pytest.raises(LeftOut, match="two targets for one frame"):
        frame_targets.placed(FrameTarget("rles", ("00005", "00005.png"), ([None],) * 2), path, str)
    file = tmp_path / "v.mp4"
    file.write_bytes(b"x")
    assert frame_targets.frame_places(FrameTarget("rles", ("3", "0"), ([None],) * 2), file) == [3, 0]
    for keys in (None, ("a",)):
        with pytest.raises(LeftOut, match="videos in a file"):
            frame_targets.frame_places(FrameTarget("rles", keys, ([None],)), file)
    with pytest.raises(LeftOut, match="cannot be read"):
        frame_targets.frame_size(file)
    assert frame_targets.frame_size(path) == (8, 6)


def test_tracks_begin_and_end_where_the_object_is_there():
    boxes = [[None, [0, 0, 4, 4]], [[1, 1, 2, 2], None], [None], [[3, 3, 5, 5], [1, 0, 4, 4]]]
    found = frame_targets.field_of({"kind": "tracks", "frames": [0, 2, 4, 6], "values": boxes}, list)
    assert found == {"tracks": [{"2": [1, 1, 2, 2], "4": None, "6": [3, 3, 5, 5]},
                                {"0": [0, 0, 4, 4], "2": None, "4": None, "6": [1, 0, 4, 4]}]}  # fmt: skip
    assert frame_targets.field_of({"kind": "tracks", "frames": [0], "values": [[None]]}, list) == {"tracks": []}
