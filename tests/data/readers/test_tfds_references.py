"""ref_coco of tensorflow_datasets: sentences, boxes and masks by hand; other formats and features are refused."""

import dataclasses
import logging
import pickle
import subprocess
import sys

import numpy as np
import pytest
from tfds_folders import H, W, write_tfds

from configs import default
from dtr1_jax import config
from dtr1_jax.data import sources
from dtr1_jax.data.image_files import ImageError
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import tfds_references


def opened(root, name="ref_coco/refcoco_unc", split="heldout", task="segmentation", **settings):
    return tfds_references.open_tfds_source(str(root), name, split, task, **({"max_objects": 7} | settings))


def test_sentences_boxes_and_masks(tmp_path, caplog):
    write_tfds(tmp_path)
    with caplog.at_level(logging.WARNING):
        source = opened(tmp_path)
    assert "3 refs, but the published split has 3811" in caplog.text
    assert "2 pictures, but the published split has 1500" in caplog.text
    assert [(q.uid, q.text) for q in source.queries] == [
        ("tfds/validation/9/0/109", "The Dog!"), ("tfds/validation/9/0/110", "left animal"),
        ("tfds/validation/9/1/111", "man"), ("tfds/validation/25/0/125", "only person"),
    ]  # fmt: skip
    dog = pickle.loads(pickle.dumps(source))[1]
    expected = np.zeros((H, W), bool)
    expected[5:15, 4:14] = True
    np.testing.assert_array_equal(dog.target.mask, expected)
    np.testing.assert_allclose(dog.target.boxes, [[4 / W, 5 / H, 14 / W, 15 / H]], rtol=1e-5)
    assert [(item.label, item.outlined) for item in dog.scene] == [("dog", True), ("person", True)]
    assert dog.answer_ids == (1,) and dog.benchmark == "refcoco" and round(dog.image.mean()) == 9


def test_without_masks_only_boxes_are_asked_for(tmp_path):
    write_tfds(tmp_path, version="1.0.0", masks=False)
    with pytest.raises(DataError, match=r"expected masks for segmentation, got none, as in version 1\.0\.0"):
        opened(tmp_path)
    man = opened(tmp_path, task="grounding")[2]
    np.testing.assert_allclose(man.target.boxes, [[20 / W, 2 / H, 36 / W, 28 / H]], rtol=1e-5)
    assert [item.outlined for item in man.scene] == [False, False]
    write_tfds(tmp_path)
    assert opened(tmp_path)[0].target.mask.any()  # the highest version
    with pytest.raises(DataError, match=r"expected masks"):
        opened(tmp_path, "ref_coco/refcoco_unc:1.0.0")


def test_names_folders_and_splits(tmp_path):
    folder = write_tfds(tmp_path, config="refcocoplus_unc")
    assert opened(tmp_path, "ref_coco/refcocoplus_unc")[0].benchmark == "refcoco+"
    with pytest.raises(DataError, match=r"expected data\.\*_split to be one of validation, got 'testA'"):
        opened(tmp_path, "ref_coco/refcocoplus_unc", "testA")
    with pytest.raises(DataError, match=r"expected ref_coco/refcoco_unc/VERSION.*no such folder"):
        opened(tmp_path)
    for name in ("", "../x", "ref_coco/../..", "a b"):
        with pytest.raises(DataError, match=r"data\.name: expected|got"):
            opened(tmp_path, name)
    (folder / "dataset_info.json").write_text("{")
    tfds_references._open.cache_clear()
    with pytest.raises(DataError, match=r"tensorflow_datasets cannot read it"):
        opened(tmp_path, "ref_coco/refcocoplus_unc")


def test_other_formats_and_features(tmp_path):
    write_tfds(tmp_path / "1", kind="tfrecord")
    with pytest.raises(DataError, match=r"expected files in the format array_record.*tfds convert_format"):
        opened(tmp_path / "1")
    folder = write_tfds(tmp_path / "2")
    text = (folder / "features.json").read_text()
    (folder / "features.json").write_text(text.replace("tensorflow_datasets.core.features.text", "antigravity"))
    with pytest.raises(DataError, match=r"expected classes of tensorflow_datasets, got 'antigravity"):
        opened(tmp_path / "2")


def test_damaged_files_cost_their_examples(tmp_path):
    folder = write_tfds(tmp_path)
    source = opened(tmp_path)
    assert source[3].target.mask.any()
    tfds_references._open.cache_clear()
    for file in folder.glob("*array_record-00001*"):
        file.write_bytes(file.read_bytes()[:40])
    with pytest.raises((DataError, ImageError)):
        opened(tmp_path)
    with pytest.raises((DataError, ImageError)):
        source[3]


def test_the_setting(tmp_path):
    write_tfds(tmp_path)
    values = default.get_config()
    values.data.source, values.data.root, values.data.task = "tfds", str(tmp_path), "grounding"
    with pytest.raises(config.ConfigError, match=r"data\.name: expected the data set, such as ref_coco/refcoco_unc"):
        config.from_configdict(values)
    values.data.name = "ref_coco/refcoco_unc"
    data = config.from_configdict(values).data
    assert len(sources.open_source(data, "heldout")) == 4 and sources.max_frames(data) == 1
    with pytest.raises(DataError, match=r"got no such folder"):
        sources.open_source(dataclasses.replace(data, name="ref_coco/refcocog_umd"), "heldout")
    values.data.source = "coco"
    with pytest.raises(config.ConfigError, match=r"data\.name: expected no name for data\.source=coco"):
        config.from_configdict(values)


def test_tensorflow_is_not_imported(tmp_path):
    write_tfds(tmp_path)
    code = (
        "import sys; from dtr1_jax.data.readers import tfds_references as t\n"
        f"s = t.open_tfds_source({str(tmp_path)!r}, 'ref_coco/refcoco_unc', 'val', 'grounding', max_objects=3)\n"
        "print(s[0].query, 'tensorflow' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "The Dog! False"
