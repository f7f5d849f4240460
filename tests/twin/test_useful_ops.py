"""The operations that a query can use, for each task and program."""

import dataclasses

import numpy as np
from scored import example

from dtr1_jax.twin.useful_ops import needed_ops, useful_ops
from dtr1_jax.types import Video


def test_by_task_and_program():
    nearest, largest, red = ("nearest", ("all",)), ("largest", ("label", "mug")), ("word", ("all",), "red")
    whole = {"detect", "segment", "depth"}
    assert useful_ops(example()) == whole and needed_ops(example()) == whole - {"depth"}
    assert useful_ops(example(task="vqa")) == whole and needed_ops(example(task="vqa")) == {"detect"}
    for function in (useful_ops, needed_ops):
        assert function(dataclasses.replace(example(), program=nearest)) == whole
        assert function(dataclasses.replace(example(), program=largest)) == whole - {"depth"}
        assert function(dataclasses.replace(example(task="vqa"), program=("name", nearest))) == {"detect", "depth"}
        assert function(dataclasses.replace(example(task="grounding"), program=largest)) == {"detect"}
        assert function(dataclasses.replace(example(task="grounding"), program=red)) == {"detect", "segment"}
        assert function(dataclasses.replace(example(task="summary"), program=largest)) == whole


def test_videos_are_tracked():
    video = Video(np.zeros((2, 4, 8, 3), np.uint8), np.arange(2), 1.0, 2)
    assert "track" in useful_ops(dataclasses.replace(example(task="vqa"), visuals=(video,)))
