"""Requests to the specialists: right ones by hand, faults with their places, and any value at all."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.twin import strict_json
from dtr1_jax.twin.construct import MAX_PHRASES, Request, read_request

FRAMES = (0, 4, 8)


def ops(*names, phrases=("mug",)):
    return [{"op": name} | ({"phrases": list(phrases)} if name == "detect" else {}) for name in names]


def test_right_requests():
    value = {"ops": ops("depth", "detect", "segment", phrases=("mug", " red  kettle ", "mug"))}
    assert read_request(value) == (Request(("mug", "red kettle"), ("detect", "segment", "depth")), ())
    assert read_request({"ops": ops("detect")}, FRAMES)[0] == Request(("mug",), ("detect",), FRAMES)
    chosen, faults = read_request({"ops": ops("detect", "track"), "frames": [0, 8]}, FRAMES)
    assert chosen == Request(("mug",), ("detect", "track"), (0, 8)) and not faults


@pytest.mark.parametrize(
    ("value", "frames", "place", "message"),
    [
        ([], (), "construct", "expected an object, got []"),
        ({}, (), "construct.ops", "expected a list of 1 to 4 operations, got null"),
        ({"ops": []}, (), "construct.ops", "got []"),
        ({"ops": ops("segment")}, (), "construct.ops", "expected the operation detect, which finds the objects"),
        ({"ops": ops("detect", "track")}, (), "construct.ops[1]", "one of detect, segment, depth}"),
        ({"ops": ops("detect", "fly")}, (), "construct.ops[1]", "one of detect, segment, depth}"),
        ({"ops": ["detect"]}, (), "construct.ops[0]", "got the string 'detect'"),
        ({"ops": ops("detect", "detect")}, (), "construct.ops[1]", "expected each operation once, got detect again"),
        ({"ops": [{"op": "detect"}]}, (), "construct.ops[0].phrases", "a list of 1 to 16 phrases, got null"),
        ({"ops": ops("detect", phrases=["a"] * 17)}, (), "construct.ops[0].phrases", "got a list of 17"),
        ({"ops": ops("detect", phrases=["a", " "])}, (), "construct.ops[0].phrases[1]", "not blank"),
        ({"ops": ops("detect", phrases=["a" * 65])}, (), "construct.ops[0].phrases[0]", "of 1 to 64 characters"),
        ({"ops": ops("detect", phrases=[3])}, (), "construct.ops[0].phrases[0]", "got 3"),
        ({"ops": ops("detect", phrases=["\ud800"])}, (), "construct.ops[0].phrases[0]", "lone surrogate"),
        ({"ops": [{"op": "detect", "phrases": ["a"], "x": 1}]}, (), "construct.ops[0]", "no further keys in detect"),
        ({"ops": ops("detect"), "frames": [0]}, (), "construct", "expected only the keys ops, got the string 'frames'"),
        (
            {"ops": ops("detect"), "frames": [1]},
            FRAMES,
            "construct.frames[0]",
            "a frame that was shown, as in [0, 4, 8]",
        ),
        ({"ops": ops("detect"), "frames": [True]}, FRAMES, "construct.frames[0]", "got true"),
        ({"ops": ops("detect"), "frames": [8, 0]}, FRAMES, "construct.frames", "expected ascending frame numbers"),
        ({"ops": ops("detect"), "frames": []}, FRAMES, "construct.frames", "expected a list of 1 to 3 frame numbers"),
        ({"ops": ops("detect"), "frames": "all"}, FRAMES, "construct.frames", "got the string 'all'"),
    ],
)
def test_faults(value, frames, place, message):
    request, faults = read_request(value, frames)
    assert request is None and place in [f.where for f in faults]
    assert any(message in f.message for f in faults if f.where == place), faults


WORDS = st.sampled_from(["ops", "op", "detect", "segment", "phrases", "frames", "track", "mug", ""]) | st.text(
    max_size=3
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 9) | st.floats() | WORDS | st.builds(lambda: 10**5000),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=20,
)
NEARLY = st.fixed_dictionaries(
    {
        "ops": st.lists(
            st.fixed_dictionaries({"op": WORDS}, optional={"phrases": st.lists(WORDS, max_size=20)}), max_size=5
        )
    },
    optional={"frames": st.lists(st.integers(-1, 9), max_size=4)},
)


@settings(max_examples=300)
@given(ANYTHING | NEARLY, st.sampled_from([(), FRAMES]))
def test_any_value_is_read(value, frames):
    request, faults = read_request(value, frames)
    assert (request is None) == bool(faults)
    if request:
        assert 1 <= len(request.phrases) <= MAX_PHRASES and request.ops[0] == "detect"
        assert set(request.frames) <= set(frames) and bool(request.frames) == bool(frames)


def test_a_huge_request_has_few_faults():
    value = strict_json.loads('{"ops":[' + ",".join(['{"op":"detect","phrases":[""]}'] * 4) + '],"frames":[]}')
    assert len(read_request(value | {str(i): i for i in range(10**5)})[1]) <= 51
