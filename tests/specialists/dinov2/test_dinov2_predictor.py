"""DINOv2 as a user calls it equals transformers, processor and model alike."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the reference implementation needs torch")
import depth_models  # noqa: E402
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil  # noqa: E402

from dtr1_jax import config, mesh, specialists  # noqa: E402
from dtr1_jax.models.weights.native import WeightsError  # noqa: E402


@pytest.fixture(scope="module", params=[0, 2])
def case(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dinov2")
    reference = depth_models.backbone("plain", folder, request.param)
    processor = BitImageProcessorPil(size={"shortest_edge": 64}, crop_size={"height": 56, "width": 56})
    processor.save_pretrained(folder)
    return folder, reference, processor, request.param


def test_equals_transformers(case):
    folder, reference, processor, registers = case
    images = depth_models.pictures((61, 83), (97, 45), (64, 64), (300, 500), (5, 4))
    results = specialists.load(folder).embed(images)
    for image, result in zip(images, results, strict=True):
        with torch.no_grad():
            tokens = reference(**processor(image, return_tensors="pt")).last_hidden_state[0]
        np.testing.assert_allclose(result.whole, tokens[0], atol=1e-4)
        np.testing.assert_allclose(result.patches, tokens[1 + registers :].reshape(4, 4, -1), atol=1e-4)


def test_sharded_equals_single_device(case):
    folder, *_ = case
    images = depth_models.pictures(*[(40 + i, 50) for i in range(11)])
    devices = mesh.make(config.Mesh(data=4, fsdp=2, tensor=1))
    single, sharded = specialists.load(folder).embed(images), specialists.load(folder, mesh=devices).embed(images)
    for a, b in zip(single, sharded, strict=True):
        np.testing.assert_allclose(a.whole, b.whole, atol=1e-5)
        np.testing.assert_allclose(a.patches, b.patches, atol=1e-5)


def test_bfloat16_is_near(case):
    folder, *_ = case
    images = depth_models.pictures((50, 60))
    (exact,), (rounded,) = (specialists.load(folder, dtype=dtype).embed(images) for dtype in ("float32", "bfloat16"))
    cosine = (exact.patches * rounded.patches).sum(-1) / np.linalg.norm(exact.patches, axis=-1)
    cosine /= np.linalg.norm(rounded.patches, axis=-1)
    assert rounded.patches.dtype == np.float32 and cosine.min() > 0.999


def test_bad_input(case, tmp_path):
    folder, *_ = case
    dino = specialists.load(folder)
    assert dino.embed([]) == []
    grey = depth_models.pictures((60, 60))[0][..., 0]
    np.testing.assert_array_equal(dino.embed(grey)[0].whole, dino.embed(np.stack([grey] * 3, -1))[0].whole)
    with pytest.raises(ValueError, match=r"picture 1 of 10000 x 1 pixels: .* 640,000 pixels"):
        dino.embed([grey, np.zeros((1, 10_000, 3), np.uint8)])
    with pytest.raises(ValueError, match="batch: expected at least 1"):
        specialists.load(folder, batch=0)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).symlink_to(folder / name)
    with pytest.raises(WeightsError, match=r"preprocessor_config\.json: no such file"):
        specialists.load(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text('{"crop_size": 224, "size": {"shortest_edge": 200}}')
    with pytest.raises(WeightsError, match=r"preprocessor_config\.json: crop_size: .* got 224 x 224"):
        specialists.load(tmp_path)


def test_each_program_serves_many_counts(case):
    folder, *_ = case
    dino = specialists.load(folder, batch=4)
    for count in (1, 2, 3, 4, 5, 9):
        assert len(dino.embed(depth_models.pictures(*[(40, 50)] * count))) == count
    assert dino._program._cache_size() == 3  # batches of 1, 2 and 4
