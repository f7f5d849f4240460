"""End tokens: as generation_config.json, config.json and tokenizer list them, and as the chat template writes them."""

import json
import pathlib
import shutil

import pytest

from dtr1_jax.data import end_tokens, tokenizer
from dtr1_jax.policies import policy_files

FOLDER = policy_files.ASSETS / "tiny"
NAMES = ("<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<end_of_turn>", "</s>", "<|end|>", "<|user|>", "<|begin|>")
LOOP = "{% for m in messages %}"
HEAD = LOOP + "<|begin|>{{ m.role }}\n"
TEMPLATES = {  # name -> (template, the token behind an answer)
    "chatml": (LOOP + "<|im_start|>{{m.role}}\n{{m.content}}<|im_end|>\n{% endfor %}", "<|im_end|>"),
    "llama3": (HEAD + "{{ m.content | trim }}<|eot_id|>{% endfor %}", "<|eot_id|>"),
    "gemma": (
        "{{ bos_token }}" + HEAD + "{{ m.content }}<end_of_turn>\n{% endfor %}"
        "{% if add_generation_prompt %}<|begin|>model\n{% endif %}",
        "<end_of_turn>",
    ),
    "eos_token": (LOOP + "{{ m.role }}: {{ m.content }} {{ eos_token }}{% endfor %}", "<|end_of_text|>"),
    "parts": (
        LOOP + "{% for part in m.content %}{{ part.text }}{% endfor %}<|end|>\n{% endfor %}",  # no text but in a list
        "<|end|>",
    ),
    "next_turn": (  # nothing behind the last answer: the next turn begins with an end token
        LOOP + "{{ '<|user|>' if m.role == 'user' else '<|begin|>' }}{{ m.content }}{% endfor %}", "<|user|>",
    ),
    "no_token": (LOOP + "{{ m.role }}: {{ m.content }}\n{% endfor %}", "<|im_end|>"),  # the name that we know
}  # fmt: skip


def folder(tmp_path, template=None, eos="<|end_of_text|>", **files):
    """A copy of the shipped tokenizer with the tokens NAMES; `files` are JSON files by their stems."""
    path = pathlib.Path(
        shutil.copytree(FOLDER, tmp_path / "policy", ignore=shutil.ignore_patterns("*.safetensors", "README*"))
    )
    hf = tokenizer.load_tokenizer(FOLDER).hf
    hf.add_special_tokens({"additional_special_tokens": list(NAMES)})
    hf.add_special_tokens({"eos_token": eos})
    hf.save_pretrained(path)
    if template:
        (path / "chat_template.jinja").write_text(template)
    for stem, value in files.items():
        (path / f"{stem}.json").write_text(json.dumps(value))
    return path


def ids(*names):
    known = tokenizer.load_tokenizer(FOLDER)
    numbers = {name: known.size + i for i, name in enumerate(NAMES)} | {"<|im_end|>": known.end}
    return [numbers[name] for name in names]


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_token_behind_an_answer(tmp_path, name):
    template, wanted = TEMPLATES[name]
    listed = ids("<|end_of_text|>", "<|user|>", "<|eom_id|>")
    got = tokenizer.load_tokenizer(folder(tmp_path, template, generation_config={"eos_token_id": listed}))
    assert [got.end] == ids(wanted)
    assert got.ends == tuple(sorted({got.end, *listed}))
    assert not set(got.ends) & set(got.banned) and set(ids("<|begin|>")) <= set(got.banned)
    for end in got.ends:
        assert got.decode([*got.encode("yes"), end, *got.encode("no")]) == "yes"


def test_a_template_that_fails_or_says_another_thing_leaves_the_other_files(tmp_path):
    got = tokenizer.load_tokenizer(folder(tmp_path, "{{ raise_exception('only tools') }}", "</s>"))
    assert [got.end] == ids("<|im_end|>") and got.ends == tuple(sorted(ids("<|im_end|>", "</s>")))


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"generation_config": {"eos_token_id": 5}, "config": {"eos_token_id": 7}}, (5,)),
        ({"generation_config": {"eos_token_id": [5, 6, 5]}, "config": {"eos_token_id": 7}}, (5, 6)),
        ({"generation_config": {}, "config": {"eos_token_id": [7]}}, (7,)),
        ({"generation_config": {}, "config": {"text_config": {"eos_token_id": 8}}}, (8,)),
        ({"generation_config": {"eos_token_id": []}, "config": {"eos_token_id": 7}}, (7,)),
        ({"generation_config": {}, "config": {"text_config": "x"}}, ()),
    ],
)
def test_which_file_counts(files, wanted):
    """transformers reads config.json only for what generation_config.json lacks."""
    assert end_tokens.listed(files["generation_config"], files["config"]) == wanted


@pytest.mark.parametrize("value", ["</s>", -1, True, [1, None], {"id": 1}, 1.0])
def test_what_is_no_id(tmp_path, value):
    path = folder(tmp_path, generation_config={"eos_token_id": value})
    with pytest.raises(tokenizer.TokenizerError, match=rf"{path}: eos_token_id: expected the id of a token or a list"):
        tokenizer.load_tokenizer(path)


def test_an_ordinary_token_ends_nothing_and_is_reported(tmp_path, caplog):
    """Such as the 2 that transformers gives Llama by default."""
    path = folder(tmp_path, config={"model_type": "llama", "eos_token_id": [300, 99_999, *ids("</s>")]})
    got = tokenizer.load_tokenizer(path)
    assert got.ends == tuple(sorted(ids("<|im_end|>", "<|end_of_text|>", "</s>")))
    assert "eos_token_id 300, 99999 in generation_config.json or config.json is no special token" in caplog.text


def test_a_placeholder_of_pictures_is_no_end(tmp_path, caplog):
    image = tokenizer.load_tokenizer(FOLDER).image
    got = tokenizer.load_tokenizer(folder(tmp_path, generation_config={"eos_token_id": [image]}))
    assert image in got.banned and image not in got.ends and str(image) in caplog.text
