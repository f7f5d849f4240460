"""Formats are recognised by looking; what needs no conversion or is unknown is refused with the next step."""

import json

import pytest

from dtr1_jax.data.conversion import recognition
from dtr1_jax.data.json_files import DataError

COCO = {"images": [{"id": 1, "file_name": "0.png", "width": 640, "height": 480}], "annotations": [], "categories": []}


@pytest.mark.parametrize("place", ["annotations/instances_default.json", "train/_annotations.coco.json", "result.json"])
def test_cocos_format_is_read_directly(case, place):
    file = case.root / place
    file.parent.mkdir(exist_ok=True)
    for indent in (None, 2):
        file.write_text(json.dumps(COCO, indent=indent))
        with pytest.raises(DataError, match=r"read directly.*--config\.data\.source=coco --config\.data\.root="):
            recognition.recognise(file)
    if place != "result.json":
        with pytest.raises(DataError, match="read directly"):
            recognition.recognise(case.root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"image": "0.png", "query": "x", "boxes": []}', "the format of JSON lines already"),
        (
            '[{"image": "0.png", "query": "x", "boxes": []}]',
            r"one JSON list of queries .* jq -c '\.\[\]' \S*a\.json > mine",
        ),
        ('{"a": 1, "b": 2}', "the fields a, b are of no known format"),
        ("image,query,x\n0.png,mug,1\n", "CSV"),
        ("[]", "got none"),
        ('[{"image": "0.png", ', "breaks off or is malformed at item 1"),
        ('{"shapes": [], "imagePath": "0.jpg"}', "LabelMe"),
    ],
)
def test_refused_by_name(case, text, message):
    file = case.root / "a.json"
    file.write_text(text)
    with pytest.raises(DataError, match=message):
        recognition.recognise(file)


def test_a_folder_of_nothing_and_of_too_much(case):
    with pytest.raises(DataError, match="got none of these files"):
        recognition.recognise(case.root)
    case.write([{"a": 1}], "a.json"), case.write([{"a": 1}], "b.json")
    with pytest.raises(DataError, match=r"2 JSON files, a.json, b.json; set --from to one of them"):
        recognition.recognise(case.root)
    with pytest.raises(DataError, match="no such file or folder"):
        recognition.recognise(case.root / "none")
