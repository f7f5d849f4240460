"""The table of requests: what is shown, and what is left out."""

from dtr1_jax.evaluation import request_table

NUMBERS = {
    "eval/requested": 0.875, "eval/work": 2.5, "eval/work_detect": 1.0, "eval/needless": 0.1, "eval/perceive_s": 12.34,
    "eval/update_s": None,
}  # fmt: skip


def test_lines_by_hand():
    train = {"train/requested": 1, "train/work": 3, "train/update_s": 0.5, "train/needless": float("nan")}
    rows = {"held-out": NUMBERS, "training": train, "another run": {"eval/giou": 1.0}}
    assert request_table.lines(rows, {"held-out": "eval", "training": "train", "another run": "eval"}) == [
        ["", "sound requests", "work a query", "detect", "needless", "perceive (s)", "update (s)"],
        ["held-out", "87.5 %", "2.5", "1", "10.0 %", "12.3", ""],
        ["training", "100.0 %", "3", "", "", "", "0.5"],
    ]


def test_text_of_an_evaluation():
    text = request_table.format_figures(NUMBERS)
    assert text.splitlines()[:2] == ["requests to specialists", "sound requests  87.5 %"]
    assert "perceive (s)    12.3" in text and "update" not in text
    assert request_table.format_figures({"eval/giou": 0.5}) == ""
