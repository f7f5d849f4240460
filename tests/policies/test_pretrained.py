"""What a policy is made of, wherever its files are, and settings and files that it can not be made with."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest
from checkpoints import write
from gguf_files import write as write_gguf
from policy_settings import of_files, settings

from configs import default
from dtr1_jax import config, mesh
from dtr1_jax.data import tokenizer
from dtr1_jax.models import policy, published_sizes, spec
from dtr1_jax.models.weights import gguf, native
from dtr1_jax.policies import pretrained
from dtr1_jax.twin.coordinates import Frame


def small(**changes):
    tower = dataclasses.replace(spec.TINY.vision, width=16, layers=1, heads=2, hidden=16)
    return dataclasses.replace(spec.TINY, width=16, layers=1, heads=2, kv_heads=1, hidden=16, vision=tower, **changes)


def test_the_tiny_policy():
    made = pretrained.load_policy(settings())
    assert made.spec == spec.TINY
    assert made.style.frame is Frame.PIXEL
    assert (made.style.words, made.style.length) == ("brief", 96)
    geometry = made.style.geometry
    assert (geometry.patches, geometry.factor, geometry.rule) == (144, 16, "square")
    assert 3 * geometry.temporal_patch * geometry.patch**2 == spec.TINY.vision.values
    assert made.style.tokenizer.size <= made.spec.vocab
    np.testing.assert_array_equal(made.banned_v, made.style.tokenizer.banned_v(made.spec.vocab))
    assert made.dtype == np.float32
    assert made.checkpoint is None


def test_names_are_the_ids_of_published_policies(tmp_path):
    assert not pretrained.load_policy(settings()).style.named
    write(tmp_path)
    assert pretrained.load_policy(of_files(tmp_path)).style.named
    assert not pretrained.load_policy(of_files(tmp_path, ids="number")).style.named


def test_whether_layers_are_computed_again():
    assert [pretrained.load_policy(settings(remat=x)).spec.remat for x in ("auto", "on", "off")] == [False, True, False]
    large = published_sizes.get_spec("qwen3_4b")
    found = [pretrained.adjusted(of_files("x", "qwen3_4b", remat=x), large).remat for x in ("auto", "on", "off")]
    assert found == [True, True, False]
    with pytest.raises(config.ConfigError, match=r"config\.policy\.remat: expected one of auto, on, off, got 'maybe'"):
        settings(remat="maybe")


def test_how_whole_sequences_attend():
    found = [pretrained.load_policy(settings(attention=x)).spec.attention for x in ("auto", "einsum", "flash")]
    assert found == ["auto", "einsum", "flash"]
    with pytest.raises(config.ConfigError, match=r"config\.policy\.attention: expected one of auto, einsum, flash"):
        settings(attention="cudnn")


def test_settings_are_used():
    values = default.get_config()
    values.lora.rank, values.lora.alpha = 4, 32.0
    values.policy.max_pixels, values.policy.prompt_tokens = 32 * 32, 500
    values.policy.prompt, values.policy.dtype = "full", "bfloat16"
    made = pretrained.load_policy(config.from_configdict(values))
    assert (made.spec.lora_scale, made.spec.lora_dropout) == (8, 0)
    assert made.style.geometry.patches == 16
    assert (made.style.words, made.style.length, made.dtype.name) == ("full", 500, "bfloat16")


def test_adapters_are_scaled_by_the_root_of_their_rank_and_dropped():
    values = default.get_config()
    values.lora.rank, values.lora.alpha, values.lora.rslora, values.lora.dropout = 4, 32.0, True, 0.25
    made = pretrained.load_policy(config.from_configdict(values))
    assert (made.spec.lora_scale, made.spec.lora_dropout) == (16, 0.25)


def test_an_unknown_policy():
    with pytest.raises(
        config.ConfigError, match=r"config\.policy\.name: no policy 'tinny' \(did you mean \"tiny\"\?\)"
    ):
        pretrained.load_policy(settings(name="tinny"))


def test_pictures_smaller_than_one_token():
    with pytest.raises(
        config.ConfigError, match=r"config\.policy\.max_pixels: max_pixels = 200 is less than one token"
    ):
        pretrained.load_policy(settings(max_pixels=200))


def test_a_tokenizer_with_more_ids_than_the_policy(monkeypatch):
    monkeypatch.setitem(spec.SPECS, "tiny", small(vocab=64))
    with pytest.raises(tokenizer.TokenizerError, match="tiny: expected at most 64 ids, got 1649"):
        pretrained.load_policy(settings())


def test_weights_come_back_and_must_fit(tmp_path, monkeypatch):
    monkeypatch.setitem(spec.SPECS, "tiny", small())
    c = settings(path=str(tmp_path))
    made = pretrained.load_policy(c)
    params = policy.init(jax.random.key(1), made.spec)
    native.save_native(tmp_path / "policy.safetensors", params)
    got = pretrained.read_weights(c, made)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1 / 128, atol=1e-6), got, params)
    assert jax.tree.map(np.shape, got) == jax.tree.map(lambda x: x.shape, pretrained.template(made))
    with pytest.raises(native.WeightsError, match=r"policy\.safetensors does not fit the policy"):
        pretrained.read_weights(c, dataclasses.replace(made, spec=dataclasses.replace(made.spec, hidden=32)))
    with pytest.raises(native.WeightsError, match=r"nothing\.safetensors: no such file"):
        pretrained.read_weights(settings(path=str(tmp_path / "nothing.safetensors")), made)


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "qwen2_5_vl", "qwen3_vl"])
def test_a_folder_of_hugging_face(tmp_path, family):
    params = write(tmp_path, family, shard=20_000)
    c = of_files(tmp_path, weights_dtype="float32", prompt_tokens=77)
    made = pretrained.load_policy(c)
    assert made.spec.lora_scale == 2  # alpha 32 over rank 16
    assert made.checkpoint.config["model_type"] == family
    assert (made.style.length, made.dtype.name, made.style.words) == (77, "bfloat16", "full")
    assert made.style.constructor == "given"
    if family.endswith("_vl"):
        geometry = made.style.geometry
        assert (geometry.rule, geometry.max_pixels, geometry.patch) == ("smart", 512 * 28**2, made.spec.vision.patch)
        assert geometry.window == made.spec.vision.window
        assert made.style.frame is (Frame.PIXEL if family == "qwen2_5_vl" else Frame.NORM1000)
    else:
        assert made.style.geometry is None
    jax.tree.map(np.testing.assert_array_equal, pretrained.read_weights(c, made), params)


@pytest.mark.parametrize(("family", "name"), [("qwen2_5_vl", "qwen2_5_vl_3b"), ("qwen3_vl", "qwen3_vl_2b")])
def test_videos_of_auto_are_as_large_as_those_of_a_named_policy(tmp_path, family, name):
    write(tmp_path, family)
    wanted = default.get_config(name).policy.video_pixels
    assert pretrained.load_policy(of_files(tmp_path)).style.geometry.video.max_pixels == wanted
    assert pretrained.load_policy(of_files(tmp_path, video_pixels=9000)).style.geometry.video.max_pixels == 9000


def test_weights_on_a_mesh_in_the_dtype_asked_for(tmp_path):
    params = write(tmp_path)
    c = of_files(tmp_path)
    made = pretrained.load_policy(c)
    device_mesh = mesh.make(dataclasses.replace(c.mesh, data=1, fsdp=2, tensor=-1))
    got = pretrained.read_weights(c, made, device_mesh)
    places = mesh.shardings(device_mesh, got, made.spec.head_counts)
    jax.tree.map(lambda x, p: x.sharding.is_equivalent_to(p, x.ndim) or pytest.fail(str(p)), got, places)
    assert {str(x.dtype) for x in jax.tree.leaves(got)} == {"bfloat16"}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(np.float32(a), b, rtol=1 / 128), got, params)
    ours = settings()
    shipped = pretrained.read_weights(ours, pretrained.load_policy(ours), device_mesh)
    assert {str(x.dtype) for x in jax.tree.leaves(shipped)} == {"float32"}
    assert len(jax.tree.leaves(shipped)[0].sharding.device_set) == jax.device_count()


@pytest.mark.parametrize("family", gguf.ARCHITECTURES)
def test_a_gguf_file(tmp_path, family):
    path = write_gguf(tmp_path / "m.gguf", family, template="{{ messages[0].content }}<|im_end|>")
    c = of_files(path, weights_dtype="float32")
    made = pretrained.load_policy(c)
    assert (made.spec.layers, made.style.geometry) == (2, None)
    assert (made.spec.qk_norm, made.spec.qkv_bias) == (family == "qwen3", family == "qwen2")
    assert made.style.tokenizer.decode(made.style.tokenizer.encode("the 12")) == "the 12"
    q = pretrained.read_weights(c, made)["decoder"]["q"]
    assert q["kernel"].shape == (2, 64, 64) and ("bias" in q) == (family == "qwen2")
    with pytest.raises(tokenizer.TokenizerError, match=r"n\.gguf: no chat template"):
        pretrained.load_policy(of_files(write_gguf(tmp_path / "n.gguf", family, template=None)))


def test_named_sizes_must_be_those_of_the_files(tmp_path, monkeypatch):
    write(tmp_path)
    with pytest.raises(
        config.ConfigError, match=r"'qwen3_0_6b' differs in size from the files at config\.policy\.path"
    ) as error:
        pretrained.load_policy(of_files(tmp_path, "qwen3_0_6b"))
    assert "layers: 28 and 2" in str(error.value) and "or use auto, which reads the sizes from" in str(error.value)
    sizes = json.loads((tmp_path / "config.json").read_text())
    monkeypatch.setitem(published_sizes.CONFIGS, "qwen3_0_6b", sizes | {"rope_theta": 5.0})
    assert pretrained.load_policy(of_files(tmp_path, "qwen3_0_6b")).spec.theta == 1e4  # that of the files


def edit(path, **changes):
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in values.items() if v is not None}))


def test_config_and_weights_that_disagree(tmp_path):
    write(tmp_path)
    edit(tmp_path / "config.json", num_hidden_layers=3)
    c = of_files(tmp_path)
    with pytest.raises(native.WeightsError, match=r"missing model\.layers\.2\.input_layernorm\.weight"):
        pretrained.read_weights(c, pretrained.load_policy(c))
    edit(tmp_path / "config.json", num_hidden_layers=1)
    with pytest.raises(native.WeightsError, match=r"left over model\.layers\.1\.input_layernorm\.weight"):
        pretrained.read_weights(c, pretrained.load_policy(c))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"model_type": "gemma3"}, r"config\.json: model_type 'gemma3' is not supported; expected one of llama"),
        ({"hidden_size": None}, r"config\.json: hidden_size: expected a positive integer, got None"),
        ({"rope_scaling": {"rope_type": "longrope"}}, r"config\.json: rope_scaling\.rope_type = 'longrope' is not sup"),
        (
            {"use_sliding_window": True, "sliding_window": 255, "max_window_layers": 1},
            r"config\.json: use_sliding_window = True .* from layer 1 on .* 255 tokens .* less than the 1536 tokens of",
        ),
    ],
)
def test_bad_configs_name_file_and_field(tmp_path, changes, fault):
    write(tmp_path)
    edit(tmp_path / "config.json", **changes)
    with pytest.raises(native.WeightsError, match=fault):
        pretrained.load_policy(of_files(tmp_path))


def test_a_window_that_holds_the_whole_sequence(tmp_path):
    """policy.prompt_tokens + rollout.new_tokens = 1536 for a published policy."""
    assert pretrained.reach(of_files(tmp_path)) == 1536
    write(tmp_path)
    edit(tmp_path / "config.json", use_sliding_window=True, sliding_window=1536, max_window_layers=1)
    assert pretrained.load_policy(of_files(tmp_path)).spec.window == 1536


def test_a_null_for_the_quantisation(tmp_path):
    write(tmp_path, quantization_config=None)
    assert "quantization_config" in json.loads((tmp_path / "config.json").read_text())
    assert pretrained.load_policy(of_files(tmp_path)).spec.layers == 2


def test_tokenizers_that_do_not_fit(tmp_path):
    write(tmp_path, "qwen3_vl")
    edit(tmp_path / "config.json", image_token_id=9)
    with pytest.raises(tokenizer.TokenizerError, match=r"<\|image_pad\|> has the id 965, but config.json says .* = 9"):
        pretrained.load_policy(of_files(tmp_path))
    file = tmp_path / "tokenizer.json"
    text = file.read_text().replace("<|image_pad|>", "<|other|>")
    file.write_text(text)
    with pytest.raises(tokenizer.TokenizerError, match=re.escape("no <|image_pad|> among its 1649 tokens")):
        pretrained.load_policy(of_files(tmp_path))
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(tokenizer.TokenizerError, match="no chat template"):
        pretrained.load_policy(of_files(tmp_path))
    file.unlink()
    with pytest.raises(tokenizer.TokenizerError, match=r"no tokenizer\.json"):
        pretrained.load_policy(of_files(tmp_path))


def test_code_in_a_checkpoint_is_never_run(tmp_path):
    write(tmp_path)
    edit(tmp_path / "config.json", auto_map={"AutoConfig": "evil.Config", "AutoTokenizer": "evil.Tokenizer"})
    edit(tmp_path / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Tokenizer", None]})
    (tmp_path / "evil.py").write_text("raise SystemExit('code of a checkpoint was run')")
    pretrained.load_policy(of_files(tmp_path))


def test_a_policy_that_sees_nothing_can_not_write_twins(tmp_path):
    write(tmp_path)
    with pytest.raises(config.ConfigError, match=r"config\.policy\.constructor = 'policy': auto .* sees no pictures"):
        pretrained.load_policy(of_files(tmp_path, constructor="policy"))
    assert default.get_config("qwen3_4b").policy.constructor == "given"
    assert default.get_config("qwen3_vl_4b").policy.constructor == "policy"


def test_more_layers_than_any_model_has(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", block_count=10**9)
    with pytest.raises(native.WeightsError, match=r"m\.gguf: num_hidden_layers: expected at most 10,000 layers"):
        pretrained.load_policy(of_files(path))
