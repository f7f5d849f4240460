"""Lines whose answer contradicts their target, or whose masks are not those of their objects, cost the example."""

import json

import numpy as np
import pytest
from PIL import Image

from configs import default
from dtr1_jax import config
from dtr1_jax.checked_fields import ConfigError
from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.readers import jsonl, jsonl_agreement
from dtr1_jax.twin import masks

H, W = 100, 200
MUG, DOG, ROD = [10, 5, 60, 45], [100, 20, 180, 90], [0, 0, 100, 100]


def filled(*boxes, shape=(H, W)):
    mask = np.zeros(shape, bool)
    for x1, y1, x2, y2 in boxes:
        mask[y1:y2, x1:x2] = True
    return mask


def rle(mask):
    packed = masks.encode(mask)
    return {"size": packed["size"], "counts": packed["counts"].decode()}


def outlined(label, box):
    return {"label": label, "box": box, "rle": rle(filled(box))}


OBJECTS = [outlined("mug", MUG), outlined("dog", DOG)]
DIAGONAL = np.eye(H, W, dtype=bool)  # a rod: 1 % of its box


def example(folder, **fields):
    """The example of a line about a black picture, or about a black video of four frames."""
    row = {"query": "q", "split": "train", "objects": OBJECTS} | fields
    if "rles" in row or "tracks" in row:
        (folder / "v").mkdir()
        for t in range(4):
            Image.new("RGB", (W, H)).save(folder / "v" / f"{t}.png")
        row["video"] = "v"
    else:
        Image.new("RGB", (W, H)).save(folder / "1.png")
        row["image"] = "1.png"
    (folder / "a.jsonl").write_text(json.dumps(row))
    return jsonl.open_jsonl_source(str(folder / "a.jsonl"), "train", "segmentation", max_objects=7)[0]


@pytest.mark.parametrize(
    ("target", "answer", "message"),
    [
        ({"rle": rle(filled(MUG))}, [2], r"overlap with the target \(rle\), got \[2\] with an overlap of 0.00; if obj"),
        ({"rle": rle(filled(MUG))}, [], r"expected the objects of the target \(rle\), got \[\], that is none; if obj"),
        ({"rle": []}, [1], r"expected \[\], as the target \(rle\) is empty, got \[1\]"),
        ({"boxes": []}, [1, 2], r"expected \[\], as the target \(boxes\) is empty, got \[1, 2\]"),
        ({"boxes": [MUG]}, [2], r"overlap with the target \(boxes\), got \[2\]"),
        ({"boxes": [[0, 0, 200, 100]], "objects": [outlined("mug", [0, 0, 30, 30])]}, [1], "an overlap of 0.04"),
        ({"polygons": [[10, 5, 60, 5, 60, 45]]}, [2], r"overlap with the target \(polygons\)"),
    ],
)
def test_answers_that_contradict_their_target(tmp_path, target, answer, message):
    with pytest.raises(ImageError, match=rf"^a\.jsonl:1: oracle\.answer: .*{message}"):
        example(tmp_path, **target, oracle={"answer": answer})


@pytest.mark.parametrize(
    ("fields", "answer"),
    [
        ({"rle": rle(filled(MUG, DOG))}, [1, 2]),
        ({"rle": rle(filled(MUG, DOG))}, [2]),  # a part of the target is no contradiction
        ({"rle": rle(filled([10, 5, 30, 25]))}, [1]),  # an IoU of 0.2: perception cuts out too much
        ({"rle": []}, []),
        ({"boxes": [], "objects": []}, []),
        ({"boxes": [MUG]}, [1]),
        # A rod as outline and as box: the IoU of these is 0.01.
        ({"rle": rle(DIAGONAL), "objects": [{"label": "rod", "box": ROD}]}, [1]),
        ({"boxes": [ROD], "objects": [{"label": "rod", "box": ROD, "rle": rle(DIAGONAL)}]}, [1]),
        # The dog is ignored, so the answer has no pixels that count, as the target.
        ({"rle": [], "oracle": {"ignore": rle(filled(DOG))}}, [2]),
        ({"task": "vqa", "answers": ["a mug"]}, [1]),
    ],
)
def test_answers_that_agree_are_kept(tmp_path, fields, answer):
    oracle = fields.get("oracle", {}) | {"answer": answer}
    assert example(tmp_path, **fields | {"oracle": oracle}).answer_ids == tuple(answer)


BALL = {"label": "ball", "track": {"0": MUG, "3": MUG}}
CAR = {"label": "car", "track": {"1": DOG, "3": DOG}}


@pytest.mark.parametrize(
    ("target", "answer", "message"),
    [
        ({"tracks": [{"0": MUG, "3": MUG}]}, [2], r"overlap with the target \(tracks\)"),
        ({"tracks": []}, [1], "as the target"),
        ({"rles": {"0": rle(filled(MUG)), "2": rle(filled(MUG))}}, [2], r"overlap with the target \(rles\)"),
        ({"rles": {"0": rle(filled(MUG))}}, [], "that is none"),
        ({"rles": {"1": [], "2": []}, "frames": [1, 2]}, [2], "as the target"),
    ],
)
def test_answers_that_contradict_their_target_in_videos(tmp_path, target, answer, message):
    with pytest.raises(ImageError, match=rf"a\.jsonl:1: oracle\.answer: .*{message}"):
        example(tmp_path, **target, objects=[BALL, CAR], oracle={"answer": answer})


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ({"tracks": [{"0": MUG, "3": MUG}]}, [1]),
        ({"tracks": []}, []),
        ({"rles": {"0": rle(filled(MUG)), "2": rle(filled(MUG))}}, [1]),
        ({"rles": {"0": rle(filled(MUG)), "2": []}, "frames": [2, 3]}, [1]),  # the frame with the target is not shown
        ({"rles": {"0": []}, "frames": [0, 3]}, [2]),  # the car is not yet there in the frame with a target
    ],
)
def test_answers_that_agree_are_kept_in_videos(tmp_path, target, answer):
    found = example(tmp_path, **target, objects=[BALL, CAR], oracle={"answer": answer})
    assert found.answer_ids == tuple(answer)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (filled(), r"a mask with pixels, got none; remove rle to fill the box, or the object"),
        (filled(DOG), r"a mask in the object's box, got one with 0% of its pixels there"),
        (filled([10, 5, 20, 45], [100, 0, 150, 40]), r"a mask in the object's box, got one with 17%"),
        (np.ones((1, 1), bool), r"or a smaller one of its shape, with 64 pixels or more on the longer side, got 1 x 1"),
        (filled([0, 0, 31, 16], shape=(31, 62)), r"64 pixels or more on the longer side, got 62 x 31"),
        (np.zeros((0, 0), bool), r"got 0 x 0"),
    ],
)
def test_masks_that_are_not_of_their_object(tmp_path, mask, message):
    code = rle(mask) if mask.size else {"size": [0, 0], "counts": []}
    objects = [OBJECTS[1], {"label": "mug", "box": MUG, "rle": code}]
    with pytest.raises(ImageError, match=rf"^a\.jsonl:1: objects\[1\]\.rle: expected .*{message}"):
        example(tmp_path, boxes=[DOG], objects=objects)


def test_masks_beside_their_box_are_kept(tmp_path):
    """A detector's box may be too small: here it has 30 % of the mask. A small mask has coarse pixels."""
    beside = {"label": "mug", "box": [10, 5, 40, 35], "rle": rle(filled([10, 5, 110, 35]))}
    small = {"label": "pea", "box": [100, 50, 101, 51], "rle": rle(filled([32, 16, 33, 17], shape=(32, 64)))}
    found = example(tmp_path, boxes=[], objects=[beside, small])
    assert found.scene[0].mask.sum() == 3000
    assert found.scene[1].mask.sum() == 16 and np.argwhere(found.scene[1].mask).min(0).tolist() == [50, 100]


@pytest.mark.parametrize(
    ("rles", "message"),
    [
        ({"0": rle(filled()), "2": rle(filled())}, r"objects\[0\]\.rles: expected a mask with pixels, got none"),
        ({"0": rle(filled(DOG))}, r"objects\[0\]\.rles: expected a mask in the object's box"),
        ({"0": rle(np.ones((1, 1), bool))}, r"objects\[0\]\.rles\.0: expected the size of the picture"),
    ],
)
def test_masks_that_are_not_of_their_object_in_videos(tmp_path, rles, message):
    with pytest.raises(ImageError, match=rf"a\.jsonl:1: {message}"):
        example(tmp_path, tracks=[], objects=[BALL | {"rles": rles}])


def test_an_object_may_be_covered_in_some_frames_of_a_video(tmp_path):
    rles = {"0": rle(filled()), "1": rle(filled(MUG)), "2": rle(filled(DOG))}
    (ball,) = example(tmp_path, tracks=[], objects=[BALL | {"rles": rles}]).scene
    assert ball.masks.sum((1, 2)).tolist() == [0, 2000, 5600, 2000] and not ball.outlined


def test_a_small_picture_may_have_masks_of_half_its_size():
    jsonl_agreement.check_size("rle", (20, 30), 40, 60)
    with pytest.raises(ValueError, match="with 30 pixels or more on the longer side, got 29 x 19"):
        jsonl_agreement.check_size("rle", (19, 29), 40, 60)


def test_perception_may_not_write_masks_that_are_refused():
    settings = default.get_config()
    settings.specialists.max_pixels = jsonl_agreement.LEAST_SIDE**2
    config.from_configdict(settings)
    settings.specialists.max_pixels -= 1
    with pytest.raises(ConfigError, match=r"config\.specialists\.max_pixels: expected at least 4096, got 4095"):
        config.from_configdict(settings)
