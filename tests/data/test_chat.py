"""Chat templates, placeholders and their tokens. Whole prompts are compared with transformers in test_prompts.py."""

import numpy as np
import pytest

from dtr1_jax.data import chat, patches, tokenizer
from dtr1_jax.data.rotary_positions import Grid
from dtr1_jax.policies import policy_files

T = tokenizer.load_tokenizer(policy_files.ASSETS / "tiny")
GEOMETRY = patches.Geometry(8, 1, 2, 12, 96 * 96)
IMAGE = np.zeros((96, 96, 3), np.uint8)


def test_a_picture_becomes_one_grid_whose_placeholder_is_repeated():
    text = chat.apply_template("look", [IMAGE], T)
    assert text.count(tokenizer.IMAGE) == 1 and "look" in text
    expanded, grids = chat.expand_placeholders(text, [IMAGE], [patches.cut_picture(IMAGE, GEOMETRY)], GEOMETRY)
    assert (expanded, grids) == (text, [Grid(1, 6, 6)])
    ids, parts = chat.encode_chat(expanded, grids, T)
    assert ids.count(T.image) == 36
    before, grid, after = parts
    assert grid == grids[0] and before + 36 + after == len(ids)


def test_earlier_turns_come_first():
    turns = [{"role": "user", "content": "first"}, {"role": "assistant", "content": "second"}]
    text = chat.apply_template("third", (), T, turns)
    assert text.index("first") < text.index("second") < text.index("third")


def test_a_placeholder_that_the_tokenizer_does_not_know():
    text = chat.apply_template("look", [IMAGE], T)
    with pytest.raises(tokenizer.TokenizerError, match="does not stay one token in"):
        chat.encode_chat(text.replace(tokenizer.IMAGE, "nothing"), [Grid(1, 6, 6)], T)
