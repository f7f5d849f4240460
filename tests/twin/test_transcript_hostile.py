"""Hostile completions: however many faults a text holds, few are listed, and each part keeps its verdict."""

import pytest

from dtr1_jax.twin import schema, transcript
from dtr1_jax.twin.coordinates import Canvas, Frame
from dtr1_jax.twin.faults import MAX_FAULTS

PICTURE = Canvas(Frame.NORM1000, (96, 96))
VIDEO = Canvas(Frame.NORM1000, (96, 96), (0, 1, 2, 3))
MANY = 6000  # about 60,000 characters of most texts below


def text(twin: str, answer: str = '{"objects":[]}') -> str:
    return f"<twin>{twin}</twin><think>hm</think><answer>{answer}</answer>"


def scene(objects: list[str], between: str = "") -> str:
    """A transcript whose twin has these objects; `between` comes before them."""
    return text('{"size":[96,96],' + between + '"objects":[' + ",".join(objects) + "]}")


def with_track(keyframes: list[str]) -> str:
    return scene(['{"id":1,"label":"a","track":{' + ",".join(keyframes) + "}}"], '"frames":[0,1,2,3],')


def keys(names: list[str]) -> str:
    return "{" + ",".join(f'"{name}":0' for name in names) + "}"


NUMBERS = [str(i) for i in range(MANY)]
RELATIONS = '"relations":[' + ",".join(['[1,"a",2]'] * MANY) + "],"
ATTRIBUTES = ",".join("0" * MANY)
TEXTS = {
    "numbers": scene(["0"] * MANY),
    "empty objects": scene(["{}"] * MANY),
    "NaN": scene(["NaN"] * MANY),
    "one id": scene(['{"id":1,"label":"a","box":[1,1,2,2]}'] * 1600),
    "unknown keys": text(keys(NUMBERS)),
    "keys of many digits": text(keys([f"{i:05000d}" for i in range(12)])),
    "relations": scene([], RELATIONS),
    "attributes": scene(['{"id":1,"label":"a","box":[1,1,2,2],"attributes":[' + ATTRIBUTES + "]}"]),
    "no frame numbers": with_track([f'"x{i}":0' for i in NUMBERS]),
    "unknown frames": with_track([f'"{i}":[]' for i in NUMBERS]),
    "answered ids": text('{"size":[96,96],"objects":[]}', '{"objects":[' + ",".join("7" * MANY) + "]}"),
    "answer keys": text('{"size":[96,96],"objects":[]}', keys(NUMBERS)),
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("canvas", [PICTURE, VIDEO], ids=["picture", "video"])
def test_thousands_of_faults_are_cut_off(name, canvas):
    read = transcript.parse(TEXTS[name], task="segmentation", canvas=canvas)
    assert not read.sound and (read.twin is None or read.answer is None)
    assert 0 < len(read.faults) <= 2 * (MAX_FAULTS + 1)
    assert sum(len(fault.where) + len(fault.message) for fault in read.faults) < 30_000


def test_the_last_line_says_that_there_are_more():
    (*listed, last) = transcript.parse(TEXTS["numbers"], task="segmentation", canvas=PICTURE).faults
    assert len(listed) == MAX_FAULTS
    assert last == schema.Fault("twin", "expected no faults, got more than 50; the rest was not read")


def test_exactly_the_limit_is_listed_without_a_last_line():
    objects = [f'{{"id":{i},"label":"a","box":0}}' for i in range(1, MAX_FAULTS + 1)]
    faults = transcript.parse(scene(objects), task="segmentation", canvas=PICTURE).faults
    assert len(faults) == MAX_FAULTS and {fault.where[-4:] for fault in faults} == {".box"}


def test_many_faults_of_the_twin_hide_none_of_the_answer():
    read = transcript.parse(
        TEXTS["numbers"].replace('{"objects":[]}', '{"objects":[0]}'), task="segmentation", canvas=PICTURE
    )
    assert read.answer is None and read.faults[-1].where == "answer.objects[0]"
