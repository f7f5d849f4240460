"""Videos with masks as YouTube-VIS, MeViS, ReVOS and DAVIS have them, and as mirrors and tools write them."""

import dataclasses
import json

import numpy as np
import pytest
import quirks
import referred_folders
from PIL import Image
from quirks import SAME, Quirk

from dtr1_jax.data.readers import davis, mevis, revos
from dtr1_jax.twin import masks

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
W, H = 64, 48


def rle(x):
    """A mask of 10 x 10 pixels from (x, 5) on."""
    mask = np.zeros((H, W), bool)
    mask[5:15, x : x + 10] = True
    found = masks.encode(mask)
    return {"size": found["size"], "counts": found["counts"].decode()}


class VideoList:
    """YouTube-VIS: a dog in two of three frames, and a cat in all."""

    usual = (
        ("Find every dog.", [[5], [20], []]),
        ("Find every cat.", [[40], [40], [40]]),
    )  # (query, left edges of the masks in each frame)

    def __init__(self, case):
        self.case, self.raw, self.folder = case, None, case.root / "JPEGImages" / "a"
        self.folder.mkdir(parents=True)
        for k in (0, 5, 10):
            Image.new("RGB", (W, H), (k, k, k)).save(self.folder / f"{k:05}.png")
        names = [f"a/{k:05}.png" for k in (0, 5, 10)]
        shared = {"video_id": 1, "iscrowd": 0}
        self.value = {
            "videos": [{"id": 1, "file_names": names, "width": W, "height": H, "length": 3}],
            "categories": [{"id": 3, "name": "dogs"}, {"id": 4, "name": "cat"}],
            "annotations": [
                {"id": 1, "category_id": 3, "segmentations": [rle(5), rle(20), None]} | shared,
                {"id": 2, "category_id": 4, "segmentations": [rle(40)] * 3} | shared,
            ],
        }

    def read(self):
        file = self.case.root / "instances.json"
        file.write_bytes(json.dumps(self.value).encode() if self.raw is None else self.raw)
        result = self.case.convert(file)
        found = []
        for line in result.lines:
            frames = [[masks.decode(one) for one in row if one] for row in line["rles"].values()]
            found.append((line["query"], [[int(np.nonzero(mask)[1].min()) for mask in row] for row in frames]))
        report = [text for text in result.text.splitlines() if text.startswith(("left out", "remark"))]
        return tuple(found), "\n".join(text for text in report if "not readable as split" not in text)

    def dog(self, **fields):
        self.value["annotations"][0].update(fields)


class Mevis:
    """A video with a sentence for one square, for two, and for none; (text, pixels of the targets of all frames)."""

    usual = (("the square that moves fast", 384), ("all squares", 640), ("a circle", 0))
    open = staticmethod(mevis.open_mevis_source)
    split = "valid_u"

    def __init__(self, case):
        self.root = self.opened = case.root / "set"
        self.root.mkdir()
        self.make()
        self.meta = json.loads(self.file.read_text())
        self.raw = None

    def make(self):
        referred_folders.write_mevis(self.root)
        self.part = self.root / "valid_u"
        self.file = self.part / "meta_expressions.json"

    @property
    def video(self):
        return self.meta["videos"]["a"]

    def read(self):
        if self.file.parent.is_dir():
            self.file.write_bytes(json.dumps(self.meta).encode() if self.raw is None else self.raw)
        source, found = self.open(str(self.opened), self.split, "segmentation"), []
        source = dataclasses.replace(source, frames=4)
        for i in range(len(source)):
            example = source[i]
            total = sum(int(example.whole.truth(k).target.sum()) for k in range(len(example.whole.numbers)))
            assert len(example.target.masks) == 4
            found.append((example.query, total))
        return tuple(found), ""

    def masks_file(self, change):
        """Changes the text of the file of masks."""
        file = self.part / "mask_dict.json"
        value = change(file.read_text())
        file.write_bytes(value if isinstance(value, bytes) else value.encode())

    def masks_of(self, lists):
        self.masks_file(lambda text: json.dumps(json.loads(text) | lists))


class Revos(Mevis):
    usual = (("query 0", 384), ("query 1", 384), ("query 2", 0))
    open = staticmethod(revos.open_revos_source)
    split = "valid"

    def make(self):
        self.part = referred_folders.write_revos(self.root)
        self.file = self.root / "meta_expressions_valid_.json"


class Davis:
    """A video of 12 frames with two squares; a second one is held out. Pixels of each object in 4 frames."""

    usual = (("camel", 12, 12, {"object": [256, 256]}),)

    def __init__(self, case):
        self.root = self.opened = case.root / "set"
        self.pictures, self.masks = "JPEGImages", "Annotations"
        for name, count in (("camel", 2), ("zebra", 1)):
            for t in range(12):
                mask = np.zeros((30, 40), np.uint8)
                for k in range(count):
                    mask[10 * k : 10 * k + 8, (2 * t, 30)[k] : (2 * t, 30)[k] + 8] = k + 1
                for part, values in (("JPEGImages", np.repeat(mask[..., None] * 60, 3, -1)), ("Annotations", mask)):
                    (self.root / part / name).mkdir(parents=True, exist_ok=True)
                    Image.fromarray(values).save(self.root / part / name / f"{t:05}.png")

    def read(self):
        source = davis.open_davis_source(str(self.opened), "train", "segmentation", seed=0, max_objects=7, frames=4)
        found = []
        for video, k in source.items:
            if k == 0:
                owner, labels = davis._load_frames(video, [0, 4, 7, len(video.frames) - 1])[1], {}
                for number in np.unique(owner[owner > 0]).tolist():
                    label = video.labels.get(number, "object")
                    labels.setdefault(label, []).append(int((owner == number).sum()))
                found.append((video.name, len(video.frames), sum(map(bool, video.masks)), labels))
        return tuple(found), ""

    def each(self, change, part="Annotations"):
        """Changes each picture of the first video: gives it and its number, and saves what comes back."""
        for file in sorted((self.root / part / "camel").iterdir()):
            image = Image.open(file)
            image.load()
            change(image, int(file.stem), file)


def coloured(f):
    def save(image, t, file):
        values = np.asarray(image)
        Image.fromarray(np.array([[0, 0, 0], [200, 0, 0], [0, 90, 250]], np.uint8)[values]).save(file)

    f.each(save)


def rename(form, part="Annotations"):
    return lambda f: f.each(lambda image, t, file: file.rename(file.with_name(form.format(t))), part)


def resized(w, h):
    return lambda f: f.each(lambda image, t, file: image.resize((w, h), Image.Resampling.NEAREST).save(file))


def padded(f):
    """A row and a column more at the end."""

    def save(image, t, file):
        Image.fromarray(np.pad(np.asarray(image), ((0, 1), (0, 1)))).save(file)

    f.each(save)


def white(f):
    def save(image, t, file):
        Image.fromarray(((np.asarray(image) == 1) * 255).astype(np.uint8)).save(file)

    f.each(save)


def void(f):
    def save(image, t, file):
        values = np.asarray(image).copy()
        values[20:] = 255
        Image.fromarray(values).save(file)

    f.each(save)


def jpeg(f):
    def save(image, t, file):
        image.save(file.with_suffix(".jpg"), quality=95)
        file.unlink()

    f.each(save)


def mac_files(f):
    folder = f.root / "JPEGImages"
    (folder / "__MACOSX" / "camel").mkdir(parents=True)
    (folder / "camel" / "._00000.png").write_bytes(b"\0\5\x16\7")
    (folder / "camel" / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0")
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (folder / "README.txt").write_text("videos")


def one_folder_deeper(f):
    inner = f.root / "DAVIS"
    inner.mkdir()
    for name in ("JPEGImages", "Annotations"):
        (f.root / name).rename(inner / name)


def every_second(f):
    f.each(lambda image, t, file: file.unlink() if t % 2 else None)


def upper_frames(f):
    for file in (f.part / "JPEGImages" / "a").iterdir():
        file.rename(file.with_suffix(".JPG"))


DOG, CAT = VideoList.usual
Q = Quirk
VIDEO_LISTS = (
    Q("YouTube-VIS: byte order mark", "read",
      lambda f: setattr(f, "raw", b"\xef\xbb\xbf" + json.dumps(f.value).encode())),
    Q("YouTube-VIS: ids as texts", "read", lambda f: f.dog(video_id="1", category_id="3")),
    Q("YouTube-VIS: backslashes in the names of frames", "read", lambda f: f.value["videos"][0].update(
        file_names=[f"a\\{k:05}.png" for k in (0, 5, 10)])),
    Q("YouTube-VIS: polygons in place of RLEs", "read",
      lambda f: f.dog(segmentations=[[[5, 5, 15, 5, 15, 15, 5, 15]], rle(20), None])),
    Q("YouTube-VIS: an empty list where an object is not there", "read",
      lambda f: f.dog(segmentations=[rle(5), rle(20), []])),
    Q("YouTube-VIS: an RLE with numbers as 10.0", "read", lambda f: f.dog(segmentations=[
        {"size": [48.0, 64.0], "counts": [245.0, *[10.0, 38.0] * 9, 10.0, 2385.0]}, rle(20), None])),
    Q("YouTube-VIS: an RLE with width and height exchanged", "left out with a count",
      lambda f: f.dog(segmentations=[{"size": [W, H], "counts": [0, W * H]}, rle(20), None]), (CAT,),
      "1 objects with masks of another size than their video"),
    Q("YouTube-VIS: fewer masks than frames", "its label is not asked for, with a count",
      lambda f: f.dog(segmentations=[rle(5)]), (CAT,), "1 objects without a mask for each frame, or crowds"),
    Q("YouTube-VIS: boxes without masks", "its label is not asked for, with a count",
      lambda f: [f.dog(bboxes=[[5, 5, 10, 10]] * 3), f.value["annotations"][0].pop("segmentations")], (CAT,),
      "1 objects without a mask for each frame, or crowds"),
    Q("YouTube-VIS: a crowd", "its label is not asked for, with a count", lambda f: f.dog(iscrowd=1), (CAT,),
      "1 objects without a mask for each frame, or crowds"),
    Q("YouTube-VIS: one label in two spellings (dogs, Dogs)", "one query for both",
      lambda f: f.value["categories"][1].update(name="Dogs"), (("Find every dog.", [[5, 40], [20, 40], [40]]),),
      "1 categories whose name differs from another one in case or blanks"),
    Q("YouTube-VIS: frames in another order than their names", "left out with a count",
      lambda f: f.value["videos"][0]["file_names"].reverse(), None,
      "1 videos whose frames are not in the order of their names"),
    Q("YouTube-VIS: a frame is not there", "left out with a count", lambda f: (f.folder / "00005.png").unlink(), None,
      "1 videos with missing frames"),
    Q("YouTube-VIS: hidden files and Thumbs.db among the frames", "passed over", lambda f: [
        (f.folder / name).write_bytes(b"\0\5") for name in ("._00000.png", ".DS_Store", "Thumbs.db")]),
    Q("YouTube-VIS: frames in train/JPEGImages", "read", lambda f: [
        (f.case.root / "train").mkdir(), (f.case.root / "JPEGImages").rename(f.case.root / "train" / "JPEGImages")]),
    Q("YouTube-VIS: a split without annotations", "refused: such splits have none",
      lambda f: f.value.update(annotations=None), None, "the files of its valid and test splits have none"),
)  # fmt: skip
MEVIS = (
    Q("MeViS: byte order mark and Windows line ends", "read", lambda f: setattr(
        f, "raw", b"\xef\xbb\xbf" + json.dumps(f.meta, indent=1).replace("\n", "\r\n").encode())),
    Q("MeViS: anno_id as texts", "read", lambda f: f.video["expressions"]["1"].update(anno_id=["7", "12"])),
    Q("MeViS: anno_id as one number", "read", lambda f: f.video["expressions"]["0"].update(anno_id=7)),
    Q("MeViS: an anno_id twice", "read once", lambda f: f.video["expressions"]["0"].update(anno_id=[7, 7])),
    Q("MeViS: an anno_id without masks", "left out with a count",
      lambda f: f.video["expressions"]["1"].update(anno_id=[7, 99]), (Mevis.usual[0], Mevis.usual[2]),
      "1 sentences whose anno_id has no masks"),
    Q("MeViS: a sentence without text", "left out with a count", lambda f: f.video["expressions"]["2"].update(exp=" "),
      Mevis.usual[:2], "1 sentences without text"),
    Q("MeViS: expressions as a list", "left out with a count",
      lambda f: f.video.update(expressions=list(f.video["expressions"].values())), None,
      "1 videos without expressions"),
    Q("MeViS: mask_dict.json with indents", "read",
      lambda f: f.masks_file(lambda text: json.dumps(json.loads(text), indent=2))),
    Q("MeViS: a list of RLEs in place of an RLE", "their union is read",
      lambda f: f.masks_of({"7": [[one] for one in referred_folders.ONE]})),
    Q("MeViS: fewer masks than frames", "the example is skipped",
      lambda f: f.masks_of({"7": referred_folders.ONE[:4]}), None,
      "expected one for each of the 6 frames, got 4"),
    Q("MeViS: mask_dict.json is a pointer of Git LFS", "refused: `git lfs pull`",
      lambda f: f.masks_file(lambda text: LFS), None, "git lfs pull"),
    Q("MeViS: frames with the suffix .JPG", "read", upper_frames),
    Q("MeViS: frames listed with their suffix", "read",
      lambda f: f.video.update(frames=[f"{name}.jpg" for name in f.video["frames"]])),
    Q("MeViS: a frame is listed twice", "left out with a count",
      lambda f: f.video["frames"].__setitem__(1, f.video["frames"][0]), None, "1 videos that list a frame twice"),
    Q("MeViS: a folder MeViS/ between", "read", lambda f: [
        f.file.write_text(json.dumps(f.meta)), (f.root / "MeViS").mkdir(), f.part.rename(f.root / "MeViS/valid_u")]),
    Q("MeViS: the split valid, whose masks are not public", "refused: take valid_u", lambda f: [
        f.file.write_text(json.dumps(f.meta)), (f.part / "mask_dict.json").unlink(), f.part.rename(f.root / "valid"),
        setattr(f, "split", "valid")], None, "its masks are on the benchmark's server alone"),
)  # fmt: skip
REVOS = (
    Q("ReVOS: type_id as a text", "read", lambda f: f.video["expressions"]["1"].update(type_id="1")),
    Q("ReVOS: a type_id that is none", "left out with a count",
      lambda f: f.video["expressions"]["1"].update(type_id=9), (Revos.usual[0], Revos.usual[2]),
      "1 queries without a type_id from 0 to 2"),
    Q("ReVOS: mask_dict_foreground.json is not there", "read without the robustness R, with a warning",
      lambda f: (f.root / "mask_dict_foreground.json").unlink(), SAME, "the robustness R is not computed"),
)  # fmt: skip
NAMED = (("camel", 12, 12, {"camel": [256], "rider": [256]}),)
DAVIS = (
    Q("DAVIS: frames and masks in a folder 480p", "read", lambda f: [
        [(f.root / part).rename(f.root / "x"), (f.root / part).mkdir(), (f.root / "x").rename(f.root / part / "480p")]
        for part in ("JPEGImages", "Annotations")]),
    Q("DAVIS: the folders images and masks", "read", lambda f: [
        (f.root / "JPEGImages").rename(f.root / "images"), (f.root / "Annotations").rename(f.root / "masks")]),
    Q("DAVIS: masks with another padding (0.png for 00000.jpg)", "read", rename("{}.png")),
    Q("DAVIS: frames without padding (1, 2, 10)", "read in the order of the numbers", rename("{}.png", "JPEGImages")),
    Q("DAVIS: masks with a word in front (mask_3.png)", "read", rename("mask_{}.png")),
    Q("DAVIS: masks with colours", "each colour is an object", coloured),
    Q("DAVIS: masks with 0 and 255", "one object", white, (("camel", 12, 12, {"object": [256]}),)),
    Q("DAVIS: 255 beside objects", "background", void),
    Q("DAVIS: masks a pixel larger than the frames", "resized", padded),
    Q("DAVIS: masks of another size", "the example is skipped", resized(80, 60), None,
      "expected a mask of the frame's size, 40 x 30 pixels, got 80 x 60"),
    Q("DAVIS: JPEG masks", "left out with a count: save them as PNG", jpeg,
      (("zebra", 9, 9, {"object": [256]}),), "its masks are JPEG"),
    Q("DAVIS: masks of every second frame", "read; the other frames are not scored", every_second,
      (("camel", 12, 6, {"object": [128, 128]}),)),
    Q("DAVIS: a pointer of Git LFS in place of a frame", "the example is skipped: `git lfs pull`",
      lambda f: (f.root / "JPEGImages" / "camel" / "00000.png").write_bytes(LFS), None, "git lfs pull"),
    Q("DAVIS: labels.json", "the labels are read", lambda f: (f.root / "labels.json").write_text(
        json.dumps({"camel": {"1": "camel", "2": "rider"}})), NAMED),
    Q("DAVIS: labels.json in another form", "refused: its form", lambda f: (f.root / "labels.json").write_text(
        json.dumps({"camel": ["camel", "rider"]})), None, 'expected {"NAME": {"1": "label", ...}, ...}'),
    Q("DAVIS: __MACOSX, ._*, .DS_Store, Thumbs.db and a README among the videos", "passed over", mac_files),
    Q("DAVIS: the archive was unpacked into a folder of its own", "refused: the folder to take", one_folder_deeper,
      None, "/set/DAVIS, which has them"),
)  # fmt: skip
FAMILIES = ((VIDEO_LISTS, VideoList), (MEVIS, Mevis), (REVOS, Revos), (DAVIS, Davis))
QUIRKS = tuple(quirk for table, _ in FAMILIES for quirk in table)


@quirks.rows(QUIRKS)
def test_quirk(quirk, case, caplog):
    quirks.check_family(quirk, FAMILIES, case, caplog)


@pytest.mark.parametrize("kind", [kind for _, kind in FAMILIES])
def test_the_data_sets_without_a_quirk(case, kind):
    assert kind(case).read() == (kind.usual, "")
