"""The pixels of a given twin's objects."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from dtr1_jax import types
from dtr1_jax.asking.given_masks import given_masks
from dtr1_jax.data.readers import jsonl
from dtr1_jax.data.twinworld import picture_examples, video_examples
from dtr1_jax.modes.perceived_lines import rle
from dtr1_jax.rewards import answer_regions
from dtr1_jax.twin import transcript
from dtr1_jax.twin.coordinates import Canvas, Frame
from dtr1_jax.twin.schema import Answer
from dtr1_jax.twin.text import from_scene


def answered(example, ids, segment=None):
    """The outcome of an answer by ids about the example's own twin."""
    frames = () if example.video is None else tuple(map(int, example.video.index))
    canvas = Canvas(Frame.NORM1000, example.image.shape[1::-1], frames)
    twin = from_scene(example.scene, canvas)
    reply = transcript.dumps_reply(twin, "", Answer(objects=tuple(ids)))
    parsed = transcript.parse(reply, task="segmentation", canvas=canvas, constructor="given", given_twin=twin)
    assert parsed.sound, parsed.faults
    return answer_regions.outcomes([[parsed]], [example], [canvas], segment, real=[[given_masks(example)]])[0][0]


def nothing_is_segmented(pictures, boxes):
    assert not pictures
    return []


def test_an_answer_has_the_pixels_of_its_objects():
    example = picture_examples.example(0, "train", 3, min_objects=4)
    one, two = example.scene[:2]
    outcome = answered(example, (one.id, two.id), nothing_is_segmented)
    np.testing.assert_array_equal(outcome.mask, one.mask | two.mask)
    small = dataclasses.replace(one, mask=one.mask[::2, ::2])  # a working size
    shrunk = given_masks(dataclasses.replace(example, scene=(small, *example.scene[1:])))
    assert shrunk.masks[one.id].shape == example.image.shape[:2] and shrunk.looked is None


def test_in_a_video_frame_by_frame():
    example = video_examples.example(0, "train", 1)
    one = example.scene[0]
    outcome = answered(example, (one.id,), nothing_is_segmented)
    labelled = example.target.labelled
    wanted = one.masks if labelled is None else one.masks & labelled[:, None, None]
    np.testing.assert_array_equal(outcome.masks, wanted)
    assert given_masks(example).looked.all()


def test_an_object_of_which_only_the_box_is_known_is_segmented(tmp_path):
    """JSON lines: one object with a mask, one without."""
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(tmp_path / "a.png")
    mask = np.zeros((40, 60), bool)
    mask[4:9, 6:14] = True
    objects = [{"label": "mug", "box": [5, 3, 15, 10], "rle": rle(mask)}, {"label": "cup", "box": [30, 20, 50, 30]}]
    line = {"image": "a.png", "query": "what", "rle": rle(mask), "objects": objects, "split": "train"}
    (tmp_path / "a.jsonl").write_text(json.dumps(line))
    example = jsonl.open_jsonl_source(str(tmp_path / "a.jsonl"), "train", "segmentation", max_objects=4)[0]
    assert [x.outlined for x in example.scene] == [True, False] and set(given_masks(example).masks) == {1}
    asked = []

    def segment(pictures, boxes):
        asked.extend(boxes)
        found = np.zeros((40, 60), bool)
        found[25, 40] = True
        return [found]

    outcome = answered(example, (1, 2), segment)
    assert len(asked) == 1 and asked[0].shape == (1, 4) and asked[0][0, 0] == pytest.approx(0.5)
    wanted = mask.copy()
    wanted[25, 40] = True
    np.testing.assert_array_equal(outcome.mask, wanted)


def test_a_scene_without_objects():
    example = types.Example(
        "x", np.zeros((4, 4, 3), np.uint8), "what", "vqa", types.Target(np.zeros((4, 4), bool), np.zeros((0, 4)))
    )
    assert given_masks(example).masks == {}
