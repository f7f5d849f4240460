"""Folders of YOLO as Ultralytics, Roboflow and Darknet write them: each quirk is read right or left out by name."""

import pytest

from dtr1_jax.data.conversion import yolo_folders
from dtr1_jax.data.json_files import DataError

LINE = "0 0.5 0.5 0.25 0.5"
BOX = [240.0, 120.0, 400.0, 360.0]


def folder(case, texts, names="names: ['mug', 'spoons']\n", split=""):
    """Writes labels/SPLIT/0.txt, ... and their pictures."""
    (case.root / "data.yaml").write_text(names)
    place = f"labels/{split}".rstrip("/")
    (case.root / place).mkdir(parents=True, exist_ok=True)
    case.photos(len(texts), folder=place.replace("labels", "images"))
    for i, text in enumerate(texts):
        (case.root / place / f"{i}.txt").write_bytes(text.encode())
    return case


NAMES = {
    "inline": "names: ['mug', 'spoons']", "inline bare": "nc: 2\nnames: [mug, spoons]  # two",
    "inline double": 'names: ["mug", "spoons"]', "over lines": "names: [\n  'mug',\n  'spoons',\n]\nroboflow:\n  x: 1",
    "list": "names:\n- mug\n- spoons\nnc: 2", "indented list": "names:\n  - 'mug'\n  - \"spoons\"  # a\n",
    "map": "train: a\nnames:\n  0: mug\n  1: spoons\n", "map out of order": "names:\n  1: spoons\n  0: mug\n",
    "inline map": "names: {0: mug, 1: spoons}", "windows": "names:\r\n  0: mug\r\n  1: spoons\r\n",
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names(tmp_path, name):
    file = tmp_path / "data.yaml"
    file.write_bytes(NAMES[name].encode())
    assert yolo_folders.read_names(file) == {0: "mug", 1: "spoons"}


@pytest.mark.parametrize(
    "text", ["nc: 2\n", "names:\n", "names: []\n", "names: [mug\n", "names: !!python/object:os.system x\n"]
)
def test_names_that_cannot_be_read(tmp_path, text):
    file = tmp_path / "data.yaml"
    file.write_text(text)
    with pytest.raises(DataError, match=r"data.yaml: "):
        yolo_folders.read_names(file)


GOOD = {
    "plain": LINE, "windows": LINE + "\r\n\r\n", "tabs": LINE.replace(" ", "\t"), "class as a float": "0.0" + LINE[1:],
    "a score": LINE + " 0.87", "twice": f"{LINE}\n{LINE}", "exponent": "0 5e-1 0.5 0.25 5e-1",
    "beyond by a rounding": "0 0.5 0.5 0.25 0.5\n1 0.5 0.5 1.0000001 1.0",
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_boxes(case, name):
    result = folder(case, [GOOD[name]]).convert()
    assert result.lines[0]["boxes"] == [BOX] and result.lines[0]["query"] == "Find every mug.", result.text
    assert result.lines[0]["image"] == "../images/0.png" and result.lines[0]["objects"][0] == {
        "label": "mug",
        "box": BOX,
    }
    assert "centre, width, height; by the rule of the format" in result.text


BAD = {
    "lines of a class without a name": "7 0.5 0.5 0.1 0.1", "lines that are not numbers": "mug 1 2 3 4",
    "lines that are neither a box nor a polygon": "0 0.5 0.5",
    "rows with a box beyond its picture or without area": "0 0.5 0.5 0 0.1", "objects that stand twice": f"{LINE}\n{LINE}",  # noqa: E501
    "pictures without an object": "",
}  # fmt: skip


@pytest.mark.parametrize("reason", BAD)
def test_left_out_by_name(case, reason):
    result = folder(case, [LINE] * 6 + [BAD[reason]]).convert()
    assert f"left out: 1 {reason}" in result.text, result.text
    assert len(result.lines) == 6 + (reason == "objects that stand twice")


def test_polygons(case):
    result = folder(case, ["0 0.25 0.25 0.5 0.25 0.5 0.5\n1 0.5 0.5 0.25 0.5"]).convert()
    assert result.lines[0]["polygons"] == [[160, 120, 320, 120, 320, 240]]
    assert result.lines[1]["boxes"] == [BOX] and result.lines[1]["query"] == "Find every spoon."
    assert result.lines[1]["objects"][0] == {"label": "mug", "box": [160, 120, 320, 240]}


@pytest.mark.parametrize("layout", ["labels/train", "train/labels"])
def test_splits(case, layout):
    for split in ("train", "val"):
        place = case.root / layout.replace("train", split)
        place.mkdir(parents=True)
        (place / "0.txt").write_text(LINE)
        case.photos(1, folder=place.relative_to(case.root).as_posix().replace("labels", "images"), first=split == "val")
    (case.root / layout.replace("train", "val") / "0.txt").rename(case.root / layout.replace("train", "val") / "1.txt")
    (case.root / "data.yaml").write_text("names: [mug]")
    assert sorted(line["split"] for line in case.convert().lines) == ["heldout", "train"]


def test_pixels_in_place_of_0_to_1_are_refused(case):
    with pytest.raises(DataError, match=r"1 are not 0 to 1.*they would fit as pixels of the picture"):
        folder(case, ["0 320 240 160 240"]).convert()


def test_classes_txt_and_a_missing_picture(case):
    folder(case, [LINE, LINE])
    (case.root / "data.yaml").unlink()
    with pytest.raises(DataError, match=r"expected data.yaml or classes.txt"):
        case.convert()
    (case.root / "classes.txt").write_text("mug\nspoons\n")
    (case.root / "images" / "1.png").unlink()
    result = case.convert()
    assert len(result.lines) == 1 and "left out: 1 label files without a picture (such as 1.txt)" in result.text
