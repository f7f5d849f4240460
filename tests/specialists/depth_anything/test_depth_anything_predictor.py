"""Depth Anything as a user calls it: the depth of pictures of many sizes equals transformers', processor and model."""

import json

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
    reference, processor = depth_models.depth_anything(request.param, folder)
    return specialists.load(folder), reference, processor


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("plain_model")
    depth_models.depth_anything("plain", place)
    return place


def test_equals_transformers(case):
    predictor, reference, processor = case
    images = depth_models.pictures(*SIZES)
    for image, result in zip(images, predictor.estimate(images), strict=True):
        with torch.no_grad():
            output = reference(**processor(image, return_tensors="pt"))
        (expected,) = processor.post_process_depth_estimation(output, [image.shape[:2]])
        expected = expected["predicted_depth"].numpy()
        depth = result.metres if predictor.spec.metric else result.nearness
        assert np.std(expected) > 0.2 and depth.dtype == np.float32  # the model is not constant
        np.testing.assert_allclose(depth, expected, atol=1e-4)
        if predictor.spec.metric:
            np.testing.assert_array_equal(result.nearness, -depth)
        else:
            assert result.metres is None


def test_each_weight_matters(case):
    """Each weight, and each third of the joined queries, keys and values, moves an output; but the bias of the keys,
    which adds the same to all scores of a query, moves none."""
    predictor, *_ = case
    height, width = predictor._preprocessing.size(*SIZES[0])
    pixels = np.stack(depth_models.pictures((height, width)))

    def forward(w):
        return predictor.programs.get((height, width))(w, pixels)

    before = forward(predictor._params)
    for name, value in predictor._params.items():
        noise = np.random.default_rng(1).normal(0, 0.5, value.shape).astype(np.float32)
        parts = np.split(np.arange(len(value)), 3) if "attention.qkv" in name else [np.arange(len(value))]
        for i, part in enumerate(parts):
            change = float(abs(forward(predictor._params | {name: value.at[part].add(noise[part])}) - before).max())
            without_effect = name.endswith("qkv.bias") and i == 1
            assert change < 5e-5 if without_effect else change > 2e-4, (name, i, change)


def test_pictures_do_not_depend_on_one_another(folder):
    """Several sizes in one call, more pictures than a batch has, and programs that are dropped and made again."""
    images = depth_models.pictures(SIZES[0], SIZES[1], SIZES[0], SIZES[0])
    alone = [specialists.load(folder).estimate(image)[0].nearness for image in images]
    predictor = specialists.load(folder, batch=2, programs=1)
    for _ in range(2):
        together = predictor.estimate(images)
        for one, result, image in zip(alone, together, images, strict=True):
            assert result.nearness.shape == image.shape[:2]
            np.testing.assert_allclose(result.nearness, one, atol=1e-5)
    assert len(predictor.programs) == 1 and predictor.programs.made == 4  # 2 sizes, each dropped before it returns


def test_sharded_equals_single_device(folder):
    images = depth_models.pictures(*[(56, 70)] * 3)
    sharded = specialists.load(folder, mesh=mesh.make(config.Mesh(data=4, fsdp=2, tensor=1)))
    for a, b in zip(specialists.load(folder).estimate(images), sharded.estimate(images), strict=True):
        np.testing.assert_allclose(a.nearness, b.nearness, atol=1e-5)


def test_bfloat16_is_near(folder):
    images = depth_models.pictures((56, 70))
    (exact,), (near,) = (specialists.load(folder, dtype=d).estimate(images) for d in ("float32", "bfloat16"))
    assert near.nearness.dtype == np.float32
    assert abs(near.nearness - exact.nearness).max() < 0.05 * np.ptp(exact.nearness)


def test_ranks(folder):
    (result,) = specialists.load(folder).estimate(depth_models.pictures((56, 70)))
    order = np.argsort(result.nearness, axis=None)
    near, far = (np.isin(np.arange(56 * 70), part).reshape(56, 70) for part in (order[-100:], order[:100]))
    assert result.ranks(np.stack([far, near])) == [2, 1]


@pytest.mark.parametrize("shape", [(1, 1), (1, 10_000)])
def test_odd_pictures(folder, shape):
    (result,) = specialists.load(folder).estimate(np.full((*shape, 3), 200, np.uint8))
    assert result.nearness.shape == shape and np.isfinite(result.nearness).all()


def test_bad_pictures(folder):
    predictor = specialists.load(folder)
    assert predictor.estimate([]) == []
    grey = depth_models.pictures((56, 70))[0][..., 0]
    (one,), (other,) = predictor.estimate(grey), predictor.estimate(np.stack([grey] * 3, -1))
    np.testing.assert_array_equal(one.nearness, other.nearness)
    with pytest.raises(ValueError, match="picture 1: expected an array"):
        predictor.estimate([grey, np.zeros((3, 0, 3), np.uint8)])
    with pytest.raises(ValueError, match=r"picture 0 of 33000 x 1 pixels: .* more than 32,000"):
        predictor.estimate([np.zeros((1, 33_000, 3), np.uint8)])
    for option in ("batch", "programs"):
        with pytest.raises(ValueError, match=f"{option}: expected at least 1, got 0"):
            specialists.load(folder, **{option: 0})


def without(name):
    return lambda weights: weights.pop(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("head.conv1.bias"), r"missing head\.conv1\.bias \[5\]"),
        (without("backbone.encoder.layer.2.attention.attention.key.weight"), "missing backbone.*key.weight"),
        (lambda w: w.update({"head.conv4.bias": np.ones(3, np.float32)}), "left over head.conv4.bias"),
        (lambda w: w.update({"head.conv3.bias": np.ones(3, np.float32)}), r"expected shape \[1\], got \[3\]"),
    ],
)
def test_wrong_weights(folder, tmp_path, change, message):
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).symlink_to(folder / name)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=message):
        specialists.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("config", {"backbone_config": None}, "config.json: backbone_config"),
        ("config", {"depth_estimation_type": "other"}, "depth_estimation_type: expected one of relative, metric"),
        ("config", {"neck_hidden_sizes": [6, 8, 10]}, "neck_hidden_sizes: expected 4 values"),
        ("config", {"reassemble_factors": [4, 2, 1, 0.3]}, "reassemble_factors: expected whole numbers"),
        ("config", {"head_in_index": 4}, "head_in_index"),
        ("config", {"patch_size": 16}, "patch_size: expected that of the backbone, 14"),
        ("config", {"reassemble_hidden_size": 25}, "reassemble_hidden_size: expected the width of the backbone, 24"),
        ("config", {"max_depth": -1}, "max_depth: expected a positive number"),
        ("config", {"model_type": "zoedepth"}, "model_type 'zoedepth' is no specialist"),
        ("preprocessor_config", {"ensure_multiple_of": 10}, "ensure_multiple_of: expected a multiple of the patch"),
        ("preprocessor_config", {"size": {"height": 56}}, r"size\.width: expected a positive integer"),
        ("preprocessor_config", {"do_pad": True, "size_divisor": 14}, "do_pad"),
        ("preprocessor_config", {"image_std": [0, 1, 1]}, "image_std: expected positive"),
        ("preprocessor_config", {"resample": 9}, "resample"),
        ("preprocessor_config", {"image_processor_type": "BitImageProcessor"}, "expected DPTImageProcessor"),
    ],
)
def test_wrong_settings(folder, tmp_path, name, change, message):
    for file in ("config.json", "preprocessor_config.json", "model.safetensors"):
        (tmp_path / file).symlink_to(folder / file)
    file = tmp_path / f"{name}.json"
    values = json.loads(file.read_text()) | change
    file.unlink()
    file.write_text(json.dumps(values))
    with pytest.raises(WeightsError, match=message):
        specialists.load(tmp_path)
