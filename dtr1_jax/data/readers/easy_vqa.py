"""easy-VQA (Victor Zhou, MIT licence): pictures of one coloured shape, and questions with one of 13 words as answer.

    ROOT/train/questions.json    [["what is the blue shape?", "rectangle", 0], ...], the last is the picture's number
    ROOT/train/images/0.png ...  64 x 64 pixels
    ROOT/test/...                held out

ROOT is the folder easy_vqa/data of the package's wheel, unpacked (`python -m zipfile -e WHEEL DIR`). Questions are not
in the order of the pictures but in one that is drawn once and for all, so that the first few are about many pictures.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from dtr1_jax.data import image_files, json_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers.jsonl_fields import is_text
from dtr1_jax.types import Example, Target

FOLDERS = {"train": "train", "heldout": "test"}


@dataclasses.dataclass(frozen=True, repr=False)
class EasyVqa:
    """One example a question."""

    folder: Path
    split: str
    items: tuple[tuple[str, str, int, int], ...]  # question, answer, number of the picture, number of the question

    def __repr__(self) -> str:
        return f"EasyVqa({self.folder.as_posix()!r}, split={self.split!r}, items={len(self.items)})"

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> Example:
        """Example `index`. Raises ImageError where its picture can not be read; IndexError."""
        question, answer, number, k = self.items[index]
        image = image_files.load_image(self.folder / "images" / f"{number}.png")
        nothing = np.zeros(image.shape[:2], bool), np.zeros((0, 4), np.float32)
        target = Target(*nothing, references=(answer,))
        return Example(f"easy_vqa/{self.split}/{number}/{k}", image, question, "vqa", target)


def open_folder(root: str, split: str) -> EasyVqa:
    """Reads the questions of "train" or "heldout"; pictures are read when asked for. Raises DataError."""
    if split not in FOLDERS:
        raise DataError(f"{root}: expected data.*_split {' or '.join(FOLDERS)}, got {split!r}")
    folder = Path(root) / FOLDERS[split]
    rows = json_files.read_json(folder / "questions.json")
    if not isinstance(rows, list) or not rows or not all(map(_is_row, rows)):
        raise DataError(f"{folder / 'questions.json'}: expected [[question, answer, picture], ...], got something else")
    items = [(question, answer, number, k) for k, (question, answer, number) in enumerate(rows)]
    return EasyVqa(folder, split, tuple(sorted(items, key=_drawn)))


def _is_row(row: Any) -> bool:
    whole = isinstance(row, list) and len(row) == 3 and is_text(row[0]) and is_text(row[1])
    return whole and type(row[2]) is int and 0 <= row[2] < 10**9


def _drawn(item: tuple) -> bytes:
    return hashlib.blake2b(repr(item).encode("utf-8", "replace"), digest_size=8).digest()
