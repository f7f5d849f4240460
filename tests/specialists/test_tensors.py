"""Every tensor has its weight and every weight its tensor."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from dtr1_jax import mesh
from dtr1_jax.models.weights import hf_checkpoint
from dtr1_jax.models.weights.native import WeightsError
from dtr1_jax.specialists import batching, tensors

SHAPES = {"a.weight": (2, 3, 1, 2), "a.bias": (2,), "scale": ()}


def folder(tmp_path, arrays):
    (tmp_path / "config.json").write_text('{"model_type": "sam"}')
    save_file(arrays, tmp_path / "model.safetensors")
    return hf_checkpoint.open_folder(tmp_path)


def arrays():
    return {"x.a.weight": np.arange(12, dtype=np.float16).reshape(2, 3, 1, 2), "x.a.bias": np.ones(2, np.float32),
            "x.scale": np.array(3.0, np.float32), "x.position_ids": np.arange(4)}  # fmt: skip


def read(checkpoint, dtype=jnp.float32, **options):
    place = mesh.replicated(batching.single_device_mesh())
    return tensors.load_params(
        checkpoint, SHAPES, place, dtype, rename=lambda name: name.removeprefix("x."), ignored="position_ids", **options
    )


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_tensors_become_weights(tmp_path, dtype):
    params = read(folder(tmp_path, arrays()), dtype)
    assert list(params) == list(SHAPES) and all(x.dtype == dtype for x in params.values())
    np.testing.assert_array_equal(np.asarray(params["a.weight"], np.float32), arrays()["x.a.weight"])
    assert params["scale"] == 3 and params["scale"].shape == ()


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"x.a.bias": None}, r"missing a\.bias \[2\]"),
        ({"x.b": np.ones(1, np.float32)}, "left over b"),
        ({"x.position_ids_2": np.ones(1, np.float32)}, "left over position_ids_2"),
        ({"x.a.bias": np.ones(3, np.float32)}, r"a\.bias: expected shape \[2\], got \[3\]"),
        ({"x.a.bias": np.ones(2, np.int32)}, r"a\.bias: expected floats .* got I32"),
        ({"a.bias": np.ones(2, np.float32)}, r"both (x\.)?a\.bias and (x\.)?a\.bias are a\.bias"),
    ],
)
def test_other_files_are_refused(tmp_path, change, fault):
    changed = {name: x for name, x in (arrays() | change).items() if x is not None}
    with pytest.raises(WeightsError, match=fault):
        read(folder(tmp_path, changed))


def test_random_params():
    params = tensors.random_params(SHAPES, jax.random.key(0), 0.5)
    assert {name: x.shape for name, x in params.items()} == SHAPES
    assert 0.1 < np.std(params["a.weight"]) < 1
