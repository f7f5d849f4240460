"""Fields of JSON lines about depth, masks, velocity and the right answer."""

import json

import numpy as np
import pytest
from PIL import Image

from dtr1_jax.data import demonstrations, prompts
from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import jsonl
from dtr1_jax.twin import masks
from dtr1_jax.twin.coordinates import Canvas, Frame

H, W = 40, 60
CORNER = np.zeros((H, W), bool)
CORNER[5:15, 10:30] = True
MUG = {"label": "mug", "box": [10, 5, 30, 15], "depth": 2, "attributes": ["red"]}
DOG = {"label": "dog", "box": [0, 20, 60, 40], "depth": 1}


def rle(mask):
    packed = masks.encode(mask)
    return {"size": packed["size"], "counts": packed["counts"].decode()}


def opened(folder, *rows, max_objects=7):
    Image.fromarray(np.zeros((H, W, 3), np.uint8)).save(folder / "1.png")
    (folder / "v").mkdir(exist_ok=True)
    for t in range(4):
        Image.fromarray(np.zeros((H, W, 3), np.uint8)).save(folder / "v" / f"{t}.png")
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return jsonl.open_jsonl_source(str(folder / "data.jsonl"), "train", "segmentation", max_objects=max_objects)


def line(**changes):
    row = {"image": "1.png", "query": "q", "rle": rle(CORNER), "split": "train", "objects": [DOG, MUG]}
    return row | changes


def test_all_fields_of_a_picture(tmp_path):
    ignore = np.zeros((H, W), bool)
    ignore[:10] = True
    oracle = {"answer": [2], "program": ["label", "mug"], "category": "semantic", "level": 1, "ignore": rle(ignore)}
    mug = MUG | {"rle": rle(CORNER)}
    (example,) = opened(tmp_path, line(objects=[DOG, mug], oracle=oracle))
    assert [(x.label, x.depth) for x in example.scene] == [("dog", 1), ("mug", 2)]
    np.testing.assert_array_equal(example.scene[1].mask, CORNER)
    assert example.scene[0].mask.sum() == 20 * 60
    assert (example.answer_ids, example.program) == ((2,), ("label", "mug"))
    assert (example.category, example.level) == ("semantic", 1)
    np.testing.assert_array_equal(example.target.ignore, ignore & ~CORNER)


def test_relations_reach_the_given_twin_under_the_ids_of_the_kept_objects(tmp_path):
    objects = [DOG | {"box": [0, 20, 2, 22]}, DOG, MUG]
    relations = [[1, "left of", 2], [3, "above", 2], [3, "touching", 1]]
    (example,) = opened(tmp_path, line(objects=objects, relations=relations))
    assert example.relations == ((1, "left of", 2), (3, "above", 2), (3, "touching", 1))
    twin = prompts.given_twin(example, Canvas(Frame.PIXEL, (W, H)))
    assert twin.relations == example.relations
    (fewer,) = opened(tmp_path, line(objects=objects, relations=relations), max_objects=2)
    assert [x.label for x in fewer.scene] == ["dog", "mug"] and fewer.relations == ((2, "above", 1),)


def test_lines_without_them_stay_as_they_were(tmp_path):
    (example,) = opened(tmp_path, line(objects=[{"label": "mug", "box": [10, 5, 30, 15]}]))
    assert example.scene[0].depth == 0 and example.answer_ids == (1,) and example.program == ()
    assert example.target.ignore is None and example.level == 0


def test_the_answer_is_kept_among_too_many_objects(tmp_path):
    objects = [DOG, DOG | {"label": "cat"}, MUG, DOG | {"label": "cow"}]
    (example,) = opened(tmp_path, line(objects=objects, oracle={"answer": [3]}), max_objects=2)
    assert [x.label for x in example.scene] == ["dog", "mug"] and example.answer_ids == (2,)
    assert example.hidden_objects == 2
    (none,) = opened(tmp_path, line(objects=objects, rle=[], oracle={"answer": []}), max_objects=2)
    assert none.answer_ids == () and [x.label for x in none.scene] == ["dog", "cat"]


def test_a_smaller_mask_is_enlarged(tmp_path):
    (example,) = opened(tmp_path, line(objects=[MUG | {"rle": rle(CORNER[::2, ::2])}]))
    mask = example.scene[0].mask
    assert mask.shape == (H, W) and mask.sum() / CORNER.sum() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("shape", [(H, W + 20), (2 * H, 2 * W), (20, 60)])
def test_masks_of_another_shape_cost_the_example(tmp_path, shape):
    source = opened(tmp_path, line(objects=[MUG | {"rle": rle(np.ones(shape, bool))}]))
    with pytest.raises(
        ImageError, match=r"data\.jsonl:1: objects\[0\]\.rle: expected the size of the picture, 60 x 40"
    ):
        source[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"oracle": {"answer": [3]}}, r"oracle\.answer: expected a list of numbers of objects, 1 to 2"),
        ({"oracle": {"answer": [True]}}, r"oracle\.answer: expected"),
        ({"oracle": {"ignore": 3}}, r"oracle\.ignore: expected an RLE"),
        ({"oracle": {"program": ["os.system", "rm"]}}, r"oracle\.program: expected operations"),
        ({"oracle": {"program": [["label"]]}}, r"oracle\.program: expected operations"),
        ({"oracle": {"category": ["x"]}}, r"oracle\.category: expected one of semantic"),
        ({"oracle": {"level": 9}}, r"oracle\.level: expected one of 1, 2"),
        ({"oracle": {"thought": "x"}}, "oracle: expected an object with some of answer"),
        ({"oracle": 3}, "oracle: expected an object"),
        ({"relations": 3}, "relations: expected a list of at most 1024 relations"),
        ({"relations": [[1, "on", 2], [1, "on", 3]]}, r"relations\[1\]: expected \[number, words, number\] of two"),
        ({"relations": [[0, "on", 2]]}, r"relations\[0\]: expected"),
        ({"relations": [[1, "on", 1]]}, r"relations\[0\]: expected"),
        ({"relations": [[True, "on", 2]]}, r"relations\[0\]: expected"),
        ({"relations": [[1, "<twin>", 2]]}, r"relations\[0\]: expected"),
        ({"relations": [[1, "on"]]}, r"relations\[0\]: expected"),
        ({"objects": [MUG | {"depth": 0}]}, r"objects\[0\]\.depth: expected a rank from 1 to 2147483647, got 0"),
        ({"objects": [MUG | {"depth": 10**12}]}, r"depth: expected a rank from 1 to 2147483647, got 1000000000000"),
        ({"objects": [MUG | {"depth": 0.5}]}, r"objects\[0\]\.depth: expected a rank"),
        ({"objects": [MUG | {"rle": "x"}]}, r"objects\[0\]\.rle: expected an RLE"),
        ({"objects": [MUG | {"velocity": [1, 2]}]}, r"objects\[0\]\.velocity: expected .* for a video"),
        ({"objects": [MUG | {"rles": {}}]}, r"objects\[0\]\.rles: expected .* for a video"),
    ],
)
def test_faults(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        opened(tmp_path, line(**changes))


def test_all_fields_of_a_video(tmp_path):
    track = {"0": [10, 5, 30, 15], "1": None, "3": [20, 5, 40, 15]}
    mug = {"label": "mug", "track": track, "depth": 1, "velocity": [3, 6], "rles": {"0": rle(CORNER)}}
    row = {"video": "v", "query": "q", "frames": [0, 1, 3], "rles": {"0": rle(CORNER)}, "split": "train"}
    oracle = {"answer": [1], "program": ["moves", ["label", "mug"]], "category": "temporal", "level": 2}
    (example,) = opened(tmp_path, row | {"objects": [mug], "oracle": oracle})
    (one,) = example.scene
    assert one.depth == 1 and one.velocity == (0.05, 0.15) and example.answer_ids == (1,)
    np.testing.assert_array_equal(one.masks[0], CORNER)
    assert not one.masks[1].any() and one.masks[2].sum() == 200
    assert example.program == ("moves", ("label", "mug")) and example.category == "temporal"
    with pytest.raises(DataError, match=r"oracle\.ignore: expected an RLE with size and counts, for a picture"):
        opened(tmp_path, row | {"oracle": {"ignore": rle(CORNER)}})


def test_somebody_looked_and_found_nothing(tmp_path):
    """`objects` = [] is an empty scene, which can be given; a line without `objects` says nothing of the scene."""
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(tmp_path / "a.png")
    line = {"image": "a.png", "query": "what barks", "boxes": [], "split": "train", "oracle": {"answer": []}}
    rows = [line | {"objects": []}, {name: x for name, x in line.items() if name != "oracle"} | {"id": "other"}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = jsonl.open_jsonl_source(str(tmp_path / "a.jsonl"), "train", "segmentation", max_objects=4)
    empty, unknown = source[0], source[1]
    assert (empty.scene, empty.empty_scene, empty.answer_ids) == ((), True, ())
    assert (unknown.scene, unknown.empty_scene) == ((), False)
    canvas = Canvas(Frame.NORM1000, (30, 20))
    assert prompts.given_twin(empty, canvas).objects == ()
    with pytest.raises(prompts.PromptError, match="no annotated objects"):
        prompts.given_twin(unknown, canvas)
    assert demonstrations.given_reply(empty, prompts.given_twin(empty, canvas), reasons=True) == (
        '<think>none.</think><answer>{"objects":[]}</answer>'
    )
