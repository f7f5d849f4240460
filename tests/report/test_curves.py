"""A line for each task in the panels of metrics that tasks share."""

from report_pages import ParsedPage, write_log

from dtr1_jax.report import page


def test_a_line_for_each_task(tmp_path):
    rows = [
        {"step": s, "train/reward": 0.1, "train/segmentation/reward": 0.2 * s, "train/vqa/reward": 0.1 * s,
         "train/vqa/length": 9.0, "train/ema_std/segmentation": 0.3, "train/ema_std/vqa": 0.2, "eval/giou/summary": 1}
        for s in range(3)
    ]  # fmt: skip
    write_log(tmp_path, rows)
    parsed = ParsedPage(page.build(tmp_path))
    figures = {f.partition("<figcaption>")[2].partition("<")[0]: f for f in parsed.source.split("<figure")[1:]}
    reward = figures["train/reward by task"]
    assert reward.count("<polyline") == 2 and "legend" in reward
    assert '<i class="c0"></i>segmentation' in reward and '<i class="c2"></i>vqa' in reward
    assert "vqa: 0.2 at step 2" in reward and 'class="c2" cx=' in reward
    assert 'class="c2" cx=' in figures["train/length by task"]  # a task has one colour, also where it is alone
    assert '<i class="c2"></i>vqa' in figures["train/ema_std by task"]
    assert "eval/giou by task" in figures and "train/vqa/length" not in parsed.text
    assert "by task" in list(figures)[9]  # after the panels that a person looks at first
