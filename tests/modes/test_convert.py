"""--mode=convert as a user runs it: the report, the sheet, and a file that --mode=check can use."""

import json

import numpy as np
import pytest
from PIL import Image

from configs import seg
from dtr1_jax import config
from dtr1_jax.modes import check, convert, dispatch


@pytest.fixture
def rec(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(8):
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), np.uint8)).save(tmp_path / f"{i}.png")
        rows.append({"image": f"{i}.png", "problem": "the mug", "solution": [4 + i, 5, 40 + i, 30], "dataset": "rec"})
    (tmp_path / "rec.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def test_from_vlm_r1_to_a_check(rec, capsys):
    options = dispatch.Options(source=str(rec / "rec.jsonl"), out=str(rec / "mine.jsonl"))
    assert dispatch.run("convert", None, None, options) == 0
    text = capsys.readouterr().out
    for part in (
        "8 lines (8 with boxes) of 8 queries",
        "format: VLM-R1",
        "pixels of the picture",
        "weak targets",
        "next: ",
    ):
        assert part in text
    assert Image.open(rec / "mine_sheet.png").size[0] == 6 * 400
    c = seg.get_config()
    c.data.source, c.data.root = "jsonl", str(rec / "mine.jsonl")
    text, usable = check.run(config.from_configdict(c))
    assert usable, text


def test_wrong_flags(rec, capsys):
    source, out = str(rec / "rec.jsonl"), str(rec / "mine.jsonl")
    for flags, message in (
        ({}, "needs --from"), ({"source": source, "out": str(rec / "a.json")}, "ends in .jsonl"),
        ({"source": source, "out": source}, "another file than --from"),
        ({"source": source, "out": out, "frame": "inch"}, "--frame: expected one of pixel"),
        ({"source": source, "out": out, "box": "xxyy"}, "--box: expected one of xyxy"),
        ({"source": str(rec / "none"), "out": out}, "no such file or folder"),
    ):  # fmt: skip
        assert dispatch.run("convert", None, None, dispatch.Options(**flags)) == 1
        assert message in capsys.readouterr().err
    assert not (rec / "mine.jsonl").exists() and convert.DRAWN == 12
