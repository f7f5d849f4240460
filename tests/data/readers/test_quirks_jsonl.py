"""JSON lines as people write them by hand, with scripts, and from the files of other tools."""

import gzip
import json

import numpy as np
import quirks
from PIL import Image
from quirks import SAME, Quirk

from dtr1_jax.data.readers import jsonl, jsonl_fields

W, H = 20, 10
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
RED, COUNT = "what is red", "how many cups?"
# (query, task, x1, y1, x2, y2 in pixels of each object, pixels of the mask, answers)
USUAL = [(RED, "segmentation", [[0, 0, 5, 10]], 50, ()), (COUNT, "vqa", [], 0, ("2", "two"))]


class Lines:
    """A line with boxes and a line with answers about a picture of 20 x 10 pixels."""

    def __init__(self, root):
        self.root = root
        Image.new("RGB", (W, H), "white").save(root / "a.png")
        Image.new("RGB", (W, H), "red").save(root / "b.png")
        box = {"image": "a.png", "query": RED, "boxes": [[0, 0, 5, 10]], "split": "train"}
        words = {"image": "b.png", "query": COUNT, "task": "vqa", "answers": ["2", "two"], "split": "train"}
        self.rows, self.raw = [box, words], None

    def text(self, between="\n"):
        return between.join(map(json.dumps, self.rows))

    def read(self):
        file = self.root / "data.jsonl"
        file.write_bytes(self.text().encode() if self.raw is None else self.raw)
        found = []
        for example in jsonl.open_jsonl_source(str(file), "train", "segmentation", max_objects=7):
            boxes = (example.target.boxes * [W, H, W, H]).round(3).tolist()
            target = example.target
            found.append((example.query, example.task, boxes, int(target.mask.sum()), target.references))
        return found, ""


def raw(make):
    return lambda c: setattr(c, "raw", make(c))


def first(**fields):
    return lambda c: c.rows[0].update(fields)


def second(**fields):
    return lambda c: c.rows[1].update(fields)


def target(field, value, before=None):
    """Another form of the target of the first line."""

    def change(c):
        if before:
            before(c.root)
        del c.rows[0]["boxes"]
        c.rows[0][field] = value

    return change


def renamed(old, new, row=0):
    return lambda c: c.rows[row].update({new: c.rows[row].pop(old)})


def moved(named, stored):
    """The first line names its picture in a way of its own."""

    def change(c):
        (c.root / stored).parent.mkdir(exist_ok=True)
        (c.root / "a.png").rename(c.root / stored)
        c.rows[0]["image"] = named

    return change


def mask(pixels, mode="L", size=(W, H)):
    """Writes a mask of the left quarter."""

    def write(root):
        image = Image.new(mode, size)
        image.paste(pixels, (0, 0, 5, 10))
        image.save(root / "m.png")

    return write


def turned(c):
    """The picture is stored turned, as a phone does."""
    image = Image.new("RGB", (H, W), "white")
    tags = image.getexif()
    tags[274] = 6
    image.save(c.root / "a.jpg", exif=tags)
    c.rows[0]["image"] = "a.jpg"


Q = Quirk
QUIRKS = (
    Q("byte order mark and Windows line ends", "read", raw(lambda c: b"\xef\xbb\xbf" + c.text("\r\n").encode())),
    Q("UTF-16, as PowerShell writes it", "read", raw(lambda c: c.text().encode("utf-16"))),
    Q("blank lines between and at the end", "read", raw(lambda c: (c.text("\n\n \n") + "\n\n").encode())),
    Q("one JSON list in place of lines", "refused: one object a line", raw(lambda c: json.dumps(c.rows).encode()), None,
      "one JSON list of 2; write each of its objects on a line of its own"),
    Q("objects with indents, over several lines", "refused: one object a line",
      raw(lambda c: "\n".join(json.dumps(row, indent=2) for row in c.rows).encode()), None,
      "JSON objects over several lines; write each on one line"),
    Q("a comma behind each line", "refused: the lines", raw(lambda c: c.text(",\n").encode()), None, "data.jsonl:1"),
    Q("a comma before a closing bracket", "refused: the comma", raw(lambda c: (c.text()[:-1] + ",}").encode()), None,
      'data.jsonl:2: expected JSON, got a malformed line: a comma stands before "}"'),
    Q("a comment (// ...)", "refused: the line", raw(lambda c: b"// made by hand\n" + c.text().encode()), None,
      "data.jsonl:1: expected JSON"),
    Q("quotation marks of Python ('image')", "refused: the line",
      raw(lambda c: "\n".join(map(str, c.rows)).encode()), None, "data.jsonl:1: expected JSON"),
    Q("lines that are JSON inside a text", "refused: an object was expected",
      raw(lambda c: "\n".join(json.dumps(json.dumps(row)) for row in c.rows).encode()), None,
      "data.jsonl:1: expected a JSON object, got"),
    Q("the file breaks off", "refused: the last line", raw(lambda c: c.text().encode()[:-20]), None, "data.jsonl:2"),
    Q("NaN for a missing number (pandas)", "refused: the line", first(boxes=[[0, 0, float("nan"), 10]]), None,
      "data.jsonl:1: expected JSON, got a malformed line: expected a number, got NaN"),
    Q("a gzip archive", "refused: unpack it", raw(lambda c: gzip.compress(c.text().encode())), None,
      "a gzip archive; unpack it"),
    Q("a pointer of Git LFS", "refused: `git lfs pull`", raw(lambda c: LFS), None, "git lfs pull"),
    Q("a table of text (CSV)", "refused: a JSON object for each row",
      raw(lambda c: b"image,query,x1,y1,x2,y2\na.png,red,0,0,5,10\n"), None, "a table of text (CSV)"),
    Q("a backslash between folder and name", "read", moved("p\\a.png", "p/a.png")),
    Q("%20 for a blank in a name", "read", moved("a%20b.png", "a b.png")),
    Q("another case of the suffix (.PNG)", "read", moved("a.PNG", "a.png")),
    Q("a query string behind the name (a.png?v=2)", "read", first(image="a.png?v=2")),
    Q("an address on the web", "refused: download the file", first(image="https://a.b/a.png"), None,
      "download the file first"),
    Q("an address of a file (file:///a.png)", "refused: write the path", first(image="file:///a.png"), None,
      "write the path without file://"),
    Q("a picture in base64 (data:image/png;base64,...)", "refused: `--mode=convert`",
      first(image="data:image/png;base64,iVBORw0KGgo"), None, "--mode=convert writes such pictures to files"),
    Q("a path of Windows (C:\\photos\\a.png)", "refused: a path on this machine", first(image="C:\\photos\\a.png"),
      None, "image: expected a path on this machine"),
    Q("a picture as an object with bytes and path", "refused: a path was expected",
      first(image={"path": "a.png", "bytes": None}), None, "image: expected a path or a list of 1 to 16 paths"),
    Q("a picture in a list of one", "read", first(image=["a.png"])),
    Q("a picture that is not there", "the example is skipped", first(image="no.png"), None, "no such file"),
    Q("a photo with an EXIF rotation", "boxes are of the upright photo", turned),
    Q("<image> in the query, as LLaVA has it", "refused: remove it", first(query="<image>\nwhat is red"), None,
      "query: expected the user's words, got the marker <image>; remove it"),
    Q("one box without its outer list", "refused: put it into a list", first(boxes=[0, 0, 5, 10]), None,
      "put it into a list of its own"),
    Q("boxes as [x, y, width, height]", "refused: write corners", first(boxes=[[10, 4, 5, 6]]), None,
      "which looks like [x, y, width, height]"),
    Q("boxes from 0 to 1", "refused: coordinates in pixels", first(boxes=[[0, 0, 0.25, 1]]), None,
      "which looks normalised"),
    Q("boxes from 0 to 1000", "cut at the edges, with a warning", first(boxes=[[0, 0, 250, 1000]]),
      [(RED, "segmentation", [[0, 0, 20, 10]], 200, ()), USUAL[1]], "not 0 to 1000 or pixels of a larger copy?"),
    Q("boxes as objects with x1, y1, x2, y2", "refused: four numbers",
      first(boxes=[{"x1": 0, "y1": 0, "x2": 5, "y2": 10}]), None, "an object with x1, y1, x2, y2"),
    Q("boxes as texts", "refused: numbers in pixels", first(boxes=[["0", "0", "5", "10"]]), None,
      "boxes: expected a list of [x1, y1, x2, y2] in pixels"),
    Q("a box without area", "refused", first(boxes=[[5, 0, 5, 10]]), None, "with x1 < x2 and y1 < y2, got [5, 0, 5"),
    Q("polygons as lists of points", "refused: [x, y, x, y, ...]", target("polygons", [[[0, 0], [5, 0], [5, 10]]]),
      None, "polygons: expected a list of [x, y, x, y, ...]"),
    Q("a polygon that is closed twice", "read", target("polygons", [[0, 0, 5, 0, 5, 10, 0, 10, 0, 0, 0, 0]])),
    Q("an RLE with numbers as 10.0 and a size in texts", "read",
      target("rle", {"size": ["10", "20"], "counts": [0.0, 50.0, 150.0]})),
    Q("an RLE with width and height exchanged", "the example is skipped: the size of the picture",
      target("rle", {"size": [W, H], "counts": [0, 50, 150]}), None, "expected the size of the picture, 20 x 10"),
    Q("a mask with values 0 and 1, or 0 and 255", "read", target("mask", "m.png", mask(1))),
    Q("a mask with a transparent background", "read", target("mask", "m.png", mask((9, 9, 9, 255), "RGBA"))),
    Q("a mask of another size", "the example is skipped: the size of the picture",
      target("mask", "m.png", mask(255, size=(40, 20))), None, "expected the size of the picture, 20 x 10"),
    Q("the key bbox", 'refused: write "boxes"', renamed("boxes", "bbox"), None, 'write "boxes"'),
    Q("the keys question and answer", 'refused: write "query"', renamed("query", "question", 1), None,
      'write "query"'),
    Q("a key that stands twice", "refused", raw(lambda c: c.text().replace('"query"', '"image"', 1).encode()), None,
      "'image' stands twice in one object"),
    Q("keys of another program beside ours", "read, with a count", first(source="coco", width=20), SAME,
      "2 unknown fields are not used: 'source' (1 lines)"),
    Q("answers as one text", "refused: a list", second(answers="2"), None, "answers: expected a list"),
    Q("answers as numbers", "refused: strings", second(answers=[2]), None, "answers: expected a list"),
    Q("the letter of a choice for an answer", "refused: the words of the choice",
      second(answers=["A"], choices=["2", "3"]), None, "among them the answers"),
    Q("a task in capitals (VQA)", "refused: the names of the tasks", second(task="VQA"), None, "task: expected one of"),
    Q("two lines with one id", "refused: the lines", lambda c: [row.update(id="x") for row in c.rows], None,
      "expected a name that no other line has"),
    Q("an id that is a number", "read", first(id=17)),
    Q("a split in some lines alone", "refused", lambda c: c.rows[1].pop("split"), None, "in every line or in none"),
)  # fmt: skip


@quirks.rows(QUIRKS)
def test_quirk(quirk, tmp_path, caplog):
    jsonl_fields._WARNED.clear()  # it warns once for each name of a file
    lines = Lines(tmp_path)
    quirk.change(lines)
    quirks.check(quirk, lines.read, USUAL, caplog)


def test_the_lines_without_a_quirk(tmp_path):
    assert Lines(tmp_path).read() == (USUAL, "")
    assert np.asarray(Image.open(tmp_path / "a.png")).shape == (H, W, 3)
