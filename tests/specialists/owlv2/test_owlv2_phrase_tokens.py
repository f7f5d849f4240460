"""Token ids of phrases against transformers 5.23's CLIPTokenizer, from both kinds of files, and broken files."""

import functools
import json
import logging
import pathlib
import tempfile

import pytest
import small_owlv2
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.models.weights.native import WeightsError
from dtr1_jax.specialists.owlv2 import phrase_tokens
from dtr1_jax.specialists.owlv2.spec import Owlv2Spec, Tower

TOWER = Tower(8, 8, 1, 1, 1e-5, "relu")
SIZE = len(small_owlv2.vocabulary()[0])
SPEC = Owlv2Spec(TOWER, TOWER, SIZE, 16, 0, 48, 16)
TEXTS = [
    *small_owlv2.PHRASES, "THE  Cat's\n dogs 12", "a!b !!", "<|endoftext|> x", "<|startoftext|>dog",
    "\u212b \ufb01 e\u0301",
    "don't we'll", " ", "x" * 40, "\x00\u200b.", "🐱 cat", "a" * 5000,
]  # fmt: skip


@pytest.fixture(scope="module")
def reference():
    return small_owlv2.tokenizer()


@pytest.fixture(scope="module", params=["tokenizer.json", "vocab.json"])
def folder(request, tmp_path_factory, reference):
    where = tmp_path_factory.mktemp("tokens")
    reference.save_pretrained(where)
    if request.param == "vocab.json":
        small_owlv2.write_slow_tokenizer(where)
    return where


def wanted(reference, texts):
    return reference(texts, padding="max_length", truncation=True)["input_ids"]


def test_ids_are_those_of_the_reference(folder, reference):
    tokenizer = phrase_tokens.load(folder, SPEC)
    assert tokenizer.encode(TEXTS).tolist() == wanted(reference, TEXTS)
    assert tokenizer.encode([]).shape == (0, 16)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=4))
def test_ids_of_any_text(texts):
    tokenizer, reference = both()
    assert tokenizer.encode(texts).tolist() == wanted(reference, texts)


@functools.cache
def both():
    reference = small_owlv2.tokenizer()
    with tempfile.TemporaryDirectory() as where:
        reference.save_pretrained(where)
        return phrase_tokens.load(pathlib.Path(where), SPEC), reference


def test_long_phrases_are_cut_and_counted(folder, caplog):
    tokenizer = phrase_tokens.load(folder, SPEC)
    with caplog.at_level(logging.WARNING):
        ids = tokenizer.encode(["x" * 40, "cat", "y" * 15, "z" * 14])
    assert "2 of 4 phrases are longer than the 14 tokens" in caplog.text
    assert (ids[[0, 2, 3], -1] == SIZE - 1).all()


def test_a_surrogate_and_a_very_long_phrase(folder):
    tokenizer = phrase_tokens.load(folder, SPEC)
    assert tokenizer.encode(["\ud800"]).tolist() == tokenizer.encode(["?"]).tolist()
    assert tokenizer.encode(["cat " * 1_000_000]).shape == (1, 16)


def test_fewer_tokens_than_positions(folder, tmp_path):
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": dict(zip(("vocab", "merges"), _parts()))}), "utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 8, "pad_token": "!"}), "utf-8")
    assert phrase_tokens.load(tmp_path, SPEC).encode(["x" * 40]).shape == (1, 8)


def _parts():
    tokens, merges = small_owlv2.vocabulary()
    return tokens, [list(pair) for pair in merges]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v, m: (v | {"more": 10_000}, m), "token id 10000, but the model's table has"),
        (lambda v, m: ({k: i for k, i in v.items() if k != "<|endoftext|>"}, m), "no token '<|endoftext|>'"),
        (lambda v, m: (v | {"<|endoftext|>": 3}, m), "expected the largest id"),
        (lambda v, m: (v | {"a": "b"}, m), "expected a token id for every token"),
        (lambda v, m: (v, [*m, ["q", "q", "q"]]), "expected merges of two tokens each"),
        (lambda v, m: (v, [*m, ["qq", "q"]]), "the merges do not fit the vocabulary"),
        (lambda v, m: ({}, m), "expected the vocabulary and the merges"),
        (lambda v, m: (v, None), "expected the vocabulary and the merges"),
    ],
)
def test_broken_files(tmp_path, change, message):
    vocabulary, merges = change(*_parts())
    content = json.dumps({"model": {"vocab": vocabulary, "merges": merges}})
    (tmp_path / "tokenizer.json").write_text(content, "utf-8")
    with pytest.raises(WeightsError, match=message.replace("|", "[|]")):
        phrase_tokens.load(tmp_path, SPEC)


def test_missing_files(tmp_path):
    with pytest.raises(WeightsError, match=r"vocab\.json: no such file"):
        phrase_tokens.load(tmp_path, SPEC)
    (tmp_path / "vocab.json").write_text("{}", "utf-8")
    with pytest.raises(WeightsError, match=r"merges\.txt: cannot be read"):
        phrase_tokens.load(tmp_path, SPEC)


def test_rules_of_the_file_are_not_run(tmp_path, reference):
    """As in transformers, which rebuilds CLIP's tokenizer from vocabulary and merges."""
    reference.save_pretrained(tmp_path)
    content = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    content["normalizer"] = {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": "b"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    ids = phrase_tokens.load(tmp_path, SPEC).encode(["a photo of a cat"])
    assert ids.tolist() == wanted(reference, ["a photo of a cat"])
