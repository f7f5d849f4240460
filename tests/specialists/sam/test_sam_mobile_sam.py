"""mobile_sam.pt becomes safetensors once, and both files give the same model."""

import numpy as np
import pytest

from dtr1_jax import specialists
from dtr1_jax.models.weights.native import WeightsError
from dtr1_jax.specialists.sam import mobile_sam, restricted_pickle


def test_other_tensors_are_not_mobile_sam(tmp_path):
    torch = pytest.importorskip("torch", reason="writes a checkpoint with torch")
    torch.save({"a": torch.zeros(3), "b.num_batches_tracked": torch.zeros((), dtype=torch.int64)}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match=r"a\.pt does not fit .*\n.*missing image_encoder"):
        specialists.load(tmp_path / "a.pt")
    torch.save({"model": {"a": torch.zeros(3)}}, tmp_path / "a.pt")
    with pytest.raises(WeightsError, match="expected a flat dict of tensors, but 'model' is dict"):
        specialists.load(tmp_path / "a.pt")


def test_to_safetensors(tmp_path):
    import assets

    file = assets.path("weights/mobile_sam.pt")
    target = tmp_path / "new" / mobile_sam.NAME
    mobile_sam.to_safetensors(file, target)
    direct = specialists.load(file)
    for path in (target, target.parent):
        converted = specialists.load(path)
        for name, value in direct.params.items():
            np.testing.assert_array_equal(value, converted.params[name], err_msg=name)
    assert len(restricted_pickle.TorchFile(file).tensors) == 439
