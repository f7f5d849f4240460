"""Ref-DAVIS17 (Khoreva et al. 2018): four expressions for each object of DAVIS 2017.

Either as ReferFormer's convert_davis_to_ytvos.py writes it (ref_ytvos.py), or as it is fetched:

    ROOT/DAVIS/JPEGImages/480p/NAME/FRAME.jpg, Annotations_unsupervised/480p/NAME/FRAME.png, ImageSets/2017/SPLIT.txt
    ROOT/davis_text_annotations/Davis17_annot1.txt, Davis17_annot1_full_video.txt, and the same of annot2

A line of a text is NAME OBJECT "expression". Two people wrote for the first frame, and after they saw the whole video.
The tag of a query says which of the four it is. Pixels of 255 are void. Source: github.com/wjn922/ReferFormer.
"""

from __future__ import annotations

import re
from pathlib import Path

from dtr1_jax.data import json_files, video_files
from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import benchmark, coco_records, file_names, ref_ytvos, referred_videos
from dtr1_jax.data.readers.benchmark import Benchmark, Query
from dtr1_jax.data.readers.referred_videos import Listing

NAME = "ref_davis17"
COUNTS: dict[str, tuple[int | None, int | None]] = {"valid": (30, None), "train": (60, None)}
LAYOUT = (
    "meta_expressions/SPLIT/meta_expressions.json with SPLIT/JPEGImages and SPLIT/Annotations, or "
    "davis_text_annotations/*.txt with JPEGImages/480p, Annotations_unsupervised/480p and ImageSets/2017"
)
TEXTS = {  # tag -> file, in the order of the expressions of an object
    "annotator1_first_frame": "Davis17_annot1.txt", "annotator1_full_video": "Davis17_annot1_full_video.txt",
    "annotator2_first_frame": "Davis17_annot2.txt", "annotator2_full_video": "Davis17_annot2_full_video.txt",
}  # fmt: skip
NAMES = {"clasic-car": "classic-car", "dog-scale": "dogs-scale", "motor-bike": "motorbike"}  # misspelt in the texts
_LINE = re.compile(r'(\S+)\s+(\d+)\s+"?(.*?)"?\s*')


def open_ref_davis_source(root: str, split: str, task: str) -> Benchmark:
    """Reads the expressions of a split; frames and masks are read when an example is indexed.

    Args:
      root: the folder.
      split: valid or train; "heldout" is valid.
      task: segmentation.

    Raises DataError: no such files, or no expression that can be used.
    """
    folder = Path(root).expanduser()
    split = benchmark.choose_split(folder, split, COUNTS, "valid")
    texts = folder / "davis_text_annotations"
    if file_names.is_folder(folder / "meta_expressions"):
        queries, faults = ref_ytvos.palette_queries(NAME, folder, split, tuple(TEXTS))
    elif file_names.is_folder(texts):
        queries, faults = _text_queries(folder, texts, split)
    else:
        raise DataError(f"{folder}: expected {LAYOUT}, got none of them; set data.root to their folder")
    return referred_videos.open_videos(NAME, folder, split, task, queries, faults, COUNTS[split], LAYOUT)


def _text_queries(folder: Path, texts: Path, split: str) -> tuple[list[Query], coco_records.Faults]:
    base = folder / "DAVIS" if file_names.is_folder(folder / "DAVIS") else folder
    listing = base / "ImageSets" / "2017" / ("val.txt" if split == "valid" else "train.txt")
    if not file_names.is_file(listing):
        raise DataError(f"{folder}: expected {LAYOUT}, got no {listing}; put DAVIS beside the texts")
    names = [name for name in _read(listing).split() if file_names.is_plain(name) and "/" not in name]
    faults = coco_records.Faults()
    rows: dict[str, list[tuple[str, str, str, str]]] = {}  # video -> (object, tag, place, expression)
    for tag, name in TEXTS.items():
        for place, line in enumerate(_read(texts / name).splitlines(), 1):
            match = _LINE.fullmatch(line.strip())
            if match is None:
                faults.add("lines without a video, object and expression", f"{name}:{place}" if line.strip() else "")
                continue
            video = NAMES.get(match[1], match[1])
            rows.setdefault(video, []).append((match[2], tag, f"{match[2]}/{tag}", match[3]))
    queries: list[Query] = []
    for name in names:
        video = _listing(base, name)
        files = ref_ytvos.mask_files(base / "Annotations_unsupervised" / "480p" / name, video) if video else ()
        if video is None or not rows.get(name):
            faults.add("videos without frames or expressions", name)
            continue
        for obj, tag, number, text in sorted(rows[name], key=lambda row: int(row[0])):
            query = ref_ytvos.palette_query(NAME, split, video, number, {"obj_id": obj, "exp": text}, files, (tag,))
            queries += [query] if query else []
            if query is None:
                faults.add("expressions without text, object or masks", f"{name}/{number}")
    return queries, faults


def _listing(base: Path, name: str) -> Listing | None:
    folder = base / "JPEGImages" / "480p" / name
    try:
        files = video_files.list_frames(folder)
    except ImageError:
        return None
    return Listing(name, folder, tuple(file.stem for file in files), files[0].suffix, {})


def _read(path: Path) -> str:
    """A text in UTF-8, or in Latin-1 as one of the two annotators wrote. Raises DataError."""
    raw = json_files.read_bytes(path)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")
