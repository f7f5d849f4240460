"""The shipped tokenizer gives any text back, is cheap on twins, and damaged folders are refused by name."""

import dataclasses
import json
import pathlib
import re
import shutil

import numpy as np
import pytest
import scripts
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from dtr1_jax.data import tokenizer
from dtr1_jax.data.queries import attributes as attribute_words
from dtr1_jax.data.twinworld import categories, picture_examples
from dtr1_jax.policies import policy_files
from dtr1_jax.twin import text as twin_text
from dtr1_jax.twin.schema import Object, Twin

FOLDER = policy_files.ASSETS / "tiny"
T = tokenizer.load_tokenizer(FOLDER)


def script():
    return scripts.load_script("experiments/cold_start/tokenizer.py")


def test_ids():
    known = T.hf.get_vocab()
    assert (T.pad, T.end, T.image) == tuple(known[n] for n in ("<|endoftext|>", "<|im_end|>", "<|image_pad|>"))
    assert T.video == known["<|video_pad|>"]
    assert T.size == len(known) == max(known.values()) + 1


@given(st.text(max_size=200))
@settings(max_examples=300, deadline=None)
def test_any_text_comes_back(text):
    text = text.replace("<|", "< |")
    ids = T.encode(text)
    assert T.decode(ids) == text
    assert not set(ids) & {*T.banned, T.end}


@given(st.lists(st.sampled_from(script().pieces()), max_size=12).map("".join))
@settings(max_examples=100, deadline=None)
def test_pieces_in_any_order_come_back(text):
    assert T.decode(T.encode(text)) == text


def test_how_many_ids_it_takes_to_write_a_text():
    ids = T.encode('<twin>{"a":1}</twin><think></think></twin>')
    count = T.until(ids, "</twin>")
    assert T.decode(ids[:count]).endswith("</twin>") and "</twin>" not in T.decode(ids[: count - 1])
    assert T.until(ids, "<answer>") == len(ids) and T.until([], "x") == 0
    for text in ("</twin>", "\u00e9", "twin>{"):  # also one that many ids write, or a part of one
        count = T.until(ids + T.encode("\u00e9!"), text)
        assert [text in T.decode((ids + T.encode("\u00e9!"))[:n]) for n in (count - 1, count)] == [False, True]


def test_lone_surrogates_do_not_raise():
    assert T.decode(T.encode("a\ud800b")) == "a?b"


def test_names_of_special_tokens_become_ids():
    assert T.encode("<|im_end|><|image_pad|>") == [T.end, T.image]


def test_integers_are_one_token():
    for i in range(256):
        assert len(T.encode(str(i))) == 1
        assert len(T.encode(f"{i},")) == 1
    assert [T.decode(T.encode(str(i))) for i in (256, 1000)] == ["256", "1000"]


def test_pieces_are_one_token():
    assert [piece for piece in script().pieces() if len(T.encode(piece)) != 1] == []


def test_an_object_costs_thirteen_tokens():
    """Its beginning with the id, the label, four integers, three words, and four pieces between them."""

    def cost(label, attributes):
        two = [Object(i, label, (10, 127, 255, 96), 3, attributes) for i in (1, 2)]
        both, one = (len(T.encode(twin_text.dumps_twin(Twin((96, 96), tuple(n))))) for n in (two, two[:1]))
        return both - one

    attributes = (attribute_words.COLOURS, attribute_words.SIZES, attribute_words.MATERIALS)
    costs = {label: cost(label, tuple(a[0] for a in attributes)) for label in categories.LABELS}
    assert set(costs.values()) == {13}, costs
    for field in range(3):
        for word in attributes[field]:
            words = tuple(word if i == field else a[0] for i, a in enumerate(attributes))
            assert cost(categories.LABELS[0], words) == 13, word


def test_decode_stops_at_the_end():
    ids = T.encode("yes")
    assert T.decode([*ids, T.end, *ids]) == "yes"
    assert T.decode([T.end]) == T.decode([]) == ""
    assert T.decode(np.array([*ids, T.pad, T.pad])) == "yes"


def test_banned():
    assert T.end not in T.banned
    assert {T.pad, T.image, T.video} < set(T.banned)
    mask = T.banned_v(T.size + 10)
    assert mask.shape == (T.size + 10,)
    assert set(np.flatnonzero(mask)) == {*T.banned, *range(T.size, T.size + 10)}


def copy(tmp_path):
    return pathlib.Path(shutil.copytree(FOLDER, tmp_path / "tokenizer", ignore=shutil.ignore_patterns("*.safetensors")))


def test_missing_file(tmp_path):
    with pytest.raises(tokenizer.TokenizerError, match=f"{tmp_path}: no tokenizer.json; expected a folder"):
        tokenizer.load_tokenizer(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": "1.0", "model": {"type": "Nonsense"}}', "\x00\xff"])
def test_broken_json(tmp_path, content):
    folder = copy(tmp_path)
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(tokenizer.TokenizerError, match="the tokenizer does not load"):
        tokenizer.load_tokenizer(folder)


def test_who_is_at_fault(tmp_path):
    """The tokenizer's file, also where the library says a key and no more; or config.json, which it reads before."""
    folder = copy(tmp_path)
    text = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(tokenizer.TokenizerError, match=r"tokenizer: the tokenizer does not load \(KeyError: .*; fetch"):
        tokenizer.load_tokenizer(folder)
    (folder / "tokenizer.json").write_text(text)
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen3_vl", "image_token_id": "x"}))
    with pytest.raises(tokenizer.TokenizerError, match=r"tokenizer/config\.json: transformers cannot read it \("):
        tokenizer.load_tokenizer(folder)


def test_no_chat_template(tmp_path):
    folder = copy(tmp_path)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(tokenizer.TokenizerError, match="no chat template"):
        tokenizer.load_tokenizer(folder)


def test_the_template_of_an_older_checkpoint(tmp_path):
    """chat_template.json counts where there is no chat_template.jinja, before that of tokenizer_config.json."""
    folder = copy(tmp_path)
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": "older"}))
    assert tokenizer.load_tokenizer(folder).template == T.hf.chat_template
    (folder / "chat_template.jinja").unlink()
    assert tokenizer.load_tokenizer(folder).template == "older"
    for content in (
        "{",
        "[]",
        '{"template": "x"}',
        '{"chat_template": ["x"]}',
        '{"chat_template": [{"name": "default"}]}',
    ):
        (folder / "chat_template.json").write_text(content)
        with pytest.raises(tokenizer.TokenizerError, match=r"chat_template.json: expected JSON with the key"):
            tokenizer.load_tokenizer(folder)
    (folder / "chat_template.json").write_text('{"chat_template": " "}')
    with pytest.raises(tokenizer.TokenizerError, match=r"no chat template; expected one in chat_template.jinja"):
        tokenizer.load_tokenizer(folder)


NAMED = [{"name": "default", "template": "DEFAULT"}, {"name": "tool_use", "template": "TOOLS"}]


@pytest.mark.parametrize("place", ["tokenizer_config.json", "chat_template.json", "additional_chat_templates"])
def test_named_templates(tmp_path, place):
    folder = copy(tmp_path)
    if place == "additional_chat_templates":  # the form of today; the default is chat_template.jinja
        (folder / place).mkdir()
        (folder / place / "tool_use.jinja").write_text("TOOLS")
        (folder / "chat_template.jinja").write_text("DEFAULT")
    else:
        (folder / "chat_template.jinja").unlink()
        values = json.loads((folder / place).read_text()) if (folder / place).is_file() else {}
        (folder / place).write_text(json.dumps(values | {"chat_template": NAMED}))
    loaded = tokenizer.load_tokenizer(folder)
    assert loaded.template == loaded.render([{"role": "user", "content": "x"}]) == "DEFAULT"


def test_named_templates_without_a_default(tmp_path):
    folder = copy(tmp_path)
    (folder / "chat_template.jinja").unlink()
    (folder / "chat_template.json").write_text(
        json.dumps({"chat_template": [{"name": "rag", "template": "x"}, NAMED[1]]})
    )
    with pytest.raises(tokenizer.TokenizerError, match="with the name default, got those with the names rag, tool_use"):
        tokenizer.load_tokenizer(folder)


def test_a_tokenizer_without_vision_tokens(tmp_path):
    tokenizer.require_images(T)
    folder = copy(tmp_path)
    file = folder / "tokenizer.json"
    file.write_text(file.read_text("utf-8").replace("<|image_pad|>", "<|other|>"), "utf-8")
    blind = tokenizer.load_tokenizer(folder)
    assert blind.image is None and blind.video == T.video
    with pytest.raises(
        tokenizer.TokenizerError, match=rf"{folder}: no <\|image_pad\|> among its {T.size} tokens, but .*sees"
    ):
        tokenizer.require_images(blind)


def test_no_end(tmp_path):
    folder = copy(tmp_path)
    file = folder / "tokenizer.json"
    file.write_text(file.read_text("utf-8").replace("<|im_end|>", "<|other|>"), "utf-8")
    settings_file = folder / "tokenizer_config.json"
    values = json.loads(settings_file.read_text("utf-8"))
    values.pop("eos_token")
    settings_file.write_text(json.dumps(values), "utf-8")
    with pytest.raises(tokenizer.TokenizerError, match=r"neither <\|im_end\|> nor an eos token"):
        tokenizer.load_tokenizer(folder)


def test_a_looked_up_id_comes_right_after_the_word_in_one_token():
    """The thought has the twin's token of a word, and then the id: by this a small policy learns to look things up."""
    ids = {T.encode(f" {i}")[0] for i in range(1, 10)}
    names = (*categories.LABELS, *attribute_words.COLOURS, *attribute_words.SIZES, *attribute_words.MATERIALS)
    words = {name: T.encode(name) for name in names}
    for seed in range(20):
        for query in picture_examples.practice_queries(seed, 0, 5, 3, 3)[1]:
            thought = T.encode(query.thought)
            assert len(re.findall(r" \d", query.thought)) == sum(token in ids for token in thought), query.thought
            first = query.thought.split()[0]
            if first in words:
                assert thought[: len(words[first])] == words[first]
                assert thought[len(words[first])] in {*ids, *T.encode(" none")}


def test_tokens_like():
    found = T.tokens_like(r"\d+,?|none")
    assert found.shape == (T.size,) and found.dtype == bool
    for text in ("3", "3,", " 3", "255", " none"):
        (token,) = T.encode(text)
        assert found[token], text
    for text in (". ", " of", "lamp", '","box":['):
        assert not found[T.encode(text)].any(), text


def test_a_tokenizer_is_extended_at_its_end(tmp_path):
    build = script()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "IDS", range(1, 4))
        old = build.build(examples=20)
    old.save(str(tmp_path / "tokenizer.json"))
    new = build.extend(tmp_path / "tokenizer.json", examples=20)
    assert new.get_vocab().items() > old.get_vocab().items()
    assert all(len(new.encode(piece).ids) == 1 for piece in build.pieces())
    assert min(set(new.get_vocab().values()) - set(old.get_vocab().values())) == old.get_vocab_size()
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit, match="expected at most 1000 ids"):
        patch.setattr(build, "VOCAB", 1000)
        build.extend(tmp_path / "tokenizer.json", examples=20)


def test_common_words_become_tokens_and_none_cuts_another():
    build = script()
    texts = 3 * ["look at the red lamp", "portray the zeppelin", "the zeppelin moves", "mo"]
    made = build.build(examples=20)
    whole = [w for w in ("look", " at", " the", " red", " lamp") if len(made.encode(w).ids) == 1]
    found = build.words(made, texts)
    assert {"portray", " zeppelin"} <= set(found) and not set(found) & set(whole)
    made.add_tokens(found)
    assert all(len(made.encode(word).ids) == 1 for word in [*found, *whole])
    assert made.decode(made.encode("portray the zeppelins").ids) == "portray the zeppelins"


def test_a_longer_tokenizer_keeps_the_rows_of_a_policy(tmp_path):
    build = script()
    old, new = build.build(examples=20), build.build(examples=20)
    new.add_tokens(["lamp lamp"])
    table = np.random.default_rng(0).normal(size=(old.get_vocab_size(), 4)).astype(np.float32)
    save_file({build.EMBEDDING: table, "norm/scale": np.ones(4, np.float32)}, tmp_path / "old.safetensors")
    grown = build.grow(tmp_path / "old.safetensors", old, new)
    np.testing.assert_array_equal(grown["norm/scale"], 1)
    got = np.asarray(grown[build.EMBEDDING])
    assert got.shape == (build.VOCAB, 4)
    np.testing.assert_array_equal(got[: len(table)], table)
    np.testing.assert_allclose(got[len(table)], table[old.encode("lamp lamp").ids].mean(0), rtol=1e-6)
    assert (got[len(table) + 1 :] == 0).all()


def test_an_object_that_moves_through_a_video_costs_twenty_tokens():
    def written(*items):
        return len(T.encode(twin_text.dumps_twin(Twin((96, 96), items, frames=(0, 1, 2, 3)))))

    words = (attribute_words.COLOURS[0], attribute_words.SIZES[0], attribute_words.MATERIALS[0])
    track = ((0, (1, 2, 30, 40)), (3, (31, 2, 60, 40)))
    items = [Object(i, categories.LABELS[0], None, 3, words, track, (10, 0)) for i in (1, 2)]
    assert written(*items) - written(items[0]) == 21
    gone = dataclasses.replace(items[1], track=((0, (1, 2, 30, 40)), (1, None), (3, (31, 2, 60, 40))))
    assert written(items[0], gone) - written(*items) == 1


def test_the_script_builds_the_pieces(tmp_path):
    build = script()
    made = build.build(examples=20)
    for piece in build.pieces():
        assert len(made.encode(piece).ids) == 1
    text = "<twin>שלום\n🐟 12,"
    assert made.decode(made.encode(text).ids) == text
