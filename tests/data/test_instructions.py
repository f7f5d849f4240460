"""The words of a prompt: the format, the frame of the boxes, tracks, and the forms of answers."""

import pytest

from dtr1_jax import types
from dtr1_jax.data import instructions, prompts
from dtr1_jax.data.twinworld import picture_examples
from dtr1_jax.twin.coordinates import Canvas, Frame
from dtr1_jax.twin.transcript import CLOSING, open_request

SCENE = picture_examples.example(0, "train", 0)


@pytest.mark.parametrize("task", types.TASKS)
def test_full_words_explain_the_format(task):
    pixel = instructions.instruction("find it", task, Canvas(Frame.PIXEL, (128, 64)), "full")
    norm = instructions.instruction("find it", task, Canvas(Frame.NORM1000, (128, 64)), "full")
    for text in (pixel, norm):
        assert text.endswith("Query: find it")
        places = [text.index(f"<{tag}>") for tag in ("twin", "think", "answer")]
        assert places == sorted(places)
        assert '"size":[128,64]' in text
        assert ('{"text":' if task in ("vqa", "summary") else '{"objects":[ids') in text
    assert "in pixels of the picture as given, size [128,64]" in pixel
    assert "thousandths" not in pixel
    assert "in thousandths of the picture's width and height; size is [128,64] pixels" in norm
    assert "in pixels of" not in norm
    several = instructions.instruction("find it", task, Canvas(Frame.PIXEL, (128, 64)), "full", several=True)
    assert several == pixel.replace("describe the picture", "describe the first picture")
    brief = "in words: find it" if task in ("vqa", "summary") else "point: find it"
    assert instructions.instruction(" find it\n", task, Canvas(Frame.PIXEL, (128, 64)), "brief") == brief


def test_full_words_explain_names():
    canvas = Canvas(Frame.PIXEL, (128, 64))
    number, named = (instructions.instruction("find it", "vqa", canvas, "full", named=x) for x in (False, True))
    assert '"id":1,' in number and "Ids count from 1, depth" in number
    assert '"id":"mug_1",' in named and "Ids are the label and a number from 1 on, depth" in named


@pytest.mark.parametrize("task", types.TASKS)
def test_full_words_explain_tracks_of_videos_alone(task):
    video, picture = Canvas(Frame.NORM1000, (96, 64), (0, 4, 8)), Canvas(Frame.NORM1000, (96, 64))
    text = instructions.instruction("what moves", task, video, "full")
    assert '"frames":[0,4,8],' in text and '"track":{"0":[x1,y1,x2,y2],"8":[x1,y1,x2,y2]}' in text
    assert "video" in text and "picture as" not in text and '"velocity":[dx,dy]' in text
    assert "frames" not in instructions.instruction("what is red", task, picture, "full")
    brief = "in words: what moves" if task in ("vqa", "summary") else "point: what moves"
    assert instructions.instruction("what moves", task, video, "brief") == brief


def test_boxes_are_no_answer_about_a_video():
    picture, video = Canvas(Frame.PIXEL, (128, 64)), Canvas(Frame.PIXEL, (128, 64), (0, 3, 6))
    for twin in (None, prompts.given_twin(SCENE, picture)):
        of_picture, of_video = (
            instructions.instruction("find it", "grounding", c, "full", twin) for c in (picture, video)
        )
        assert '{"boxes":[[' in of_picture and '"boxes"' not in of_video and '{"objects":[ids]}' in of_video


@pytest.mark.parametrize("task", types.TASKS)
def test_full_words_explain_how_to_ask_specialists(task):
    """The form that they show is sound, and only videos have frames and track."""
    picture, video = Canvas(Frame.NORM1000, (96, 64)), Canvas(Frame.NORM1000, (96, 64), (0, 4, 8))
    for canvas in (picture, video):
        text = instructions.instruction("find it", task, canvas, "full", asks=True)
        assert text.endswith("Query: find it")
        places = [text.index(f"<{tag}>") for tag in ("construct", "twin", "think", "answer")]
        assert places == sorted(places)
        shown = text[text.index("<construct>") : text.index(CLOSING) + len(CLOSING)]
        request, _ = open_request(shown, canvas.frames)
        assert request is not None and request.frames == canvas.frames
        assert ("track (" in text) == ("[0,4,8]" in text) == ("frames" in text) == (canvas is video)
        assert all(f"{op} (" in text for op in ("detect", "segment", "depth"))
