"""Every state of DINOv2 equals transformers', for pictures of sizes that the positions must be resized for."""

import functools

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the reference implementation needs torch")
import depth_models  # noqa: E402
import transformers  # noqa: E402

from dtr1_jax import mesh  # noqa: E402
from dtr1_jax.models.weights import hf_checkpoint  # noqa: E402
from dtr1_jax.specialists import batching  # noqa: E402
from dtr1_jax.specialists.dinov2 import model, spec, weights  # noqa: E402

CASES = [("plain", 0), ("gated", 0), ("wide", 0), ("plain", 3)]  # sizes and number of registers


def loaded(folder):
    checkpoint = hf_checkpoint.open_folder(folder)
    sizes = spec.from_config(checkpoint.config)
    place = mesh.replicated(batching.single_device_mesh())
    return weights.load(checkpoint, sizes, place, "float32"), sizes


@pytest.mark.parametrize(("name", "registers"), CASES)
def test_states_equal_transformers(name, registers, tmp_path):
    reference = depth_models.backbone(name, tmp_path, registers)
    w, sizes = loaded(tmp_path)
    states = jax.jit(functools.partial(model.encode, spec=sizes, taps=range(sizes.layers + 1)))
    for height, width in ((sizes.grid * sizes.patch,) * 2, (59, 85), (30, 31)):
        pixels = np.random.default_rng(height).normal(size=(2, height, width, 3)).astype(np.float32)
        with torch.no_grad():
            expected = reference(torch.tensor(pixels).permute(0, 3, 1, 2), output_hidden_states=True)
        result = states(w, pixels=pixels)
        for i, state in enumerate(expected.hidden_states):
            np.testing.assert_allclose(result[i], state, atol=1e-4)
        last = model.final_norm(w, sizes, result[sizes.layers])
        np.testing.assert_allclose(last, expected.last_hidden_state, atol=1e-4)
        assert last.shape[1] == sizes.tokens(height, width)


def test_feature_maps_equal_the_backbone_of_transformers(tmp_path):
    config = transformers.Dinov2Config(**depth_models.BACKBONES["plain"], out_indices=[1, 3])
    reference = depth_models.randomised(transformers.Dinov2Backbone(config), 0)
    reference.save_pretrained(tmp_path)
    w, sizes = loaded(tmp_path)
    pixels = np.random.default_rng(0).normal(size=(1, 50, 71, 3)).astype(np.float32)
    with torch.no_grad():
        expected = reference(torch.tensor(pixels).permute(0, 3, 1, 2)).feature_maps
    states = model.encode(w, sizes, pixels, (1, 3))
    for tap, feature_map in zip((1, 3), expected, strict=True):
        state = model.final_norm(w, sizes, states[tap])[:, 1:].reshape(1, 3, 5, -1)
        np.testing.assert_allclose(state, feature_map.permute(0, 2, 3, 1), atol=1e-4)
