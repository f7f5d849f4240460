"""Folders in the form of benchmarks that are answered in words: NExT-QA, COCO captions and MSR-VTT."""

import csv
import json

import numpy as np
from PIL import Image

COLUMNS = ["video", "frame_count", "width", "height", "question", "answer", "qid", "type", "a0", "a1", "a2", "a3", "a4"]
OPTIONS = ["roll the ball", "tap a foot", "strum the string", "hit it with a stick", "pat it"]
QUESTIONS = [  # video, question, answer, qid, type
    ("4010069381", "how does the man play the instrument", 2, 6, "CH"),
    ("4010069381", "what does he do before he sits down", 0, 7, "TP"),
    ("2435100235", "where is this video taken", 4, 0, "DL"),
]
PLACES = {"4010069381": "1164/4010069381", "2435100235": "0001/2435100235"}


def frames(folder, count=4, size=(64, 48)):
    """Writes a video as a folder of frames that differ; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(count)
    for t in range(count):
        Image.fromarray(rng.integers(0, 255, (size[1], size[0], 3), np.uint8)).save(folder / f"{t:05d}.png")
    return folder


def question_row(video, question, answer, qid, kind, options=OPTIONS):
    return dict(zip(COLUMNS, [video, 369, 640, 480, question, answer, qid, kind, *options]))


def write_nextqa(root, split="val", rows=None, columns=COLUMNS, videos=("4010069381", "2435100235"), places=PLACES):
    """Writes SPLIT.csv, the map, and a folder of frames for each video at its place in VidOR."""
    root.mkdir(parents=True, exist_ok=True)
    rows = [question_row(*row) for row in QUESTIONS] if rows is None else rows
    with (root / f"{split}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    if places is not None:
        (root / "map_vid_vidorID.json").write_text(json.dumps(places))
    for video in videos:
        frames(root / "videos" / (places or {}).get(video, video))
    return root


CAPTIONS = {42: ["A cat on a mat.", "a black cat lies on a mat"], 7: ["Two dogs run.", "two dogs are running fast"]}


def coco_file(captions=CAPTIONS):
    """The value of captions_val2017.json."""
    images = [{"id": i, "file_name": f"{i:012d}.jpg", "width": 64, "height": 48} for i in captions]
    texts = [(i, text) for i, group in captions.items() for text in group]
    notes = [{"image_id": i, "id": k, "caption": text} for k, (i, text) in enumerate(texts, 1)]
    return {"info": {}, "licenses": [], "images": images, "annotations": notes}


def write_coco_captions(root, split="val2017", value=None):
    """Writes the captions of a split and its photos."""
    value = coco_file() if value is None else value
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    (root / "annotations" / f"captions_{split}.json").write_text(json.dumps(value))
    (root / split).mkdir(exist_ok=True)
    for i in CAPTIONS:
        Image.new("RGB", (64, 48), (i, 80, 3 * i)).save(root / split / f"{i:012d}.jpg")
    return root


def write_karpathy(root, splits=("test", "restval", "train", "val")):
    """Writes dataset_coco.json with a photo for each of these splits, and photos of 2014."""
    root.mkdir(parents=True, exist_ok=True)
    images = []
    for k, split in enumerate(splits):
        number, name = 100 + k, f"COCO_val2014_{100 + k:012d}.jpg"
        sentences = [
            {"raw": f"A dog number {k}.", "tokens": ["a", "dog"], "imgid": k, "sentid": 10 * k + j} for j in (0, 1)
        ]
        images.append({"cocoid": number, "filename": name, "filepath": "val2014", "imgid": k, "split": split,
                       "sentences": sentences, "sentids": [10 * k, 10 * k + 1]})  # fmt: skip
        (root / "val2014").mkdir(exist_ok=True)
        Image.new("RGB", (64, 48), (k, 90, 9)).save(root / "val2014" / name)
    (root / "dataset_coco.json").write_text(json.dumps({"dataset": "coco", "images": images}))
    return root


def msrvtt_file(videos=(("video0", "train"), ("video1", "train"), ("video2", "validate"))):
    """The value of train_val_videodatainfo.json with two captions of each video."""
    records = [
        {"id": k, "video_id": name, "category": 3, "url": "https://www.youtube.com/watch?v=x", "start time": 137.72,
         "end time": 149.44, "split": split} for k, (name, split) in enumerate(videos)
    ]  # fmt: skip
    sentences = [
        {"sen_id": 2 * k + j, "video_id": name, "caption": f"{who} cooks {name}"}
        for k, (name, _) in enumerate(videos) for j, who in enumerate(("a man", "a person"))
    ]  # fmt: skip
    return {"info": {"year": "2016"}, "videos": records, "sentences": sentences}


def write_msrvtt(root, value=None, name="train_val_videodatainfo.json", inside="TrainValVideo"):
    """Writes the captions, and a folder of frames for each video."""
    root.mkdir(parents=True, exist_ok=True)
    value = msrvtt_file() if value is None else value
    (root / name).write_text(json.dumps(value))
    for record in value["videos"]:
        if isinstance(record, dict) and isinstance(record.get("video_id"), str) and record["video_id"].isalnum():
            frames(root / inside / record["video_id"])
    return root
