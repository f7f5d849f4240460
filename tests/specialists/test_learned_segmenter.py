"""reward.segmenter = "sam:PATH": the calls of Segmenter, by a model on the devices."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from configs import default
from dtr1_jax import config
from dtr1_jax.policies import runtime
from dtr1_jax.specialists import learned_segmenter, tensors
from dtr1_jax.specialists.sam import spec, weights
from dtr1_jax.specialists.segmenter import Segmenter

CONFIG = {
    "model_type": "sam",
    "vision_config": {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "image_size": 32,
                      "patch_size": 8, "output_channels": 16, "num_pos_feats": 8},
    "prompt_encoder_config": {"hidden_size": 16, "image_size": 32, "patch_size": 8},
    "mask_decoder_config": {"hidden_size": 16, "mlp_dim": 8, "num_attention_heads": 2},
}  # fmt: skip
RNG = np.random.default_rng(0)
PHOTOS = [RNG.integers(0, 256, (h, w, 3), np.uint8) for h, w in ((20, 31), (40, 17))]
BOXES = [np.array([[0.1, 0.1, 0.5, 0.6], [0.4, 0.4, 0.9, 0.9]]), np.array([[0.2, 0.2, 0.8, 0.8]])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("sam")
    params = tensors.random_params(weights.shapes(spec.from_config(CONFIG, {})), jax.random.key(1), 0.4)
    (where / "config.json").write_text(json.dumps(CONFIG))
    save_file({name: jax.device_get(x) for name, x in params.items()}, where / "model.safetensors")
    return where


@pytest.fixture(scope="module")
def segment(folder):
    with learned_segmenter.open_segmenter(f"sam:{folder}", 1, 1.0) as opened:
        yield opened


def test_the_union_of_the_boxes_masks(segment):
    found = segment(PHOTOS, BOXES)
    own = segment.model.segment(PHOTOS, boxes=BOXES)
    for mask, masks in zip(found, own, strict=True):
        np.testing.assert_array_equal(mask, masks.masks.any(0))
        assert mask.dtype == bool
    assert any(mask.any() for mask in found)
    assert set(segment.failures) == set(Segmenter("box").failures) and not any(segment.failures.values())
    assert "Sam of" in segment.description


def test_every_box_is_segmented_once_and_every_picture_encoded_once(segment, monkeypatch):
    asked = []
    plain = segment.model.segment
    monkeypatch.setattr(segment.model, "segment", lambda images, boxes: asked.append(boxes) or plain(images, boxes))
    photo = RNG.integers(0, 256, (25, 25, 3), np.uint8)
    boxes = np.array([[0.1, 0.1, 0.9, 0.9], [0.2, 0.1, 0.9, 0.9]])
    misses = segment.model.cache.misses
    a, b, c = segment([photo, photo, photo], [boxes, boxes[:1], boxes[::-1]])
    assert [len(x) for x in asked[0]] == [2] and segment.model.cache.misses == misses + 1
    np.testing.assert_array_equal(a, c)
    (again,) = segment([photo.copy()], [boxes[:1] + 1e-6])
    np.testing.assert_array_equal(again, b)
    assert len(asked) == 1


def test_boxes_of_a_policy_may_be_anything(segment):
    wild = np.array(
        [[np.nan, 0, 1, 1], [0.5, 0.5, 0.5, 0.5], [3, 3, 4, 4], [0.9, 0.9, 0.1, 0.1], [-1e30, 0, 1e30, np.inf]]
    )
    (mask,) = segment([PHOTOS[0]], [wild])
    assert mask.shape == (20, 31) and not mask.any()
    (mask,) = segment([PHOTOS[0]], [np.zeros((0, 4))])
    assert not mask.any()
    assert segment([], []) == []
    with pytest.raises(ValueError, match="as many pictures"):
        segment(PHOTOS, BOXES[:1])


def test_all_devices_of_the_process_share_the_work(segment):
    assert len(jax.tree.leaves(segment.model.params)[0].sharding.device_set) == jax.local_device_count() > 1


def test_the_setting(folder, tmp_path):
    values = default.get_config()
    for good in ("grabcut", "box", f"sam:{folder}"):
        values.reward.segmenter = good
        assert config.from_configdict(values).reward.segmenter == good
    for bad in ("grabcutt", "sam:", "sam: ", "", "sam"):
        values.reward.segmenter = bad
        with pytest.raises(config.ConfigError, match=r"config\.reward\.segmenter: expected grabcut, box, or sam:PATH"):
            config.from_configdict(values)


def test_missing_and_other_models_are_named_with_the_setting(tmp_path):
    c = config.from_configdict(default.get_config())
    for path, message in ((tmp_path / "none", "no such file or folder"), (tmp_path, "no such file; expected a JSON")):
        bad = dataclasses.replace(c, reward=dataclasses.replace(c.reward, segmenter=f"sam:{path}"))
        with pytest.raises(config.ConfigError, match=rf"config\.reward\.segmenter = 'sam:{path}': .*{message}"):
            with runtime.host_tools(bad):
                pass
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes(b"\2" + bytes(7) + b"{}")
    with pytest.raises(config.ConfigError, match="'bert' is no specialist"):
        learned_segmenter.open_segmenter(f"sam:{tmp_path}", 1, 1.0)


def test_a_model_without_masks_is_refused(monkeypatch):
    monkeypatch.setattr(learned_segmenter.catalogue, "load", lambda path, mesh: object())
    with pytest.raises(config.ConfigError, match="expected a model that makes masks from boxes"):
        learned_segmenter.open_segmenter("sam:owl", 1, 1.0)
