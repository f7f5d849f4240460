"""Sentence embeddings against transformers' BERT on random weights, and folders that do not fit."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dtr1_jax.models import sentence_encoder
from dtr1_jax.models.weights.native import WeightsError
from dtr1_jax.rewards import text_metrics

CONFIG = {
    "model_type": "bert", "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 96,
    "vocab_size": 60, "max_position_embeddings": 40, "type_vocab_size": 2, "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}  # fmt: skip
LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *("##" + c for c in LETTERS), "שלום"]
TEXTS = ["a cat", "the dog runs far away", "", "!", "שלום", "x" * 500, "a b " * 400, "\ud800 a", "A CAT"]


def write_tokenizer(folder):
    import tokenizers
    from tokenizers import models, normalizers, pre_tokenizers, processors

    ids = {token: i for i, token in enumerate(VOCABULARY)}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=600))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    tokenizer.enable_padding(length=128)  # as all-MiniLM-L6-v2's file says; it must make no difference
    tokenizer.enable_truncation(128)
    tokenizer.save(str(folder / "tokenizer.json"))
    return tokenizer


def tensors(seed=0):
    rng = np.random.default_rng(seed)
    letters = {"d": 48, "f": 96, "v": 60, "p": 40, "t": 2}
    names = dict(sentence_encoder._EMBED.values())
    names |= {f"encoder.layer.{i}.{name}": shape for i in range(3) for name, shape in sentence_encoder._LAYER.values()}
    return {
        name: (rng.normal(0, 0.3, [letters[c] for c in shape]) + (name.endswith("LayerNorm.weight"))).astype(np.float32)
        for name, shape in names.items()
    }


@pytest.fixture
def folder(tmp_path):
    write_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    save_file(tensors(), tmp_path / "model.safetensors")
    return tmp_path


def test_agrees_with_transformers(tmp_path):
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = transformers.BertModel(transformers.BertConfig(**CONFIG)).eval()
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(tmp_path)  # with the pooler, which is not used
    tokenizer = write_tokenizer(tmp_path)
    tokenizer.no_padding()
    tokenizer.enable_truncation(40)
    got = sentence_encoder.embedder(tmp_path)(TEXTS)
    assert got.shape == (len(TEXTS), 48) and got.dtype == np.float32
    for row, words in zip(got, TEXTS):
        ids = torch.tensor([tokenizer.encode(words.encode("utf-8", "replace").decode()).ids])
        with torch.no_grad():
            mean = model(input_ids=ids).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(row, (mean / mean.norm()).numpy(), atol=2e-5)
    assert 0 < abs(got[0] - got[1]).max() and np.abs(got[0] - got[8]).max() < 1e-6


def test_rows_do_not_depend_on_their_neighbours(folder):
    embed = sentence_encoder.embedder(folder)
    together = embed(TEXTS)
    for row, words in zip(together, TEXTS):
        np.testing.assert_allclose(embed([words])[0], row, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert embed([]).shape == (0, 48)
    many = embed(["a", "b"] * 40)
    np.testing.assert_allclose(many[-2:], many[:2], atol=1e-5)


def test_similarity_of_texts(folder):
    embed = sentence_encoder.embedder(folder)
    scores = text_metrics.similarity(
        ["a cat", "a cat", "", "x" * 100_000], [["a cat"], ["far dogs"], ["a"], ["a"]], embed
    )
    assert scores[0] == pytest.approx(1.0, abs=1e-5) and 0 <= scores[1] < 1 and scores[2] == 0.0 and 0 <= scores[3] < 1


def test_the_length_limit_of_the_folder_counts(folder):
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 5}')
    embed = sentence_encoder.embedder(folder)
    np.testing.assert_allclose(*embed(["a b c d e f", "a b c x y z"]), atol=1e-6)
    assert np.abs(np.subtract(*embed(["a b d", "a b c"]))).max() > 1e-3


def rewrite(folder, **change):
    arrays = {**load_file(folder / "model.safetensors"), **change}
    save_file({k: v for k, v in arrays.items() if v is not None}, folder / "model.safetensors")


@pytest.mark.parametrize(("change", "message"), [
    ({"embeddings.LayerNorm.bias": None}, "missing embeddings.LayerNorm.bias"),
    ({"classifier.weight": np.zeros(3, np.float32)}, "left over classifier.weight"),
    ({"embeddings.LayerNorm.bias": np.zeros(7, np.float32)}, r"expected shape \[48\], got \[7\]"),
    ({"embeddings.LayerNorm.bias": np.zeros(48, np.int32)}, "expected floats, got I32"),
])  # fmt: skip
def test_weights_are_read_strictly(folder, change, message):
    rewrite(folder, **change)
    with pytest.raises(WeightsError, match=message):
        sentence_encoder.load_encoder(folder)


def test_unused_tensors_and_a_prefix_are_known(folder):
    arrays = tensors() | {"embeddings.position_ids": np.arange(40)[None], "pooler.dense.bias": np.zeros(48, np.float32)}
    save_file({"bert." + name: x for name, x in arrays.items()}, folder / "model.safetensors")
    _, params = sentence_encoder.load_encoder(folder)
    np.testing.assert_array_equal(params["embed"]["words"], tensors()["embeddings.word_embeddings.weight"])
    kernel = tensors()["encoder.layer.2.intermediate.dense.weight"]
    np.testing.assert_array_equal(params["layers"]["up/kernel"][2], kernel.T)


@pytest.mark.parametrize(("name", "content", "message"), [
    ("config.json", {"model_type": "roberta"}, "model_type: expected 'bert'"),
    ("config.json", {"hidden_size": "48"}, "hidden_size: '48'"),
    ("config.json", {"num_attention_heads": 5}, "5 does not divide"),
    ("config.json", {"hidden_act": "relu"}, "hidden_act"),
    ("config.json", {"layer_norm_eps": 0.0}, "layer_norm_eps"),
    ("config.json", {"vocab_size": 50}, r"expected shape \[50, 48\]"),
    ("1_Pooling/config.json", {"pooling_mode_cls_token": True}, "pooling_mode_mean_tokens alone"),
])  # fmt: skip
def test_other_models_are_refused(folder, name, content, message):
    (folder / "1_Pooling").mkdir()
    (folder / name).write_text(json.dumps(CONFIG | content if name == "config.json" else content))
    with pytest.raises(WeightsError, match=message):
        sentence_encoder.embedder(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("content", [None, b"", b"\x80\x04garbage"])
def test_broken_files_are_named_in_the_message(folder, name, content):
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    with pytest.raises(WeightsError, match=name.replace(".", r"\.")):
        sentence_encoder.embedder(folder)


def test_a_tokenizer_larger_than_the_table_is_refused(folder):
    (folder / "config.json").write_text(json.dumps(CONFIG | {"vocab_size": 40}))
    rewrite(folder, **{"embeddings.word_embeddings.weight": np.zeros((40, 48), np.float32)})
    with pytest.raises(WeightsError, match="57 tokens, but the model's table has 40 rows"):
        sentence_encoder.embedder(folder)
