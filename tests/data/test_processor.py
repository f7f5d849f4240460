"""Geometry as a checkpoint's files have it, in the forms in which they were released, and files that are wrong."""

import json

import pytest

from dtr1_jax.data import processor
from dtr1_jax.data.json_files import DataError

# As the released checkpoints have them, without what is of no use here.
QWEN2_5 = {
    "min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14, "temporal_patch_size": 2, "merge_size": 2,
    "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
    "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor",
}  # fmt: skip
QWEN3 = {
    "size": {"longest_edge": 16777216, "shortest_edge": 65536}, "patch_size": 16, "temporal_patch_size": 2,
    "merge_size": 2, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
    "processor_class": "Qwen3VLProcessor", "image_processor_type": "Qwen2VLImageProcessorFast",
}  # fmt: skip
QWEN3_VIDEO = QWEN3 | {"size": {"longest_edge": 25165824, "shortest_edge": 4096}}


def write(folder, **files):
    for name, values in files.items():
        (folder / f"{name}.json").write_text(values if isinstance(values, str) else json.dumps(values))
    return folder


def test_released_files_are_the_known_defaults(tmp_path):
    folder = write(tmp_path, preprocessor_config=QWEN2_5)
    known = processor.geometry(None, "qwen2_5_vl", side=0, window=4)
    assert processor.geometry(folder, "qwen2_5_vl", side=0, window=4) == known
    assert (known.patch, known.factor, known.rule, known.window) == (14, 28, "smart", 4)
    assert not known.video.stamped and known.video.time_scale == 2
    folder = write(tmp_path, preprocessor_config=QWEN3, video_preprocessor_config=QWEN3_VIDEO)
    known = processor.geometry(None, "qwen3_vl", side=48)
    assert processor.geometry(folder, "qwen3_vl", side=48) == known == processor.DEFAULTS["qwen3_vl"]
    assert known.video.stamped and known.video.whole


def test_one_file_for_both(tmp_path):
    both = {"image_processor": QWEN3, "video_processor": QWEN3_VIDEO | {"fps": 1, "max_frames": 64}}
    geometry = processor.geometry(write(tmp_path, processor_config=both), "qwen3_vl", side=48)
    assert (geometry.max_pixels, geometry.video.max_pixels) == (16777216, 25165824)
    assert (geometry.video.fps, geometry.video.max_frames) == (1.0, 64)


def test_the_files_settings_are_used(tmp_path):
    other = QWEN2_5 | {"patch_size": 8, "merge_size": 3, "image_mean": [0.1, 0.2, 0.3], "max_pixels": 57600}
    geometry = processor.geometry(write(tmp_path, preprocessor_config=other), "qwen2_5_vl", side=7, time_scale=4)
    assert (geometry.patch, geometry.merge, geometry.mean, geometry.side) == (8, 3, (0.1, 0.2, 0.3), 7)
    assert (geometry.max_pixels, geometry.video.max_pixels, geometry.video.time_scale) == (57600, 57600, 4.0)


def test_settings_win(tmp_path):
    folder = write(tmp_path, preprocessor_config=QWEN3, video_preprocessor_config=QWEN3_VIDEO)
    geometry = processor.geometry(
        folder, "qwen3_vl", side=48, max_pixels=50_000, video_pixels=4000, fps=0.5, max_frames=3
    )
    assert (geometry.max_pixels, geometry.min_pixels) == (50_000, 50_000)
    assert (geometry.video.max_pixels, geometry.video.min_pixels) == (4000, 4000)
    assert (geometry.video.fps, geometry.video.min_frames, geometry.video.max_frames) == (0.5, 3, 3)


@pytest.mark.parametrize(
    "values, words",
    [
        ("{", "expected JSON, got a file that breaks off"),
        ([], "expected a JSON object, got list"),
        ({"patch_size": "16"}, "patch_size: expected a number above 0, got '16'"),
        ({"size": {"shortest_edge": -1}}, "shortest_edge: expected a number above 0, got -1"),
        ({"image_mean": [0.5]}, r"image_mean: expected three numbers in \(0, 1\], got \[0.5\]"),
        ({"image_std": [0, 1, 1]}, "image_std: expected three numbers"),
        ({"resample": 2}, "resample: expected 3, got 2, which is not supported"),
        ({"do_normalize": False}, "do_normalize: expected True, got False"),
    ],
)
def test_bad_files(tmp_path, values, words):
    with pytest.raises(DataError, match=rf"{tmp_path}/preprocessor_config.json: {words}"):
        processor.geometry(write(tmp_path, preprocessor_config=values), "qwen3_vl", side=48)


def test_pictures_and_videos_disagree(tmp_path):
    folder = write(tmp_path, preprocessor_config=QWEN3, video_preprocessor_config=QWEN3_VIDEO | {"merge_size": 3})
    with pytest.raises(
        DataError, match=r"video_preprocessor_config.json: merge_size: expected that of pictures, 2, got 3"
    ):
        processor.geometry(folder, "qwen3_vl", side=48)


def test_limits_that_cannot_be_met(tmp_path):
    folder = write(tmp_path, preprocessor_config=QWEN3)
    with pytest.raises(DataError, match="processor's settings cannot be used: max_pixels = 900 is less than one token"):
        processor.geometry(folder, "qwen3_vl", side=48, max_pixels=900)
