"""The network equals the graph, executed node by node in torch; small networks need no weights of others."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
import ssd_weights
from PIL import Image

from dtr1_jax import config, specialists
from dtr1_jax import mesh as meshes
from dtr1_jax.specialists import batching
from dtr1_jax.specialists.ssd import model
from dtr1_jax.specialists.ssd.predictor import SsdDetector
from dtr1_jax.specialists.ssd.spec import SsdSpec
from dtr1_jax.specialists.ssd.weights import shapes
from tests import assets

SMALL = SsdSpec(
    side=48, classes=5, stem=8, blocks=((8, 4),) + ((8, 4), (8, 6)) * 8, last=10, extras=((8, 6),) * 4,
    boxes=(2, 3, 3, 3, 3, 3),
)  # fmt: skip


@pytest.fixture(scope="module")
def small_weights():
    return ssd_weights.random_weights(shapes(SMALL))


@pytest.fixture(scope="module")
def predict():
    return jax.jit(functools.partial(model.predict, spec=SMALL))


OUTPUTS = ("Postprocessor/ExpandDims_1", "Postprocessor/Slice")


@pytest.fixture(scope="module")
def folder():
    return assets.path("weights/coco_ssd_tfjs")


@pytest.fixture(scope="module")
def real(folder):
    return specialists.load(folder)


@pytest.fixture(scope="module")
def reference():
    pytest.importorskip("torch", reason="the graph is executed in torch")
    import tfjs_interpreter

    return tfjs_interpreter


def differences(detector, reference, folder, image):
    nodes, values = reference.read(folder)
    boxes, scores = reference.run(nodes, values, image[None], OUTPUTS)
    box, score = detector.raw(image)
    return np.abs(boxes[:, :, 0] - box).max(), np.abs(scores - score).max(), scores


@pytest.mark.parametrize("name", ["000000000139.jpg", "000000000724.jpg"])
def test_photos_equal_the_graph(real, reference, folder, name):
    photos = assets.path("coco_panoptic_val100/images")
    image = np.array(Image.open(next(photos.rglob(name))).convert("RGB"))
    box, score, scores = differences(real, reference, folder, image)
    assert box < 1e-4 and score < 1e-4 and scores.max() > 0.9


@pytest.fixture(scope="module")
def random_folder(folder, tmp_path_factory, reference, real):
    """The real graph with random weights."""
    nodes, values = reference.read(folder)
    weights = values | ssd_weights.random_weights(shapes(real.spec))
    return ssd_weights.write(tmp_path_factory.mktemp("ssd"), list(nodes.values()), weights)


@pytest.mark.parametrize("size", [(211, 333), (301, 97), (1, 1), (640, 301)])
def test_random_weights_equal_the_graph(random_folder, reference, size):
    detector = specialists.load(random_folder)
    image = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    box, score, scores = differences(detector, reference, random_folder, image)
    assert box < 1e-4 and score < 1e-4 and scores.std() > 0.05


def test_bfloat16_is_near(real, folder):
    """The bound: 0.05 in scores, and 0.03 of the picture in the boxes that count."""
    photos = sorted(assets.path("coco_panoptic_val100/images").rglob("*.jpg"))[:2]
    images = [np.array(Image.open(p).convert("RGB")) for p in photos]
    half = specialists.load(folder, dtype="bfloat16")
    (box, score), (near_box, near_score) = real.raw(images), half.raw(images)
    assert 0 < np.abs(score - near_score).max() < 0.05
    seen = score.max(-1) > 0.5
    assert np.abs(box - near_box)[seen].max() < 0.03


def test_sharded_equals_single(small_weights):
    images = np.random.default_rng(0).integers(0, 256, (9, 60, 80, 3), np.uint8)
    results = []
    for mesh in (batching.single_device_mesh(), meshes.make(config.Mesh(data=4, fsdp=2, tensor=1))):
        params = jax.device_put(small_weights, meshes.replicated(mesh))
        results.append(SsdDetector(SMALL, params, mesh, batch_size=8).raw(images))
    for one, other in zip(*results):
        assert len(one) == 9
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_each_weight_moves_an_output(predict):
    """With some of four sets of weights: in narrow networks, units of one set can be at 0 or 6 for all pictures."""
    left = set(shapes(SMALL))
    for seed in range(4):
        weights = ssd_weights.random_weights(shapes(SMALL), seed)
        image = np.random.default_rng(seed).uniform(0, 255, (1, 48, 48, 3)).astype(np.float32)
        before = predict(weights, image_bhw3=image)
        for name in sorted(left):
            change = 0.1 + 0.1 * np.random.default_rng(1).standard_normal(weights[name].shape)
            after = predict(weights | {name: weights[name] + change.astype(np.float32)}, image_bhw3=image)
            if max(float(np.abs(a - b).max()) for a, b in zip(before, after)) > 1e-6:
                left.remove(name)
    assert not left


def test_shapes_of_a_small_network(small_weights, predict):
    box, score = jax.eval_shape(predict, small_weights, image_bhw3=np.zeros((2, 48, 48, 3), np.float32))
    assert SMALL.map_sides == (3, 2, 1, 1, 1, 1)
    count = 9 * 2 + 4 * 3 + 4 * 3
    assert box.shape == (2, count, 4) and score.shape == (2, count, 5) and SMALL.anchors == count
    assert dataclasses.replace(SMALL, side=300).map_sides == (19, 10, 5, 3, 2, 1)


def test_a_code_by_hand(small_weights):
    anchor = np.array([[[0.2, 0.4, 0.4, 0.8]]], np.float32)  # centre 0.3, 0.6
    weights = small_weights | {"Postprocessor/ExpandDims": anchor}
    code = np.array([[[5.0, -2.5, 0.0, 5 * np.log(0.5)]]], np.float32)  # down half a height, left a quarter of a width
    np.testing.assert_allclose(model.decode(weights, code)[0, 0], [0.3, 0.4, 0.5, 0.6], atol=1e-6)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(5, 8), (6, 3)])
def test_depthwise_equals_the_grouped_convolution(stride, size):
    rng = np.random.default_rng(0)
    x, kernel = (rng.standard_normal(s).astype(np.float32) for s in ((2, *size, 3), (3, 3, 3, 1)))
    expected = jax.lax.conv_general_dilated(
        x, kernel.reshape(3, 3, 1, 3), (stride, stride), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=3, precision="highest",
    )  # fmt: skip
    np.testing.assert_allclose(model.depthwise(x, kernel, stride), expected, atol=1e-5)


def test_the_published_graph(real):
    """Sizes of the published model, and its anchors are those of the paper (SSD, arXiv 1512.02325, section 2.2)."""
    assert (real.spec.side, real.spec.classes, real.spec.anchors) == (300, 90, 1917)
    assert real.spec.map_sides == (19, 10, 5, 3, 2, 1) and real.spec.boxes == (3, 6, 6, 6, 6, 6)
    scale = [0.2, 0.35, 0.5, 0.65, 0.8, 0.95, 1.0]
    anchors = []
    for i, side in enumerate(real.spec.map_sides):
        kinds = [(scale[i], ratio) for ratio in (1, 2, 1 / 2, 3, 1 / 3)] + [((scale[i] * scale[i + 1]) ** 0.5, 1)]
        kinds = [(0.1, 1), (scale[0], 2), (scale[0], 1 / 2)] if i == 0 else kinds
        for y in range(side):
            for x in range(side):
                for s, ratio in kinds:
                    cy, cx, h, w = (y + 0.5) / side, (x + 0.5) / side, s / ratio**0.5, s * ratio**0.5
                    anchors.append([cy - h / 2, cx - w / 2, cy + h / 2, cx + w / 2])
    np.testing.assert_allclose(real._params["Postprocessor/ExpandDims"][0], anchors, atol=1e-4)
