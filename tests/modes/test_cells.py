"""The tiny policy's prompts and oracle in all cells of task and modality, at the settings of configs/unified.py."""

import dataclasses
import itertools

import numpy as np
import pytest

from configs import unified
from dtr1_jax import config
from dtr1_jax.data import demonstrations, prompts, sources
from dtr1_jax.policies import pretrained
from dtr1_jax.twin import tracks, transcript
from dtr1_jax.twin.coordinates import to_unit
from dtr1_jax.types import TASKS

C = config.from_configdict(unified.get_config())
STYLE = pretrained.load_policy(C).style
T = STYLE.tokenizer
CELLS = list(itertools.product(TASKS, (False, True)))


def cell(task, video, split="train"):
    return sources.open_source(dataclasses.replace(C.data, task=task, video=float(video)), split)


@pytest.mark.parametrize("task, video", CELLS)
def test_the_oracle_of_every_cell_is_sound_and_right(task, video):
    lengths = []
    for split, index in itertools.product(("train", "heldout"), range(8)):
        example = cell(task, video, split)[index]
        fields, pictures, canvas = prompts.prompt(example, STYLE)
        assert canvas.size == (96, 96) and canvas.frames == (tuple(range(4)) if video else ())
        assert (fields["slot_bp"] >= 0).sum() == 36 * (4 if video else 1) == len(pictures["segment_bn"]) / 4
        for by_id in (False, True):
            ids = T.encode(demonstrations.oracle(example, canvas, by_id=by_id))
            assert not set(ids) & set(T.banned)
            lengths.append(len(ids) + 1)
            parsed = transcript.parse(T.decode(ids), task=task, canvas=canvas)
            assert parsed.sound, parsed.faults
            check_answer(example, parsed, canvas, by_id)
    assert max(lengths) <= C.rollout.new_tokens


def check_answer(example, parsed, canvas, by_id):
    """What is answered is the target, up to the rounding of boxes to pixels and, in videos, of tracks to keyframes."""
    if example.task in ("vqa", "summary"):
        assert parsed.answer.text == example.target.references[0] and parsed.answer.text
        return
    if parsed.answer.boxes is not None:
        assert example.task == "grounding" and not by_id and not canvas.frames
        got = np.array([to_unit(box, canvas) for box in parsed.answer.boxes]).reshape(-1, 4)
        np.testing.assert_allclose(got, example.target.boxes, atol=0.011)
        return
    assert parsed.answer.objects == example.answer_ids
    wanted = [item for item in parsed.twin.objects if item.id in parsed.answer.objects]
    if not canvas.frames:
        got = np.array([to_unit(item.box, canvas) for item in wanted]).reshape(-1, 4)
        np.testing.assert_allclose(got, example.target.boxes, atol=0.011)
        return
    for item, track in zip(wanted, example.target.tracks, strict=True):
        for box, expected in zip(tracks.boxes(item, canvas.frames), track, strict=True):
            assert (box is None) == (not expected.any())
            if box is not None:
                np.testing.assert_allclose(to_unit(box, canvas), expected, atol=0.027)


@pytest.mark.parametrize("count", [1, 3, 5])
def test_frames_are_places_on_the_time_axis(count):
    example = cell("vqa", True)[0]
    clip = example.visuals[0]
    frames = np.repeat(clip.frames[:1], count, 0)  # an odd rate, as of a video of somebody else
    clip = dataclasses.replace(clip, frames=frames, index=np.arange(count) * 7, fps=29.97, total=7 * count)
    style = dataclasses.replace(STYLE, length=300)
    fields, pictures, canvas = prompts.prompt(dataclasses.replace(example, visuals=(clip,)), style)
    position = fields["position_bp3"][fields["slot_bp"] >= 0]
    start = position[0, 0]
    assert (position[:, 0] - start).tolist() == np.arange(count).repeat(36).tolist()
    assert (pictures["segment_bn"] == np.arange(1, count + 1).repeat(144)).all()
    assert canvas.frames == tuple(range(count))  # a brief prompt says no numbers
    explained = dataclasses.replace(style, words="full", length=600)
    assert prompts.prompt(dataclasses.replace(example, visuals=(clip,)), explained)[2].frames == tuple(
        range(0, 7 * count, 7)
    )


def test_frames_of_another_shape_become_squares():
    example = cell("vqa", True)[0]
    clip = dataclasses.replace(example.visuals[0], frames=np.zeros((4, 480, 854, 3), np.uint8))
    wide = dataclasses.replace(example, image=clip.frames[0], visuals=(clip,))
    _, pictures, canvas = prompts.prompt(wide, STYLE)
    assert canvas.size == (96, 96) and len(pictures["segment_bn"]) == 4 * 144
    strip = np.zeros((2, 900, 3), np.uint8)
    assert prompts.prompt(dataclasses.replace(example, image=strip, visuals=(strip,)), STYLE)[2].size == (96, 96)


@pytest.mark.parametrize("video", [False, True])
def test_a_given_twin_that_is_too_long_is_cut(video):
    example = next(
        e for e in (cell("segmentation", video)[i] for i in range(50)) if len(e.scene) == (3 if video else 6)
    )
    style = dataclasses.replace(STYLE, constructor="given", geometry=None, length=900)
    fields, *_ = prompts.prompt(example, style)
    whole = int(fields["mask_bp"].sum())
    labels = [item.label for item in example.scene]
    query = f"where is the {labels[0]}?"  # its own words keep an object in
    example = dataclasses.replace(example, query=query)
    shorter = dataclasses.replace(style, length=whole - 40)
    fields, _, _ = prompts.prompt(example, shorter)
    shown = T.hf.decode(fields["token_bp"][fields["mask_bp"]], skip_special_tokens=True)
    assert fields["mask_bp"].sum() <= whole - 40 and '"more":' in shown and f'"label":"{labels[0]}"' in shown
    kept = shown.count('"id":')
    assert 0 < kept < len(labels) and f'"more":{len(labels) - kept}' in shown
    with pytest.raises(prompts.PromptError, match=r"more than policy\.prompt_tokens = 30"):
        prompts.prompt(example, dataclasses.replace(style, length=30))
