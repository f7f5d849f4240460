"""What tools, hubs and operating systems really leave in folders: each is right, or refused with the next step."""

import gzip
import io
import json
import tarfile
import zipfile

import pytest
from PIL import Image

from dtr1_jax.data.json_files import DataError

QUESTIONS = [{"image": f"{k}.png", "question": f"how many in {k}?", "answer": str(k)} for k in range(3)]


def picture(case, k):
    return {"bytes": (case.root / f"{k}.png").read_bytes(), "path": None}


def write_parquet(path, rows, keep=None):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    table = pa.Table.from_pylist(rows)
    pyarrow.parquet.write_table(table.slice(0, keep), path)


def questions(case):
    return [{"image": picture(case, k), "question": "how many?", "answer": "2"} for k in range(3)]


def hidden_json(case):
    case.write(QUESTIONS)
    (case.root / "._data.jsonl").write_bytes(b"\0\5\x16\7")


def upper_case_suffix(case):
    case.write(QUESTIONS, "DATA.JSONL")


def byte_order_mark_and_windows_lines(case):
    text = "\r\n".join(map(json.dumps, QUESTIONS))
    (case.root / "data.jsonl").write_bytes(b"\xef\xbb\xbf" + text.encode())


def windows_paths(case):
    case.write([row | {"image": "C:\\Users\\me\\pictures\\" + row["image"]} for row in QUESTIONS])


def paths_of_another_machine(case):
    case.write([row | {"image": "/mnt/disk/../data/" + row["image"]} for row in QUESTIONS])


def hidden_parquet(case):
    write_parquet(case.root / "train-00000-of-00001.parquet", questions(case))
    (case.root / "._train-00000-of-00001.parquet").write_bytes(b"\0\5\x16\7" * 99)


def an_empty_first_shard(case):
    write_parquet(case.root / "test-00000-of-00001.parquet", questions(case), keep=0)
    write_parquet(case.root / "train-00000-of-00001.parquet", questions(case))


def parquet_beside_json(case):
    write_parquet(case.root / "a.parquet", questions(case))
    case.write([{"a": 1}], "dataset_info.json")


def conversations_as_text(case):
    turns = [{"from": "human", "value": "<image>\nhow many?"}, {"from": "gpt", "value": "2"}]
    write_parquet(
        case.root / "a.parquet", [{"image": picture(case, k), "conversations": json.dumps(turns)} for k in range(3)]
    )


RIGHT = [
    hidden_json, upper_case_suffix, byte_order_mark_and_windows_lines, windows_paths, paths_of_another_machine,
    hidden_parquet, an_empty_first_shard, parquet_beside_json, conversations_as_text,
]  # fmt: skip


@pytest.mark.parametrize("write", RIGHT)
def test_right(case, write):
    write(case)
    lines = case.convert().lines
    assert len(lines) == 3 and all(line["answers"] for line in lines)
    for k, line in enumerate(lines):
        with Image.open(case.root / "out" / line["image"]) as image:
            assert image.getpixel((0, 0)) == (20 + 7 * k,) * 3


def test_frames_beside_other_files(case):
    """Frames are in the order of their numbers; a thumbnail file of Windows and a hidden file are no frames."""
    folder = case.root / "videos" / "v"
    folder.mkdir(parents=True)
    for number in (1, 2, 10):
        Image.new("RGB", (64, 48), (number, number, number)).save(folder / f"frame_{number}.png")
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / "._frame_1.png").write_bytes(b"x")
    rows = [{"videos": ["videos\\v"], "messages": [
        {"role": "user", "content": "<video>what moves?"}, {"role": "assistant", "content": "a dog"},
    ]}]  # fmt: skip
    (line,) = case.rows(rows).lines
    assert (case.root / "out" / line["video"]).resolve() == folder.resolve() and line["answers"] == ["a dog"]


def a_zip(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.jsonl", "\n".join(map(json.dumps, QUESTIONS)))


def a_tar(path):
    raw = json.dumps(QUESTIONS[0]).encode()
    with tarfile.open(path, "w") as archive:
        entry = tarfile.TarInfo("a.jsonl")
        entry.size = len(raw)
        archive.addfile(entry, io.BytesIO(raw))


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.zip", a_zip, "a zip archive; unpack it"),
        ("a.tar", a_tar, "a tar archive, as WebDataset has; unpack it"),
        ("a.jsonl.gz", lambda p: p.write_bytes(gzip.compress(b'{"image": 1}\n')), "a gzip archive; unpack it"),
        ("a.arrow", lambda p: p.write_bytes(b"\xff\xff\xff\xff\x10\0\0\0" + bytes(600)), "an Arrow stream"),
        ("a.h5", lambda p: p.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(99)), "an HDF5 file"),
        (
            "a.json",
            lambda p: p.write_text(json.dumps({"data": QUESTIONS})),
            r"whose list 'data' .*jq -c '\.\[\"data\"\]",
        ),
        ("a.tsv", lambda p: p.write_text("index\timage\tquestion\n0\t0.png\thow many?\n"), r"a table of text \(CSV\)"),
    ],
)
def test_refused_by_name(case, name, write, message):
    write(case.root / name)
    with pytest.raises(DataError, match=message):
        case.convert(case.root / name)


def test_folders_refused_by_name(case):
    (case.root / "annotations").mkdir()
    case.write(QUESTIONS, "annotations/train.jsonl")
    with pytest.raises(DataError, match=r"1 JSON files, annotations/train\.jsonl; set --from to one of them"):
        case.convert()
    (case.root / "data-00000-of-00001.arrow").write_bytes(b"\xff\xff\xff\xff")
    with pytest.raises(DataError, match=r"save_to_disk.*data-00000-of-00001\.arrow; export them with datasets\."):
        case.convert()
