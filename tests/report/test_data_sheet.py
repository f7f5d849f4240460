"""The sheet of examples: a tile for each, with the target's colour where the target is."""

import dataclasses

import numpy as np
import pytest

from dtr1_jax import draw, types
from dtr1_jax.data.twinworld import tasks
from dtr1_jax.report import data_sheet

TILE_H = data_sheet.HEIGHT + data_sheet._LINES * data_sheet._LINE + 2 * data_sheet._PAD
TILE_W = data_sheet.WIDTH + 2 * data_sheet._PAD


def grey(task="segmentation", **fields):
    mask = np.zeros((288, 384), bool)
    mask[100:200, 100:200] = True
    target = types.Target(mask, np.array([[100 / 384, 100 / 288, 200 / 384, 200 / 288]], np.float32))
    return dataclasses.replace(
        types.Example("a/1", np.full((288, 384, 3), 128, np.uint8), "what is it", task, target), **fields
    )


@pytest.mark.parametrize("count, shape", [(1, (1, 1)), (6, (1, 6)), (7, (2, 6)), (24, (4, 6))])
def test_tiles_stand_in_rows(count, shape):
    sheet = data_sheet.sheet([("train", grey())] * count)
    assert sheet.shape == (shape[0] * TILE_H, shape[1] * TILE_W, 3) and sheet.dtype == np.uint8


def test_the_target_is_drawn_where_it_is():
    plain, marked = (
        data_sheet.sheet([("train", grey(task))])[8 : 8 + 288, 8 : 8 + 384].astype(int)
        for task in ("vqa", "segmentation")
    )
    changed = (plain != marked).any(-1)
    assert changed[110:190, 110:190].all() and not changed[:80].any() and not changed[:, 220:].any()
    assert np.abs(marked[150, 150] - (128 + np.array(draw.MASK)) / 2).max() < 3


def test_text_stands_under_the_picture_and_hostile_text_does_no_harm():
    empty = data_sheet.sheet([("train", grey())])[8 + 288 + 8 :]
    assert (empty < 128).any()
    query = "\x1b[31m \ud800 \n" + "word " * 500 + "\u6f22\u5b57"
    assert data_sheet.sheet([("train", grey(query=query, uid="x" * 5000))]).shape == (TILE_H, TILE_W, 3)
    assert len(data_sheet._lines(("a" * 500, query, query))) == 6


@pytest.mark.parametrize("task", types.TASKS)
@pytest.mark.parametrize("video", [False, True])
def test_every_kind_of_query_has_a_tile(task, video):
    settings = {"frames": 4, "max_objects": 3} if video else {"max_objects": 7, "frames": 0}
    example = tasks.example(task, 0, "heldout", 5, video=video, size=96, min_objects=2, **settings)
    assert data_sheet.sheet([("heldout", example)]).shape == (TILE_H, TILE_W, 3)
    assert data_sheet.answer(example)


def test_answers():
    empty = types.Target(np.zeros((288, 384), bool), np.zeros((0, 4), np.float32))
    assert data_sheet.answer(grey(target=empty)) == "nothing" and data_sheet.answer(grey()) == "1 box"
    dog = types.Instance(3, "dog", (0, 0, 1, 1), empty.mask)
    assert data_sheet.answer(grey(scene=(dog,), answer_ids=(3,))) == "3 dog"
    words = dataclasses.replace(empty, references=("2", "two"))
    assert data_sheet.answer(grey("vqa", target=words)) == "2 | two"
