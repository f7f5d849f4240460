"""Examples that several test files of queries and of TwinWorld share: to make them takes seconds."""

import itertools

import pytest

from dtr1_jax.data.twinworld import picture_examples, tasks


@pytest.fixture(scope="session")
def pictures():
    """Picture examples of each split."""
    return {split: [picture_examples.example(7, split, i) for i in range(500)] for split in picture_examples.SPLITS}


@pytest.fixture(scope="session")
def all_pictures(pictures):
    """The picture examples of both splits."""
    return [example for part in pictures.values() for example in part]


@pytest.fixture(scope="session")
def worded():
    """Examples with answers in words, by (task, video, split)."""
    return {
        (task, video, split): [
            tasks.example(task, 5, split, i, video=video, frames=6, max_objects=5)
            for i in range(50 if task == "vqa" else 12)
        ]
        for task, video in itertools.product(("vqa", "summary"), (False, True))
        for split in picture_examples.SPLITS
    }
