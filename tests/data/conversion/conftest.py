"""Foreign data sets of a few grey pictures, and their conversion."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from dtr1_jax.modes import convert
from dtr1_jax.report import data_sheet


@dataclasses.dataclass(frozen=True)
class Result:
    """The lines of a converted file and the report about it."""

    lines: list
    text: str

    @property
    def boxes(self):
        return [line["boxes"] for line in self.lines]


class Case:
    """A folder with a foreign data set."""

    def __init__(self, root):
        self.root = root
        self.photos(3)

    def photos(self, count, size=(640, 480), folder=".", first=0, suffix=".png"):
        """Writes pictures 0.png, 1.png, ... of (w, h) pixels, each of another colour."""
        (self.root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(first, first + count):
            pixels = np.full((size[1], size[0], 3), 20 + 7 * i, np.uint8)
            Image.fromarray(pixels).save(self.root / folder / f"{i}{suffix}")

    def write(self, rows, name="data.jsonl"):
        """Writes rows as JSON lines, or as one JSON list if the name ends in .json."""
        text = json.dumps(rows) if name.endswith(".json") else "\n".join(map(json.dumps, rows))
        (self.root / name).write_text(text, "utf-8")
        return self.root / name

    def convert(self, source=None, **flags):
        """Converts a file or folder, by default the whole folder."""
        out = self.root / "out" / "mine.jsonl"
        text = convert.run(str(source or self.root), str(out), **flags)
        return Result([json.loads(line) for line in out.read_text("utf-8").splitlines()], text)

    def rows(self, rows, name="data.jsonl", **flags):
        """Writes and converts rows."""
        return self.convert(self.write(rows, name), **flags)


@pytest.fixture
def case(tmp_path, monkeypatch):
    # The sheet has tests of its own, and most of the time of a conversion this small.
    monkeypatch.setattr(data_sheet, "sheet", lambda examples: np.zeros((1, len(examples), 3), np.uint8))
    monkeypatch.setattr(convert, "DRAWN", 2)
    return Case(tmp_path)
