"""Sheets of queries for a check by eye, and the count of verdicts."""

import csv
import itertools
import sys

import numpy as np
import pytest
import scripts
from PIL import Image

query_check = scripts.load_script("experiments/query_check.py")


def test_sheets_and_a_table_of_all_tasks(tmp_path, monkeypatch):
    arguments = ["query_check.py", "--n=7", "--seed=3", "--columns=2", "--rows=2", f"--out={tmp_path}"]
    monkeypatch.setattr(sys, "argv", arguments)
    query_check.main()
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    drawn = list(query_check.drawn("twinworld", "", "heldout", 7, 3))
    assert [row["query"] for row in rows] == [example.query for example in drawn]
    assert all(row["answer"] and not row["verdict"] for row in rows) and len({row["uid"] for row in rows}) == 7
    sheets = [np.asarray(Image.open(path)) for path in sorted(tmp_path.glob("sheet_*.png"))]
    assert len(sheets) == 2 and all(sheet.shape[1] == 1440 for sheet in sheets)
    pointed = next(e for e in drawn if e.target.masks is None and e.target.mask.any())
    pixels = np.asarray(query_check.tile(pointed, 0, 2))
    assert (pixels == (255, 0, 255)).all(2).sum() > 100, "the target is outlined"


def test_verdicts_are_counted_and_missing_ones_refused(tmp_path):
    table = tmp_path / "table.csv"
    verdicts = ("right", "wrong", "doubtful", "right")
    rows = [
        {"number": n, "source": "coco", "verdict": verdict, "annotation": "yes" if n == 1 else ""}
        for n, verdict in zip(itertools.count(), verdicts)
    ]
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, query_check.COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    assert query_check.verdicts([table]) == {"coco": {"right": 2, "wrong": 1, "doubtful": 1, "annotation": 1}}
    table.write_text(table.read_text().replace("doubtful", ""))
    with pytest.raises(SystemExit, match="row 2: expected a verdict"):
        query_check.verdicts([table])
