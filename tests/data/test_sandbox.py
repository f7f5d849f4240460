"""Chat templates and tokenizers that loop, grow or backtrack end in an error; published forms render as before."""

import json
import pathlib
import shutil
import time

import processors
import pytest

from dtr1_jax.data import sandbox, tokenizer
from dtr1_jax.policies import policy_files

FOLDER = policy_files.ASSETS / "tiny"
CHAT = [
    {"role": "user", "content": "What is \u00fc \U0001f41f?"}, {"role": "assistant", "content": "A fish."},
    {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "And this?"}]},
]  # fmt: skip
LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
GROWTH = "{% set ns = namespace(a='aaaaaaaaaa') %}{% for i in range(50) %}{% set ns.a = STEP %}{% endfor %}"


def render(template):
    return sandbox.render(template, CHAT, {"bos_token": "<s>"})


@pytest.mark.parametrize("family", sorted(processors.TEMPLATES))
def test_a_template_renders_as_in_transformers(family):
    hf = tokenizer.load_tokenizer(FOLDER).hf
    hf.chat_template = processors.TEMPLATES[family]
    for more in (False, True):
        wanted = hf.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=more)
        assert sandbox.render(hf.chat_template, CHAT, hf.special_tokens_map, more) == wanted


def test_what_templates_use():
    text = "{{ bos_token }}{% generation %}{{ messages[0].role | tojson }}{% endgeneration %}"
    text += "{{ strftime_now('%Y') | length }}"
    assert render(text) == '<s>"user"4'


@pytest.mark.parametrize(
    ("template", "fault"),
    [
        (LOOPS, "it takes more than 1 s"),
        ("{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(40) }}", "than 1 s"),
        ("{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(0) }}", "maximum recursion depth"),
        ("{{ (messages | length + 8) ** 99999999 }}", "than 1 s"),
        ("{{ lipsum(n=10**7) }}", "than 1 s"),
        ("{% for i in range(10**9) %}x{% endfor %}", "Range too big"),
        ("{{ 'a' * 10**9 }}", "than 512 MB"),
        ("{{ 'a' | center(10**10) }}", "than 512 MB"),
        ("{{ '%9999999999d' | format(1) }}", "than 512 MB"),
        ("{{ messages | tojson(indent=10**9) }}", "than 512 MB"),
        (GROWTH.replace("STEP", "ns.a * 10"), "than 512 MB"),
        (GROWTH.replace("STEP", "ns.a ~ ns.a"), "than 512 MB"),
        (GROWTH.replace("STEP", "[ns.a, ns.a]") + "{{ ns.a }}", "than 1 s|than 512 MB"),
        ("{{ 'a' * 5000000 }}", "it writes 5000000 characters, more than 4000000"),
        ("x" * 300_000, "it has 300000 characters, more than 200000"),
    ],
)
def test_a_template_without_bounds(template, fault, monkeypatch):
    if fault == "than 512 MB":  # on a busy machine it may take more than a second to fill the memory
        monkeypatch.setitem(sandbox.LIMITS, "render", (30.0, sandbox.LIMITS["render"][1]))
    start = time.monotonic()
    with pytest.raises(sandbox.LimitError, match=fault):
        render(template)
    assert time.monotonic() - start < sandbox.WALL_SECONDS
    assert render("{{ messages[0].role }}") == "user"  # the next one is not harmed


@pytest.mark.parametrize(
    "template", ["{{ ''.__class__.__mro__[1].__subclasses__() }}", "{% include '/etc/passwd' %}", "{{", "{{ 1 / 0 }}"]
)
def test_a_template_that_fails(template):
    with pytest.raises(sandbox.SandboxError) as error:
        render(template)
    assert not isinstance(error.value, sandbox.LimitError)


def test_the_policy_with_such_a_template_is_refused_by_name(tmp_path):
    path = copy(tmp_path)
    (path / "chat_template.jinja").write_text(LOOPS)
    with pytest.raises(tokenizer.TokenizerError, match=rf"{path}: its chat template fails: it takes more than 1 s"):
        tokenizer.load_tokenizer(path)


def test_a_template_that_loops_for_some_chats_only(tmp_path):
    path = copy(tmp_path)
    (path / "chat_template.jinja").write_text("{% if messages[0].content == 'boo' %}" + LOOPS + "{% endif %}")
    loaded = tokenizer.load_tokenizer(path)
    with pytest.raises(tokenizer.TokenizerError, match="its chat template fails: it takes more than 1 s"):
        loaded.render([{"role": "user", "content": "boo"}])


def copy(tmp_path):
    return pathlib.Path(shutil.copytree(FOLDER, tmp_path / "policy", ignore=shutil.ignore_patterns("*.safetensors")))


def split(pattern):
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def replace(pattern, content):
    return {"type": "Replace", "pattern": pattern, "content": content}


def changed(tmp_path, **parts):
    path = copy(tmp_path)
    file = path / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | parts), "utf-8")
    return path


GROWING = {"type": "Sequence", "normalizers": [replace({"String": "a"}, "a" * 10)] * 9}


@pytest.mark.parametrize(
    ("parts", "fault"),
    [
        ({"pre_tokenizer": split("(a+)+$")}, "its regular expressions take too long on 'aaaaaaaa'"),
        ({"pre_tokenizer": split(r"(\w+\s?)+$")}, "its regular expressions take too long on"),
        (
            {"pre_tokenizer": split("a*a*(?=[!])(?=[x])")},
            "it takes more than 2 s",
        ),  # cubic time
        ({"normalizer": replace({"Regex": "(.|.)*x"}, "y")}, "its regular expressions take too long on"),
        ({"normalizer": GROWING}, r"its replacements may make a text 1e\+09 times as long"),
        ({"decoder": replace({"String": "a"}, "a" * 2000)}, r"its replacements may make a text 2e\+03 times as long"),
        ({"added_tokens": [{"id": 0, "content": "x"}] * 100_001}, "it has 100001 added tokens, more than 100000"),
    ],
)
def test_a_tokenizer_without_bounds(tmp_path, parts, fault, monkeypatch):
    monkeypatch.setitem(sandbox.LIMITS, "try_tokenizer", (2.0, 2**31))
    path = changed(tmp_path, **parts)
    with pytest.raises(tokenizer.TokenizerError, match=fault) as error:
        tokenizer.load_tokenizer(path)
    assert str(error.value).startswith(f"{path}/tokenizer.json: ") and "published with the checkpoint" in str(
        error.value
    )


@pytest.mark.parametrize(
    "pattern", [r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))|\p{L}+|\s+|[^\p{L}\p{N}\s]+", r"\s+(?!\S)|\s+"]
)
def test_regular_expressions_of_published_tokenizers_pass(tmp_path, pattern):
    tokenizer.load_tokenizer(changed(tmp_path, pre_tokenizer=split(pattern)))


def test_an_expression_that_gives_up_on_some_texts_only(tmp_path):
    """The library panics there, and a panic is no Exception."""
    known = json.loads((FOLDER / "tokenizer.json").read_text("utf-8"))["pre_tokenizer"]
    parts = {"type": "Sequence", "pretokenizers": [split("(Q+)+$"), known]}
    path = changed(tmp_path, pre_tokenizer=parts)
    loaded = tokenizer.load_tokenizer(path)
    assert loaded.decode(loaded.encode("a lamp")) == "a lamp"
    with pytest.raises(tokenizer.TokenizerError, match=r"policy: the tokenizer gives up on a text \(.*retry-limit"):
        loaded.encode("Q" * 40 + "!")
