"""Worked examples: sound in every task, and in the prompt before the query, as turns of the chat."""

import dataclasses

import pytest

from configs import default
from dtr1_jax import config, types
from dtr1_jax.data import prompts, tokenizer, worked_examples
from dtr1_jax.data.twinworld import picture_examples
from dtr1_jax.policies import policy_files
from dtr1_jax.twin import text as twin_text
from dtr1_jax.twin import transcript
from dtr1_jax.twin.coordinates import Canvas, Frame

T = tokenizer.load_tokenizer(policy_files.ASSETS / "tiny")
SCENE = picture_examples.example(0, "train", 3, size=96, min_objects=2, max_objects=3)
STYLE = prompts.Style(T, None, Frame.NORM1000, "example", 1500, "given")


@pytest.mark.parametrize("task", types.TASKS)
def test_each_example_is_sound(task):
    replies = [m["content"] for m in worked_examples.turns(task, lambda twin, query: query) if m["role"] == "assistant"]
    for (twin, query, thought, answer), reply in zip(worked_examples.EXAMPLES[task], replies, strict=True):
        canvas = Canvas(Frame.NORM1000, twin.size)
        text = transcript.compose(twin, thought, answer)
        assert transcript.parse(text, task=task, canvas=canvas).sound
        parsed = transcript.parse(reply, task=task, canvas=canvas, constructor="given", given_twin=twin)
        assert parsed.sound and query.strip()


@pytest.mark.parametrize("task", types.TASKS)
def test_each_example_with_names_as_ids(task):
    shown = []
    messages = worked_examples.turns(task, lambda twin, query: shown.append(twin) or query, named=True)
    replies = [m["content"] for m in messages if m["role"] == "assistant"]
    for (twin, _, _, answer), reply in zip(worked_examples.EXAMPLES[task], replies, strict=True):
        canvas = Canvas(Frame.NORM1000, twin.size)
        parsed = transcript.parse(reply, task=task, canvas=canvas, constructor="given", given_twin=twin)
        assert parsed.sound and parsed.answer == answer
        assert all(f"{o.label} {o.id}" not in reply for o in twin.objects)
        assert any(f"{o.label}_{o.id}" in parsed.thought for o in twin.objects)
    assert all(twin.named for twin in shown)


def test_a_prompt_shows_names():
    fields, _, _ = prompts.prompt(SCENE, dataclasses.replace(STYLE, named=True))
    text = T.hf.decode(fields["token_bp"][fields["mask_bp"]])
    assert '"id":"dog_1"' in text and '"cat_2"' in text and '"id":1' not in text
    assert all(f'"id":"{o.label}_{o.id}"' in text for o in SCENE.scene)


def test_answers_of_the_examples_are_right():
    (pets, _, _, largest), (street, _, _, wheels) = worked_examples.EXAMPLES["segmentation"]
    areas = {o.id: (o.box[2] - o.box[0]) * (o.box[3] - o.box[1]) for o in pets.objects}
    assert largest.objects == (max(areas, key=areas.get),)
    assert [o.label for o in street.objects if o.id in wheels.objects] == ["car"]


@pytest.mark.parametrize("task", types.TASKS)
def test_they_stand_before_the_query(task):
    example = dataclasses.replace(SCENE, task=task)
    fields, pictures, canvas = prompts.prompt(example, STYLE)
    brief, _, _ = prompts.prompt(example, dataclasses.replace(STYLE, words="brief"))
    text, alone = (T.hf.decode(f["token_bp"][f["mask_bp"]]) for f in (fields, brief))
    assert pictures is None
    block = f"<twin>{twin_text.dumps_twin(prompts.given_twin(example, canvas))}</twin>\n"
    turn = block + example.query
    assert turn in alone.replace("in words: ", "").replace("point: ", "") and text.count(turn) == 1
    places = [text.index(turn)]
    turns = worked_examples.turns(task, lambda twin, query: f"<twin>{twin_text.dumps_twin(twin)}</twin>\n{query}")
    for message in reversed(turns):
        assert text.count(message["content"]) == 1
        places.append(text.index(message["content"]))
    assert places == sorted(places, reverse=True)


def test_the_policy_that_writes_twins_has_no_such_examples():
    values = default.get_config()
    values.policy.prompt = "example"
    with pytest.raises(config.ConfigError, match=r"policy\.prompt: expected brief or full where the policy writes"):
        config.from_configdict(values)
    for constructor in ("given", "specialists"):
        values.policy.constructor = constructor
        assert config.from_configdict(values).policy.prompt == "example"


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("task", types.TASKS)
def test_examples_of_requests_are_sound(task, named):
    messages = worked_examples.asking_turns(task, named)
    for (twin, query, _, answer), user, reply in zip(worked_examples.EXAMPLES[task], messages[::2], messages[1::2]):
        canvas, twin = Canvas(Frame.NORM1000, twin.size), dataclasses.replace(twin, named=named)
        parsed = transcript.parse(
            reply["content"], task=task, canvas=canvas, constructor="specialists", given_twin=twin
        )
        assert parsed.sound and parsed.answer == answer and user["content"] == query
        assert set(parsed.request.phrases) == {o.label for o in twin.objects}
        assert ("segment" in parsed.request.ops) == (task == "segmentation")


def test_requests_stand_before_the_query():
    style = dataclasses.replace(STYLE, constructor="specialists")
    fields, pictures, _ = prompts.prompt(SCENE, style)
    text = T.hf.decode(fields["token_bp"][fields["mask_bp"]])
    assert pictures is None and text.count("<construct>") == text.count("<twin>") == 2
    assert (
        text.rindex("<construct>") < text.index(SCENE.query) and SCENE.scene[0].label not in text.split(SCENE.query)[1]
    )
