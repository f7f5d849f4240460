"""Files in COCO's form as Roboflow, CVAT, Label Studio, Datumaro, VIA and others write them."""

import dataclasses
import json
import unicodedata

import coco_folders
import numpy as np
import quirks
from PIL import Image
from quirks import SAME, Quirk

from dtr1_jax.data.readers import coco, coco_index, coco_pixels
from dtr1_jax.twin import masks

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
# (picture, label) -> the box of its mask, x1, y1, x2, y2 in pixels, and the number of its pixels.
USUAL = {
    ("1.png", "dog"): ((4, 6, 14, 16), 100),
    ("1.png", "cat"): ((20, 5, 30, 25), 200),
    ("2.png", "dog"): ((2, 2, 12, 8), 60),
}


def without(*keys):
    return {key: value for key, value in USUAL.items() if key not in keys}


class Folder:
    """Two photos with three objects; the quirks change `value` or the files."""

    def __init__(self, root):
        shape = coco_folders.rectangle
        notes = [
            coco_folders.note(shape(4, 6, 14, 16), 2, 1, number=1),
            coco_folders.note(shape(20, 5, 30, 25), 3, 1, number=2),
            coco_folders.note(shape(2, 2, 12, 8), 2, 2, number=3),
        ]
        for note, box in zip(notes, ([4, 6, 10, 10], [20, 5, 10, 20], [2, 2, 10, 6])):
            note |= {"bbox": box, "area": box[2] * box[3]}
        self.root = coco_folders.write_coco_folder(root, notes, pictures=2)
        self.file = root / "annotations" / "instances_train2017.json"
        self.photos = root / "train2017"
        self.value = json.loads(self.file.read_text())
        self.raw, self.opened, self.task = None, root, "segmentation"

    def read(self):
        if self.file.parent.is_dir():
            self.file.write_bytes(json.dumps(self.value).encode() if self.raw is None else self.raw)
        source = coco.open_coco_source(str(self.opened), "train", self.task, seed=0, max_objects=7)
        file, found = source.annotations, {}
        for picture in file.pictures:
            pixels = coco_pixels.load_pixels(file.path, picture)
            for label, mask in pixels.objects:
                ys, xs = np.nonzero(mask)
                key = picture.file.rpartition("/")[2].rpartition("\\")[2], label
                found[key] = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1), int(mask.sum())
        assert len(source[0].scene) <= 2
        return found, ""

    def text(self):
        return json.dumps(self.value)

    def images(self, **fields):
        for record in self.value["images"]:
            record |= fields

    def rename(self, named, stored="1.png"):
        """The file names a photo in a way of its own."""
        self.value["images"][0]["file_name"] = named
        if stored != "1.png":
            (self.photos / stored).parent.mkdir(parents=True, exist_ok=True)
            (self.photos / "1.png").rename(self.photos / stored)

    def shape(self, value, **fields):
        """Another outline of the dog of the first photo."""
        self.value["annotations"][0] |= {"segmentation": value} | fields

    def boxes_only(self, *boxes):
        """Annotations without an outline, for grounding."""
        self.task = "grounding"
        for note, box in zip(self.value["annotations"], boxes):
            note |= {"segmentation": [], "bbox": box}


def all_notes(**fields):
    return lambda f: [note.update(fields) for note in f.value["annotations"]]


def save_as(write):
    """The first photo is saved in another form."""
    return lambda f: write(f.photos / "1.png", Image.open(f.photos / "1.png"))


def ids_as(kind):
    def change(f):
        for record in f.value["images"] + f.value["annotations"] + f.value["categories"]:
            for key in ("id", "image_id", "category_id", "width", "height", "iscrowd"):
                if key in record:
                    record[key] = kind(record[key])

    return change


def brush_masks(f):
    for note, (x1, y1, x2, y2) in zip(f.value["annotations"], [(4, 6, 14, 16), (20, 5, 30, 25), (2, 2, 12, 8)]):
        mask = np.zeros((30, 40), bool)
        mask[y1:y2, x1:x2] = True
        rle = masks.encode(mask)
        note |= {"iscrowd": 1, "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()}}


def nfd(f):
    f.rename(unicodedata.normalize("NFD", "é.png"), unicodedata.normalize("NFC", "é.png"))


def mac_files(f):
    (f.root / "annotations" / "._instances_train2017.json").write_bytes(b"\0\5\x16\7")
    (f.root / "__MACOSX").mkdir()
    (f.root / "__MACOSX" / "._train2017").write_bytes(b"\0\5\x16\7")
    (f.photos / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (f.photos / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")


def nested(f):
    inner = f.root / "export" / "my-project"
    inner.mkdir(parents=True)
    for name in ("annotations", "train2017"):
        (f.root / name).rename(inner / name)


def exif(f):
    """The first photo is stored turned, and the sizes are those that a viewer shows."""
    image = Image.new("RGB", (30, 40), "grey")
    tags = image.getexif()
    tags[274] = 6
    image.save(f.photos / "1.jpg", exif=tags)
    f.value["images"][0]["file_name"] = "1.jpg"


def same_label(*names):
    """More categories, and the dog of the second photo is of the last of them."""

    def change(f):
        f.value["categories"] += [{"id": 10 + i, "name": name} for i, name in enumerate(names)]
        f.value["annotations"][2]["category_id"] = 9 + len(names)

    return change


def gif(path, image):
    frames = [Image.new("P", image.size, i) for i in range(3)]
    frames[0].save(path, "GIF", save_all=True, append_images=frames[1:])


Q = Quirk
QUIRKS = (
    Q("byte order mark and Windows line ends", "read",
      lambda f: setattr(f, "raw", b"\xef\xbb\xbf" + json.dumps(f.value, indent=1).replace("\n", "\r\n").encode())),
    Q("UTF-16, as PowerShell writes it", "read", lambda f: setattr(f, "raw", f.text().encode("utf-16"))),
    Q("a comma before the closing bracket", "refused: the line of the comma",
      lambda f: setattr(f, "raw", (f.text()[:-1] + ",}").encode()), None, 'a comma stands before "}" in line 1'),
    Q("NaN for a missing number (pandas)", "refused: a number was expected",
      lambda f: f.value["annotations"][0].update(area=float("nan")), None, "expected a number, got NaN"),
    Q("a pointer of Git LFS in place of the JSON file", "refused: `git lfs pull`",
      lambda f: setattr(f, "raw", LFS), None, "git lfs pull"),
    Q("ids, sizes and iscrowd as texts", "read", ids_as(str)),
    Q("ids and sizes as 1.0 (pandas)", "read", ids_as(float)),
    Q("a backslash between folder and name", "read", lambda f: f.rename("a\\1.png", "a/1.png")),
    Q("%20 for a blank in a name", "read", lambda f: f.rename("a%20b.png", "a b.png"),
      {("a%20b.png", key[1]) if key[0] == "1.png" else key: value for key, value in USUAL.items()}),
    Q("a query string behind the name (1.png?width=640)", "read", lambda f: f.rename("1.png?width=640"),
      {("1.png?width=640", key[1]) if key[0] == "1.png" else key: value for key, value in USUAL.items()}),
    Q("a letter with an accent in two characters (macOS)", "read", nfd,
      {(unicodedata.normalize("NFD", "é.png"), k[1]) if k[0] == "1.png" else k: v for k, v in USUAL.items()}),
    Q("a path of the server (../../upload/3/1.png)", "read by the last part, with a count",
      lambda f: f.rename("../../upload/3/1.png"), SAME, "1 pictures whose path leads out of the folder"),
    Q("an address for a file name", "left out with a count: download them",
      lambda f: f.rename("https://a.b/1.png"), without(("1.png", "dog"), ("1.png", "cat")),
      "1 pictures with an address for a file name (download them)"),
    Q("width and height are missing (VIA)", "left out with a count",
      lambda f: [f.value["images"][0].pop(key) for key in ("width", "height")],
      without(("1.png", "dog"), ("1.png", "cat")), "1 pictures without id, file_name, width or height"),
    Q("the photo has another size than the file says", "the example is skipped: take the file that was annotated",
      lambda f: Image.new("RGB", (80, 60)).save(f.photos / "1.png"), None, "expected 40 x 30 pixels, the size in"),
    Q("a photo with an EXIF rotation", "read upright, as it was annotated", exif,
      {("1.jpg", key[1]) if key[0] == "1.png" else key: value for key, value in USUAL.items()}),
    Q("a CMYK JPEG under the name of a PNG", "read",
      save_as(lambda path, image: image.convert("CMYK").save(path, "JPEG"))),
    Q("a grey PNG of 16 bits", "read", save_as(lambda path, image: Image.new("I;16", image.size, 700).save(path))),
    Q("an animated GIF", "its first frame is read", save_as(gif)),
    Q("a pointer of Git LFS in place of a photo", "the example is skipped: `git lfs pull`",
      lambda f: (f.photos / "1.png").write_bytes(LFS), None, "git lfs pull"),
    Q("a web page in place of a photo", "the example is skipped: fetch it again",
      lambda f: (f.photos / "1.png").write_bytes(b"<!DOCTYPE html><html>403</html>"), None, "a web page"),
    Q("iscrowd, area, supercategory and licences are missing", "read",
      lambda f: [record.pop(key, 0) for record in f.value["annotations"] for key in ("iscrowd", "area")]),
    Q("iscrowd as false", "read", all_notes(iscrowd=False)),
    Q("iscrowd 1 at brush masks of single objects (CVAT)", "read as objects, with a count", brush_masks, SAME,
      "3 annotations with iscrowd 1 are read as single objects"),
    Q("an RLE with width and height exchanged", "left out with a count",
      lambda f: f.shape({"size": [40, 30], "counts": [1200]}), without(("1.png", "dog")),
      "1 RLEs of another size than their picture"),
    Q("a polygon without its outer list", "read", lambda f: f.shape(coco_folders.rectangle(4, 6, 14, 16)[0])),
    Q("a polygon as a list of points", "read", lambda f: f.shape([[4, 6], [14, 6], [14, 16], [4, 16]])),
    Q("a polygon in one list too many", "read", lambda f: f.shape([coco_folders.rectangle(4, 6, 14, 16)])),
    Q("a polygon as an object ({\"points\": ...})", "left out with a count",
      lambda f: f.shape({"points": [[4, 6], [14, 6], [14, 16]]}), without(("1.png", "dog")),
      "1 annotations without polygons, RLE or box"),
    Q("the first point again at the end, and once more", "read",
      lambda f: f.shape([[4, 6, 14, 6, 14, 16, 4, 16, 4, 6, 4, 6]])),
    Q("a polygon of two points", "left out with a count", lambda f: f.shape([[4, 6, 14, 16]]),
      without(("1.png", "dog")), "1 polygons of fewer than 3 points"),
    Q("a polygon that reaches beyond the photo", "cut at its edge",
      lambda f: f.shape(coco_folders.rectangle(-5, -5, 14, 16)), USUAL | {("1.png", "dog"): ((0, 0, 14, 16), 224)}),
    Q("coordinates from 0 to 1", "left out with a count: coordinates are in pixels",
      lambda f: f.shape([[0.1, 0.2, 0.35, 0.2, 0.35, 0.5]]), without(("1.png", "dog")), "which look normalised"),
    Q("boxes as texts", "read", lambda f: f.boxes_only(*[["4", "6", "10", "10"], [20, 5, 10, 20], [2, 2, 10, 6]]),
      SAME, "3 of 3 annotations have no outline"),
    Q("a box with a negative corner", "cut at the edge",
      lambda f: f.boxes_only([-2, -2, 16, 18], [20, 5, 10, 20], [2, 2, 10, 6]),
      USUAL | {("1.png", "dog"): ((0, 0, 14, 16), 224)}, "3 of 3 annotations have no outline"),
    Q("a box without area", "left out with a count",
      lambda f: f.boxes_only([4, 6, 0, 10], [20, 5, 10, 20], [2, 2, 10, 6]), without(("1.png", "dog")),
      "1 boxes without area in the picture"),
    Q("boxes as [x1, y1, x2, y2]", "refused: write [x, y, width, height]",
      lambda f: f.boxes_only([4, 6, 14, 16], [20, 5, 30, 25], [2, 2, 12, 8]), None, "look like [x1, y1, x2, y2]"),
    Q("category 0", "read", lambda f: [
        f.value["categories"][1].update(id=0), f.value["annotations"][0].update(category_id=0),
        f.value["annotations"][2].update(category_id=0)]),
    Q("a category without a name", "left out with a count", lambda f: f.value["categories"][2].pop("name"),
      without(("1.png", "cat")), "1 annotations of no known category"),
    Q("one label with two ids", "read as one label", same_label("dog")),
    Q("one label in two spellings (dog, Dog, \"dog \")", "read as one label, with a count", same_label("Dog", "dog "),
      SAME, "2 categories whose name differs from another one in case or blanks"),
    Q("annotations of a photo that the file does not list", "left out with a count",
      lambda f: f.value["annotations"].append(coco_folders.note([[1, 1, 9, 1, 9, 9]], image=77)), SAME,
      "1 annotations that refer to no image"),
    Q("a photo without annotations", "left out with a count", lambda f: f.value["annotations"].pop(),
      without(("2.png", "dog")), "1 pictures without a usable annotation"),
    Q("__MACOSX, ._*, .DS_Store and Thumbs.db in the folder", "passed over", mac_files),
    Q("the archive was unpacked into folders of its own", "refused: the folder to take", nested, None,
      "such files in export/my-project; set data.root to"),
    Q("annotations as an object by id", "refused: a list was expected",
      lambda f: f.value.update(annotations={"1": f.value["annotations"][0]}), None, 'got no list "annotations"'),
)  # fmt: skip


@quirks.rows(QUIRKS)
def test_quirk(quirk, tmp_path, caplog):
    folder = Folder(tmp_path)
    quirk.change(folder)
    quirks.check(quirk, folder.read, USUAL, caplog)


def test_the_data_set_without_a_quirk(tmp_path):
    assert Folder(tmp_path).read() == (USUAL, "")


# Outside the fields that are used, an index does not see faults of the JSON.
PASSED_OVER = ("a comma before the closing bracket", "NaN for a missing number (pandas)")


@quirks.rows(QUIRKS)
def test_quirk_in_a_large_file(quirk, tmp_path, caplog, monkeypatch):
    """The same values and refusals where the file is read by its index."""
    monkeypatch.setattr(coco_index, "LARGE", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = Folder(tmp_path)
    quirk.change(folder)
    if quirk.name in PASSED_OVER:
        quirk = dataclasses.replace(quirk, values=SAME, says="")
    quirks.check(quirk, folder.read, USUAL, caplog, "it is read as a whole")
