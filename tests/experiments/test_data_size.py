"""The data sets of experiments/data_size.py are such as the readers know."""

import scripts

from dtr1_jax.data.readers import coco, jsonl

data_size = scripts.load_script("experiments/data_size.py")


def test_small_ones_are_read(tmp_path):
    data_size.write_coco(tmp_path / "coco", photos=12, notes=100)
    parts = [
        coco.open_coco_source(str(tmp_path / "coco"), split, "segmentation", seed=0, max_objects=7)
        for split in ("train", "heldout")
    ]
    assert sum(map(len, parts)) == 4 * 12 and parts[0][0].target.mask.shape == (480, 640)
    data_size.write_lines(tmp_path / "lines" / "a.jsonl", lines=30, pictures=9)
    lines = [
        jsonl.open_jsonl_source(str(tmp_path / "lines" / "a.jsonl"), split, "segmentation", max_objects=7)
        for split in ("train", "heldout")
    ]
    assert sum(map(len, lines)) == 30 and lines[0][0].target.mask.any()
