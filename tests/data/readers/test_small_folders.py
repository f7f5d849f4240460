"""Small folders as users have them, where they lie beside the repository: each is read right, or refused by name."""

import pathlib

import assets
import pytest

from dtr1_jax.data import video_files
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import coco, davis, jsonl

CASES = assets.ROOT.parent / "cases"


def case(name: str) -> pathlib.Path:
    """A folder of the cases; skips the test where it is absent."""
    if not (CASES / name).exists():
        pytest.skip(f"no {name} in {CASES}; set DTR1_ASSETS to the folder of test data beside it")
    return CASES / name


def open_split(kind: str, root: pathlib.Path, split: str, task: str = "segmentation"):
    if kind == "coco":
        return coco.open_coco_source(str(root), split, task, seed=0, max_objects=7)
    if kind == "davis":
        return davis.open_davis_source(str(root), split, task, seed=0, max_objects=7)
    return jsonl.open_jsonl_source(str(root), split, task, max_objects=7)


# Folder -> (reader, task, share of queries without an answer at most, words of the warning or "").
READ = {
    "01_cvat_masks_iscrowd1": ("coco", "segmentation", 0.3, "36 annotations with iscrowd 1 are read as single objects"),
    "02_roboflow_layout": ("coco", "segmentation", 0.3, "such as kitchen"),
    "03_roboflow_root_category": ("coco", "segmentation", 0.3, "such as kitchen"),
    "04_boxes_only": ("coco", "grounding", 0.3, "have no outline: their boxes are used"),
    "05_half_boxes": ("coco", "segmentation", 0.3, "have a box and no outline"),
    "06_duplicate_image_ids": ("coco", "segmentation", 0.3, "16: 0.jpg and 11.jpg"),
    "07_exif_size_as_stored": ("coco", "segmentation", 0.3, ""),
    "09_float_sizes_string_ids": ("coco", "segmentation", 0.3, ""),
    "13_davis_rgb_masks": ("davis", "segmentation", 0.5, ""),
}
# File -> (reader, words of the refusal).
REFUSED = {
    "04_boxes_only": ("coco", "expected polygons or RLE for segmentation"),
    "14_norm_boxes/a.jsonl": ("jsonl", "smaller than a pixel, [0.1, 0.2, 0.5, 0.6], which looks normalised"),
    "15_other_formats/llava.json": ("jsonl", "LLaVA's format"),
    "15_other_formats/llava.jsonl": ("jsonl", "LLaVA's format"),
    "15_other_formats/rec.jsonl": ("jsonl", "VLM-R1's format"),
    "15_other_formats/train.parquet": ("jsonl", "Parquet"),
    "15_other_formats/swift.jsonl": ("jsonl", "ms-swift"),
    "15_other_formats/list.json": ("jsonl", "one JSON list of 8"),
    "15_other_formats/backpoint.jsonl": ("jsonl", 'write "boxes"'),
    "15_other_formats/dict.jsonl": ("jsonl", "an object with x1, y1, x2, y2"),
    "15_other_formats/url.jsonl": ("jsonl", "download the file first"),
}


@pytest.mark.parametrize("name", READ)
def test_folders_that_are_read(name, caplog):
    kind, task, share, words = READ[name]
    root = case(name)
    for split in ("train", "heldout"):
        source = open_split(kind, root, split, task)
        examples = [source[i] for i in range(min(24, len(source)))]
        assert examples and all(example.scene for example in examples)
        assert sum(example.answer_ids == () for example in examples) <= share * len(examples)
        for example in examples:
            labels = {o.label for o in example.scene}
            assert "kitchen" not in labels and "kitchen" not in example.query
    assert words in caplog.text and (words or not caplog.records)


@pytest.mark.parametrize("name", REFUSED)
def test_files_that_are_refused_in_one_line(name):
    kind, words = REFUSED[name]
    with pytest.raises(DataError) as refusal:
        open_split(kind, case(name), "train")
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


def test_colours_of_masks_are_objects():
    source = open_split("davis", case("13_davis_rgb_masks"), "train")
    assert {len(source[i].scene) for i in range(20)} == {2}


def test_frames_without_padding():
    names = [file.name for file in video_files.list_frames(case("12_unpadded_frames") / "frames")]
    assert names == [f"frame_{i}.jpg" for i in range(1, 13)]


def test_a_lossy_mask_is_the_mask_of_its_png(caplog):
    source = open_split("jsonl", case("16_jpeg_mask") / "mask.jsonl", "train")
    exact, lossy = source[0].target, source[1].target
    assert exact.mask.sum() == 6421 and (exact.mask != lossy.mask).sum() < 0.01 * 6421
    assert (abs(exact.boxes - lossy.boxes) <= 1.01 / 240).all()
    assert "1 masks are JPEG" in caplog.text
