"""Ref-DAVIS17 in both forms gives the same queries; misspelt names are known; void pixels are ignored."""

import dataclasses
import json

import numpy as np
import pytest
from referred_folders import T, names, square, write_frames, write_palette

from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import ref_davis

VALUES = np.array([np.where(square(t), 1, np.where(square(t, y0=18, step=1), 2, 0)) for t in range(T)])
VALUES[:, 0, :3] = 255


def write_texts(root, video="classic-car", name="clasic-car"):
    write_frames(root / "DAVIS/JPEGImages/480p" / video)
    write_palette(root / "DAVIS/Annotations_unsupervised/480p" / video, VALUES)
    (root / "DAVIS/ImageSets/2017").mkdir(parents=True)
    (root / "DAVIS/ImageSets/2017/val.txt").write_text(f"{video}\n")
    (root / "davis_text_annotations").mkdir()
    for tag, file in ref_davis.TEXTS.items():
        lines = [f'{name} {k} "{tag} of {k}"' for k in (2, 1)] + ["", 'other 1 "not of this split"']
        text = "\n".join(lines) + ("\nfianc\xe9e" if "annot2" in file else "")
        (root / "davis_text_annotations" / file).write_bytes(text.encode("latin-1"))
    return root


def write_converted(root, video="classic-car"):
    write_frames(root / "valid/JPEGImages" / video)
    write_palette(root / "valid/Annotations" / video, VALUES)
    folder = root / "meta_expressions/valid"
    folder.mkdir(parents=True)
    rows = [(k, tag) for k in (1, 2) for tag in ref_davis.TEXTS]
    expressions = {str(i): {"exp": f"{tag} of {k}", "obj_id": str(k)} for i, (k, tag) in enumerate(rows)}
    meta = {"videos": {video: {"expressions": expressions, "frames": names()}}}
    (folder / "meta_expressions.json").write_text(json.dumps(meta))
    return root


def opened(root, split="heldout"):
    return dataclasses.replace(ref_davis.open_ref_davis_source(str(root), split, "segmentation"), frames=2)


def test_both_forms(tmp_path):
    texts, converted = opened(write_texts(tmp_path / "1")), opened(write_converted(tmp_path / "2"))
    assert [(q.text, q.tags) for q in texts.queries] == [(q.text, q.tags) for q in converted.queries]
    assert [q.text for q in texts.queries[:5]] == [
        "annotator1_first_frame of 1", "annotator1_full_video of 1", "annotator2_first_frame of 1",
        "annotator2_full_video of 1", "annotator1_first_frame of 2",
    ]  # fmt: skip
    for source in (texts, converted):
        np.testing.assert_array_equal(source[4].target.masks, VALUES[[0, 5]] == 2)
        truth = source[0].whole.truth(3)
        np.testing.assert_array_equal(truth.target, VALUES[3] == 1)
        np.testing.assert_array_equal(truth.ignore, VALUES[3] == 255)
        np.testing.assert_array_equal(source[0].target.ignore, VALUES[0] == 255)


def test_what_is_expected(tmp_path):
    with pytest.raises(DataError, match=r"davis_text_annotations"):
        opened(tmp_path)
    root = write_texts(tmp_path / "1")
    with pytest.raises(DataError, match=r"got no .*train.txt"):
        opened(root, "train")
    (root / "davis_text_annotations/Davis17_annot2.txt").unlink()
    with pytest.raises(DataError, match=r"Davis17_annot2.txt"):
        opened(root)
