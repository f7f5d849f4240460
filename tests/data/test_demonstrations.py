"""The oracle's transcripts and exercises, and their tokens."""

import dataclasses
import re

import numpy as np
import pytest

from dtr1_jax import types
from dtr1_jax.data import demonstrations, patches, pipeline, prompts, tokenizer
from dtr1_jax.data.twinworld import picture_examples
from dtr1_jax.policies import policy_files
from dtr1_jax.twin import program_steps, programs, things, transcript
from dtr1_jax.twin import text as twin_text
from dtr1_jax.twin.coordinates import Canvas, Frame
from dtr1_jax.twin.schema import Answer

T = tokenizer.load_tokenizer(policy_files.ASSETS / "tiny")
STYLE = prompts.Style(T, patches.Geometry(8, 1, 2, 12, 96 * 96), Frame.PIXEL, "brief", 96)
SCENE = picture_examples.example(0, "train", 0)


@pytest.mark.parametrize("frame", Frame)
@pytest.mark.parametrize("index", range(8))
def test_the_oracle_is_sound_and_right(frame, index):
    example = picture_examples.example(3, "train", index)
    canvas = Canvas(frame, (96, 96))
    parsed = transcript.parse(demonstrations.oracle(example, canvas), task=example.task, canvas=canvas)
    assert parsed.sound, parsed.faults
    assert parsed.answer.objects == example.answer_ids
    assert parsed.thought == example.thought
    direct = transcript.parse(demonstrations.oracle(example, canvas, reasons=False), task=example.task, canvas=canvas)
    assert direct.sound and direct.thought == ""
    assert (direct.twin, direct.answer) == (parsed.twin, parsed.answer)
    assert [o.label for o in parsed.twin.objects] == [i.label for i in example.scene]


@pytest.mark.parametrize("index", range(8))
def test_the_oracle_with_names_as_ids(index):
    example, canvas = picture_examples.example(3, "train", index), Canvas(Frame.NORM1000, (96, 96))
    numbers = transcript.parse(demonstrations.oracle(example, canvas), task=example.task, canvas=canvas)
    named = transcript.parse(demonstrations.oracle(example, canvas, named=True), task=example.task, canvas=canvas)
    assert named.sound and named.twin.named and not numbers.twin.named
    assert (named.twin.objects, named.answer) == (numbers.twin.objects, numbers.answer)
    names = {f"{o.label}_{o.id}" for o in named.twin.objects}
    words = {word.strip(".,") for word in named.thought.split() if "_" in word}
    assert words <= names and (words or not re.search(r"\d", numbers.thought))
    assert not re.search(r"(?<![_\d])\d", named.thought)
    own = dataclasses.replace(example, thought="I see 2 of the 3 chairs.", program=None)
    assert "<think>I see 2 of the 3 chairs.</think>" in demonstrations.oracle(own, canvas, named=True)


def test_an_exercise_shares_the_twin_among_its_queries():
    canvas = Canvas(Frame.PIXEL, (96, 96))
    twin = twin_text.from_scene(SCENE.scene, canvas)
    queries = [("the red one", "red 1.", Answer(objects=(1,))), ("nothing", "red none.", Answer(objects=()))]
    fields, token, mask, reason = demonstrations.exercise(twin, queries, dataclasses.replace(STYLE, length=200), 40, 2)
    count = int(fields["mask_bp"].sum())
    assert fields["next_b"] == count and fields["position_bp3"][count - 1].tolist() == [count - 1] * 3
    head = T.hf.decode(fields["token_bp"][:count])
    assert head.endswith(f"<twin>{twin_text.dumps_twin(twin)}</twin>\n")
    answers = ['{"objects":[1]}', '{"objects":[]}']
    for row, ((query, thought, _), answer) in enumerate(zip(queries, answers)):
        text = f"<think>{thought}</think><answer>{answer}</answer>"
        whole = head + T.hf.decode(token[row][mask[row]])
        chat = T.hf.apply_chat_template(
            [{"role": "user", "content": f"<twin>{twin_text.dumps_twin(twin)}</twin>\npoint: {query}"}],
            tokenize=False, add_generation_prompt=True,
        )  # fmt: skip
        assert whole == chat + text + T.hf.decode([T.end])
        assert T.decode(token[row][reason[row]]) == text.removeprefix("<think>")
    drilled = demonstrations.exercise(twin, queries, dataclasses.replace(STYLE, length=200), 40, 2, drills=1)
    np.testing.assert_array_equal(drilled[1], token)
    np.testing.assert_array_equal(drilled[3][1], reason[1])
    learnt = [T.hf.decode([t]) for t in token[0][drilled[3][0]]]
    assert learnt == [" 1", ".", "1", "]}</answer>"], "ids and what follows them, and no word that was drawn"
    with pytest.raises(prompts.PromptError, match=r"the twin has \d+ tokens, more than policy.prompt_tokens = 20"):
        demonstrations.exercise(twin, queries, dataclasses.replace(STYLE, length=20), 40, 2)
    long = ("very " * 40 + "red", "red: 1.", Answer(objects=(1,)))
    spared = demonstrations.exercise(
        twin, [queries[0], long, queries[1]], dataclasses.replace(STYLE, length=200), 40, 2
    )
    np.testing.assert_array_equal(spared[1], token)
    with pytest.raises(prompts.PromptError, match=r"expected 3 queries of less than 40 tokens .*, got 2"):
        demonstrations.exercise(twin, [*queries, long], dataclasses.replace(STYLE, length=200), 40, 3)


def test_nothing_to_imitate():
    canvas = Canvas(Frame.PIXEL, (96, 96))
    blank = dataclasses.replace(SCENE, scene=(), answer_ids=None)
    for example in (blank, dataclasses.replace(SCENE, answer_ids=None)):
        with pytest.raises(prompts.PromptError, match=f"{example.uid}: no annotated scene with an answer"):
            demonstrations.oracle(example, canvas)


def test_demonstration():
    text = demonstrations.oracle(SCENE, Canvas(Frame.PIXEL, (96, 96)))
    count = len(T.encode(text)) + 1
    token, mask, reason = demonstrations.encode_transcript(text, STYLE, count + 3)
    assert token.shape == mask.shape == (1, count + 3)
    assert token[0, count - 1] == T.end
    assert token[0, count:].tolist() == [T.pad] * 3
    assert mask[0].tolist() == [True] * count + [False] * 3
    assert T.decode(token[0]) == text
    assert T.decode(token[0][reason[0]]) == text.partition("<think>")[2]
    assert not (reason & ~mask).any()
    direct = demonstrations.oracle(SCENE, Canvas(Frame.PIXEL, (96, 96)), reasons=False)
    token, _, reason = demonstrations.encode_transcript(direct, STYLE, count)
    assert T.decode(token[0][reason[0]]) == direct.partition("<think>")[2]  # whether to reason at all is part of it
    demonstrations.encode_transcript(text, STYLE, count)
    with pytest.raises(prompts.PromptError, match=f"has {count} tokens, more than the {count - 1} it may have"):
        demonstrations.encode_transcript(text, STYLE, count - 1)


@pytest.mark.parametrize(
    "ids, thought", [((1,), "mug 1."), ((1, 3), "mug 1,3."), ((2, 3), "lamp 2, mug 3."), ((), "none.")]
)
def test_an_example_without_a_thought_names_its_answer(ids, thought):
    box, mask = (0.1, 0.1, 0.5, 0.5), np.zeros((96, 96), bool)
    scene = tuple(types.Instance(i, label, box, mask) for i, label in enumerate(("mug", "lamp", "mug"), 1))
    example = dataclasses.replace(SCENE, scene=scene, answer_ids=ids, thought="", program=())
    text = demonstrations.oracle(example, Canvas(Frame.PIXEL, (96, 96)))
    assert f"<think>{thought}</think>" in text
    assert "<think></think>" in demonstrations.oracle(example, Canvas(Frame.PIXEL, (96, 96)), reasons=False)


NAMED = dataclasses.replace(STYLE, geometry=None, words="full", length=900, constructor="given", named=True)


@pytest.mark.parametrize("index", range(6))
def test_where_the_prompt_shows_the_twin_only_thought_and_answer_are_imitated(index):
    example = picture_examples.example(3, "train", index)
    fields, pictures, token, mask, reason = pipeline.demonstration(example, NAMED, 200)
    text = T.decode(token[mask].tolist()[:-1])
    canvas = Canvas(Frame.PIXEL, example.image.shape[1::-1])
    shown = prompts.given_twin(example, canvas, named=True)
    assert pictures is None and text.startswith("<think>") and "<twin>" not in text
    assert twin_text.dumps_twin(shown) in T.hf.decode(fields["token_bp"][fields["mask_bp"]])
    parsed = transcript.parse(text, task=example.task, canvas=canvas, constructor="given", given_twin=shown)
    assert parsed.sound, parsed.faults
    assert parsed.answer.objects == example.answer_ids
    assert T.decode(token[reason].tolist()[:-1]) == text.removeprefix("<think>")


def test_an_answer_that_the_prompt_has_no_room_for_is_not_imitated():
    example = next(
        x for x in (picture_examples.example(3, "train", i, min_objects=7) for i in range(40)) if len(x.answer_ids) == 1
    )
    whole = int(prompts.prompt(example, NAMED)[0]["mask_bp"].sum())
    results = set()
    for length in range(whole - 120, whole, 12):
        style = dataclasses.replace(NAMED, length=length)
        shown = {item.id for item in prompts.prompt_with_twin(example, style)[3].objects}
        kept = set(example.answer_ids) <= shown
        results.add(kept)
        if kept:
            pipeline.demonstration(example, style, 200)
        else:
            with pytest.raises(prompts.PromptError, match="1 objects of the answer are not in the twin"):
                pipeline.demonstration(example, style, 200)
    assert results == {True, False} or results == {True}


def test_a_missing_thought_follows_the_program_where_that_leads_to_the_answer():
    example, canvas = picture_examples.example(3, "train", 1), Canvas(Frame.PIXEL, (96, 96))
    bare = dataclasses.replace(example, thought="")
    seen = things.things_of_scene(example.scene)
    assert set(programs.execute(example.program, seen).ids) == set(example.answer_ids)
    assert f"<think>{program_steps.steps(example.program, seen)}</think>" in demonstrations.oracle(bare, canvas)
    other = dataclasses.replace(bare, program=("label", "nothing of the kind"))
    one = next(item for item in example.scene if item.id in example.answer_ids)
    assert f"<think>{one.label} {one.id}.</think>" in demonstrations.oracle(other, canvas)
