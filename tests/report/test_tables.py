"""Headline metrics of runs that have several tasks."""

from report_pages import ParsedPage, record, write_gallery, write_log

from dtr1_jax.evaluation import twin_answers
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


def test_perception_and_reasoning_of_the_first_and_the_last_evaluation(tmp_path):
    def logged(step, *shares):
        cells = dict(zip(twin_answers.CELLS, shares)) | {"examples": 8}
        return {"step": step} | {f"eval/program/vqa/picture/{name}": share for name, share in cells.items()}

    write_log(tmp_path, [logged(0, 0.25, 0.5, 0.25, 0.0), {"step": 1}, logged(2, 0.75, 0.125, 0.125, 0.0)])
    text = ParsedPage(page.build(tmp_path)).text
    assert "Where errors come from" in text
    assert "vqa picture 75.0 % (6) 12.5 % (1) 12.5 % (1) 0.0 % (0) 8" in text
    assert "before training 25.0 % (2) 50.0 % (4) 25.0 % (2) 0.0 % (0) 8" in text
    write_log(tmp_path, [{"step": 0, "eval/program/vqa/picture/examples": "many"}])
    assert "Where errors come from" not in ParsedPage(page.build(tmp_path)).text


def test_requests_to_specialists_in_the_report(tmp_path):
    def logged(step, kind, share, **more):
        return {"step": step, f"{kind}/requested": share, f"{kind}/work": 2.0, **more}

    steps = [logged(s, "train", s / 2, **{"train/update_s": float(s)}) for s in (1, 2)]
    write_log(tmp_path, [logged(0, "eval", 0.0), *steps, logged(2, "eval", 0.75, **{"eval/perceive_s": 9.0})])
    text = ParsedPage(page.build(tmp_path)).text
    assert "What the policy asks specialists for" in text
    assert "held-out, first 0.0 % 2" in text and "held-out, last 75.0 % 2 9" in text
    assert "training, mean of the last 2 steps 75.0 % 2 1.5" in text
    write_log(tmp_path, [{"step": 0, "eval/requested": "all", "eval/work": [1], "train/requested": None}])
    assert "What the policy asks" not in ParsedPage(page.build(tmp_path)).text
