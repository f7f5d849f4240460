"""Findings as text: every number that a user needs is there, with the next step."""

from dtr1_jax.report import data_summary

PART = {
    "split": "train", "examples": 1234, "tasks": {"segmentation": 1000, "vqa": 234}, "sample": 10, "usable": 8,
    "unusable": {"the picture is corrupt": 2}, "messages": ["1.jpg: the picture is corrupt"],
    "warnings": ["left out 3"],
    "pointing": 4, "empty_targets": 1, "boxes": 9, "tiny_boxes": 2, "masks": 3, "tiny_masks": 1, "tiny_below": 8,
    "objects": {"fewest": 1, "mean": 2.5, "most": 7}, "sizes": [[10, 20], [4000, 3000]],
    "cut_scenes": 3, "labels": {f"label{k}": 30 - k for k in range(20)}, "labels_of": "all", "answers": {"2": 4},
    "prompt": {"limit": 96, "longest": 120, "uid": "a/1", "too_long": 1},
}  # fmt: skip
SHARED = {"files": 5, "count": 1, "complete": True, "examples": [["train/1.jpg", "val/9.jpg"]]}


def text(train=PART, heldout=PART, shared=SHARED):
    findings = {"data": "coco DIR", "train": train, "heldout": heldout, "shared_pictures": shared}
    return "\n".join(data_summary.table(findings))


def test_the_table_says_all():
    found = text()
    for part in (
        "1,234 examples: 1,000 segmentation, 234 vqa", "sample of 10: 8 can be used", "1 of 4 targets (25%) are empty",
        "1 to 7 objects in a picture, 2.5 in the mean", "10x20 to 4000x3000", "2 of 9 boxes have a side below 8 pixels",
        "1 of 3 masks are below 8 x 8", "labels: 20 in all annotations: label0 30", "rare: label15 15",
        "left out objects: 3 of 8 scenes have more than data.max_objects",
        "answers: 2 4", "the longest of the sample has 120 of 96 tokens; 1 are too long", "raise policy.prompt_tokens",
        "left out 2 of the sample: the picture is corrupt", "such as: 1.jpg", "warning: left out 3",
        "1 of 5 held-out files have the content of a training file, such as val/9.jpg and train/1.jpg",
    ):  # fmt: skip
        assert part in found, part


def test_few_labels_have_no_rare_ones_and_none_is_said():
    assert "rare" not in text({**PART, "labels": {"dog": 1}}, {**PART, "labels": {}})
    assert "labels: none in all annotations" in text(PART, {**PART, "labels": {}})


def test_splits_that_cannot_be_opened():
    found = text({"split": "train", "error": "no such file"}, shared={**SHARED, "count": 0, "complete": False})
    assert "train: cannot be opened: no such file" in found and "large files were not compared" in found
    assert "generated" in text(shared={**SHARED, "files": 0})


def test_the_summary_has_five_lines():
    lines = data_summary.summary(
        {"data": "coco DIR", "train": PART, "heldout": {**PART, "tasks": {"a": 1, "b": 1, "c": 1}}}
    )
    assert len(lines) == 5 and "heldout 1,234 (3 kinds of query)" in lines[0]
    assert "left out 4 of a sample of 20: the picture is corrupt" in lines[4]
