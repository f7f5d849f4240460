"""Depth Anything 3 equals the authors' code: a tiny model whose weights follow from their names.

tests/fixtures/specialists/make_depth_anything_3.py wrote what that code computes.
"""

import json
import pathlib

import cv2
import da3_weights
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dtr1_jax import config, mesh, specialists
from dtr1_jax.models.weights.native import WeightsError
from dtr1_jax.specialists.depth_anything_3 import da3_preprocessing, sky_filling, spec, weights

FIXTURE = json.loads(
    (pathlib.Path(__file__).parents[2] / "fixtures" / "specialists" / "depth_anything_3.json").read_text()
)
LONGEST, STEP = FIXTURE["longest"], FIXTURE["step"]
CONFIG = {"model_name": "da3mono-large", "config": {"net": da3_weights.NET, "head": da3_weights.HEAD}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("da3")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(spec.ENCODERS, "vits", (da3_weights.WIDTH, da3_weights.LAYERS, da3_weights.HEADS))
        shapes = weights.shapes(spec.from_config(CONFIG))
        names = {weights.name_in_file(name): shape for name, shape in shapes.items()}
        save_file({n: da3_weights.weight(n, shape) for n, shape in names.items()}, place / "model.safetensors")
        (place / "config.json").write_text(json.dumps(CONFIG))
        yield place


@pytest.fixture(scope="module")
def predictor(folder):
    return specialists.load(folder, longest=LONGEST)


def test_names_are_those_of_the_authors(folder):
    assert sorted(load_file(folder / "model.safetensors")) == FIXTURE["names"]


@pytest.mark.parametrize("i", range(3))
def test_equals_the_authors_code(predictor, i):
    image, expected = da3_weights.pictures()[i], FIXTURE["pictures"][i]
    pixels = da3_preprocessing.prepared(image, LONGEST, 14)
    assert list(pixels.shape[:2]) == expected["size"]
    values = np.asarray(da3_preprocessing.SCALE(pixels))
    np.testing.assert_allclose(values[::STEP, ::STEP].transpose(2, 0, 1)[0], expected["pixels"], atol=1e-5)
    parts = predictor.programs.get(pixels.shape[:2])(predictor._params, pixels[None])
    depth, sky = (np.asarray(part[0]) for part in parts)
    np.testing.assert_allclose(depth[::STEP, ::STEP], expected["depth"], atol=5e-5)
    np.testing.assert_allclose(sky[::STEP, ::STEP], expected["sky"], atol=5e-5)
    filled = sky_filling.fill_sky(depth, sky)
    np.testing.assert_allclose(filled[::STEP, ::STEP], expected["filled"], atol=5e-5)
    (result,) = predictor.estimate([image])
    own = cv2.resize(filled, image.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(result.nearness, -own, atol=1e-5)
    assert result.metres is None


def test_each_weight_matters(predictor):
    """Each weight, and each third of the joined queries, keys and values, moves an output; but the bias of the keys,
    which adds the same to all scores of a query, moves none."""
    pixels = da3_preprocessing.prepared(da3_weights.pictures()[0], LONGEST, 14)[None]

    def forward(w):
        return jnp.stack(predictor.programs.get(pixels.shape[1:3])(w, pixels))

    before = forward(predictor._params)
    for name, value in predictor._params.items():
        noise = np.random.default_rng(1).normal(0, 0.3, value.shape).astype(np.float32)
        parts = np.split(np.arange(len(value)), 3) if "attention.qkv" in name else [np.arange(len(value))]
        for i, part in enumerate(parts):
            moved = value.at[part].add(noise[part])
            change = float(jnp.abs(forward(predictor._params | {name: moved}) - before).max())
            without_effect = name.endswith("qkv.bias") and i == 1
            assert change < 1e-4 if without_effect else change > 1e-4, (name, i, change)


def test_sharded_and_rounded(folder, predictor):
    images = da3_weights.pictures()[:1] * 3
    sharded = specialists.load(folder, longest=LONGEST, mesh=mesh.make(config.Mesh(data=4, fsdp=2, tensor=1)))
    for a, b in zip(predictor.estimate(images), sharded.estimate(images), strict=True):
        np.testing.assert_allclose(a.nearness, b.nearness, atol=1e-5)
    pixels = da3_preprocessing.prepared(images[0], LONGEST, 14)[None]
    rounded = specialists.load(folder, longest=LONGEST, dtype="bfloat16")
    exact, near = (p.programs.get(pixels.shape[1:3])(p._params, pixels)[0] for p in (predictor, rounded))
    assert near.dtype == jnp.float32
    assert float(jnp.abs(jnp.log(near / exact)).max()) < 0.1


def test_sky_is_filled():
    depth, sky = np.arange(1, 101, dtype=np.float32).reshape(10, 10), np.zeros((10, 10), np.float32)
    assert sky_filling.fill_sky(depth, sky) is depth  # no sky
    sky[0] = 0.3
    assert sky_filling.fill_sky(depth, sky) is depth  # 10 pixels of sky
    sky[1, 0] = 0.4
    filled = sky_filling.fill_sky(depth, sky)
    assert np.allclose(filled[0], np.quantile(depth[sky < 0.3], 0.99)) and np.array_equal(filled[2:], depth[2:])
    assert sky_filling.fill_sky(depth, np.ones((10, 10), np.float32)) is depth  # all sky


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3000, 2000)])
def test_odd_pictures(predictor, shape):
    (result,) = predictor.estimate(np.zeros((*shape, 3), np.uint8))
    assert result.nearness.shape == shape and np.isfinite(result.nearness).all() and (result.nearness < 0).all()


def test_published_sizes():
    sizes = spec.from_config({"model_name": "da3mono-large"})
    assert (sizes.backbone.width, sizes.backbone.layers, sizes.taps) == (1024, 24, (5, 12, 18, 24))
    count = sum(np.prod(shape) for shape in weights.shapes(sizes).values())
    assert 0.33e9 < count < 0.36e9  # 0.35B in the authors' table


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_name": "da3-large"}, "model_name: expected 'da3mono-large'.*got 'da3-large'"),
        ({"model_name": "da3metric-large"}, "focal length"),
        (
            {"config": {"net": da3_weights.NET | {"rope_start": 4}, "head": da3_weights.HEAD}},
            r"config\.net\.rope_start",
        ),
        ({"config": {"net": da3_weights.NET, "head": da3_weights.HEAD | {"output_dim": 2}}}, "output_dim = 2"),
        ({"config": {"net": da3_weights.NET | {"name": "vitg"}, "head": da3_weights.HEAD}}, "net.name"),
        ({"config": {"net": da3_weights.NET | {"out_layers": [0, 1, 3, 9]}, "head": {}}}, "out_layers"),
        ({"config": {"net": da3_weights.NET, "head": da3_weights.HEAD | {"dim_in": 7}}}, "dim_in: expected.*24"),
        ({"config": {"net": da3_weights.NET, "head": da3_weights.HEAD | {"features": 10}}}, "missing|expected shape"),
    ],
)
def test_wrong_files(folder, tmp_path, change, message):
    (tmp_path / "model.safetensors").symlink_to(folder / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | change))
    with pytest.raises(WeightsError, match=message):
        specialists.load(tmp_path)


def test_bad_options(folder):
    for option in ("batch", "programs", "longest"):
        with pytest.raises(ValueError, match=option):
            specialists.load(folder, **{option: 0})
