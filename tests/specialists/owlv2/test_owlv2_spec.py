"""What config.json and the processor's files say, and what is refused; the published sizes."""

import json
import re

import pytest

from dtr1_jax.models.config_fields import SpecError
from dtr1_jax.models.weights.native import WeightsError
from dtr1_jax.specialists.owlv2 import spec, weights

PUBLISHED = {  # the fields of config.json that differ from the defaults
    "google/owlv2-base-patch16-ensemble": {"vision_config": {"image_size": 960}},
    "google/owlv2-large-patch14-ensemble": {
        "projection_dim": 768,
        "text_config": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
        "vision_config": {
            "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
            "image_size": 1008, "patch_size": 14,
        },
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(tmp_path, name):
    """The weights have the names and shapes of transformers' model, except for those that are ignored."""
    torch = pytest.importorskip("torch", reason="compares with the reference model")
    from transformers import Owlv2Config, Owlv2ForObjectDetection

    found = spec.read(tmp_path, PUBLISHED[name])
    assert found.grid == {960: 60, 1008: 72}[found.side]
    assert found.tokens == 16 and found.vocabulary == 49408 and found.mean[0] == 0.48145466
    with torch.device("meta"):  # shapes without memory
        reference = Owlv2ForObjectDetection(Owlv2Config(**PUBLISHED[name])).state_dict()
    wanted = {k: tuple(v.shape) for k, v in reference.items() if not re.fullmatch(weights.IGNORED, k)}
    assert weights.shapes(found) == wanted
    assert len(reference) - len(wanted) == 2


def test_settings_of_the_processor(tmp_path):
    settings = {"image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 3], "rescale_factor": 0.5, "do_pad": True}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    found = spec.read(tmp_path, {})
    assert (found.mean, found.std, found.scale) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0), 0.5)
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": {"rescale_factor": 0.25}}))
    assert spec.read(tmp_path, {}).scale == 0.25
    (tmp_path / "processor_config.json").write_text(json.dumps({"processor_class": "Owlv2Processor"}))
    assert spec.read(tmp_path, {}).scale == 0.5


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"text_config": 3}, "config.json: text_config: expected an object"),
        ({"text_config": {"hidden_size": 0}}, "text_config.hidden_size: expected a positive integer"),
        ({"projection_dim": 8}, "projection_dim: expected the text tower's hidden_size 512, got 8"),
        ({"vision_config": {"num_attention_heads": 7}}, "7 does not divide hidden_size = 768"),
        ({"vision_config": {"hidden_act": "sine"}}, "vision_config.hidden_act: expected one of"),
        ({"vision_config": {"patch_size": 1000}}, "patch_size: expected at most image_size = 768"),
        ({"vision_config": {"image_size": [10, 20]}}, "vision_config.image_size: expected a positive integer"),
        ({"vision_config": {"num_channels": 1}}, "vision_config.num_channels = 1 is not supported"),
        ({"vision_config": {"num_hidden_layers": 10**9}}, "num_hidden_layers: expected at most 1,000"),
        ({"vision_config": {"layer_norm_eps": "x"}}, "layer_norm_eps: expected a positive number"),
        ({"text_config": {"pad_token_id": -1}}, "pad_token_id: expected a token id"),
        ({"text_config": {"pad_token_id": 60000}}, "pad_token_id: expected less than vocab_size"),
        ({"text_config": {"max_position_embeddings": 1}}, "max_position_embeddings: expected at least 2"),
    ],
)
def test_refused(tmp_path, config, message):
    with pytest.raises(SpecError, match=message):
        spec.read(tmp_path, config)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"do_pad": False}, "preprocessor_config.json: do_pad: expected true, got False"),
        ({"size": {"height": 960, "width": 960}}, "size: expected config.json's image_size 768"),
        ({"image_mean": [1, 2]}, "image_mean: expected three numbers"),
        ({"image_std": [1, 0, 1]}, "image_std: expected three numbers"),
        ({"rescale_factor": -1}, "rescale_factor: expected a positive number"),
    ],
)
def test_refused_settings(tmp_path, settings, message):
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    with pytest.raises(SpecError, match=message):
        spec.read(tmp_path, {})


def test_broken_file(tmp_path):
    (tmp_path / "preprocessor_config.json").write_text("{")
    with pytest.raises(WeightsError, match=r"preprocessor_config\.json: cannot be read as JSON"):
        spec.read(tmp_path, {})
