"""Hostile completions: however many faults a text holds, few are listed, and each part keeps its verdict."""

import pytest

from dtr1_jax.twin import schema, transcript
from dtr1_jax.twin.coordinates import Canvas, Frame

PICTURE = Canvas(Frame.NORM1000, (96, 96))
VIDEO = Canvas(Frame.NORM1000, (96, 96), (0, 1, 2, 3))
FRAMES = '"frames":[0,1,2,3],'
MANY = 6000  # about 60,000 characters of most texts below


def text(twin: str, answer: str = '{"objects":[]}') -> str:
    return f"<twin>{twin}</twin><think>hm</think><answer>{answer}</answer>"


def in_objects(item: str, frames: str = "") -> str:
    return text('{"size":[96,96],%s"objects":[%s]}' % (frames, ",".join([item] * MANY)))


def with_track(keyframes: list[str]) -> str:
    item = '{"id":1,"label":"a","track":{%s}}' % ",".join(keyframes)
    return text('{"size":[96,96],%s"objects":[%s]}' % (FRAMES, item))


TEXTS = {
    "numbers": in_objects("0"),
    "empty objects": in_objects("{}"),
    "NaN": in_objects("NaN"),
    "one id": text('{"size":[96,96],"objects":[%s]}' % ",".join(['{"id":1,"label":"a","box":[1,1,2,2]}'] * 1600)),
    "unknown keys": text("{%s}" % ",".join(f'"{i}":0' for i in range(MANY))),
    "keys of many digits": text("{%s}" % ",".join(f'"{i:05000d}":0' for i in range(12))),
    "relations": text('{"size":[96,96],"objects":[],"relations":[%s]}' % ",".join(['[1,"a",2]'] * MANY)),
    "attributes": text(
        '{"size":[96,96],"objects":[{"id":1,"label":"a","box":[1,1,2,2],"attributes":[%s]}]}' % ",".join("0" * MANY)
    ),
    "no frame numbers": with_track([f'"x{i}":0' for i in range(MANY)]),
    "unknown frames": with_track([f'"{i}":[]' for i in range(MANY)]),
    "answered ids": text('{"size":[96,96],"objects":[]}', '{"objects":[%s]}' % ",".join(["7"] * MANY)),
    "answer keys": text('{"size":[96,96],"objects":[]}', "{%s}" % ",".join(f'"{i}":0' for i in range(MANY))),
}


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("canvas", [PICTURE, VIDEO], ids=["picture", "video"])
def test_thousands_of_faults_are_cut_off(name, canvas):
    read = transcript.parse(TEXTS[name], task="segmentation", canvas=canvas)
    assert not read.sound and read.twin is None or read.answer is None
    assert 0 < len(read.faults) <= 2 * (schema.MAX_FAULTS + 1)
    assert sum(len(fault.where) + len(fault.message) for fault in read.faults) < 30_000


def test_the_last_line_says_that_there_are_more():
    (*listed, last) = transcript.parse(TEXTS["numbers"], task="segmentation", canvas=PICTURE).faults
    assert len(listed) == schema.MAX_FAULTS
    assert last == schema.Fault("twin", "expected no faults, got more than 50; the rest was not read")


def test_exactly_the_limit_is_listed_without_a_last_line():
    items = ",".join(['{"id":%d,"label":"a","box":0}' % i for i in range(1, schema.MAX_FAULTS + 1)])
    faults = transcript.parse(
        text('{"size":[96,96],"objects":[%s]}' % items), task="segmentation", canvas=PICTURE
    ).faults
    assert len(faults) == schema.MAX_FAULTS and {fault.where[-4:] for fault in faults} == {".box"}


def test_many_faults_of_the_twin_hide_none_of_the_answer():
    read = transcript.parse(
        TEXTS["numbers"].replace('{"objects":[]}', '{"objects":[0]}'), task="segmentation", canvas=PICTURE
    )
    assert read.answer is None and read.faults[-1].where == "answer.objects[0]"
