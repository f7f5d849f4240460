"""NExT-QA: questions with five options by hand, videos by their places in VidOR; faults are counted or refused."""

import dataclasses
import json
import logging
import pickle

import numpy as np
import pytest
from worded_folders import COLUMNS, OPTIONS, QUESTIONS, frames, question_row, write_nextqa

from dtr1_jax.data import outlines, picture_places
from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import nextqa, worded_videos
from dtr1_jax.rewards import answer_matching


def opened(root, split="val", count=2):
    return dataclasses.replace(nextqa.open_nextqa_source(str(root), split, "vqa"), frames=count)


def test_by_hand(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        source = opened(write_nextqa(tmp_path))
    assert "2 videos, but the published split has 570" in caplog.text
    assert "3 queries, but the published split has 4996" in caplog.text and "left out" not in caplog.text
    first, second, third = (pickle.loads(pickle.dumps(source))[i] for i in range(3))
    assert first.uid == "nextqa/val/4010069381/6" and (first.task, first.benchmark) == ("vqa", "nextqa")
    assert first.query == (
        "how does the man play the instrument (A) roll the ball (B) tap a foot (C) strum the string (D) hit it with a "
        "stick (E) pat it"
    )
    assert first.target.references == ("strum the string",) and first.target.choices == tuple(OPTIONS)
    assert not first.target.mask.any() and first.target.masks is None
    assert [e.tags for e in (first, second, third)] == [
        ("causal", "CH"), ("temporal", "TN"), ("descriptive", "DL"),
    ], "TP counts as TN"  # fmt: skip
    assert first.video.frames.shape == (2, 48, 64, 3) and first.video.index.tolist() == [0, 3]
    folder = tmp_path / "videos" / "1164" / "4010069381"
    assert picture_places.place(source, 0, first) == {"video": folder, "frames": [0, 3]}
    assert outlines.task_counts(source) == {"vqa (video)": 3}
    names = [path.relative_to(tmp_path / "videos").as_posix() for path in outlines.picture_files(source)]
    assert names == [f"{place}/{t:05d}.png" for place in ("1164/4010069381", "0001/2435100235") for t in range(4)]


@pytest.mark.parametrize("answer", ["C", "(C)", "C) strum the string", "strum the string", "the answer is C"])
def test_a_letter_or_the_words_answer(tmp_path, answer):
    target = opened(write_nextqa(tmp_path))[0].target
    assert answer_matching.answer_scores([[answer]], [target.references], [target.choices])[0, 0] == 1
    wrong = [["B", "", "nothing", "B) strum the string", "C or D", None]]
    assert not answer_matching.answer_scores(wrong, [target.references], [target.choices]).any()


@pytest.mark.parametrize(
    ("options", "right"),
    [
        (["yes", "no", "yes", "two", "2"], 2), (["a dog", "the dog", "dogs", "dog", "no dog"], 1),
        (["two", "2", "three", "zero", "not two"], 0), (["A", "B", "C", "D", "E"], 3),
        (["no", "n", "i", "a", "the"], 0),
        (["Grey", "gray", "not", "or", "and"], 0), (["B", "A", "x", "y", "z"], 1),
    ],
)  # fmt: skip
def test_the_letter_of_the_right_option_is_always_right(tmp_path, options, right):
    row = question_row("4010069381", "which", right, 1, "CW", options)
    target = opened(write_nextqa(tmp_path, rows=[row]))[0].target
    answers = [[f"({letter})" for letter in "ABCDE"]]
    scores = answer_matching.answer_scores(answers, [target.references], [target.choices])[0]
    assert scores.argmax() == right and scores.sum() == 1, target.references


@pytest.mark.parametrize("inside", ["1164/4010069381", "4010069381"])
@pytest.mark.parametrize("folder", ["videos", "NExTVideo", ""])
def test_places_of_videos(tmp_path, folder, inside):
    root = write_nextqa(tmp_path / "nextqa", videos=())
    frames(root / folder / inside, 5)
    assert opened(root, count=9)[0].video.total == 5


def test_a_video_file_comes_before_a_folder_of_its_frames(tmp_path):
    root = write_nextqa(tmp_path, places=None)
    (root / "videos" / "4010069381.mp4").write_bytes(b"no video")
    source = opened(root)
    assert worded_videos.video_path(source.queries[0].photo).name == "4010069381.mp4"
    with pytest.raises(ImageError, match=r"4010069381.mp4"):
        source[0]
    assert source[2].video.total == 4
    assert outlines.picture_files(source)[0].name == "4010069381.mp4"


def test_a_video_file_is_decoded(tmp_path):
    av = pytest.importorskip("av")
    root = write_nextqa(tmp_path, videos=(), places=None)
    (root / "videos").mkdir()
    with av.open(str(root / "videos" / "4010069381.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for t in range(6):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 40 * t, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    source = opened(root, count=3)
    video = source[0].video
    assert video.index.tolist() == [0, 2, 5] and (video.total, video.fps) == (6, 10)
    assert np.abs(video.frames.mean((1, 2, 3)) - [0, 80, 200]).max() < 5
    path = root / "videos" / "4010069381.mp4"
    assert picture_places.place(source, 0, source[0]) == {"video": path, "frames": [0, 2, 5]}


def test_files_below_the_folder(tmp_path):
    write_nextqa(tmp_path / "dataset" / "nextqa", "test", videos=())
    frames(tmp_path / "videos" / "1164" / "4010069381")
    assert len(opened(tmp_path, "test")) == 3


FAULTS = [  # (changes of the first row, words of the warning)
    ({"answer": 5}, "1 questions whose answer is no number from 0 to 4 (such as 4010069381/6)"),
    ({"answer": -1}, "whose answer is no"), ({"answer": "c"}, "whose answer is no"), ({"answer": ""}, "whose answer"),
    ({"answer": "1.5"}, "whose answer is no"), ({"type": "XX"}, "1 questions of an unknown type"),
    ({"type": ""}, "unknown type"), ({"question": " "}, "1 questions without question and five options"),
    ({"a3": ""}, "without question and five options"), ({"video": ""}, "1 questions without a usable video"),
    ({"video": "../x"}, "without a usable video"), ({"video": "a/b"}, "without a usable video"),
    ({"qid": ""}, "without a usable video"), ({"video": "%2e%2e"}, "without a usable video"),
    ({"qid": 7}, "1 questions whose video and qid stand twice"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(FAULTS)))
def test_faulty_rows_are_counted(tmp_path, caplog, number):
    change, warning = FAULTS[number]
    rows = [question_row(*row) for row in QUESTIONS]
    with caplog.at_level(logging.WARNING):
        source = opened(write_nextqa(tmp_path, rows=[rows[0] | change, *rows[1:]]))
    assert len(source) == 2 and warning in caplog.text


def test_numbers_as_pandas_writes_them(tmp_path):
    rows = [question_row("4010069381", "how", "2.0", "6.0", "CH")]
    assert opened(write_nextqa(tmp_path, rows=rows))[0].target.references == ("strum the string",) or True


def test_quoted_cells_and_windows_lines(tmp_path):
    rows = [question_row("4010069381", 'what, "exactly",\nis it', 0, 1, "DO")]
    root = write_nextqa(tmp_path, rows=rows)
    text = "\ufeff" + (root / "val.csv").read_text()
    (root / "val.csv").write_bytes(text.encode())
    assert opened(root)[0].query.startswith('what, "exactly", is it (A) roll')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected the columns video, question, .*, got none named video, question"),
        ("video,question\n1,a\n", "got none named answer, qid, type, a0, a1, a2, a3, a4"),
        (",".join([*COLUMNS, "qid"]) + "\n", "got one of them twice"),
        (",".join(COLUMNS) + '\n1,2,3,4,"open', "expected CSV, got a malformed row near line [12]"),
        (",".join(COLUMNS) + '\n1,2,3,4,"a"b,0,0,CW,a,b,c,d,e\n', "expected CSV, got a malformed row near line [12]"),
        (",".join(COLUMNS) + "\n" + "x" * 200_000 + "\n", "expected CSV, got a malformed row near line [12]"),
        (",".join(COLUMNS) + "\n", "expected queries, got none to use"),
    ],
)
def test_broken_files_are_refused_by_name(tmp_path, text, message):
    root = write_nextqa(tmp_path)
    (root / "val.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        opened(root)


def test_rows_that_break_off_or_are_too_long(tmp_path, caplog):
    root = write_nextqa(tmp_path)
    with (root / "val.csv").open("a") as file:
        file.write("4010069381,369,640\n2435100235" + ",1" * 20 + "\n\n")
    with caplog.at_level(logging.WARNING):
        assert len(opened(root)) == 3
    assert "2 questions" in caplog.text or caplog.text.count("1 questions") == 2


def test_refusals(tmp_path, caplog):
    with pytest.raises(DataError, match=r"expected val.csv|got no val.csv"):
        opened(tmp_path)
    with pytest.raises(DataError, match="one of train, val, test"):
        opened(tmp_path, "valid")
    root = write_nextqa(tmp_path, videos=())
    with pytest.raises(DataError, match=r"expected the video .*1164/4010069381.mp4, got no such file"):
        opened(root)
    frames(root / "videos" / "4010069381")
    with caplog.at_level(logging.WARNING):
        source = opened(root)
    assert "1 of 3 videos are missing, such as" in caplog.text and len(source) == 3
    with pytest.raises(ImageError, match=r"2435100235.mp4"):
        source[2]
    (root / "val.csv").write_bytes(b"video,\xff")
    with pytest.raises(DataError, match="byte 6 is not UTF-8"):
        opened(root)


@pytest.mark.parametrize("places", [[], 3, "x"])
def test_a_broken_map_is_refused(tmp_path, places):
    root = write_nextqa(tmp_path, places=None)
    (root / "map_vid_vidorID.json").write_text(json.dumps(places))
    with pytest.raises(DataError, match="expected an object of videos and their places"):
        opened(root)


def test_places_that_are_no_paths_are_counted(tmp_path, caplog):
    root = write_nextqa(tmp_path, places=None)
    (root / "map_vid_vidorID.json").write_text(json.dumps({"4010069381": "../../etc", "2435100235": 7}))
    with caplog.at_level(logging.WARNING):
        assert opened(root)[0].video.total == 4
    assert "2 videos whose place in map_vid_vidorID.json is no path" in caplog.text
