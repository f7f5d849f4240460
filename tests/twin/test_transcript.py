"""Transcripts: composing and parsing are inverse, every fault has its place, and no text raises."""

import dataclasses
import json

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dtr1_jax.twin.construct import Request
from dtr1_jax.twin.coordinates import Canvas, Frame
from dtr1_jax.twin.schema import FORMS, MAX_INT, Answer, Object, Twin
from dtr1_jax.twin.text import dumps_twin
from dtr1_jax.twin.transcript import PARTS, compose, inserted_text, open_request, parse, written_request

CANVAS = Canvas(Frame.NORM1000, (96, 64))
MUG = Twin((96, 64), (Object(1, "mug", (1, 2, 3, 4)),))
TWIN, THINK, ANSWER = f"<twin>{dumps_twin(MUG)}</twin>", "<think>hm</think>", '<answer>{"objects":[1]}</answer>'


def read(text, **options):
    return parse(text, **{"task": "segmentation", "canvas": CANVAS, **options})


def places(text, **options):
    return [fault.where for fault in read(text, **options).faults]


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=12).filter(str.strip) | st.just("</twin>")


@st.composite
def boxes(draw, limit):
    x1, y1 = (draw(st.integers(0, side - 1)) for side in limit)
    return x1, y1, draw(st.integers(x1 + 1, limit[0])), draw(st.integers(y1 + 1, limit[1]))


@st.composite
def cases(draw):
    canvas = Canvas(draw(st.sampled_from(Frame)), (draw(st.integers(1, 900)), draw(st.integers(1, 900))))
    ids = draw(st.lists(st.integers(1, MAX_INT), unique=True, max_size=5))
    objects = tuple(
        Object(
            i, draw(NAMES), draw(boxes(canvas.limit)), draw(st.none() | st.integers(1, 9)),
            tuple(draw(st.lists(NAMES, max_size=2))),
        )
        for i in ids
    )  # fmt: skip
    some = st.sampled_from(ids or [0])
    relations = tuple(draw(st.lists(st.tuples(some, NAMES, some), max_size=3 if ids else 0)))
    task = draw(st.sampled_from(sorted(FORMS)))
    form = draw(st.sampled_from(FORMS[task]))
    value = {
        "objects": st.lists(some, unique=True, max_size=len(ids)).map(tuple),
        "boxes": st.lists(boxes(canvas.limit), max_size=3).map(tuple),
        "text": NAMES,
    }[form]
    thought = draw(st.text(st.characters(codec="utf-8")))
    return canvas, task, Twin(canvas.size, objects, relations), thought, Answer(**{form: draw(value)})


@settings(deadline=None, max_examples=150)
@given(cases())
def test_parse_inverts_compose(case):
    canvas, task, twin, thought, answer = case
    transcript = parse(compose(twin, thought, answer), task=task, canvas=canvas)
    assert transcript.sound and not transcript.faults
    assert (transcript.twin, transcript.thought, transcript.answer) == (twin, thought, answer)


@pytest.mark.parametrize("thought, reasoned", [("", False), (" \n", False), ("light: lamp 1.", True)])
def test_a_blank_thought_is_no_reasoning(thought, reasoned):
    text = compose(MUG, thought, Answer(objects=(1,)))
    assert parse(text, task="segmentation", canvas=Canvas(Frame.PIXEL, MUG.size)).reasoned == reasoned


def test_compose_by_hand():
    assert compose(MUG, "hm", Answer(objects=(1,))) == (
        '<twin>{"size":[96,64],"objects":[{"id":1,"label":"mug","box":[1,2,3,4]}]}</twin>'
        '<think>hm</think><answer>{"objects":[1]}</answer>'
    )


def test_compose_refuses_a_thought_with_tags():
    with pytest.raises(ValueError, match=r"thought.*</think>"):
        compose(MUG, "so </think>", Answer(objects=()))


def test_space_between_parts_is_allowed():
    assert read(f" {TWIN}\n{THINK}\t\n{ANSWER}\n").sound


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", ["twin", "think", "answer"]),
        (TWIN + ANSWER, ["think"]),
        (TWIN + THINK, ["answer"]),
        (TWIN + ANSWER + THINK, ["transcript"]),
        (TWIN + THINK + THINK + ANSWER, ["think"]),
        (TWIN + TWIN + THINK + ANSWER, ["twin"]),
        ("hello" + TWIN + THINK + ANSWER, ["transcript"]),
        (TWIN + "a" + THINK + "b" + ANSWER + "c", ["transcript"]),
        (TWIN + THINK + ANSWER[:-9], ["answer"]),
        (TWIN + THINK + ANSWER + "<answer>", ["answer"]),
        (TWIN + THINK + "</twin>" + ANSWER, ["twin"]),
        (TWIN + "<think>a <twin> b</think>" + ANSWER, ["think", "twin", "think"]),
        ("<construct>{}</construct>" + TWIN + THINK + ANSWER, ["construct"]),
        ("<twin></twin>" + THINK + ANSWER, ["twin"]),
        (TWIN + THINK + "<answer>[</answer>", ["answer"]),
        (TWIN + THINK + '<answer>{"objects":[2]}</answer>', ["answer.objects[0]"]),
        (TWIN + "<think>\ud800</think>" + ANSWER, ["transcript"]),
        (TWIN + "<THINK></THINK>" + ANSWER, ["think", "transcript"]),
    ],
)
def test_faults_of_layout_and_their_places(text, where):
    assert places(text) == where


def test_messages_have_the_place_and_the_text():
    messages = [fault.message for fault in read("ab" + TWIN + "<think>x" + ANSWER).faults]
    assert messages == [
        f"expected tags in pairs, got <think> at character {2 + len(TWIN)} with no </think> before the next tag",
        "expected nothing outside the parts, got from character 0 the string 'ab'",
    ]


def test_sound_parts_are_kept_beside_unsound_ones():
    transcript = read(TWIN + THINK + "<answer>{</answer>")
    assert transcript.twin == MUG and transcript.thought == "hm" and transcript.answer is None
    transcript = read("<twin>{</twin>" + THINK + ANSWER)
    assert transcript.twin is None and transcript.answer == Answer(objects=(1,))
    assert list(transcript.parts) == ["twin", "think", "answer"] and not transcript.sound


def test_a_bad_twin_names_its_places():
    twin = '{"size":[96,64],"objects":[{"id":1,"id":2,"label":"mug","box":[1,2,1001,NaN]}]}'
    assert places(f"<twin>{twin}</twin>{THINK}{ANSWER}") == [
        "twin.objects[0].id", "twin.objects[0].box[2]", "twin.objects[0].box[3]",
    ]  # fmt: skip


def test_the_frame_sets_the_limits_of_boxes():
    twin = Twin((96, 64), (Object(1, "mug", (1, 2, 97, 4)),))
    text = compose(twin, "", Answer(objects=(1,)))
    assert read(text).sound
    assert places(text, canvas=Canvas(Frame.PIXEL, (96, 64))) == ["twin.objects[0].box[2]"]
    assert places(text, canvas=Canvas(Frame.NORM1000, (64, 96))) == ["twin.size"]


def test_constructor_given():
    transcript = read(THINK + ANSWER, constructor="given", given_twin=MUG)
    assert transcript.sound and transcript.twin == MUG and list(transcript.parts) == ["think", "answer"]
    assert places(TWIN + THINK + ANSWER, constructor="given", given_twin=MUG) == ["twin"]
    assert places(THINK + ANSWER, constructor="given") == ["twin"]
    assert places(THINK + '<answer>{"objects":[7]}</answer>', constructor="given", given_twin=MUG) == [
        "answer.objects[0]"
    ]


def test_constructor_specialists():
    construct = '<construct>{"ops":[{"op":"detect","phrases":["mug"]}]}</construct>'
    given = {"constructor": "specialists", "given_twin": MUG}
    whole = read(construct + TWIN + THINK + ANSWER, **given)
    assert whole.sound and whole.request == Request(("mug",)) and whole.constructor == "specialists"
    assert places(TWIN + THINK + ANSWER, **given) == ["construct"]
    assert places("<construct>[]</construct>" + TWIN + THINK + ANSWER, **given) == ["construct"]
    assert places('<construct>{"ops":[]}</construct>' + TWIN + THINK + ANSWER, **given) == ["construct.ops"]


def test_a_twin_that_the_policy_wrote_in_place_of_the_specialists_is_a_fault():
    construct = '<construct>{"ops":[{"op":"detect","phrases":["mug"]}]}</construct>'
    other = dataclasses.replace(MUG, objects=(dataclasses.replace(MUG.objects[0], box=(1, 2, 3, 5)),))
    for inserted in (None, other):
        unsound = read(construct + TWIN + THINK + ANSWER, constructor="specialists", given_twin=inserted)
        assert unsound.twin is None and "one that the policy wrote" in unsound.faults[0].message
    assert places(construct + TWIN + TWIN + THINK + ANSWER, constructor="specialists", given_twin=MUG) == ["twin"]


def test_the_twin_of_specialists_may_have_some_frames_only():
    request = Request(("mug",), ("detect", "track"), (0, 8))
    twin, canvas = dataclasses.replace(MUG, frames=(0, 8)), dataclasses.replace(CANVAS, frames=(0, 4, 8))
    text = written_request(request, canvas.frames) + inserted_text(twin) + THINK + ANSWER
    parsed = parse(text, task="segmentation", canvas=canvas, constructor="specialists", given_twin=twin)
    assert parsed.sound and parsed.request == request and parsed.twin.frames == (0, 8)


CONSTRUCT = '<construct>{"ops":[{"op":"detect","phrases":["mug"]}]}</construct>'


@pytest.mark.parametrize(
    ("text", "tail"),
    [(CONSTRUCT, ""), (" \n" + CONSTRUCT + "<", "<"), (CONSTRUCT + TWIN, TWIN)],
)
def test_an_open_request_is_read(text, tail):
    assert open_request(text) == (Request(("mug",)), tail)
    assert open_request(text, (0, 4))[0] == Request(("mug",), ("detect",), (0, 4))


@pytest.mark.parametrize(
    "text",
    ["", CONSTRUCT[:-1], "so: " + CONSTRUCT, CONSTRUCT.replace("mug", "<think>"), CONSTRUCT.replace("]}", "]"),
     CONSTRUCT.replace("mug", ""), "<construct>" + "[" * 100_000 + "</construct>", "</construct>" + CONSTRUCT],
)  # fmt: skip
def test_an_open_request_with_a_fault_is_none(text):
    assert open_request(text)[0] is None


def test_unknown_task_and_constructor_are_the_callers_mistake():
    with pytest.raises(ValueError, match="task"):
        read("", task="poetry")
    with pytest.raises(ValueError, match="constructor"):
        read("", constructor="magic")


TAGS = [f"<{slash}{name}>" for slash in ("", "/") for name in PARTS["specialists"]]
PIECES = st.sampled_from([
    *TAGS, *TAGS, "{", "}", "[", "]", '"', "\\", ",", ":", "NaN", "-Infinity", "1e999", "9" * 5000, "\ud800", "\\ud800",
    "\ufeff", '"objects"', '"size":[96,64]', TWIN, THINK, ANSWER, '{"objects":[1],"objects":[1]}', "[" * 20_000,
])  # fmt: skip
SURROGATES = st.text(st.characters(codec=None))


@settings(deadline=None, max_examples=300)
@given(st.lists(PIECES | SURROGATES, max_size=15).map("".join), st.sampled_from(sorted(FORMS)), st.sampled_from(
    sorted(PARTS)))  # fmt: skip
@example("[" * 1_000_000, "segmentation", "policy")
@example("<twin>" + "[" * 1_000_000 + "</twin>", "segmentation", "policy")
@example("<twin>" + '{"a":' * 12_000 + "</twin>", "segmentation", "policy")
@example("<twin>" * 100_000, "segmentation", "policy")
@example("a</answer>" * 100_000, "segmentation", "policy")
@example("<think></think>" * 60_000, "segmentation", "given")
@example("<" * 1_000_000, "segmentation", "policy")
@example('<twin>{"size":[%s,1],"objects":[]}</twin>' % ("9" * 60_000), "vqa", "policy")
def test_no_text_raises(text, task, constructor):
    transcript = read(text, task=task, constructor=constructor, given_twin=MUG)
    assert transcript.sound == (not transcript.faults)
    assert all(fault.where.startswith(("transcript", *PARTS["specialists"])) for fault in transcript.faults)
    json.dumps([[fault.where, fault.message] for fault in transcript.faults]).encode()
    if transcript.sound:
        text.encode()
        assert None not in (transcript.twin, transcript.thought, transcript.answer)


def test_faults_of_a_long_text_stay_few_and_short():
    for text in ("<twin>" * 50_000, "a</answer>" * 50_000, "<think></think>" * 50_000, "x" * 1_000_000):
        faults = read(text).faults
        assert len(faults) < 10 and all(len(fault.message) < 300 for fault in faults)


def test_request_and_inserted_twin_stand_on_lines_of_their_own():
    text = compose(MUG, "hm", Answer(objects=(1,)), Request(("mug",)))
    assert text == CONSTRUCT + "\n" + TWIN + "\n" + THINK + ANSWER
    assert read(text, constructor="specialists", given_twin=MUG).sound
