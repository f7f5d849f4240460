"""docs/quirks.md lists the rows of the test tables: the same quirks, in the same order, with the same outcome."""

import re
from pathlib import Path

import pytest
import scripts

PAGE = Path(__file__).parents[1] / "docs" / "quirks.md"
FAMILIES = {  # heading of the page -> file with the table
    "Files in COCO's form": "tests/data/readers/test_quirks_coco.py",
    "JSON lines": "tests/data/readers/test_quirks_jsonl.py",
    "Conversations and rows of other trainers": "tests/data/conversion/test_quirks_rows.py",
    "Folders of YOLO and Pascal VOC": "tests/data/conversion/test_quirks_folders.py",
    "Videos": "tests/data/conversion/test_quirks_videos.py",
    "Public benchmarks": "tests/data/readers/test_quirks_benchmarks.py",
}


def table(file: str) -> tuple:
    """The rows of a test file."""
    return scripts.load_script(file).QUIRKS


def cell(text: str) -> str:
    """A text as a cell of a table in Markdown."""
    return re.sub(r"([<*_|\\])", r"\\\1", text) if "`" not in text else text


@pytest.mark.parametrize("title", FAMILIES)
def test_the_page_lists_the_rows(title):
    (section,) = re.findall(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", PAGE.read_text("utf-8"), re.M | re.S)
    listed = re.findall(r"^\| (.*) \| (.*) \|$", section, re.M)[1:]
    quirks = table(FAMILIES[title])
    assert listed == [(cell(quirk.name), cell(quirk.happens)) for quirk in quirks]
    assert len(quirks) >= 30 and len({quirk.name for quirk in quirks}) == len(quirks)


def test_the_page_has_no_other_tables():
    assert re.findall(r"^## (.*)$", PAGE.read_text("utf-8"), re.M) == list(FAMILIES)
