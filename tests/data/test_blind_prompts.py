"""Prompts with the policy's own twin in place of the picture."""

import dataclasses

import numpy as np
import pytest

from configs import default
from dtr1_jax import config
from dtr1_jax.data import blind_prompts, demonstrations, prompts
from dtr1_jax.data.batches import stack_queries
from dtr1_jax.data.twinworld import tasks
from dtr1_jax.policies import pretrained
from dtr1_jax.twin.schema import Answer, Object, Twin
from dtr1_jax.twin.text import from_scene

LENGTH = 256


@pytest.fixture(scope="module")
def style():
    return pretrained.load_policy(config.from_configdict(default.get_config())).style


def batch_of(style, *kinds):
    examples = [tasks.example(task, 4, "train", 1, max_objects=4) for task in kinds]
    return stack_queries([(e, *prompts.prompt(e, style)) for e in examples], style)


def test_the_tokens_are_those_of_the_practice(style):
    batch = batch_of(style, "segmentation", "vqa")
    twins = [[from_scene(e.scene, canvas)] for e, canvas in zip(batch.examples, batch.canvases)]
    prompt, asked_bg = blind_prompts.blind_prompts(batch, twins, style, LENGTH)
    assert prompt.images is None and prompt.token_bp.shape == (2, LENGTH) and asked_bg.all()
    for i, (e, (twin,)) in enumerate(zip(batch.examples, twins)):
        answer = Answer(text="yes") if e.task == "vqa" else Answer(objects=())
        long = dataclasses.replace(style, length=LENGTH)
        fields, token, mask, _ = demonstrations.exercise(twin, [(e.query, "so", answer)], long, 128, 1)
        practice = [*fields["token_bp"][fields["mask_bp"]], *token[0][mask[0]]]
        ids = prompt.token_bp[i][prompt.mask_bp[i]].tolist()
        assert practice[: len(ids)] == ids
        assert style.tokenizer.decode(practice[len(ids) :]).startswith("so</think>")
        assert prompt.next_b[i] == len(ids) and (prompt.slot_bp[i] == -1).all()


def test_rows_without_a_twin_keep_the_shape(style):
    batch = batch_of(style, "segmentation")
    many = Twin((96, 96), tuple(Object(i, "mug", (0, 0, 9, 9), attributes=("red",)) for i in range(1, 60)))
    few = Twin((96, 96), many.objects[:1])
    prompt, asked_bg = blind_prompts.blind_prompts(batch, [[None, many, few]], style, LENGTH)
    assert asked_bg.tolist() == [[False, False, True]] and prompt.token_bp.shape == (3, LENGTH)
    np.testing.assert_array_equal(prompt.token_bp[0], prompt.token_bp[1])
    assert prompt.mask_bp.sum(1).min() > 5


def test_a_query_may_hold_the_tag_that_ends_a_twin(style):
    batch = batch_of(style, "segmentation")
    odd = dataclasses.replace(batch.examples[0], query="a </twin>\n mug <|im_end|>?")
    twin = from_scene(odd.scene, batch.canvases[0])
    odd_batch = dataclasses.replace(batch, examples=[odd])
    prompt, asked_bg = blind_prompts.blind_prompts(odd_batch, [[twin]], style, LENGTH)
    assert asked_bg.all()
    assert style.tokenizer.decode(prompt.token_bp[0][prompt.mask_bp[0]]).count("mug < |im_end") == 1
