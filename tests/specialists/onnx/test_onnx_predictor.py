"""ONNX files in a worker process: results, and files that hang, ask for memory or reach outside their folder."""

import json

import numpy as np
import onnx_files as files
import pytest

from dtr1_jax import specialists
from dtr1_jax.checked_fields import ConfigError
from dtr1_jax.models.weights.native import WeightsError
from dtr1_jax.specialists.onnx import predictor, spec
from tests import assets

DEPTH = {"kind": "depth", "file": "m.onnx", "input": {"name": "x", "height": 4, "width": 6},
         "depth": {"output": "depth", "meaning": "depth", "metres": 2.0}}  # fmt: skip


@pytest.fixture(scope="module")
def runtime():
    pytest.importorskip("onnxruntime", reason="needs the extra [onnx]")


def write(folder, data, description=DEPTH):
    (folder / "m.onnx").write_bytes(data)
    if description is not None:
        (folder / "specialist.json").write_text(json.dumps(description))
    return folder


def test_input_by_hand():
    value = {"name": "x", "height": 4, "width": 8, "channels": "BGR", "scale": 1.0, "mean": [1, 2, 3], "std": [1, 2, 4]}
    image = np.zeros((2, 2, 3), np.uint8)
    image[..., 0], image[..., 2] = 10, 20  # red, blue
    settings = spec.from_dict(DEPTH | {"input": value | {"resize": "letterbox", "fill": 0}}, "d").input
    array, place = predictor.prepared(settings, image)
    assert array.shape == (1, 3, 4, 8) and place == (2, 0, 4, 4)
    np.testing.assert_allclose(array[0, :, 1, 3], [19, -1, (10 - 3) / 4])
    np.testing.assert_allclose(array[0, :, 0, 0], [-1, -1, -3 / 4])
    settings = spec.from_dict(DEPTH | {"input": value | {"resize": "corner", "layout": "NHWC"}}, "d").input
    array, place = predictor.prepared(settings, image)
    assert array.shape == (1, 4, 8, 3) and place == (0, 0, 4, 4)
    array, place = predictor.prepared(spec.from_dict(DEPTH, "d").input, image)
    assert place == (0, 0, 6, 4) and array.shape == (1, 3, 4, 6)


def test_depth(runtime, tmp_path):
    image = np.zeros((8, 12, 3), np.uint8)
    image[:, 6:] = 255
    with specialists.load(write(tmp_path, files.mean_of_channels())) as model:
        (one, other) = model.estimate([image, image[:, :, 0]])
        assert one.nearness.shape == (8, 12) and one.nearness.dtype == np.float32
        np.testing.assert_allclose(one.metres[:, 0], 2.0)
        np.testing.assert_allclose(one.metres[:, -1], 4.0)
        np.testing.assert_array_equal(one.nearness * -2, one.metres)
        np.testing.assert_array_equal(one.nearness, other.nearness)
        assert model.estimate([]) == []
    disparity = DEPTH | {"depth": {"output": "depth", "meaning": "disparity"}}
    with specialists.load(tmp_path / "m.onnx", description=disparity) as model:
        (found,) = model.estimate(image)
        assert found.metres is None and found.nearness[0, 0] == 1 and found.nearness[0, -1] == 2


def test_detections_and_masks(runtime, tmp_path):
    table = [[1, 1, 4, 4, 0.9, 0.0], [4, 4, 8, 8, 0.0, 0.6], [0, 0, 1, 1, 0.2, 0.2]]
    masks = np.full((1, 3, 8, 8), -5.0)
    masks[0, 0, 1:4, 1:3] = 5
    description = {
        "kind": "segment", "file": "m.onnx", "input": {"name": "x", "height": 8, "width": 8}, "classes": ["cat", "dog"],
        "boxes": {"predictions": "p"}, "masks": {"output": "m"},
    }  # fmt: skip
    write(tmp_path, files.constants({"p": [table], "m": masks}), description)
    with specialists.load(tmp_path / "specialist.json") as model:
        (found,) = model.detect(np.zeros((8, 16, 3), np.uint8))
        assert found.labels == ("cat", "dog") and found.masks.shape == (2, 8, 16)
        np.testing.assert_allclose(found.boxes, [[0.125, 0.125, 0.5, 0.5], [0.5, 0.5, 1, 1]])
        assert found.masks[0].sum() == pytest.approx(12, abs=4) and not found.masks[1].any()
        assert model.detect(np.zeros((8, 8, 3), np.uint8), threshold=0.7)[0].labels == ("cat",)
        assert model.detect(np.zeros((8, 8, 3), np.uint8), threshold=0.1, most=1)[0].labels == ("cat",)
        with pytest.raises(ValueError, match="expected a threshold"):
            model.detect([], threshold=2)
    with pytest.raises(predictor.OnnxError, match=r"picture 0: m\.onnx: output p: expected 7 columns"):
        classes = description | {"classes": ["cat", "dog", "cow"]}
        with specialists.load(tmp_path, description=classes) as model:
            model.detect(np.zeros((8, 8, 3), np.uint8))


def test_a_file_without_a_description_shows_one(runtime, tmp_path):
    write(tmp_path, files.mean_of_channels(), None)
    with pytest.raises(ConfigError, match=r"expected a description beside it") as error:
        specialists.load(tmp_path / "m.onnx")
    shown = json.loads(str(error.value).partition("example:\n")[2])
    with specialists.load(tmp_path / "m.onnx", description=shown) as model:
        assert model.estimate(np.zeros((4, 6, 3), np.uint8))[0].nearness[0, 0] == -1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": {"name": "y", "height": 4, "width": 6}}, r"input\.name: expected .*'x'.*got 'y'"),
        ({"input": {"name": "x", "height": 5, "width": 6}}, r"the graph takes \[1, 3, 4, 6\].*\[1, 3, 5, 6\]"),
        ({"input": {"name": "x", "height": 4, "width": 6, "layout": "NHWC"}}, r"the graph takes"),
        ({"depth": {"output": "far", "meaning": "depth"}}, r"depth\.output: expected one of .'depth'., got 'far'"),
        ({"file": "other.onnx"}, "file: expected 'm.onnx', got 'other.onnx'"),
    ],
)
def test_a_description_that_does_not_fit(runtime, tmp_path, change, message):
    write(tmp_path, files.mean_of_channels(), DEPTH | change)
    with pytest.raises(ConfigError, match=message):
        specialists.load(tmp_path / "m.onnx")


def test_files_that_are_no_model(runtime, tmp_path):
    with pytest.raises(WeightsError, match=r"m\.onnx: cannot be opened \(error\).*no ONNX model"):
        specialists.load(write(tmp_path, b"<html>" * 10))
    with pytest.raises(WeightsError, match=r"cannot be opened \(error\)"):
        specialists.load(write(tmp_path, files.model(files.graph([files.node("Nonsense", ["x"], ["depth"])], [], []))))
    (tmp_path / "m.onnx").unlink()
    with pytest.raises(WeightsError, match="no such file"):
        specialists.load(tmp_path)
    with pytest.raises(ValueError, match="dtype='float32'"):
        specialists.load(tmp_path, dtype="bfloat16")


def test_weights_outside_the_folder_are_refused(runtime, tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(np.float32(41).tobytes())
    (folder / "near").write_bytes(np.float32(1).tobytes())
    (folder / "link").symlink_to(tmp_path / "secret")
    for location in ("../secret", str(tmp_path / "secret"), "link", "absent", "near/../../secret"):
        with pytest.raises(WeightsError, match="keeps weights in the file"):
            specialists.load(write(folder, files.mean_of_channels(external=location)))
    with specialists.load(write(folder, files.mean_of_channels(external="near"))) as model:
        assert model.estimate(np.zeros((4, 6, 3), np.uint8))[0].metres[0, 0] == 2


def test_a_graph_that_hangs_passes_its_deadline(runtime, tmp_path):
    with specialists.load(write(tmp_path, files.endless()), deadline=3.0) as model:
        for _ in range(2):  # a new process serves the next picture
            with pytest.raises(predictor.OnnxError, match=r"picture 0: m\.onnx gave no answer \(timeout\)"):
                model.estimate(np.zeros((4, 6, 3), np.uint8))


def test_a_graph_that_asks_for_too_much_memory(runtime, tmp_path):
    try:
        model = specialists.load(write(tmp_path, files.huge()))
    except WeightsError as error:
        assert "cannot be opened" in str(error)
        return
    with model, pytest.raises(predictor.OnnxError, match="gave no answer"):
        model.estimate(np.zeros((4, 6, 3), np.uint8))


def test_fastdepth(runtime):
    description = {"kind": "depth", "input": {"name": "0", "height": 224, "width": 224},
                   "depth": {"output": "350", "meaning": "depth", "metres": 1.0}}  # fmt: skip
    file = assets.path("weights/fastdepth/fastdepth_7.onnx")
    images = [np.random.default_rng(0).integers(0, 256, (57, 91, 3), np.uint8), np.zeros((1, 1, 3), np.uint8)]
    with specialists.load(file, description=description) as model:
        found = model.estimate(images)
    assert [d.metres.shape for d in found] == [(57, 91), (1, 1)]
    assert (found[0].metres > 0).all() and np.isfinite(found[0].nearness).all()
