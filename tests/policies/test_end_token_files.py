"""An exported policy ends its completions where training ended them, and where its base does."""

import json

import pytest
from checkpoints import write
from exports import run, settings

from configs import default
from dtr1_jax import config
from dtr1_jax.data import tokenizer
from dtr1_jax.modes import export
from dtr1_jax.policies import end_token_files, policy_files, pretrained

TEXT_END, TURN_END = 960, 962  # <|endoftext|> and <|im_end|> of the shipped tokenizer


def base_model(folder, family="qwen3", generation=True, **tokenizer_settings):
    """A base model's files: all say <|endoftext|>, but the chat template ends turns with <|im_end|>."""
    write(folder, family)
    values = json.loads((folder / "config.json").read_text())
    if family.endswith("vl"):
        values["text_config"]["eos_token_id"] = TEXT_END
    values["eos_token_id"] = TEXT_END
    (folder / "config.json").write_text(json.dumps(values))
    if generation:
        (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": TEXT_END, "temperature": 0.7}))
    file = folder / "tokenizer_config.json"
    known = {"eos_token": "<|endoftext|>"} | tokenizer_settings
    file.write_text(json.dumps(json.loads(file.read_text()) | known))


def read(folder, name):
    return json.loads((folder / f"{name}.json").read_text("utf-8"))


@pytest.mark.parametrize("family", ["qwen3", "qwen3_vl"])
def test_a_base_model_that_learnt_to_end_its_turns(tmp_path, family):
    base_model(tmp_path / "base", family)
    c = config.from_configdict(settings(tmp_path / "base"))
    found = pretrained.load_policy(c).style.tokenizer
    assert (found.end, found.ends) == (TURN_END, (TEXT_END, TURN_END))
    out = export.run(c, None, str(tmp_path / "out"))
    both = [TURN_END, TEXT_END]
    assert read(out, "generation_config") == {"eos_token_id": both, "temperature": 0.7}
    values = read(out, "config")
    assert values["eos_token_id"] == both and values.get("text_config", values)["eos_token_id"] == both
    assert read(out, "tokenizer_config")["eos_token"] == "<|im_end|>"
    again = tokenizer.load_tokenizer(out)
    assert (again.end, again.ends, again.hf.eos_token) == (TURN_END, (TEXT_END, TURN_END), "<|im_end|>")
    assert again.render([{"role": "user", "content": "x"}]) == found.render([{"role": "user", "content": "x"}])


def test_transformers_ends_the_export_at_both(tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    base_model(tmp_path / "base", generation=False)
    out = export.run(config.from_configdict(settings(tmp_path / "base")), None, str(tmp_path / "out"))
    model = transformers.AutoModelForCausalLM.from_pretrained(out)
    assert model.generation_config.eos_token_id == [TURN_END, TEXT_END]


def test_an_adapter_brings_its_ends_and_warns_of_its_base(tmp_path, trained, caplog):
    base_model(tmp_path / "base")
    out = run(tmp_path, settings(tmp_path / "base"), adapter=True)
    assert read(out, "generation_config")["eos_token_id"] == [TURN_END, TEXT_END]
    assert read(out, "tokenizer_config")["eos_token"] == "<|im_end|>"
    assert "training ended completions with <|im_end|>, which is no end token of the base" in caplog.text
    assert f"GenerationConfig.from_pretrained('{out}')" in caplog.text


def test_files_that_say_it_already_stay_as_they_are(tmp_path):
    write(tmp_path / "base", eos_token_id=[TEXT_END, TURN_END])
    generation = {"eos_token_id": [TEXT_END, TURN_END], "do_sample": True, "top_k": 20}
    (tmp_path / "base" / "generation_config.json").write_text(json.dumps(generation))
    out = export.run(config.from_configdict(settings(tmp_path / "base")), None, str(tmp_path / "out"))
    assert read(out, "generation_config") == generation
    assert read(out, "config")["eos_token_id"] == [TEXT_END, TURN_END]
    file = "tokenizer_config.json"
    assert (out / file).read_bytes() == (tmp_path / "base" / file).read_bytes()


def test_forms_of_the_tokenizers_files(tmp_path):
    base_model(tmp_path / "base", eos_token={"content": "<|endoftext|>", "lstrip": False, "__type": "AddedToken"})
    (tmp_path / "base" / "special_tokens_map.json").write_text(json.dumps({"eos_token": "<|endoftext|>", "x": 1}))
    out = export.run(config.from_configdict(settings(tmp_path / "base")), None, str(tmp_path / "out"))
    assert read(out, "tokenizer_config")["eos_token"]["content"] == "<|im_end|>"
    assert read(out, "special_tokens_map") == {"eos_token": "<|im_end|>", "x": 1}


def test_a_template_that_writes_eos_token_keeps_it(tmp_path, caplog):
    base_model(tmp_path / "base")
    file = tmp_path / "base" / "chat_template.jinja"
    file.write_text("{{ eos_token }}" + file.read_text())
    out = export.run(config.from_configdict(settings(tmp_path / "base")), None, str(tmp_path / "out"))
    assert (
        read(out, "tokenizer_config")["eos_token"] == "<|endoftext|>" and "the chat template writes it" in caplog.text
    )
    assert read(out, "generation_config")["eos_token_id"] == [TURN_END, TEXT_END]


def test_the_shipped_policy_says_where_it_ends(tmp_path):
    out = export.run(config.from_configdict(default.get_config()), None, str(tmp_path / "out"))
    assert read(out, "generation_config") == {"eos_token_id": TURN_END}
    assert read(out, "config")["text_config"]["eos_token_id"] == TURN_END


def test_config_json_without_end_tokens():
    known = tokenizer.load_tokenizer(policy_files.ASSETS / "tiny")
    assert end_token_files.with_ends({"model_type": "llama"}, known)["eos_token_id"] == TURN_END
    nested = end_token_files.with_ends({"text_config": {}}, known)
    assert nested == {"text_config": {"eos_token_id": TURN_END}}
