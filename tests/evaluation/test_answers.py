"""An answer in the frames of its picture or video, and the files that show it."""

import json

import numpy as np
import pytest
from PIL import Image
from scored import CANVAS, WANT_LEFT, Segmenter, example, say, say_boxes

from dtr1_jax.evaluation import answers
from dtr1_jax.twin import transcript
from dtr1_jax.twin.coordinates import Canvas, Frame
from dtr1_jax.twin.schema import Answer, Object, Twin
from dtr1_jax.types import Example, Target, Video

COMMON = {"answer.json", "transcript.txt", "twin.json", "twin.png"}


def names(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_a_picture(tmp_path):
    query = example(WANT_LEFT)
    (frame,) = answers.resolve_frames(query, CANVAS, say(1), Segmenter())
    assert (frame.number, frame.ids, frame.failed) == (0, (1,), False)
    assert frame.boxes.tolist() == [[0, 0, 0.5, 1]]
    assert frame.twin_boxes_m4.tolist() == [[0, 0, 0.5, 1], [0.5, 0, 1, 1]]
    assert (frame.mask == query.target.mask).all()
    answers.write_answer(tmp_path, query, CANVAS, say(1), [frame], {"note": "mine"})
    assert names(tmp_path) == COMMON | {"boxes.json", "mask.png", "overlay.png"}
    assert ((np.asarray(Image.open(tmp_path / "mask.png")) > 0) == query.target.mask).all()
    boxes = json.loads((tmp_path / "boxes.json").read_text())
    assert boxes == {"size": [8, 4], "boxes": [{"id": 1, "box": [0, 0, 4, 4]}]}
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer["note"] == "mine" and answer["answer"] == {"objects": [1]} and answer["sound"] is True


def test_a_box_that_the_answer_gives_directly_has_no_id():
    (frame,) = answers.resolve_frames(example(WANT_LEFT, task="grounding"), CANVAS, say_boxes((4, 0, 8, 4)), None)
    assert frame.ids == (None,) and frame.boxes.tolist() == [[0.5, 0, 1, 1]] and frame.mask is None


def test_an_unsound_transcript_has_empty_files(tmp_path):
    query, unsound = example(WANT_LEFT), transcript.parse("no", task="segmentation", canvas=CANVAS)
    frames = answers.resolve_frames(query, CANVAS, unsound, Segmenter())
    answers.write_answer(tmp_path, query, CANVAS, unsound, frames, {})
    assert not np.asarray(Image.open(tmp_path / "mask.png")).any()
    assert json.loads((tmp_path / "twin.json").read_text())["objects"] == []
    assert json.loads((tmp_path / "boxes.json").read_text())["boxes"] == []
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer["sound"] is False and answer["answer"] is None and answer["faults"]


def test_a_frame_that_the_segmenter_loses_costs_that_frame(tmp_path):
    frames = np.zeros((3, 8, 8, 3), np.uint8)
    example = Example("", frames[0], "it", "segmentation", Target(frames[0, ..., 0] > 0, np.zeros((0, 4))),
                      visuals=(Video(frames, np.array([0, 4, 9]), 10.0, 10),))  # fmt: skip
    canvas = Canvas(Frame.NORM1000, (8, 8), (0, 4, 9))
    twin = Twin(
        (8, 8), (Object(1, "it", None, track=((4, (0, 0, 500, 500)), (9, (0, 0, 900, 500)))),), frames=(0, 4, 9)
    )
    parsed = transcript.parse(transcript.compose(twin, "", Answer(objects=(1,))), task="segmentation", canvas=canvas)
    calls = []

    def segment(pictures, boxes):
        calls.append([b.tolist() for b in boxes])
        return [np.ones((8, 8), bool), np.ones((4, 4), bool)]

    answer_frames = answers.resolve_frames(example, canvas, parsed, segment)
    assert calls == [[[[0, 0, 0.5, 0.5]], [[0, 0, pytest.approx(0.9), 0.5]]]]  # without the frame that has no box
    assert [f.number for f in answer_frames] == [0, 4, 9] and [f.failed for f in answer_frames] == [False, False, True]
    assert not answer_frames[0].mask.any() and answer_frames[1].mask.all() and answer_frames[2].mask is None
    answers.write_answer(tmp_path, example, canvas, parsed, answer_frames, {})
    assert sorted(p.name for p in (tmp_path / "masks").iterdir()) == ["000000.png", "000004.png"]
    assert json.loads((tmp_path / "answer.json").read_text())["segmenter_failed"]


def test_a_strip_that_no_mp4_can_hold_still_has_its_gif(tmp_path, caplog):
    frames = np.zeros((2, 1, 600, 3), np.uint8)
    target = Target(np.zeros((1, 600), bool), np.zeros((0, 4)))
    example = Example(
        "", frames[0], "it", "segmentation", target, visuals=(Video(frames, np.arange(2), float("inf"), 2),)
    )
    canvas = Canvas(Frame.NORM1000, (600, 1), (0, 1))
    nothing = transcript.compose(Twin((600, 1), (), frames=(0, 1)), "", Answer(objects=()))
    parsed = transcript.parse(nothing, task="segmentation", canvas=canvas)
    answers.write_answer(
        tmp_path, example, canvas, parsed, answers.resolve_frames(example, canvas, parsed, lambda *_: []), {}
    )
    assert names(tmp_path) == COMMON | {"boxes.json", "overlay.gif", "masks/000000.png", "masks/000001.png"}
    assert "no overlay.mp4, only overlay.gif" in caplog.text
