"""Exported policies: transformers and PEFT load them, and they give the logits that ours gives."""

import json
import re

import jax
import numpy as np
import pytest
from checkpoints import write
from exports import IDS, adapters, auto, pretend, run, settings
from gguf import GGMLQuantizationType as Kind
from gguf_files import write as write_gguf
from safetensors.numpy import load_file

from configs import default
from dtr1_jax import config
from dtr1_jax.models.weights import hf_checkpoint, native
from dtr1_jax.modes import dispatch, export
from dtr1_jax.policies import pretrained


def theirs(model, ids=IDS):
    import torch

    with torch.no_grad():
        return model.eval()(torch.tensor([ids])).logits[0].float().numpy()


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "qwen2_5_vl", "qwen3_vl"])
def test_transformers_gives_the_same_logits(tmp_path, trained, family):
    kind = auto(family)
    peft = pytest.importorskip("peft")
    write(tmp_path / "base", family)
    values = settings(tmp_path / "base", targets="decoder/(q|v|down)" if family == "llama" else "decoder/.*")
    merged = run(tmp_path, values)
    model, loading = kind.from_pretrained(merged, dtype="float32", output_loading_info=True)
    assert not any(loading.get(key) for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    wanted = trained()
    np.testing.assert_allclose(theirs(model), wanted, atol=1e-4)
    assert np.abs(trained(adapted=False) - wanted).max() > 0.05  # the adapters do something

    alone = run(tmp_path, values, adapter=True, name="adapter")
    base = kind.from_pretrained(tmp_path / "base", dtype="float32")
    model = peft.PeftModel.from_pretrained(base, alone)
    np.testing.assert_allclose(theirs(model), wanted, atol=1e-4)
    assert {p.name for p in alone.iterdir()} >= {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json"}


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_adapters_of_the_tower_have_the_names_of_its_modules(tmp_path, trained, family):
    kind = auto(family)
    peft = pytest.importorskip("peft")
    write(tmp_path / "base", family)
    values = settings(tmp_path / "base", targets="(vision/(blocks|merger|deepstack)|decoder)/.*")
    alone = run(tmp_path, values, adapter=True)
    model = peft.PeftModel.from_pretrained(kind.from_pretrained(tmp_path / "base", dtype="float32"), alone)
    saved = load_file(alone / "adapter_model.safetensors")
    state = {n.replace(".default", ""): x.numpy() for n, x in model.state_dict().items() if "lora_" in n}
    assert set(state) == set(saved)
    for name, array in saved.items():
        np.testing.assert_array_equal(state[name], array)


def test_what_is_written_is_read_back_with_the_adapters_in_it(tmp_path, trained):
    base = write(tmp_path / "base")
    merged = run(tmp_path, settings(tmp_path / "base"))
    c = config.from_configdict(settings(merged))
    got = pretrained.read_weights(c, pretrained.load_policy(c))
    lora, scale = adapters(base), 2.0
    kernel = base["decoder"]["gate"]["kernel"] + scale * np.matmul(
        lora["decoder"]["gate"]["a"], lora["decoder"]["gate"]["b"]
    )
    np.testing.assert_allclose(got["decoder"]["gate"]["kernel"], kernel, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(got["embed"]["table"], base["embed"]["table"])
    assert len({p.stat().st_mode for p in merged.iterdir()}) == 1  # who may read the config may read the weights
    assert sorted(p.name for p in merged.iterdir()) == [
        "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json",
        "tokenizer_config.json",
    ]  # fmt: skip


def test_dtype_of_the_checkpoint_and_no_code(tmp_path, trained):
    write(tmp_path / "base", dtype="bfloat16", torch_dtype="bfloat16", auto_map={"AutoModel": "evil.Model"})
    file = tmp_path / "base" / "config.json"
    values = json.loads(file.read_text())
    del values["dtype"]
    file.write_text(json.dumps(values))
    merged = run(tmp_path, settings(tmp_path / "base"))
    assert {t.dtype for t in hf_checkpoint.open_folder(merged).tensors.values()} == {"BF16"}
    assert "auto_map" not in json.loads((merged / "config.json").read_text())


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_what_was_rounded_for_training_is_written_as_the_files_have_it(tmp_path, monkeypatch, caplog, dtype):
    write(tmp_path / "base", dtype=dtype)
    file = tmp_path / "base" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"dtype": dtype}))
    values = settings(tmp_path / "base", targets="decoder/q")
    values.policy.weights_dtype = default.get_config("auto").policy.weights_dtype
    assert values.policy.weights_dtype == "bfloat16"
    wanted = load_file(tmp_path / "base" / hf_checkpoint.SINGLE)

    def same(out, *adapted):
        got = load_file(out / hf_checkpoint.SINGLE)
        assert {n: x.dtype for n, x in got.items()} == {n: x.dtype for n, x in wanted.items()}
        assert [n for n in wanted if not np.array_equal(got[n], wanted[n])] == list(adapted)

    same(export.run(config.from_configdict(values), None, str(tmp_path / "own")))
    assert "rounded" not in caplog.text
    pretend(monkeypatch)
    same(run(tmp_path, values), *sorted(n for n in wanted if "q_proj.weight" in n))
    assert "weights_dtype = 'bfloat16'" in caplog.text


def test_the_shipped_policy(tmp_path):
    """The demo's policy opens in transformers, and its text logits are ours."""
    kind = auto("qwen3_vl")
    values = default.get_config()
    out = export.run(config.from_configdict(values), None, str(tmp_path / "tiny"))
    model = kind.from_pretrained(out, dtype="float32")
    c = config.from_configdict(settings(out))
    again = pretrained.read_weights(c, pretrained.load_policy(c))
    shipped = config.from_configdict(values)
    jax.tree.map(
        np.testing.assert_array_equal, again, pretrained.read_weights(shipped, pretrained.load_policy(shipped))
    )
    ours, found = pretrained.load_policy(shipped).style, pretrained.load_policy(c).style
    assert (found.geometry.rule, found.geometry.max_pixels) == ("square", values.policy.max_pixels)
    assert found.frame == ours.frame and not found.geometry.video.stamped  # its boxes and videos stay its own
    values.policy.path = str(out)
    assert pretrained.load_policy(config.from_configdict(values)).style.geometry == ours.geometry
    assert sum(p.numel() for p in model.parameters()) == sum(x.size for x in native.flatten(again).values())


@pytest.mark.parametrize(("given", "revision"), [("org/base@v1.5", "v1.5"), ("org/base", None)])
def test_an_adapter_names_the_hub_id_and_revision_of_its_base(tmp_path, trained, monkeypatch, given, revision):
    write(tmp_path / "base")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: str(tmp_path / "base"))
    monkeypatch.chdir(tmp_path)
    made = json.loads((run(tmp_path, settings(given), adapter=True) / "adapter_config.json").read_text())
    assert (made["base_model_name_or_path"], made["revision"]) == ("org/base", revision)


def test_no_adapter_of_a_base_that_peft_can_not_load(tmp_path, trained):
    values = default.get_config()
    values.lora.rank = 2
    with pytest.raises(
        config.ConfigError,
        match=r"--adapter: PEFT loads its base from a Hugging Face folder or a \.gguf file, .* the merged weights",
    ):
        run(tmp_path, values, adapter=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("family", ["llama", "qwen2"])  # of qwen3, transformers opens heads of 128 values only
def test_an_adapter_of_a_gguf_file_opens_in_peft(tmp_path, trained, caplog, family):
    kind = auto(family)
    peft = pytest.importorskip("peft")
    (tmp_path / "base").mkdir()
    names = {f"blk.{i}.{part}.weight": Kind.Q5_0 for i in range(2) for part in ("attn_q", "attn_k", "ffn_down")}
    file = write_gguf(tmp_path / "base" / "m.gguf", family, names, template="{{ messages[0].content }}<|im_end|>")
    with caplog.at_level("INFO"):
        alone = run(tmp_path, settings(file), adapter=True)
    made = json.loads((alone / "adapter_config.json").read_text())
    assert made["base_model_name_or_path"] == str(tmp_path / "base") and made["revision"] is None
    assert f"from_pretrained('{tmp_path}/base', gguf_file='m.gguf', dtype='float32')" in caplog.text
    base = kind.from_pretrained(made["base_model_name_or_path"], gguf_file="m.gguf", dtype="float32")
    ids = [i for i in IDS if i < base.config.vocab_size]
    model = peft.PeftModel.from_pretrained(base, alone)
    np.testing.assert_allclose(theirs(model, ids), trained(ids=ids), atol=1e-4)
    assert np.abs(trained(adapted=False, ids=ids) - trained(ids=ids)).max() > 0.05


def test_a_gguf_file_becomes_a_folder(tmp_path):
    values = settings(write_gguf(tmp_path / "m.gguf", template="{{ messages[0].content }}<|im_end|>"))
    c = config.from_configdict(values)
    source = pretrained.load_policy(c)
    out = export.run(c, None, str(tmp_path / "out"))
    c = config.from_configdict(settings(out))
    made = pretrained.load_policy(c)
    assert made.spec == source.spec
    assert made.style.tokenizer.encode("the 12<|im_end|>") == source.style.tokenizer.encode("the 12<|im_end|>")
    jax.tree.map(
        np.testing.assert_array_equal, pretrained.read_weights(c, made), pretrained.read_weights(c, source)
    )  # adapters that were never trained change nothing


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ({"out": None}, r"needs --out=DIR"),
        ({"out": "base"}, r"base: expected a new or empty folder; nothing was changed"),
        ({"workdir": "nothing"}, r"nothing: no checkpoints to export"),
        ({"adapter": True, "rank": 0}, r"--adapter: config\.lora\.rank = 0 trains all weights"),
    ],
)
def test_what_can_not_be_exported(tmp_path, capsys, arguments, fault, monkeypatch):
    write(tmp_path / "base")
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    arguments = {"out": "out", "workdir": "run", "adapter": False, "rank": 4} | arguments
    values = settings(tmp_path / "base", rank=arguments.pop("rank"))
    workdir = str(tmp_path / arguments["workdir"])
    out = arguments["out"] and str(tmp_path / arguments["out"])
    assert dispatch.run("export", values, workdir, dispatch.Options(out=out, adapter=arguments["adapter"])) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ") and re.search(fault, error), error
    assert not (tmp_path / "out").exists()


def test_an_interrupted_export_leaves_nothing_that_looks_whole(tmp_path, trained, monkeypatch):
    write(tmp_path / "base")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(export.exporting, "write_json", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, settings(tmp_path / "base"))
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()
    monkeypatch.undo()


def test_an_adapter_that_peft_does_not_know_is_refused_before_the_weights_are_read(tmp_path):
    """No checkpoint is there to be read."""
    write(tmp_path / "base", "qwen3_vl")
    with pytest.raises(native.WeightsError, match=r"vision/patch: PEFT has no such adapter .* merged weights instead"):
        run(tmp_path, settings(tmp_path / "base", targets="vision/patch"), adapter=True)
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()


def test_places_that_can_not_be_written_to(tmp_path):
    write(tmp_path / "base")
    c = config.from_configdict(settings(tmp_path / "base"))
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "mine").write_text("of the user")
    with pytest.raises(config.ConfigError, match=r"out\.partial is in the way, .*; nothing was changed; move it away"):
        export.run(c, None, str(tmp_path / "out"))
    assert (tmp_path / "out.partial" / "mine").read_text() == "of the user"
    (tmp_path / "file").write_text("x")
    with pytest.raises(config.ConfigError, match=r"--out=.*file/x: cannot be made: Not a directory; expected"):
        export.run(c, None, str(tmp_path / "file" / "x"))


def test_a_step_without_a_run_is_refused(tmp_path):
    write(tmp_path / "base")
    c = config.from_configdict(settings(tmp_path / "base"))
    with pytest.raises(config.ConfigError, match="--step=best needs the --workdir of a run"):
        export.run(c, None, str(tmp_path / "out"), step="best")
    assert not (tmp_path / "out").exists()
