"""Counts about a data set, against examples whose counts are known."""

import dataclasses
import json
import logging

import numpy as np
import pytest

from dtr1_jax import types
from dtr1_jax.data import image_files, inspection, patches, prompts, tokenizer
from dtr1_jax.policies import policy_files
from dtr1_jax.twin.coordinates import Frame

STYLE = prompts.Style(
    tokenizer.load_tokenizer(policy_files.ASSETS / "tiny"), patches.Geometry(8, 1, 2, 12, 96 * 96), Frame.NORM1000,
    "brief", 96,
)  # fmt: skip
W, H = 192, 96  # the policy sees 96 x 96: a pixel of x is half a pixel


def example(k, box=None, task="segmentation", query="x", labels=("dog",), **more):
    """A picture whose target is a filled box in pixels; None = nothing fits."""
    mask, boxes = np.zeros((H, W), bool), np.zeros((0, 4), np.float32)
    if box:
        x1, y1, x2, y2 = box
        mask[y1:y2, x1:x2] = True
        boxes = np.array([[x1 / W, y1 / H, x2 / W, y2 / H]], np.float32)
    scene = tuple(types.Instance(i, label, (0, 0, 1, 1), mask) for i, label in enumerate(labels, 1))
    return types.Example(str(k), np.zeros((H, W, 3), np.uint8), query, task, types.Target(mask, boxes, **more), scene)


@dataclasses.dataclass(frozen=True)
class Source:
    """Examples, or errors that are raised in their place."""

    items: tuple
    task: str = "segmentation"

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        if isinstance(self.items[index], Exception):
            raise self.items[index]
        return self.items[index]


def facts(*items, style=STYLE, **settings):
    return inspection.inspect(Source(items), style, **({"sample": 100, "seconds": 60.0} | settings)).facts


def test_targets():
    found = facts(
        example(0), example(1, (0, 0, 40, 40)), example(2, (0, 0, 15, 40)), example(3, (0, 0, 16, 8)),
        example(4, (0, 0, 15, 8)), example(5, task="vqa", references=("2",)),
    )  # fmt: skip
    assert (found["examples"], found["sample"], found["usable"]) == (6, 6, 6)
    assert (found["pointing"], found["empty_targets"], found["tiny_below"]) == (5, 1, 8)
    # Seen by the policy they are 20 x 40, 7.5 x 40, 8 x 8 and 7.5 x 8 pixels.
    assert (found["boxes"], found["tiny_boxes"], found["masks"], found["tiny_masks"]) == (4, 2, 4, 1)
    assert found["answers"] == {"2": 1} and found["sizes"] == [[W, H], [W, H]]
    json.dumps(found)


def test_objects_and_labels():
    found = facts(example(0, labels=("dog", "cat", "dog")), example(1, labels=()), example(2, labels=("dog",)))
    assert found["objects"] == {"fewest": 0, "mean": 1.33, "most": 3}
    assert found["labels"] == {"dog": 3, "cat": 1} and found["labels_of"] == "sample"


def test_scenes_that_lost_objects_are_counted():
    assert facts(example(0), dataclasses.replace(example(1), hidden_objects=2))["cut_scenes"] == 1


def test_prompts_that_do_not_fit_are_counted_with_their_length():
    tokens = int(prompts.prompt(example(0), STYLE)[0]["mask_bp"].sum())
    found = facts(example(0), example(1, query="very " * 300))
    assert found["usable"] == 1 and found["prompt"]["limit"] == 96
    assert found["prompt"]["too_long"] == 1 and found["prompt"]["uid"] == "1"
    assert found["prompt"]["longest"] > 300
    assert any("the prompt has N tokens" in reason for reason in found["unusable"])
    short = facts(example(0))["prompt"]
    assert short == {"limit": 96, "longest": tokens, "uid": "0", "too_long": 0}


def test_faults_are_counted_by_reason():
    errors = [image_files.ImageError(f"{k}.jpg: the picture is corrupt at {k}") for k in range(7)]
    found = facts(example(0), *errors, OSError("device"))
    assert found["usable"] == 1 and found["sample"] == 9
    assert found["unusable"] == {"the picture is corrupt at N": 7, "device": 1} and len(found["messages"]) == 5
    assert facts(*errors)["objects"] is None


def test_other_errors_are_not_swallowed():
    with pytest.raises(KeyError):
        facts(KeyError("a bug"))


def test_without_a_policy_prompts_and_tiny_targets_are_not_counted():
    found = facts(example(0, (0, 0, 1, 1)), style=None)
    assert "prompt" not in found and found["tiny_below"] is None and found["tiny_boxes"] == 0 and found["usable"] == 1


def test_videos_count_each_frame():
    masks = np.zeros((3, H, W), bool)
    masks[1, :2, :2] = masks[2, :50, :50] = True
    tracks = np.array([[[0, 0, 0, 0], [0, 0, 2 / W, 2 / H], [0, 0, 50 / W, 50 / H]]], np.float32)
    video = types.Video(np.zeros((3, H, W, 3), np.uint8), np.arange(3), 24.0, 3)
    target = types.Target(masks[0], np.zeros((0, 4), np.float32), masks=masks, tracks=tracks)
    area = patches.VideoRule(96 * 96, 96 * 96, min_frames=1, stamped=False, resume="end")
    style = dataclasses.replace(STYLE, geometry=dataclasses.replace(STYLE.geometry, video=area), length=512)
    item = types.Example("v", video.frames[0], "x", "segmentation", target, visuals=(video,))
    found = facts(item, style=style)
    assert (found["empty_targets"], found["boxes"], found["tiny_boxes"]) == (0, 2, 1)
    assert (found["masks"], found["tiny_masks"]) == (2, 1)


def test_the_sample_is_random_bounded_and_the_same_for_a_seed():
    items = tuple(example(k) for k in range(50))

    def shown(**settings):
        return [e.uid for e in inspection.inspect(Source(items), STYLE, seconds=60.0, **settings).shown]

    assert shown(sample=20, shown=5, seed=1) == shown(sample=20, shown=5, seed=1) != shown(sample=20, shown=5, seed=2)
    assert len(set(shown(sample=20, shown=30, seed=1))) == 20 and len(shown(sample=99, shown=99)) == 50
    assert facts(*items, seconds=0.0)["sample"] == 1, "one example is tried in any case"
    indices = inspection._sample(2**31 - 1, 30, 0)
    assert len(set(indices)) == 30 and max(indices) > 2**28


def test_warnings_are_collected_and_not_printed(caplog):
    log = logging.getLogger("dtr1_jax.data.readers.coco")
    with inspection.collected_warnings() as texts:
        log.warning("left out %d", 3)
        log.info("nothing")
    log.warning("later")
    assert texts == ["left out 3"] and [r.getMessage() for r in caplog.records] == ["later"]
