"""Folders of Pascal VOC as VOC, LabelImg and CVAT write them: each quirk is read right or left out by name."""

import pytest

from dtr1_jax.data.json_files import DataError

BOX = [66.0, 130.0, 422.0, 362.0]


def item(name="mug", box=BOX, more=""):
    edges = "".join(f"<{tag}>{v}</{tag}>" for tag, v in zip(("xmin", "ymin", "xmax", "ymax"), box))
    return f"<object><name>{name}</name>{more}<bndbox>{edges}</bndbox></object>"


def xml(objects, filename="0.png", size=(640, 480), head="", source=""):
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    return f"{head}<annotation><folder>JPEGImages</folder><filename>{filename}</filename>{source}{sides}{objects}</annotation>"  # noqa: E501


def folder(case, texts):
    (case.root / "Annotations").mkdir()
    case.photos(len(texts), folder="JPEGImages")
    for i, text in enumerate(texts):
        (case.root / "Annotations" / f"{i}.xml").write_text(text, "utf-8")
    return case


GOOD = {
    "plain": xml(item()), "declaration": xml(item(), head='<?xml version="1.0" encoding="utf-8"?>\n'),
    "floats": xml(item(box=["66.0", "130.0", "422.00", "362.0"])), "spaces": xml(item("  mug\n")),
    "a name of another folder": xml(item(), filename="C:\\photos\\zero.jpg"),
    "no suffix": xml(item(), filename="0"), "no size": xml(item(), size=None),
    "size 0, as some tools write it": xml(item(), size=(0, 0)),
    "a pose and parts": xml(item(more="<pose>Left</pose><truncated>1</truncated><difficult>0</difficult>")),
    "edges in another order": xml("<object><bndbox><xmax>422</xmax><xmin>66</xmin><ymax>362</ymax><ymin>130</ymin>"
        "</bndbox><name>mug</name></object>"),
    "from 1": xml(item(box=[67, 131, 422, 362]), source="<source><database>The VOC2007 Database</database></source>"),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_boxes(case, name):
    result = folder(case, [GOOD[name]]).convert()
    (line,) = result.lines
    assert line["boxes"] == [BOX] and line["query"] == "Find every mug." and line["image"] == "../JPEGImages/0.png"
    assert ("count pixels from 1" in result.text) == (name == "from 1")


BAD = {
    "XML files with a document type or entities": '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>' + xml(item()),  # noqa: E501
    "XML files that are malformed": xml(item())[:80],
    "XML files of another kind than VOC's": "<svg></svg>",
    "objects without a name or box": xml(item() + item("<b/>")),
    "objects marked as difficult": xml(item() + item("cup", more="<difficult>1</difficult>")),
    "pictures without an object": xml(""),
    "pictures that are not found": xml(item(), filename="x.png"),
    "rows with a box beyond its picture": xml(item(box=[600, 1, 900, 20])),
}  # fmt: skip


@pytest.mark.parametrize("reason", BAD)
def test_left_out_by_name(case, reason):
    folder(case, [*[xml(item(), filename=f"{i}.png") for i in range(6)], BAD[reason]])
    if "not found" in reason:
        (case.root / "JPEGImages" / "6.png").unlink()
    result = case.convert()
    assert f"left out: 1 {reason}" in result.text and len(result.lines) in (6, 7), result.text


def test_a_label_with_a_difficult_object_is_not_asked_for(case):
    text = xml(item() + item(box=[1, 2, 30, 40], more="<difficult>1</difficult>") + item("cup", [5, 5, 90, 90]))
    assert [line["query"] for line in folder(case, [text]).convert().lines] == ["Find every cup."]


def test_lists_of_splits(case):
    folder(case, [xml(item(), filename=f"{i}.png") for i in range(3)])
    (case.root / "ImageSets" / "Main").mkdir(parents=True)
    (case.root / "ImageSets" / "Main" / "train.txt").write_text("0\n1\n")
    (case.root / "ImageSets" / "Main" / "val.txt").write_text("2  -1\n")
    assert [line["split"] for line in case.convert().lines] == ["train", "train", "heldout"]


def test_a_single_file_and_boxes_in_0_to_1(case):
    folder(case, [xml(item(box=[0.1, 0.2, 0.5, 0.6]))])
    with pytest.raises(DataError, match="are not pixels of the picture"):
        case.convert(case.root / "Annotations" / "0.xml")
