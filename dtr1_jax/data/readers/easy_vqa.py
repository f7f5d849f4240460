"""easy-VQA (Victor Zhou, MIT licence): pictures of one coloured shape, and questions whose answer is one of 13 words.

    ROOT/train/questions.json    [["what is the blue shape?", "rectangle", 0], ...], the last is the picture's number
    ROOT/train/images/0.png ...  64 x 64 pixels
    ROOT/test/...                held out

ROOT is the folder easy_vqa/data of the package's wheel, unpacked (`python -m zipfile -e WHEEL DIR`). The questions are
shuffled, always in the same way: the file lists them by picture, and the first few should be about many pictures.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from dtr1_jax.data import image_files, json_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import file_names
from dtr1_jax.data.readers.jsonl_fields import is_text
from dtr1_jax.run import local_copy
from dtr1_jax.twin.schema import show
from dtr1_jax.types import Example, Target

FOLDERS = {"train": "train", "heldout": "test"}


@dataclasses.dataclass(frozen=True, repr=False)
class EasyVqa:
    """One example for each question."""

    folder: Path
    split: str
    items: tuple[tuple[str, str, int, int], ...]  # question, answer, number of the picture, number of the question

    def __repr__(self) -> str:
        return f"EasyVqa({local_copy.stable_name(self.folder)!r}, split={self.split!r}, items={len(self.items)})"

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Example:
        """Example `index`. Raises ImageError if its picture cannot be read; IndexError."""
        question, answer, number, k = self.items[index]
        image = image_files.load_image(self.folder / "images" / f"{number}.png")
        no_mask, no_boxes = np.zeros(image.shape[:2], bool), np.zeros((0, 4), np.float32)
        target = Target(no_mask, no_boxes, references=(answer,))
        return Example(f"easy_vqa/{self.split}/{number}/{k}", image, question, "vqa", target)


def open_easy_vqa_source(root: str, split: str) -> EasyVqa:
    """Reads the questions of a split and returns its examples; each picture is read when its example is indexed.

    Args:
      root: the folder.
      split: "train" or "heldout".

    Raises DataError: another split, or no questions.json of the form above.
    """
    if split not in FOLDERS:
        raise DataError(f"{root}: expected data.*_split {' or '.join(FOLDERS)}, got {split!r}; set it to one of them")
    folder = Path(root) / FOLDERS[split]
    file = folder / "questions.json"
    if not file_names.is_file(file):
        wheels = sorted(Path(root).glob("*.whl")) if file_names.is_folder(Path(root)) else []
        unpack = f"unpack the wheel, python -m zipfile -e {wheels[0] if wheels else 'WHEEL'} DIR, and set data.root to"
        raise DataError(f"{file}: no such file; {unpack} DIR/easy_vqa/data")
    rows = json_files.read_json(file)
    if not isinstance(rows, list) or not rows:
        fault = "an empty list" if rows == [] else "no list"
        raise DataError(f"{file}: expected [[question, answer, picture], ...], got {fault}; unpack the wheel again")
    wrong = next((i for i, row in enumerate(rows) if not _is_row(row)), None)
    if wrong is not None:
        raise DataError(
            f"{file}: expected [question, answer, picture] as item {wrong + 1}, got {show(rows[wrong])}; "
            "unpack the wheel again"
        )
    items = [(question, answer, number, k) for k, (question, answer, number) in enumerate(rows)]
    return EasyVqa(folder, split, tuple(sorted(items, key=_shuffle_key)))


def _is_row(row: Any) -> bool:
    texts = isinstance(row, list) and len(row) == 3 and is_text(row[0]) and is_text(row[1])
    return texts and type(row[2]) is int and 0 <= row[2] < 10**9


def _shuffle_key(item: tuple) -> bytes:
    return hashlib.blake2b(repr(item).encode("utf-8", "replace"), digest_size=8).digest()
