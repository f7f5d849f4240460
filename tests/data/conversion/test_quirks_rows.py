"""Rows of LLaVA, ShareGPT, ms-swift, VLM-R1, EasyR1, verl and Hugging Face as people and hubs really write them."""

import base64
import gzip
import json

import pytest
import quirks
from quirks import SAME, Quirk

BOX = [66.0, 130.0, 422.0, 362.0]
WHERE, MANY = "Where is the mug?", "How many?"
USUAL = [(WHERE, [BOX]), (MANY, ["2"])]  # (query, boxes in pixels or answers) of each line
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def turns(question, answer):
    return [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]


class Rows:
    """A conversation about a box and one about a number; the quirks change `rows`, `raw` or the flags."""

    def __init__(self, case):
        self.case, self.raw, self.name, self.source = case, None, "data.jsonl", None
        self.flags = {"frame": "pixel"}
        self.rows = [
            {"image": "0.png", "conversations": turns(f"<image>\n{WHERE}", "[66, 130, 422, 362]")},
            {"image": "1.png", "conversations": turns(f"<image>\n{MANY}", "2")},
        ]

    def read(self):
        file = self.case.write(self.rows, self.name) if self.raw is None else self.case.root / self.name
        if self.raw is not None:
            file.write_bytes(self.raw)
        result = self.case.convert(self.source or file, **self.flags)
        values = [(line["query"], line.get("boxes", line.get("answers"))) for line in result.lines]
        report = [line for line in result.text.splitlines() if line.startswith(("left out", "remark"))]
        return values, "\n".join(line for line in report if "not readable as split" not in line)


def raw(make):
    return lambda c: setattr(c, "raw", make(c))


def text(c, between="\n"):
    return between.join(map(json.dumps, c.rows))


def said(question, answer=None, row=0):
    """Other texts in a conversation; None = as before."""

    def change(c):
        first, second = c.rows[row]["conversations"]
        first["value"] = question or first["value"]
        second["value"] = second["value"] if answer is None else answer

    return change


def answered(answer, row=1):
    return said(None, answer, row)


def picture(reference):
    """The first row has its picture in another form, made of the bytes of 0.png."""

    def change(c):
        c.rows[0]["image"] = reference((c.case.root / "0.png").read_bytes())

    return change


def other(row, place=1, **flags):
    """A row of another format; both rows are of it."""

    def change(c):
        c.rows = [{"image": "0.png", "problem": WHERE, "solution": BOX}, row]
        c.rows = c.rows if place else [row]
        c.flags |= flags

    return change


def alone(*rows, **flags):
    def change(c):
        c.rows = list(rows)
        c.flags = flags

    return change


def parquet(*shards):
    """Shards of Parquet with the pictures inside."""

    def change(c):
        pa = pytest.importorskip("pyarrow")
        import pyarrow.parquet

        rows = [
            {"images": [{"bytes": (c.case.root / f"{k}.png").read_bytes(), "path": None}], "problem": question,
             "answer": answer}
            for k, (question, answer) in enumerate([(WHERE, "[66, 130, 422, 362]"), (MANY, "2")])
        ]  # fmt: skip
        for i, (first, last) in enumerate(shards):
            pyarrow.parquet.write_table(
                pa.Table.from_pylist(rows).slice(first, last - first),
                c.case.root / f"train-{i:05}-of-{len(shards):05}.parquet",
            )
        c.source = c.case.root
        c.name = "notes.txt"

    return change


def broken_line(c):
    c.raw = (text(c) + '\n{"image": "2.png", "conv').encode()


def own_keys(**flags):
    def change(c):
        c.rows = [
            {"media": {"path": f"{k}.png"}, "q": question, "a": answer}
            for k, (question, answer) in enumerate([(WHERE, "a cup"), (MANY, "2")])
        ]
        c.flags = flags

    return change


def swift(objects, answer="<bbox>"):
    messages = [{"role": "user", "content": f"<image>{WHERE}"}, {"role": "assistant", "content": answer}]
    return {"messages": messages, "images": ["0.png"], "objects": objects}


ONE, TWO = [(WHERE, [BOX])], [(MANY, ["2"])]
Q = Quirk
QUIRKS = (
    Q("one JSON list in place of lines", "read", lambda c: setattr(c, "name", "data.json")),
    Q("byte order mark and Windows line ends", "read", raw(lambda c: b"\xef\xbb\xbf" + text(c, "\r\n").encode())),
    Q("UTF-16, as PowerShell writes it", "refused: save it as UTF-8", raw(lambda c: text(c).encode("utf-16")), None,
      "expected UTF-8, got UTF-16"),
    Q("a gzip archive", "refused: unpack it", raw(lambda c: gzip.compress(text(c).encode())), None,
      "a gzip archive; unpack it"),
    Q("a pointer of Git LFS", "refused: `git lfs pull`", raw(lambda c: LFS), None, "git lfs pull"),
    Q("a line that breaks off", "left out with a count", broken_line, SAME, "1 rows that are no JSON objects"),
    Q("<image> is missing in the question", "read", said(WHERE)),
    Q("<image> behind the question", "read", said(f"{WHERE}\n<image>")),
    Q("more <image> than pictures", "left out with a count", said(f"<image><image>{WHERE}"), TWO,
      "1 rows with more <image> than pictures"),
    Q("<image> in the answer", "read without it", answered("<image> 2")),
    Q("a thought and <answer> tags", "the answer is read",
      answered("<think>1 and 1</think><answer>2</answer>")),
    Q("a number in \\boxed{}", "the number is read", answered("So it is \\boxed{2}.")),
    Q("boxes as JSON in a fence", "read",
      answered('```json\n[{"bbox_2d": [66, 130, 422, 362], "label": "mug"}]\n```', 0)),
    Q("boxes in the tags of Qwen-VL", "read as 0 to 1000", lambda c: [
        answered("<ref>mug</ref><box>(100,250),(500,750)</box>", 0)(c), c.flags.clear()],
      [(WHERE, [[64.0, 120.0, 320.0, 360.0]]), USUAL[1]]),
    Q("boxes in brackets that may be pixels or 0 to 1000", "refused: `--frame`", lambda c: c.flags.clear(), None,
      "set --frame="),
    Q("an empty list for an answer", "read: nothing fits", answered("[]", 0), [(WHERE, []), USUAL[1]]),
    Q("an answer without text", "left out with a count", answered(""), ONE, "1 answers that are empty"),
    Q("an answer that is a number", "read", answered(2)),
    Q("a turn whose text is null", "left out with a count",
      lambda c: c.rows[1]["conversations"][1].update(value=None), ONE, "1 rows with turns without a text"),
    Q("two questions in a row", "the first is left out with a count",
      lambda c: c.rows[1]["conversations"].insert(0, {"from": "human", "value": "Hello"}), SAME,
      "1 questions without an answer"),
    Q("the answer stands before the question", "the pair behind it is read",
      lambda c: c.rows[1]["conversations"].insert(0, {"from": "gpt", "value": "Hello, ask me."})),
    Q("speakers in capitals, with a system turn", "read",
      lambda c: c.rows[1].update(conversations=[{"role": "SYSTEM", "content": "You are kind."},
        {"role": "USER", "content": MANY}, {"role": "ASSISTANT", "content": "2"}])),
    Q("the conversation is JSON inside a text", "read",
      lambda c: c.rows[1].update(conversations=json.dumps(c.rows[1]["conversations"]))),
    Q("a path of Windows", "found by its last part, with a count",
      lambda c: c.rows[0].update(image="C:\\Users\\me\\0.png"), SAME, "1 pictures found by the last parts"),
    Q("a path of another machine", "found by its last part, with a count",
      lambda c: c.rows[0].update(image="/data/me/coco/0.png"), SAME, "1 pictures found by the last parts"),
    Q("a picture in base64 with data:image/png", "read",
      picture(lambda content: "data:image/png;base64," + base64.b64encode(content).decode())),
    Q("a picture in base64 alone", "read", picture(lambda content: base64.b64encode(content).decode())),
    Q("a list of one object with path and bytes null", "read",
      picture(lambda content: [{"path": "0.png", "bytes": None}])),
    Q("an address on the web", "left out with a count: download it",
      lambda c: c.rows[0].update(image="https://a.b/0.png"), TWO, "1 pictures that are addresses on the web"),
    Q("a picture that is not there", "left out with a count: `--images`", lambda c: c.rows[0].update(image="9.png"),
      TWO, "1 pictures that are not found (--images=FOLDER says where they are)"),
    Q("a pointer of Git LFS in place of a picture", "left out with a count: `git lfs pull`",
      lambda c: (c.case.root / "0.png").write_bytes(LFS), TWO, "git lfs pull"),
    Q("ms-swift: objects as JSON inside a text", "read",
      lambda c: setattr(c, "rows", [swift(json.dumps({"ref": ["mug"], "bbox": [BOX]}))]), ONE),
    Q("ms-swift: objects as a list, as its version 2 has them", "read",
      lambda c: setattr(c, "rows", [swift([{"caption": "mug", "bbox": BOX, "bbox_type": "real", "image": 0}])]), ONE),
    Q("ms-swift: <bbox> without objects", "left out with a count",
      lambda c: setattr(c, "rows", [swift(None), swift({"ref": ["mug"], "bbox": [BOX]})]), ONE,
      "1 rows with more <bbox> than boxes"),
    Q("VLM-R1: the solution as a text with tags", "read",
      other({"image": "1.png", "problem": MANY, "solution": "<answer>2</answer>"})),
    Q("VLM-R1: demands on the form behind the question", "read without them",
      other({"image": "1.png", "problem": f"{MANY} First output the thinking process in <think> </think> tags and then "
             "output the final answer in <answer> </answer> tags.", "solution": "2"})),
    Q("EasyR1: an answer that is a number", "read", alone({"image": "1.png", "problem": MANY, "answer": 2}), TWO),
    Q("verl: reward_model as JSON inside a text", "read",
      alone({"data_source": "x", "images": ["1.png"], "prompt": [{"role": "user", "content": f"<image>{MANY}"}],
             "reward_model": json.dumps({"style": "rule", "ground_truth": "2"})}), TWO),
    Q("answers as objects ([{\"answer\": \"2\"}, ...])", "read",
      alone({"image": "1.png", "question": MANY, "answers": [{"answer": "2", "id": 1}, {"answer": "2", "id": 2}]}),
      TWO),
    Q("the number of the right choice (ScienceQA)", "the words of the choice are read",
      alone({"image": "1.png", "question": MANY, "choices": ["3", "2"], "answer": 1}), [(f"{MANY}", ["2"])]),
    Q("the letter of the right choice", "the words of the choice are read",
      alone({"image": "1.png", "question": MANY, "options": {"A": "3", "B": "2"}, "answer": "B"}), TWO),
    Q("an answer that is none of the choices", "left out with a count",
      alone({"image": "1.png", "question": MANY, "choices": ["3", "2"], "answer": 5},
            {"image": "1.png", "question": MANY, "choices": ["3", "2"], "answer": "2"}), TWO,
      "1 rows whose answer is none of their choices"),
    Q("Hugging Face: labels that are numbers without names", "left out with a count",
      alone({"image": "0.png", "objects": {"bbox": [[1, 2, 30, 40]], "category": [4]}}), None,
      "1 labels that are numbers without a name"),
    Q("Hugging Face: several Parquet shards, the first one empty", "read", parquet((0, 0), (0, 1), (1, 2))),
    Q("--fields with a key inside an object (media.path)", "read",
      own_keys(fields="image:media.path,query:q,answers:a"), [(WHERE, ["a cup"]), USUAL[1]]),
    Q("--fields with a key that no row has", "refused: the keys of the first row",
      own_keys(fields="image:media.file,query:q,answers:a"), None, "no row has such a key; the first row has media"),
    Q("--fields with boxes and without --frame", "refused: `--frame`",
      own_keys(fields="image:media.path,query:q,boxes:a"), None, "needs --frame"),
)  # fmt: skip


@quirks.rows(QUIRKS)
def test_quirk(quirk, case, caplog):
    rows = Rows(case)
    quirk.change(rows)
    quirks.check(quirk, rows.read, USUAL, caplog)


def test_the_rows_without_a_quirk(case):
    assert Rows(case).read() == (USUAL, "")
