"""Prompts of videos: the canvas knows the frames, the words explain tracks, and a given twin has them."""

import dataclasses

import numpy as np
import pytest

from dtr1_jax.data import prompts, tokenizer
from dtr1_jax.data.twinworld import tasks
from dtr1_jax.policies import policy_files
from dtr1_jax.twin import text as twin_text
from dtr1_jax.twin import transcript
from dtr1_jax.twin.coordinates import Canvas, Frame
from dtr1_jax.twin.schema import Answer

T = tokenizer.load_tokenizer(policy_files.ASSETS / "tiny")
GIVEN = prompts.Style(T, None, Frame.NORM1000, "brief", 1500, "given")


@pytest.mark.parametrize("words", ["brief", "full"])
def test_a_given_twin_of_a_video_is_shown_with_its_tracks(words):
    example = tasks.example("segmentation", 1, "train", 2, video=True, frames=5, max_objects=4)
    shifted = dataclasses.replace(example.visuals[0], index=np.array([0, 4, 8, 12, 20]), total=24)
    example = dataclasses.replace(example, visuals=(shifted,))
    fields, pictures, canvas = prompts.prompt(example, dataclasses.replace(GIVEN, words=words))
    assert pictures is None and canvas == Canvas(Frame.NORM1000, (96, 96), (0, 4, 8, 12, 20))
    twin = prompts.given_twin(example, canvas)
    text = T.hf.decode(fields["token_bp"][fields["mask_bp"]], skip_special_tokens=False)
    assert f"<twin>{twin_text.dumps_twin(twin)}</twin>" in text and twin.frames == canvas.frames
    assert {frame for item in twin.objects for frame, _ in item.track} <= set(canvas.frames)
    answer = f"<think>so</think><answer>{twin_text.dumps_answer(Answer(objects=example.answer_ids))}</answer>"
    assert transcript.parse(answer, task="segmentation", canvas=canvas, constructor="given", given_twin=twin).sound
