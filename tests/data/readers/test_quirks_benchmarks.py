"""Public benchmarks as their mirrors, archives and editors leave them: RefCOCO, ReasonSeg, VQAv2, GQA and others."""

import csv
import dataclasses
import json
import pathlib
import pickle

import pytest
import quirks
import refcoco_folders
import worded_folders
from PIL import Image
from quirks import SAME, Quirk

from dtr1_jax.data.readers import clevr, coco_captions, gqa, nextqa, reasonseg, refcoco, vqav2

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


class Folder:
    """A benchmark with a few queries; the quirks change the JSON values in `files` (path -> value), or the files."""

    split, task, frames = "val", "vqa", 0

    def __init__(self, root):
        self.root, self.files = root, {}
        self.make()

    def load(self, name):
        self.files[name] = json.loads((self.root / name).read_text())
        return self.files[name]

    def read(self):
        for name, value in self.files.items():
            (self.root / name).write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
        found = []
        source = dataclasses.replace(self.open(str(self.root), self.split, self.task), frames=self.frames)
        for i in range(len(source)):
            example, target = source[i], source[i].target
            found.append((example.query, int(target.mask.sum()) if self.task == "segmentation" else target.references))
        return tuple(found), ""

    def raw(self, name, change):
        """Changes the bytes of a file."""
        file = self.root / name
        self.files.pop(name, None)
        file.write_bytes(change(file.read_bytes()))


class RefCoco(Folder):
    usual, task = (("man on left", 200), ("the man", 200), ("dog", 300)), "segmentation"

    def make(self):
        refcoco_folders.write_release(self.root)
        self.load("refcoco/instances.json")
        self.photos = self.root / "images/mscoco/images/train2014"

    def open(self, root, split, task):
        return refcoco.open_refcoco_source("refcoco", root, split, task, max_objects=7)

    @property
    def instances(self):
        return self.files["refcoco/instances.json"]

    def refs(self, change, protocol=2):
        refs = [dict(ref) for ref in refcoco_folders.REFS]
        change(refs)
        (self.root / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol))

    def note(self, **fields):
        self.instances["annotations"][0].update(fields)


class ReasonSeg(Folder):
    """A target of 10 x 20 pixels, of which LISA's outline makes 11 x 21."""

    usual, task, open = (("what keeps tea hot", 231),), "segmentation", staticmethod(reasonseg.open_reasonseg_source)

    def make(self):
        (self.root / "val").mkdir()
        Image.new("RGB", (40, 30), "grey").save(self.root / "val" / "a.jpg")
        points = [[2, 3], [12, 3], [12, 23], [2, 23]]
        self.files["val/a.json"] = self.value = {
            "text": ["what keeps tea hot"], "is_sentence": True, "shapes": [{"label": "target", "points": points}],
        }  # fmt: skip

    def shape(self, **fields):
        self.value["shapes"][0].update(fields)


class VqaV2(Folder):
    usual, open = (("Is it red?", ("yes",) * 3), ("How many?", ("2", "two"))), staticmethod(vqav2.open_vqav2_source)
    questions, notes = "v2_OpenEnded_mscoco_val2014_questions.json", "v2_mscoco_val2014_annotations.json"

    def make(self):
        rows = [{"image_id": 42, "question": text, "question_id": 42000 + k} for k, (text, _) in enumerate(self.usual)]
        self.files[self.questions] = {"questions": rows}
        self.files[self.notes] = {
            "annotations": [
                {"question_id": 42000 + k, "answer_type": "other", "answers": [{"answer": a} for a in people]}
                for k, (_, people) in enumerate(self.usual)
            ]
        }
        (self.root / "val2014").mkdir()
        self.photo = self.root / "val2014" / "COCO_val2014_000000000042.jpg"
        Image.new("RGB", (40, 30)).save(self.photo)

    def row(self, **fields):
        self.files[self.questions]["questions"][1].update(fields)

    def note(self, **fields):
        self.files[self.notes]["annotations"][1].update(fields)

    def moved(self, folder):
        for name in list(self.files):
            (self.root / folder).mkdir(exist_ok=True)
            self.files[f"{folder}/{name}"] = self.files.pop(name)


class Gqa(Folder):
    usual, split = (("What colour is the mug?", ("red",)), ("Is it full?", ("no",))), "testdev"
    open, name = staticmethod(gqa.open_gqa_source), "testdev_balanced_questions.json"

    def make(self):
        self.rows = self.files[self.name] = {
            str(k): {"question": text, "answer": right[0], "imageId": f"n{k}", "types": {"structural": "query"}}
            for k, (text, right) in enumerate(self.usual)
        }
        (self.root / "images").mkdir()
        for k in range(2):
            Image.new("RGB", (40, 30)).save(self.root / "images" / f"n{k}.jpg")


class Clevr(Folder):
    usual, open = (
        (("How many cubes are there?", ("1",)), ("Is it red?", ("yes",))),
        staticmethod(clevr.open_clevr_source),
    )
    name, scenes = "questions/CLEVR_val_questions.json", "scenes/CLEVR_val_scenes.json"

    def make(self):
        for folder in ("questions", "scenes", "images/val"):
            (self.root / folder).mkdir(parents=True)
        Image.new("RGB", (480, 320)).save(self.root / "images/val/CLEVR_val_000000.png")
        shared = {"image_filename": "CLEVR_val_000000.png", "program": [{"function": "count"}]}
        self.rows = [{"question": text, "answer": right[0]} | shared for text, right in self.usual]
        self.files[self.name] = {"questions": self.rows}
        item = {"3d_coords": [0.5, 0.5, 0.35], "pixel_coords": [200, 150, 11.0], "rotation": 20.0, "size": "small",
                "color": "red", "material": "metal", "shape": "cube"}  # fmt: skip
        scene = {"image_filename": "CLEVR_val_000000.png", "objects": [item], "directions": {}}
        self.files[self.scenes] = {"scenes": [scene]}


class NextQa(Folder):
    frames = 2
    open = staticmethod(nextqa.open_nextqa_source)
    usual = tuple(
        (f"{text} " + " ".join(f"({'ABCDE'[i]}) {o}" for i, o in enumerate(worded_folders.OPTIONS)),
         (worded_folders.OPTIONS[right],))
        for _, text, right, _, _ in worded_folders.QUESTIONS
    )  # fmt: skip

    def make(self):
        worded_folders.write_nextqa(self.root)

    def table(self, change, delimiter=","):
        """Changes the rows of the CSV file."""
        rows = [worded_folders.question_row(*row) for row in worded_folders.QUESTIONS]
        columns = change(rows) or worded_folders.COLUMNS
        with (self.root / "val.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, columns, delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)


class Captions(Folder):
    task, open = "summary", staticmethod(coco_captions.open_coco_captions_source)
    usual = tuple(("describe the picture in one sentence.", tuple(v)) for v in worded_folders.CAPTIONS.values())

    def make(self):
        worded_folders.write_coco_captions(self.root)
        self.value = self.load("annotations/captions_val2017.json")


Q = Quirk
REFCOCO = (
    Q("RefCOCO: refs written by another protocol of pickle", "read", lambda f: f.refs(lambda refs: None, 4)),
    Q("RefCOCO: a pickle that would run code", "refused: take the release's file",
      lambda f: f.refs(lambda refs: refs.append(pathlib.PurePosixPath("/"))), None, "take the release's file"),
    Q("RefCOCO: a pointer of Git LFS in place of the pickle", "refused: `git lfs pull`",
      lambda f: f.raw("refcoco/refs(unc).p", lambda raw: LFS), None, "git lfs pull"),
    Q("RefCOCO: a division that is not there (google)", "refused: the refs that are there",
      lambda f: setattr(f, "split", "google/val"), None, "expected refs(google).p, got refs(unc).p"),
    Q("RefCOCO: photos under their names of 2017", "read", lambda f: [
        file.rename(file.with_name(file.name.rpartition("_")[2])) for file in list(f.photos.iterdir())]),
    Q("RefCOCO: photos in train2017/ beside the folder", "read", lambda f: f.photos.rename(f.root / "train2017")),
    Q("RefCOCO: names of photos with a path of another machine", "the last part is read", lambda f: [
        p.update(file_name=f"/data/me/{p['file_name']}") for p in f.instances["images"]]),
    Q("RefCOCO: ids as texts in instances.json", "read", lambda f: [
        note.update(id=str(note["id"]), image_id=str(note["image_id"])) for note in f.instances["annotations"]]),
    Q("RefCOCO: an object that instances.json lacks", "left out with a count",
      lambda f: f.instances["annotations"].pop(0), RefCoco.usual[2:],
      "1 refs to an annotation that is missing or has no shape"),
    Q("RefCOCO: an object with a box alone", "left out of segmentation with a count",
      lambda f: f.note(segmentation=[]), RefCoco.usual[2:], "1 refs to an object that has a box and no outline"),
    Q("RefCOCO: a ref without a sentence", "left out with a count",
      lambda f: f.refs(lambda refs: refs[1].update(sentences=[])), RefCoco.usual[:2], "1 refs without a sentence"),
    Q("RefCOCO: a photo of another size", "the example is skipped",
      lambda f: Image.new("RGB", (80, 60)).save(f.photos / refcoco_folders.photo_name(9)), None,
      "expected 40 x 30 pixels"),
)  # fmt: skip
REASONSEG = (
    Q("ReasonSeg: cp1252 in place of UTF-8", "read", lambda f: f.files.update({"val/a.json": json.dumps(
        f.value | {"text": ["the caf\xe9"]}, ensure_ascii=False).encode("cp1252")}), (("the caf\xe9", 231),)),
    Q("ReasonSeg: byte order mark", "read", lambda f: f.files.update(
        {"val/a.json": b"\xef\xbb\xbf" + json.dumps(f.value).encode()})),
    Q("ReasonSeg: the text without a list", "read", lambda f: f.value.update(text="what keeps  tea hot")),
    Q("ReasonSeg: a label in capitals (Target)", "read", lambda f: f.shape(label="Target")),
    Q("ReasonSeg: a label that is none of the benchmark's", "a target, with a count", lambda f: f.shape(label="mug"),
      SAME, "took for targets 1 shapes with another label"),
    Q("ReasonSeg: points as numbers like 2.7", "cut to whole pixels, as LISA does",
      lambda f: f.shape(points=[[2.7, 3.2], [12.9, 3], [12, 23.5], [2, 23]])),
    Q("ReasonSeg: points as texts", "left out with a count",
      lambda f: f.shape(points=[["2", "3"], ["12", "3"], ["12", "23"]]), None,
      "1 annotations that lose all of their target"),
    Q("ReasonSeg: a comma before a closing bracket", "left out with a count", lambda f: f.files.update(
        {"val/a.json": json.dumps(f.value).encode()[:-1] + b",}"}), None, "1 annotations that are no JSON"),
    Q("ReasonSeg: the suffix .JPG", "read", lambda f: (f.root / "val/a.jpg").rename(f.root / "val/a.JPG")),
    Q("ReasonSeg: annotations without their picture", "left out with a count",
      lambda f: (f.root / "val/b.json").write_text(json.dumps(f.value)), SAME, "1 annotations without a picture"),
    Q("ReasonSeg: ._* files of macOS", "passed over", lambda f: (f.root / "val/._a.json").write_bytes(b"\0\5\x16\7")),
)  # fmt: skip
VQAV2 = (
    Q("VQAv2: ids as texts in one of the two files", "read", lambda f: f.note(question_id="42001")),
    Q("VQAv2: answers as a list of texts", "read", lambda f: f.note(answers=["2", "two"])),
    Q("VQAv2: a question without answers", "left out with a count", lambda f: f.files[f.notes]["annotations"].pop(),
      VqaV2.usual[:1], "1 questions without answers"),
    Q("VQAv2: a blank question", "left out with a count", lambda f: f.row(question=" "), VqaV2.usual[:1],
      "1 questions without question, question_id or image_id"),
    Q("VQAv2: the files in annotations/", "read", lambda f: f.moved("annotations")),
    Q("VQAv2: photos under their names of 2017", "read", lambda f: [
        (f.root / "val2017").mkdir(), f.photo.rename(f.root / "val2017" / "000000000042.jpg")]),
    Q("VQAv2: the split test", "refused: it has no answers", lambda f: setattr(f, "split", "test"), None,
      "vqav2 test has no answers"),
    Q("VQAv2: a zip archive under the name of a file", "refused: unpack it",
      lambda f: f.files.update({f.notes: b"PK\x03\x04\x14"}), None, "a zip archive; unpack it"),
)  # fmt: skip
GQA = (
    Q("GQA: byte order mark and indents", "read", lambda f: f.files.update(
        {f.name: b"\xef\xbb\xbf" + json.dumps(f.rows, indent=1).encode()})),
    Q("GQA: imageId as a number", "read", lambda f: [
        f.rows["0"].update(imageId=7), (f.root / "images/n0.jpg").rename(f.root / "images/7.jpg")]),
    Q("GQA: a question without an answer", "left out with a count", lambda f: f.rows["1"].pop("answer"),
      Gqa.usual[:1], "1 questions without question, answer or imageId"),
    Q("GQA: an imageId that leads out of the folder", "left out with a count",
      lambda f: f.rows["1"].update(imageId="../n1"), Gqa.usual[:1], "1 questions whose imageId leaves the folder"),
    Q("GQA: the file breaks off", "refused", lambda f: f.files.update({f.name: json.dumps(f.rows).encode()[:-9]}), None,
      "a file that breaks off or is malformed"),
    Q("GQA: a folder of parts, with ._* files of macOS", "read", lambda f: [
        (f.root / "testdev_balanced_questions").mkdir(), f.files.pop(f.name), f.files.update({
            f"testdev_balanced_questions/{k}.json": {k: f.rows[k]} for k in "01"}),
        (f.root / "testdev_balanced_questions/._0.json").write_bytes(b"\0\5\x16\7")]),
)  # fmt: skip
CLEVR = (
    Q("CLEVR: byte order mark and indents", "read", lambda f: f.files.update(
        {f.name: b"\xef\xbb\xbf" + json.dumps(f.files[f.name], indent=1).encode()})),
    Q("CLEVR: the folder CLEVR_v1.0 of the archive between", "read", lambda f: [
        (f.root / "CLEVR_v1.0").mkdir(), f.files.update({f"CLEVR_v1.0/{n}": f.files.pop(n) for n in list(f.files)}),
        [(f.root / n).rename(f.root / "CLEVR_v1.0" / n) for n in ("questions", "scenes", "images")]]),
    Q("CLEVR: names of pictures without their suffix", "read",
      lambda f: f.rows[0].update(image_filename="CLEVR_val_000000")),
    Q("CLEVR: answers as true and numbers", "read", lambda f: [
        f.rows[0].update(answer=1), f.rows[1].update(answer=True)]),
    Q("CLEVR: the scenes are not there", "read without objects, with a warning", lambda f: f.files.pop(f.scenes), SAME,
      "no scenes of val"),
    Q("CLEVR: the split test", "refused: it has no answers", lambda f: setattr(f, "split", "test"), None,
      "clevr test has no answers"),
)  # fmt: skip
NEXTQA = (
    Q("NExT-QA: byte order mark and Windows line ends", "read",
      lambda f: f.raw("val.csv", lambda raw: b"\xef\xbb\xbf" + raw)),
    Q("NExT-QA: answers as 2.0 (pandas)", "read",
      lambda f: f.table(lambda rows: [row.update(answer=f"{row['answer']}.0") for row in rows] and None)),
    Q("NExT-QA: columns in another order", "read", lambda f: f.table(lambda rows: worded_folders.COLUMNS[::-1])),
    Q("NExT-QA: semicolons between the columns (Excel)", "refused: the columns",
      lambda f: f.table(lambda rows: None, ";"), None, "expected the columns video, question"),
    Q("NExT-QA: not UTF-8", "refused: save it as UTF-8",
      lambda f: f.raw("val.csv", lambda raw: raw.replace(b"how", b"h\xf6w")), None, "save the file as UTF-8"),
    Q("NExT-QA: an answer beyond the options", "left out with a count",
      lambda f: f.table(lambda rows: rows[1].update(answer=5)), NextQa.usual[::2],
      "1 questions whose answer is no number from 0 to 4"),
    Q("NExT-QA: videos by their own names, without the folders of VidOR", "read", lambda f: [
        (f.root / "videos" / place).rename(f.root / "videos" / name) for name, place in worded_folders.PLACES.items()]),
)  # fmt: skip
CAPTIONS = (
    Q("COCO captions: ids as texts", "read", lambda f: [
        note.update(image_id=str(note["image_id"])) for note in f.value["annotations"]]),
    Q("COCO captions: line ends inside a caption", "blanks",
      lambda f: f.value["annotations"][0].update(caption="A cat\non a mat.\n")),
    Q("COCO captions: a caption twice", "left out with a count",
      lambda f: f.value["annotations"].append(f.value["annotations"][0]), SAME, "1 captions whose id stands twice"),
    Q("COCO captions: a blank caption", "left out with a count", lambda f: f.value["annotations"].append(
        {"image_id": 42, "id": 99, "caption": " "}), SAME, "1 captions that are no text"),
    Q("COCO captions: a photo without captions", "left out with a count", lambda f: f.value["images"].append(
        {"id": 99, "file_name": "000000000099.jpg"}), SAME, "1 pictures without captions"),
)  # fmt: skip
FAMILIES = (
    (REFCOCO, RefCoco), (REASONSEG, ReasonSeg), (VQAV2, VqaV2), (GQA, Gqa), (CLEVR, Clevr), (NEXTQA, NextQa),
    (CAPTIONS, Captions),
)  # fmt: skip
QUIRKS = tuple(quirk for table, _ in FAMILIES for quirk in table)


@quirks.rows(QUIRKS)
def test_quirk(quirk, tmp_path, caplog):
    quirks.check_family(quirk, FAMILIES, tmp_path, caplog)


@pytest.mark.parametrize("kind", [kind for _, kind in FAMILIES])
def test_the_benchmarks_without_a_quirk(tmp_path, kind):
    assert kind(tmp_path).read() == (kind.usual, "")
