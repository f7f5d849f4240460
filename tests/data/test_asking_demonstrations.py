"""The oracle's requests and what is imitated of them: sound, answerable from the twin, no loss on the twin."""

import dataclasses

import numpy as np
import pytest

from dtr1_jax.data import asking_demonstrations, batches, pipeline, prompts, tokenizer
from dtr1_jax.data.twinworld import picture_examples, tasks
from dtr1_jax.policies import policy_files
from dtr1_jax.twin import programs, schema, strict_json, things, transcript
from dtr1_jax.twin.coordinates import Frame

T = tokenizer.load_tokenizer(policy_files.ASSETS / "tiny")
STYLE = prompts.Style(
    T, None, Frame.NORM1000, "full", 700, "specialists", named=True, construct_tokens=150, twin_tokens=600
)
SCENE = picture_examples.example(0, "train", 3, size=96, min_objects=3, max_objects=5)
CASES = [(task, index, video) for task in ("segmentation", "grounding", "vqa", "summary") for index in range(4)
         for video in (False, True)]  # fmt: skip


def drawn(task, index, video=False):
    return tasks.example(task, 0, "train", index, video=video, size=96, frames=4, min_objects=2, max_objects=3)


def canvas_of(example):
    return prompts.prompt(example, STYLE)[2]


@pytest.mark.parametrize(("task", "index", "video"), CASES)
def test_the_oracle_is_sound_and_right(task, index, video):
    example = drawn(task, index, video)
    canvas = canvas_of(example)
    request, twin, reply = asking_demonstrations.asking_transcript(example, canvas, STYLE)
    given = transcript.parse(request + twin + reply, task="vqa", canvas=canvas, constructor="specialists").twin
    assert given is None  # nobody put it in
    whole = asking_demonstrations.oracle_request(example, canvas)
    read = transcript.open_request(request + twin, canvas.frames)
    assert read == (whole, "\n" + twin)
    inserted, faults = schema.read_twin(
        strict_json.loads(twin[6:-8]), size=canvas.size, limit=canvas.limit, frames=canvas.frames
    )
    assert not faults
    parsed = transcript.parse(
        request + twin + reply, task=task, canvas=canvas, constructor="specialists", given_twin=inserted
    )
    assert parsed.sound, parsed.faults
    assert {o.label for o in inserted.objects} <= set(whole.phrases)
    if task in ("segmentation", "grounding"):
        assert parsed.answer.objects == example.answer_ids
    if example.program and task != "summary":  # the same answer follows from the part of the scene that was asked for
        own = programs.execute(example.program, things.things_of_twin(inserted, canvas))
        right = programs.execute(example.program, things.things_of_scene(example.scene))
        assert set(own.ids) == set(right.ids) or "depth" in programs.reads(example.program)
    assert ("depth" in whole.ops) == any(o.depth is not None for o in inserted.objects) or not inserted.objects
    assert "segment" in whole.ops or task in ("grounding", "vqa")
    assert ("track" in whole.ops) == video


def test_loss_is_on_request_and_reply_alone():
    canvas = canvas_of(SCENE)
    parts = asking_demonstrations.asking_transcript(SCENE, canvas, STYLE)
    token, mask, reason = asking_demonstrations.encode_asking(parts, STYLE, 400)
    assert token.shape == mask.shape == reason.shape == (1, 1000)
    request, twin, reply = (T.encode(part) for part in parts)
    assert token[0, : len(request + twin + reply)].tolist() == request + twin + reply
    assert T.decode(token[mask]) == parts[0] + parts[2] and T.decode(token[reason]) == parts[2]
    assert token[mask][-1] == T.end and mask.sum() == len(request) + len(reply) + 1
    # This is how the host cuts them: the tokens of a request end with its closing tag.
    assert T.decode(token[0, : len(request)]) == parts[0]


def test_a_batch_keeps_the_reply_behind_the_twin():
    rows = [pipeline.demonstration(SCENE, STYLE, 400) for _ in range(2)]
    got = batches.stack_demonstrations(rows, STYLE)
    last = int(np.flatnonzero(rows[0][3][0])[-1])
    assert last < got.token_bgs.shape[-1] <= last + 2 * batches.BUCKET and got.mask_bgs[0, 0, last]
    assert got.mask_bgs.sum() == 2 * rows[0][3].sum() and got.reason_bgs.any()


def test_an_empty_answer_asks_for_everything():
    nothing = dataclasses.replace(SCENE, answer_ids=(), program=(), thought="none.")
    request = asking_demonstrations.oracle_request(nothing, canvas_of(SCENE))
    assert set(request.phrases) == {x.label for x in SCENE.scene}


@pytest.mark.parametrize(
    ("ops", "words"),
    [
        (("detect",), {"left of"}), (("detect", "segment"), {"left of", "on"}),
        (("detect", "segment", "depth"), {"left of", "on", "in front of"}),
    ],
)  # fmt: skip
def test_relations_that_specialists_would_find(monkeypatch, ops, words):
    a, b, *_ = (one.id for one in SCENE.scene)
    related = dataclasses.replace(
        SCENE, answer_ids=(), program=(), thought="none.",
        relations=((a, "left of", b), (b, "on", a), (a, "in front of", b), (a, "left of", 99)),
    )  # fmt: skip
    monkeypatch.setattr(asking_demonstrations, "needed_ops", lambda example: ops)
    _, twin, _ = asking_demonstrations.asking_transcript(related, canvas_of(SCENE), STYLE)
    assert {one[1] for one in strict_json.loads(twin[twin.index("{") : twin.rindex("}") + 1])["relations"]} == words


def test_what_does_not_fit_is_named():
    canvas = canvas_of(SCENE)
    parts = asking_demonstrations.asking_transcript(SCENE, canvas, STYLE)
    with pytest.raises(prompts.PromptError, match=r"more than rollout\.construct_tokens = 9"):
        asking_demonstrations.encode_asking(parts, dataclasses.replace(STYLE, construct_tokens=9), 400)
    with pytest.raises(prompts.PromptError, match="thought and answer have"):
        asking_demonstrations.encode_asking(parts, STYLE, 155)
    with pytest.raises(prompts.PromptError, match="do not fit into a twin"):
        asking_demonstrations.asking_transcript(SCENE, canvas, dataclasses.replace(STYLE, twin_tokens=20))
    with pytest.raises(prompts.PromptError, match="no annotated scene"):
        asking_demonstrations.asking_transcript(dataclasses.replace(SCENE, scene=()), canvas, STYLE)
