"""A step of GRPO on each format that people have, in its documented form, with the one command of docs/data.md."""

import json
import pathlib

import numpy as np
import pytest
import referred_folders
import tiny
from coco_folders import note, rectangle
from PIL import Image

from dtr1_jax.modes import train
from dtr1_jax.run import run_log

SIZE = (64, 48)  # w, h in pixels


def photos(folder, count=5):
    """Writes 0.jpg, 1.jpg, ... that differ; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for k in range(count):
        Image.fromarray(rng.integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)).save(folder / f"{k}.jpg")
    return [f"{k}.jpg" for k in range(count)]


def box(k):
    return [4 + k, 5, 40 + k, 30]


def roboflow(root):
    categories = [{"id": 0, "name": "kitchen", "supercategory": "none"}] + [
        {"id": i, "name": name, "supercategory": "kitchen"} for i, name in enumerate(("mug", "spoon"), 1)
    ]
    for part in ("train", "valid"):
        names = photos(root / part)
        images = [{"id": i, "file_name": name, "width": SIZE[0], "height": SIZE[1]} for i, name in enumerate(names)]
        notes = [note(rectangle(*box(i)), 1 + i % 2, i, number=i) for i in range(len(names))]
        value = {"info": {}, "images": images, "categories": categories, "annotations": notes}
        (root / part / "_annotations.coco.json").write_text(json.dumps(value))
    return root


def lines(root, rows, name="data.jsonl"):
    text = json.dumps(rows) if name.endswith(".json") else "\n".join(map(json.dumps, rows))
    (root / name).write_text(text)
    return root / name


def vlm_r1(root):
    return lines(root, [
        {"id": k, "image": name, "problem": "the mug", "solution": box(k), "normalized_solution": None,
         "dataset": "refcoco"} for k, name in enumerate(photos(root))
    ])  # fmt: skip


def vlm_r1_conversations(root):
    """Its later form."""
    return lines(root, [
        {"id": k, "image": name, "conversations": [
            {"from": "human", "value": "<image>Please provide the bounding box coordinate of the region this sentence "
             "describes: the mug."},
            {"from": "gpt", "value": json.dumps(box(k))}]} for k, name in enumerate(photos(root))
    ])  # fmt: skip


def llava(root):
    return lines(root, [
        {"id": str(k), "image": name, "conversations": [
            {"from": "human", "value": "<image>\nWhat is on the table?"}, {"from": "gpt", "value": "a mug"}]}
        for k, name in enumerate(photos(root))
    ], "llava.json")  # fmt: skip


def sharegpt(root):
    return lines(root, [
        {"messages": [{"role": "user", "content": "<image>What is on the table?"},
                      {"role": "assistant", "content": "a mug"}], "images": [name]} for name in photos(root)
    ], "sharegpt.json")  # fmt: skip


def easy_r1(root):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    names = photos(root / "source")
    rows = [
        {"images": [{"bytes": (root / "source" / name).read_bytes(), "path": None}],
         "problem": "<image>How many mugs are there?", "answer": str(k)} for k, name in enumerate(names)
    ]  # fmt: skip
    (root / "data").mkdir()
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), root / "data" / "train-00000-of-00001.parquet")
    return root / "data"


def yolo(root):
    for part in ("train", "val"):
        names = photos(root / "images" / part)
        (root / "labels" / part).mkdir(parents=True)
        for k, name in enumerate(names):
            x1, y1, x2, y2 = box(k)
            row = ((x1 + x2) / 2 / SIZE[0], (y1 + y2) / 2 / SIZE[1], (x2 - x1) / SIZE[0], (y2 - y1) / SIZE[1])
            text = f"{k % 2} " + " ".join(f"{v:.6f}" for v in row)
            (root / "labels" / part / name.replace("jpg", "txt")).write_text(text + "\n")
    (root / "data.yaml").write_text("path: .\ntrain: images/train\nval: images/val\nnames:\n  0: mug\n  1: spoon\n")
    return root


def pascal_voc(root):
    for k, name in enumerate(photos(root / "JPEGImages")):
        x1, y1, x2, y2 = box(k)
        (root / "Annotations").mkdir(exist_ok=True)
        (root / "Annotations" / f"{k}.xml").write_text(
            f"<annotation><folder>VOC2012</folder><filename>{name}</filename><size><width>{SIZE[0]}</width><height>"
            f"{SIZE[1]}</height><depth>3</depth></size><segmented>0</segmented><object><name>mug</name><difficult>0"
            f"</difficult><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            "</annotation>"
        )
    return root


def youtube_vis(root):
    videos, notes = [], []
    for k in range(2):
        names = [path.name for path in frames(root / "JPEGImages" / f"v{k}")]
        videos.append({"id": k + 1, "width": SIZE[0], "height": SIZE[1], "length": len(names),
                       "file_names": [f"v{k}/{name}" for name in names]})  # fmt: skip
        rle = {"size": [SIZE[1], SIZE[0]], "counts": [480, 960, 48 * 64 - 1440]}
        notes.append({"id": k + 1, "video_id": k + 1, "category_id": 1, "iscrowd": 0, "height": SIZE[1],
                      "width": SIZE[0], "length": 1, "segmentations": [rle] * len(names),
                      "bboxes": [[10, 0, 20, 48]] * len(names), "areas": [960] * len(names)})  # fmt: skip
    value = {"info": {}, "videos": videos, "annotations": notes, "categories": [{"id": 1, "name": "dog"}]}
    return lines(root, value, "instances.json")


def frames(folder, count=4):
    names = photos(folder, count)
    for name in names:
        (folder / name).rename(folder / f"{int(pathlib.Path(name).stem):05d}.jpg")
    return sorted(folder.iterdir())


def mevis(root):
    for split in ("train", "valid_u"):
        referred_folders.write_mevis(root, split, videos=("a", "b"))
    return root


VQA, VIDEO = {"data__task": "vqa"}, {"data__frames": 4, "policy__prompt_tokens": 96}
# Format -> (its writer, data.source, further settings).
FORMATS = {
    "Roboflow": (roboflow, "coco", {}), "VLM-R1": (vlm_r1, "foreign", {}),
    "VLM-R1 conversations": (vlm_r1_conversations, "foreign", {}), "EasyR1": (easy_r1, "foreign", VQA),
    "LLaVA": (llava, "foreign", VQA), "ShareGPT": (sharegpt, "foreign", VQA), "YOLO": (yolo, "foreign", {}),
    "Pascal VOC": (pascal_voc, "foreign", {}), "YouTube-VIS": (youtube_vis, "foreign", VIDEO),
    "MeViS": (mevis, "mevis", VIDEO | {"data__train_split": "train"}),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
def test_one_command_reaches_a_step(path, small, tmp_path, monkeypatch, name):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write, source, changes = FORMATS[name]
    folder = tmp_path / "set"
    folder.mkdir()
    root = write(folder)
    c = tiny.settings(
        path, data__source=source, data__root=str(root), train__steps=1, train__eval_examples=1, train__gallery=0,
        **changes,
    )  # fmt: skip
    train.run(c, tmp_path / "run")
    (row,) = [row for row in run_log.read_run_log(tmp_path / "run") if "train/loss" in row]
    assert np.isfinite(row["train/loss"]) and row["train/examples_skipped"] == 0
