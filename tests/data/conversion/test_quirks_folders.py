"""Folders of YOLO and Pascal VOC as Ultralytics, Roboflow, LabelImg, CVAT, Darknet and others write them."""

import unicodedata

import quirks
from PIL import Image
from quirks import SAME, Quirk

FIRST, SECOND = [24.0, 12.0, 40.0, 36.0], [0.0, 0.0, 32.0, 24.0]
# (picture, query, boxes or polygons in pixels) of each line
USUAL = [("0.png", "Find every mug.", [FIRST]), ("1.png", "Find every spoon.", [SECOND])]
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


class Folder:
    """Two pictures of 64 x 48 pixels with an object each, in the form of YOLO or VOC."""

    def __init__(self, case):
        self.case, self.root, self.flags, self.parts = case, case.root / "set", {}, ("images", "labels")
        case.photos(2, (64, 48), f"set/{self.parts[0]}")
        (self.root / self.parts[1]).mkdir()
        self.fill()

    def fill(self):
        (self.root / "data.yaml").write_text("names: ['mug', 'spoons']\n")
        self.write(0, "0 0.5 0.5 0.25 0.5\n")
        self.write(1, "1 0.25 0.25 0.5 0.5\n")

    def write(self, number, text, folder=None):
        raw = text if isinstance(text, bytes) else text.encode()
        (self.root / (folder or self.parts[1]) / f"{number}{self.suffix}").write_bytes(raw)

    suffix = ".txt"

    def read(self):
        result = self.case.convert(self.root, **self.flags)
        values = [
            (line["image"].rpartition("/")[2], line["query"], line.get("boxes", line.get("polygons")))
            for line in result.lines
        ]
        report = [line for line in result.text.splitlines() if line.startswith(("left out", "remark"))]
        usual = ("not readable as split", "files whose boxes count from 0")
        return values, "\n".join(line for line in report if not any(words in line for words in usual))

    def rename(self, stem, kind=".png"):
        """Another name for the first picture and its labels."""
        pictures, labels = (self.root / part for part in self.parts)
        (pictures / "0.png").rename(pictures / f"{stem}{kind}")
        (labels / f"0{self.suffix}").rename(labels / f"{stem}{self.suffix}")


class VocFolder(Folder):
    suffix = ".xml"

    def __init__(self, case):
        self.case, self.root, self.flags, self.parts = case, case.root / "set", {}, ("JPEGImages", "Annotations")
        case.photos(2, (64, 48), "set/JPEGImages")
        (self.root / "Annotations").mkdir()
        self.write(0, xml(item()))
        self.write(1, xml(item("spoons", SECOND), "1.png"))


def item(name="mug", box=FIRST, more="", tag="bndbox"):
    edges = "".join(f"<{edge}>{v:g}</{edge}>" for edge, v in zip(("xmin", "ymin", "xmax", "ymax"), box))
    return f"<object><name>{name}</name>{more}<{tag}>{edges}</{tag}></object>"


def xml(objects, filename="0.png", size=(64, 48), head="", root="<annotation>"):
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    return f"{head}{root}<filename>{filename}</filename>{sides}{objects}</annotation>"


def labels(text, number=0):
    return lambda f: f.write(number, text)


def names(text, file="data.yaml"):
    def change(f):
        (f.root / "data.yaml").unlink()
        (f.root / file).write_bytes(text if isinstance(text, bytes) else text.encode())

    return change


def voc(text, number=0):
    return lambda f: f.write(number, text)


def mac_files(f):
    folder = f.root / "__MACOSX" / f.parts[1]
    folder.mkdir(parents=True)
    for place in (folder, f.root / f.parts[1]):
        (place / f"._0{f.suffix}").write_bytes(b"\0\5\x16\7")
    (f.root / f.parts[0] / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (f.root / f.parts[0] / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")


def nested(f):
    inner = f.case.root / "outer"
    inner.mkdir()
    f.root.rename(inner / "set")
    f.root = inner


def darknet(f):
    """CVAT's YOLO 1.1: names in obj.names, and pictures and labels in one folder."""
    (f.root / "data.yaml").unlink()
    (f.root / "obj.names").write_text("mug\nspoons\n")
    (f.root / "obj.data").write_text("classes = 2\ntrain = data/train.txt\nnames = data/obj.names\n")
    (f.root / "train.txt").write_text("data/obj_train_data/0.png\ndata/obj_train_data/1.png\n")
    (f.root / "images").rename(f.root / "obj_train_data")
    for file in (f.root / "labels").iterdir():
        file.rename(f.root / "obj_train_data" / file.name)
    (f.root / "labels").rmdir()


def splits(f):
    """Roboflow's train/images and valid/images, and a YAML file that leads out of the folder."""
    for name, number in (("train", 0), ("valid", 1)):
        for part, kind in (("images", ".png"), ("labels", ".txt")):
            (f.root / name / part).mkdir(parents=True, exist_ok=True)
            (f.root / part / f"{number}{kind}").rename(f.root / name / part / f"{number}{kind}")
    (f.root / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\n\nnc: 2\nnames: ['mug', 'spoons']")


def accent(f):
    f.rename("é")
    (f.root / "images" / "é.png").rename(f.root / "images" / (unicodedata.normalize("NFD", "é") + ".png"))


def from_one(f):
    source = "<source><database>The VOC2012 Database</database></source>"
    for k, (name, box) in enumerate((("mug", FIRST), ("spoons", SECOND))):
        f.write(k, xml(source + item(name, [box[0] + 1, box[1] + 1, *box[2:]]), f"{k}.png"))


def exchanged(f):
    f.write(0, xml(item(box=[40, 12, 24, 36])))
    f.write(1, xml("".join(item("spoons", box) for box in TILES), "1.png"))


POLYGON = "0 0.25 0.25 0.5 0.25 0.5 0.5"
CORNERS = [16.0, 12.0, 32.0, 12.0, 32.0, 24.0]
ONE, TWO = USUAL[:1], USUAL[1:]
# Enough sound boxes that a faulty one is a fault of its own, and no doubt about the frame of all.
TILES = [[16.0 * i, 12.0 * k, 16.0 * i + 16, 12.0 * k + 12] for i in (0, 1, 2) for k in (0, 1)]
MANY = [("1.png", "Find every spoon.", TILES)]
SPOONS = "\n".join(f"1 {(a + c) / 128} {(b + d) / 96} 0.25 0.25" for a, b, c, d in TILES)
Q = Quirk
YOLO = (
    Q("YOLO: names as a map, in another order, with comments", "read",
      names("# made by x\nnames:\n  1: spoons  # silver\n  0: 'mug'\n")),
    Q("YOLO: data.yaml with a byte order mark and Windows line ends", "read",
      names(b"\xef\xbb\xbfnames:\r\n- mug\r\n- spoons\r\nnc: 2\r\n")),
    Q("YOLO: train/, valid/ and ../ in data.yaml (Roboflow)", "read", splits),
    Q("YOLO: classes.txt among the labels (LabelImg)", "read",
      lambda f: (f.root / "data.yaml").rename(f.root / "labels" / "classes.txt").write_text("mug\r\nspoons\r\n")),
    Q("YOLO: no names of the classes", "refused: add data.yaml or classes.txt",
      lambda f: (f.root / "data.yaml").unlink(), None, "expected data.yaml or classes.txt"),
    Q("YOLO: a blank line in classes.txt", "its class has no name: left out with a count",
      names("mug\n\nforks\n", "classes.txt"), ONE, "1 lines of a class without a name"),
    Q("YOLO: data.yaml that is not UTF-8", "refused: save it as UTF-8", names("names: [\xe9]".encode("latin-1")),
      None, "save the file as UTF-8"),
    Q("YOLO: obj.names, and labels beside the pictures (CVAT's YOLO 1.1, Darknet)", "read", darknet),
    Q("YOLO: a class beyond the names", "left out with a count", labels("0 0.5 0.5 0.25 0.5\n7 0.5 0.5 0.1 0.1"), SAME,
      "1 lines of a class without a name"),
    Q("YOLO: the class as 0.0", "read", labels("0.0 0.5 0.5 0.25 0.5")),
    Q("YOLO: the score of a prediction behind the box", "the box is read", labels("0 0.5 0.5 0.25 0.5 0.87")),
    Q("YOLO: a polygon", "read", labels(POLYGON), [("0.png", "Find every mug.", [CORNERS]), USUAL[1]]),
    Q("YOLO: boxes and polygons of one label in a file", "the boxes of both are read",
      labels(f"0 0.5 0.5 0.25 0.5\n{POLYGON}"),
      [("0.png", "Find every mug.", [FIRST, [16.0, 12.0, 32.0, 24.0]]), USUAL[1]]),
    Q("YOLO: an odd number of coordinates", "left out with a count", labels(POLYGON + " 0.5"), TWO,
      "1 lines that are neither a box nor a polygon"),
    Q("YOLO: keypoints behind the box (kpt_shape in data.yaml)", "the box is read, with a count",
      lambda f: [names("kpt_shape: [2, 3]\nnames: ['mug', 'spoons']\n")(f),
                 f.write(0, "0 0.5 0.5 0.25 0.5 0.4 0.4 2 0.6 0.6 1")], SAME,
      "2 files of labels with keypoints, of which the boxes are used"),
    Q("YOLO: a turned box of four corners (OBB)", "read as a polygon", labels("0 0.5 0.25 0.75 0.5 0.5 0.75 0.25 0.5"),
      [("0.png", "Find every mug.", [[32.0, 12.0, 48.0, 24.0, 32.0, 36.0, 16.0, 24.0]]), USUAL[1]]),
    Q("YOLO: pixels in place of 0 to 1", "refused: they are not 0 to 1",
      lambda f: [f.write(0, "0 32 24 16 24"), f.write(1, "1 16 12 32 24")], None,
      "they would fit as pixels of the picture"),
    Q("YOLO: commas between the numbers", "left out with a count", labels("0,0.5,0.5,0.25,0.5"), TWO,
      "1 lines that are not numbers"),
    Q("YOLO: nan for a number", "left out with a count", labels("0 nan 0.5 0.25 0.5"), TWO,
      "1 lines that are not numbers"),
    Q("YOLO: a box that reaches beyond its picture by a rounding", "cut at the edge",
      labels("1 0.2500001 0.25 0.5000003 0.5", 1)),
    Q("YOLO: a box without width", "left out with a count",
      lambda f: [f.write(0, "0 0.5 0.5 0 0.5"), f.write(1, SPOONS)], MANY,
      "1 rows with a box beyond its picture or without area"),
    Q("YOLO: one object twice", "counted once, with a count", labels("0 0.5 0.5 0.25 0.5\n" * 2), SAME,
      "1 objects that stand twice"),
    Q("YOLO: an empty file of labels (background)", "left out with a count", labels(""), TWO,
      "1 pictures without an object"),
    Q("YOLO: labels without a picture", "left out with a count", lambda f: (f.root / "images" / "0.png").unlink(), TWO,
      "1 label files without a picture"),
    Q("YOLO: a pointer of Git LFS in place of labels", "refused: `git lfs pull`", labels(LFS), None, "git lfs pull"),
    Q("YOLO: dots in the name (0_jpg.rf.8d1c.png)", "read", lambda f: f.rename("0_jpg.rf.8d1c"),
      [("0_jpg.rf.8d1c.png", *USUAL[0][1:]), USUAL[1]]),
    Q("YOLO: another case of the suffix (.PNG)", "read", lambda f: f.rename("0", ".PNG"),
      [("0.PNG", *USUAL[0][1:]), USUAL[1]]),
    Q("YOLO: a letter with an accent in two characters (macOS)", "read", accent,
      [USUAL[1], (unicodedata.normalize("NFD", "é") + ".png", *USUAL[0][1:])]),
    Q("YOLO: one label in two spellings (mug, Mugs)", "one query for both",
      lambda f: [names("names: [mug, spoons, Mugs]")(f), f.write(0, "0 0.5 0.5 0.25 0.5\n2 0.25 0.25 0.5 0.5")],
      [("0.png", "Find every mug.", [FIRST, SECOND]), USUAL[1]]),
    Q("YOLO: __MACOSX, ._*, .DS_Store and Thumbs.db in the folder", "passed over", mac_files),
    Q("YOLO: the archive was unpacked into a folder of its own", "read", nested),
)  # fmt: skip
VOC = (
    Q("VOC: byte order mark and declaration", "read",
      voc(b"\xef\xbb\xbf" + xml(item(), head='<?xml version="1.0" encoding="utf-8"?>\n').encode())),
    Q("VOC: UTF-16 with its declaration", "read",
      voc(xml(item(), head='<?xml version="1.0" encoding="UTF-16"?>\n').encode("utf-16"))),
    Q("VOC: blanks and line ends around a name and a number", "read",
      voc(xml(item(" mug\n").replace(">24<", ">\n 24.0 <")))),
    Q("VOC: the file name of another folder or machine", "found by the name of the XML file",
      voc(xml(item(), "C:\\photos\\zero.jpg"))),
    Q("VOC: the file name without a suffix", "found", voc(xml(item(), "0"))),
    Q("VOC: no size, or a size of 0", "read", voc(xml(item(), size=None))),
    Q("VOC: the size of another copy of the picture", "left out with a count",
      voc(xml(item(box=[12, 6, 20, 18]), size=(32, 24))), TWO,
      "1 pictures of another size than their annotation says"),
    Q("VOC: boxes that count from 1, as VOC's own files", "read from 0, with a count",
      from_one, SAME,
      "2 files whose boxes count pixels from 1"),
    Q("VOC: boxes of parts inside an object", "passed over",
      voc(xml(item(more="<part><name>lid</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax>"
                   "</bndbox></part>")))),
    Q("VOC: an object marked as difficult", "its label is not asked for, with a count",
      voc(xml(item() + item("cup", more="<difficult>1</difficult>"))), SAME, "1 objects marked as difficult"),
    Q("VOC: one label in two spellings (mug, Mug), of which one is difficult", "not asked for, with a count",
      voc(xml(item() + item("Mug", SECOND, "<difficult>1</difficult>"))), TWO, "1 objects marked as difficult"),
    Q("VOC: xmin and xmax exchanged", "left out with a count",
      exchanged, MANY, "1 rows with a box beyond its picture or without area"),
    Q("VOC: a turned box (roLabelImg)", "left out with a count", voc(xml(item() + item("cup", tag="robndbox"))), SAME,
      "1 objects without a name or box"),
    Q("VOC: an object without a name", "left out with a count", voc(xml(item() + item(""))), SAME,
      "1 objects without a name or box"),
    Q("VOC: no objects", "left out with a count", voc(xml("")), TWO, "1 pictures without an object"),
    Q("VOC: a namespace", "read", voc(xml(item(), root='<annotation xmlns="urn:x">'))),
    Q("VOC: XML of CVAT (<annotations>)", "left out with a count: another kind",
      voc('<annotations><image id="0" name="0.png"/></annotations>'), TWO, "1 XML files of another kind than VOC's"),
    Q("VOC: & in a name without an escape", "left out with a count", voc(xml(item("cup & saucer"))), TWO,
      "1 XML files that are malformed"),
    Q("VOC: a document type with an entity", "left out with a count: it may be harmful",
      voc('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>' + xml(item("&b;"))), TWO,
      "1 XML files with a document type or entities"),
    Q("VOC: a pointer of Git LFS in place of XML", "left out with a count: `git lfs pull`", voc(LFS), TWO,
      "git lfs pull"),
    Q("VOC: a picture of another format under its name", "read",
      lambda f: Image.new("CMYK", (64, 48)).save(f.root / "JPEGImages" / "0.png", "JPEG")),
    Q("VOC: __MACOSX, ._*, .DS_Store and Thumbs.db in the folder", "passed over", mac_files),
    Q("VOC: the archive was unpacked into a folder of its own", "read", nested),
)  # fmt: skip
QUIRKS = YOLO + VOC


@quirks.rows(QUIRKS)
def test_quirk(quirk, case, caplog):
    folder = (Folder if quirk in YOLO else VocFolder)(case)
    quirk.change(folder)
    quirks.check(quirk, folder.read, USUAL, caplog)


def test_the_folders_without_a_quirk(case):
    assert Folder(case).read() == (USUAL, "")
    (case.root / "voc").mkdir()
    case.root = case.root / "voc"
    assert VocFolder(case).read() == (USUAL, "")
