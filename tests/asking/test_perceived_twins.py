"""Requests of any kind get an insertion: the right twin for sound ones, a twin without objects for all others."""

import dataclasses
import json
import logging
import random

import fake_perceivers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.asking import perceived_twins
from dtr1_jax.asking.requested_work import Work, added
from dtr1_jax.data import prompts, tokenizer
from dtr1_jax.data.batches import Batch
from dtr1_jax.data.twinworld import picture_examples, video_examples
from dtr1_jax.policies import policy_files
from dtr1_jax.specialists.embedding_cache import EmbeddingCache
from dtr1_jax.specialists.perceived import PerceivedScene
from dtr1_jax.twin import transcript
from dtr1_jax.twin.construct import Request
from dtr1_jax.twin.coordinates import Canvas, Frame
from dtr1_jax.types import Video

T = tokenizer.load_tokenizer(policy_files.ASSETS / "tiny")
STYLE = prompts.Style(T, None, Frame.NORM1000, "full", 512, "specialists", named=True)
PICTURE = picture_examples.example(0, "train", 3, size=96, min_objects=3, max_objects=3)
VIDEO = video_examples.example(0, "train", 1, size=96, frames=4, min_objects=2, max_objects=2)
REPLY = '<think></think><answer>{"objects":[]}</answer>'


def canvas_of(example):
    frames = () if example.video is None else tuple(map(int, example.video.index))
    return Canvas(Frame.NORM1000, (96, 96), frames)


def batch_of(*examples):
    return Batch(list(examples), [canvas_of(e) for e in examples], None)


def request(*phrases, ops=("segment",), frames=None):
    value = {"ops": [{"op": "detect", "phrases": list(phrases)}, *({"op": op} for op in ops)]}
    return "<construct>" + json.dumps(value | ({} if frames is None else {"frames": frames})) + "</construct>"


def run(texts, *examples, perceiver=None, room=400):
    perceiver = perceiver or fake_perceivers.annotated(list(examples))
    return perceived_twins.perceive(texts, batch_of(*examples), STYLE, perceiver, room), perceiver


def parsed(text, insertion, example, tail=REPLY):
    return transcript.parse(
        text + T.decode(insertion.ids) + tail, task="segmentation", canvas=canvas_of(example),
        constructor="specialists", given_twin=insertion.twin,
    )  # fmt: skip


def test_a_sound_request_gets_its_objects():
    label = PICTURE.scene[0].label
    got, perceiver = run([[request(label)]], PICTURE)
    (one,) = got.insertions[0]
    expected = [x for x in PICTURE.scene if x.label == label]
    assert [o.id for o in one.twin.objects] == [x.id for x in expected] and one.twin.named
    assert all(o.depth is None for o in one.twin.objects)  # nobody asked for it
    assert set(one.masks) == {x.id for x in expected} and one.looked is None
    assert all((one.masks[x.id] == x.mask).all() for x in expected)
    assert got.work == [
        Work(
            1,
            1,
            1,
            1,
            0,
            {"detect": 1, "segment": 1},
            ops=2,
            phrases=1,
            frames=1,
            weighed=2,
            twins=1,
            objects=len(expected),
        )
    ]
    assert parsed(request(label), one, PICTURE).sound
    ((visual, asked),) = perceiver.calls[0]
    assert visual is PICTURE.image and asked == Request((label,), ("detect", "segment"))


@pytest.mark.parametrize("relations", [True, False])
def test_relations_are_put_in_where_the_setting_says_so(relations):
    a, b, *_ = PICTURE.scene
    scene = PerceivedScene((a, b), ((a.id, "touching", b.id),))
    style = dataclasses.replace(STYLE, relations=relations)
    asked = transcript.open_request(request(a.label, b.label), ())[0]
    one = perceived_twins._insertion(scene, asked, "", PICTURE, canvas_of(PICTURE), style, 400)
    assert bool(one.twin.relations) == ("touching" in T.decode(one.ids)) == relations


def test_the_memory_of_the_perceiver_is_counted():
    label, perceiver = PICTURE.scene[0].label, fake_perceivers.annotated([PICTURE])
    found = perceiver.see

    def see(visual, asked):
        kept = perceiver.cache.get("a") if asked.ops == ("detect",) else perceiver.cache.get("b")
        perceiver.cache.put("a", np.zeros(1))
        return found(visual, asked) if kept is None else PerceivedScene(())

    perceiver.cache, perceiver.see = EmbeddingCache(100), see
    texts = [[request(label)], [request(label, ops=())]]
    work = run(texts, PICTURE, PICTURE, perceiver=perceiver)[0].work
    assert [(w.hits, w.lookups) for w in work] == [(1, 2), (0, 0)]  # they count at the first query
    again = run(texts, PICTURE, PICTURE, perceiver=perceiver)[0].work
    assert (again[0].hits, again[0].lookups) == (1, 2)  # those of this call alone


def test_each_picture_and_request_is_asked_for_once():
    labels = [x.label for x in PICTURE.scene]
    again = dataclasses.replace(PICTURE, uid="again", image=PICTURE.image.copy())
    texts = [[request(labels[0]), request(labels[0], ops=("segment",)), "nonsense"]] * 2
    texts += [[request(labels[1])] * 3]
    got, perceiver = run(texts, PICTURE, again, PICTURE)
    assert len(perceiver.calls) == 1 and len(perceiver.calls[0]) == 2
    assert [(w.requests, w.looks) for w in got.work] == [(2, 1), (2, 0), (3, 1)]
    silent, perceiver = run([["", "<construct>"]], PICTURE)
    assert perceiver.calls == [] and added(silent.work).looks == 0


@pytest.mark.parametrize(
    "text",
    [
        "", "<construct>", "no request</construct>", "words " + request("dog"), request("dog").replace("}]", "}"),
        request("dog", ops=("fly",)), request("dog", ops=("track",)), "<construct>{}</construct>",
        "<construct><construct>{}</construct>", "<twin>{}</twin>" + request("dog"), request("\ud800"),
    ],
)  # fmt: skip
def test_any_other_text_gets_a_twin_without_objects_and_is_a_fault(text):
    got, perceiver = run([[text]], PICTURE)
    (one,) = got.insertions[0]
    assert not perceiver.calls and one.twin.objects == () and T.decode(one.ids).startswith("<twin>")
    read = parsed(text, one, PICTURE)
    assert not read.sound and any(f.where.startswith(("construct", "transcript")) for f in read.faults)


@pytest.mark.parametrize("tail", ["<", "\n", " <tw", "<twin>"])
def test_a_token_that_reaches_into_the_twin_is_completed(tail):
    text = request(PICTURE.scene[0].label) + tail
    (one,) = run([[text]], PICTURE)[0].insertions[0]
    assert one.twin.objects and parsed(text, one, PICTURE).sound
    assert not parsed(text + "x", run([[text + "x"]], PICTURE)[0].insertions[0][0], PICTURE).sound


def test_a_twin_is_cut_to_its_room_with_what_the_query_names_first():
    labels = [x.label for x in PICTURE.scene]
    smallest = min(PICTURE.scene, key=lambda x: x.mask.sum())
    example = dataclasses.replace(PICTURE, query=f"where is the {smallest.label}?")
    whole = run([[request(*labels)]], example)[0].insertions[0][0]
    cut = run([[request(*labels)]], example, room=len(whole.ids) - 30)[0].insertions[0][0]
    assert len(cut.ids) <= len(whole.ids) - 30 and cut.twin.more == 3 - len(cut.twin.objects) > 0
    assert smallest.id in {o.id for o in cut.twin.objects} and set(cut.masks) == {o.id for o in cut.twin.objects}
    assert parsed(request(*labels), cut, example).sound


def test_no_room_at_all_is_said(caplog):
    (one,) = run([[request("dog")]], PICTURE, room=4)[0].insertions[0]
    assert one.ids == () and one.twin is None and "raise it" in caplog.text
    assert not parsed(request("dog"), one, PICTURE).sound


def test_a_video_at_some_of_its_frames():
    labels = [x.label for x in VIDEO.scene]
    part = request(*labels, ops=("segment", "track"), frames=[0, 2])

    def see(visual, asked):
        items = [
            dataclasses.replace(x, boxes=x.boxes[[0, 2]], masks=x.masks[[0, 2]], velocity=None) for x in VIDEO.scene
        ]
        return PerceivedScene(tuple(items), frames=asked.frames)

    got, perceiver = run([[part]], VIDEO, perceiver=fake_perceivers.FakePerceiver(see))
    (one,) = got.insertions[0]
    assert perceiver.calls[0][0][1].frames == (0, 2) == one.twin.frames
    assert one.looked.tolist() == [True, False, True, False]
    for x in VIDEO.scene:
        if x.id in one.masks:
            assert (one.masks[x.id][[0, 2]] == x.masks[[0, 2]]).all() and not one.masks[x.id][[1, 3]].any()
    assert one.masks and parsed(part, one, VIDEO).sound


@pytest.mark.parametrize(
    "scene",
    [
        PerceivedScene(tuple(VIDEO.scene), frames=(0,)),  # boxes for other frames
        PerceivedScene((dataclasses.replace(VIDEO.scene[0], label=""),), frames=(0, 1, 2, 3)),
        PerceivedScene((), frames=(), failures=("the detector failed",)),
        PerceivedScene((VIDEO.scene[0],), frames=(0, 1, 2, 99)),  # a frame that was not shown
    ],
)
def test_a_scene_that_is_no_twin_is_an_empty_one(scene, caplog):
    got, _ = run([[request("dog", ops=())]], VIDEO, perceiver=fake_perceivers.FakePerceiver(lambda *_: scene))
    (one,) = got.insertions[0]
    assert one.twin.objects == () and one.ids
    assert added(got.work).failures == len(scene.failures) and (
        not scene.failures or "the detector failed" in caplog.text
    )


OPS = st.sampled_from(["detect", "segment", "depth", "track", "fly", None, 3])
LABELS = st.sampled_from([x.label for x in (*PICTURE.scene, *VIDEO.scene)])
PHRASES = st.lists(st.text(max_size=70) | LABELS | st.none(), max_size=18)
ENTRIES = st.fixed_dictionaries({"op": OPS}, optional={"phrases": PHRASES, "more": st.integers()})
REQUESTS = st.fixed_dictionaries(
    {"ops": st.lists(ENTRIES, max_size=5) | st.none()}, optional={"frames": st.lists(st.integers(-1, 5), max_size=5)}
)
PIECES = st.sampled_from(
    ["<construct>", "</construct>", "<twin>", "</twin>", "{", "}", '"', "<", "\n", "\ud800", "9" * 99]
)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64).filter(str.strip)


@st.composite
def sound(draw):
    """A request without faults, for a picture or (with track or frames) for the video; text may follow."""
    phrases = draw(st.lists(LABELS, min_size=1, max_size=4) | st.lists(LABELS | WORDS, min_size=1, max_size=16))
    ops = draw(st.lists(st.sampled_from(["segment", "depth", "track"]), unique=True, max_size=3))
    frames = draw(st.none() | st.lists(st.integers(0, 3), unique=True, min_size=1).map(sorted))
    return request(*phrases, ops=ops, frames=frames) + draw(st.sampled_from(["", "", "<", "\n", "<twin>", " x"]))


TEXTS = st.one_of(
    sound(), sound(), REQUESTS.map(lambda v: f"<construct>{json.dumps(v)}</construct>"),
    st.lists(PIECES | st.text(max_size=9) | REQUESTS.map(json.dumps), max_size=8).map("".join),
)  # fmt: skip


def see(visual, asked):
    """The annotated objects that are asked for, in any state that a broken specialist might leave them in."""
    example = VIDEO if isinstance(visual, Video) else PICTURE
    draw = random.Random(repr(asked))
    items = [fake_perceivers.asked_of(x, asked) for x in example.scene if x.label in asked.phrases]
    places = [list(range(4)).index(n) for n in asked.frames]
    if places:
        items = [dataclasses.replace(x, boxes=x.boxes[places], masks=x.masks[places], velocity=None) for x in items]
    kind = draw.randrange(12)
    if kind == 0:
        items = [dataclasses.replace(items[0], id=i) for i in range(1, 400)] if items else []
    elif kind == 1:
        items = [dataclasses.replace(x, id=1) for x in items]
    elif kind == 2:
        field = {"label": draw.choice(["", " ", "\ud800", "x" * 999, "</twin>", "\x1b[31m"])}
        items = [dataclasses.replace(x, **field) for x in items]
    elif kind == 3:
        bad = (float("nan"), 0.0, draw.choice([1.0, float("inf"), -5.0]), 1.0)
        items = [dataclasses.replace(x, box=bad, boxes=None if x.boxes is None else x.boxes * np.nan) for x in items]
    elif kind == 4:
        wrong = draw.choice(
            [np.zeros((0, 0), bool), np.ones((3, 5), bool), np.ones((96, 96)), np.ones((2, 2, 2), bool)]
        )
        items = [dataclasses.replace(x, mask=wrong, masks=wrong if places else None) for x in items]
    elif kind == 5:
        items = [dataclasses.replace(x, depth=draw.choice([-1, 10**30]), attributes=("", "a" * 500)) for x in items]
    elif kind == 6:
        items = [dataclasses.replace(x, boxes=np.zeros((1, 4)), masks=np.zeros((1, 2, 2), bool)) for x in items]
    relations = ((1, "on", 2), (7, "", 7)) if kind == 7 else ()
    frames = (99,) if kind == 8 and asked.frames else asked.frames
    return PerceivedScene(tuple(items), relations, frames=frames, failures=("it broke",) if kind == 9 else ())


COMMON = {example.uid: fake_perceivers.FakePerceiver(see) for example in (PICTURE, VIDEO)}


def check(example, texts):
    """Every completion gets tokens that fit, and a transcript that is sound only with a sound request.

    Returns what was asked for.
    """
    perceiver = COMMON[example.uid]
    perceiver.calls.clear()  # so that memory stays bounded
    got = perceived_twins.perceive([texts], batch_of(example), STYLE, perceiver, 300)
    for text, one in zip(texts, got.insertions[0], strict=True):
        asked, _ = transcript.open_request(text, canvas_of(example).frames)
        read = parsed(text, one, example)
        assert 0 < len(one.ids) <= 300 and (asked is not None or not read.sound)
        assert read.request == asked or not read.sound
        assert all(mask.shape[-2:] == (96, 96) for mask in one.masks.values())
    assert len(perceiver.calls) <= 1 and sum(map(len, perceiver.calls)) == got.work[0].looks <= len(texts)
    return got.work[0]


@settings(deadline=None, max_examples=100)
@given(st.sampled_from([PICTURE, VIDEO]), st.lists(TEXTS, min_size=1, max_size=4))
def test_random_requests(example, texts):
    check(example, texts)


BROKEN = [
    "", "<construct>", "</construct>", "<twin>", "</twin>", "{", "}", "[", "]", '"', ",", ":", "<", "\\", "\n", "\x00",
    "\ud800", "9" * 400, "null", "true", "NaN", "1e999", "-1", '"ops"', '"frames"', "[" * 300, "\u202e", "\U0001f600",
]  # fmt: skip


def random_text(draw: random.Random) -> str:
    """Half of the texts are sound requests, with some text behind them; the others are these with changes, or noise."""
    labels = [x.label for x in (*PICTURE.scene, *VIDEO.scene)]
    words = ["".join(chr(draw.randrange(32, 0x3000)) for _ in range(draw.randrange(1, 40))) for _ in range(2)]
    phrases = [draw.choice([*labels, *labels, *words, *BROKEN[4:9]]) for _ in range(draw.choice([1, 1, 2, 3, 16, 17]))]
    phrases = phrases if draw.random() < 0.3 else [word for word in phrases if word in labels] or labels[:1]
    ops = draw.sample(["segment", "depth", "track"], draw.randrange(4))
    frames = sorted(draw.sample(range(4), draw.randrange(1, 5))) if draw.random() < 0.3 else None
    text = request(*phrases, ops=ops, frames=frames) + draw.choice(["", "", "", "<", "\n", "<twin>", " x"])
    if draw.random() < 0.5:
        return text
    if draw.random() < 0.3:
        return "".join(draw.choice(BROKEN) for _ in range(draw.randrange(12)))
    for _ in range(draw.randrange(1, 4)):
        i, j = sorted(draw.randrange(len(text) + 1) for _ in range(2))
        text = draw.choice(
            [text[:i] + draw.choice(BROKEN) + text[i:], text[:i] + text[j:], text[:i], text[:j] + text[i:]]
        )
    return text


@pytest.mark.slow
def test_a_hundred_thousand_random_requests(monkeypatch):
    """No crash, no hang, and memory that does not grow; and many of the requests are sound, so that twins are made."""
    import resource

    monkeypatch.setattr(logging.root.manager, "disable", logging.WARNING)  # pytest keeps each warning in memory
    draw, counts, peaks = random.Random(0), [], []
    for piece in range(50):
        for _ in range(250):
            counts.append(check(draw.choice([PICTURE, VIDEO]), [random_text(draw) for _ in range(8)]))
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        whole = added(counts)
        print(
            piece,
            whole.completions,
            "texts",
            whole.requests,
            "sound",
            whole.objects,
            "objects",
            peaks[-1],
            "kB",
            flush=True,
        )
    assert whole.completions == 100_000
    assert peaks[-1] < peaks[4] + 40_000  # kB
    assert whole.requests > 30_000 and whole.objects > 20_000 and whole.failures > 1000
