"""Headline metrics of runs that have several tasks."""

from report_pages import ParsedPage, record, write_gallery, write_log

from dtr1_jax.report import page


def test_a_run_of_other_tasks(tmp_path):
    shared = {"eval/mean": 0.5, "eval/structure": 1.0}
    write_log(tmp_path, [{"step": s, **shared, "eval/vqa/video/accuracy": 0.25 + s / 4} for s in (0, 1)])
    vqa = {"metric": "accuracy", "value": 0.5, "references": ["two", "<b>2"], "answer": {"text": "3"}, "giou": None}
    write_gallery(tmp_path, "after", [record(**vqa, pictures={}), record("b", references=3, value="much", giou=None)])
    parsed = ParsedPage(page.build(tmp_path))
    for phrase in (
        "vqa, video: accuracy held-out 0.250 → 0.500 +0.250", "mean of the tasks held-out 0.500", "accuracy 0.50",
        "reference two", "reference <b>2",
    ):  # fmt: skip
        assert phrase in parsed.text, phrase
    assert "gIoU" not in parsed.text and "IoU 0" not in parsed.text
