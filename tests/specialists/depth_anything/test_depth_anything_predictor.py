"""Depth Anything as a user calls it: depth of pictures of many sizes equals transformers', model and processor alike."""

import json

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

torch = pytest.importorskip("torch", reason="the reference implementation needs torch")
import depth_models  # noqa: E402

from dtr1_jax import config, mesh, specialists  # noqa: E402
from dtr1_jax.models.weights.native import WeightsError  # noqa: E402

SIZES = (61, 83), (97, 45), (30, 31)  # height and width of the pictures


@pytest.fixture(scope="module", params=list(depth_models.HEADS))
def case(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    model, processor = depth_models.depth_anything(request.param, folder)
    return request.param, folder, model, processor


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("plain_model")
    depth_models.depth_anything("plain", place)
    return place


def reference(model, processor, image):
    with torch.no_grad():
        output = model(**processor(image, return_tensors="pt"))
    (result,) = processor.post_process_depth_estimation(output, [image.shape[:2]])
    return output.predicted_depth[0].numpy(), result["predicted_depth"].numpy()


def test_equals_transformers(case):
    name, folder, model, processor = case
    images = depth_models.pictures(*SIZES)
    results = specialists.load(folder).estimate(images)
    for image, result in zip(images, results):
        _, expected = reference(model, processor, image)
        depth = result.metres if name == "gated" else result.nearness
        assert depth.shape == image.shape[:2] and depth.dtype == np.float32
        assert np.ptp(expected) > 0.3  # the model is not constant
        np.testing.assert_allclose(depth, expected, atol=1e-4)
        if name == "gated":
            np.testing.assert_array_equal(result.nearness, -depth)
        else:
            assert result.metres is None
