"""Hostile text is shown as it is, does nothing to a terminal, is never markup, and holds no key."""

import html
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax import plain_text

TEXT = st.text(
    st.characters(codec=None) | st.sampled_from("\x1b\r\n\t`*<>&\u202e\ud800\u2028\x00\x9b_[]#"), max_size=60
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b]0;title\x07", r"\x1b[31mred\x1b]0;title\x07"),
        ("a\rb\x08c\x7f\x9b", r"a\x0db\x08c\x7f\x9b"),
        ("\u202eabc\u2066\u200f\ufeff\u2028", r"\u202eabc\u2066\u200f\ufeff\u2028"),
        ("\ud800 \udfff", r"\ud800 \udfff"),
        ("\U000e0041", r"\U000e0041"),
        ("line\n\ttab", "line\n\ttab"),
        ("Grüße 漢字\u3000かな 🙂 👩\u200d🔧 می\u200cخواهم", "Grüße 漢字\u3000かな 🙂 👩\u200d🔧 می\u200cخواهم"),
    ],
)
def test_what_is_invisible_is_written_out(text, shown):
    assert plain_text.visible(text) == shown


@settings(max_examples=300, deadline=None)
@given(TEXT)
def test_any_text_can_be_written_and_steers_no_terminal(text):
    shown = plain_text.visible(text)
    shown.encode("utf-8")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u2028\u2029\ud800-\udfff]", shown)
    assert plain_text.visible(shown) == shown


@settings(max_examples=300, deadline=None)
@given(TEXT)
def test_a_line_of_markdown_has_no_markup(text):
    line = plain_text.in_line(text)
    assert "\n" not in line and "<" not in line and ">" not in line
    assert not re.search(r"(?<!\\)(?:\\\\)*[`*_\[\]~|#$]", re.sub(r"\\[`*_\[\]~|#$]", "", line))
    assert html.unescape(re.sub(r"\\([\\`*_\[\]~|#$])", r"\1", line)).replace(" ", "") == plain_text.visible(
        text.replace("\n", " ").replace("\t", " ")
    ).replace(" ", "")


@settings(max_examples=300, deadline=None)
@given(TEXT | st.text("`\n a"))
def test_a_completion_does_not_end_its_code_block(text):
    first, *inside, last = plain_text.in_fence(text).split("\n")
    assert set(first) == {"`"} and len(first) >= 3 and last == first
    assert not any(line.strip().startswith(first) for line in inside)
    assert "\n".join(inside) == plain_text.visible(text)


SECRET = "S3cret-value-of-a-variable"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:word@host/x", "https://[hidden]@host/x"),
        (f"git+ssh://{SECRET}@host", "git+ssh://[hidden]@host"),
        ("https://h/v1?api_key=abc&x=1", "https://h/v1?api_key=[hidden]&x=1"),
        ("https://h/v1?a=1&amp;access_token=abc", "https://h/v1?a=1&amp;access_token=[hidden]"),
        ("hf_abcdefghijklmnopqrstuvw", "[hidden]"),
        ("key sk-proj-0123456789abcdef.", "key [hidden]."),
        ("Authorization: Bearer abcdefghijk", "Authorization: Bearer [hidden]"),
        (f"the value {SECRET} here", "the value [hidden] here"),
        ("hf_short, sk-, a@b, https://h/x?query=1, ghost", "hf_short, sk-, a@b, https://h/x?query=1, ghost"),
        ("ordinary", "ordinary"),
    ],
)
def test_keys_are_not_shown(text, shown):
    environment = {"HF_TOKEN": SECRET, "HOME": "ordinary", "SOME_KEY": "ordinary"}
    assert plain_text.without_keys(text, environment) == shown


def test_settings_that_may_hold_a_key():
    assert all(map(plain_text.is_secret, ("key", "api_key", "HF_TOKEN", "password", "client_secret")))
    assert not any(map(plain_text.is_secret, ("key_env", "new_tokens", "prompt_tokens", "keep", "monkey_business")))


def test_a_message_for_the_terminal(monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", SECRET)
    assert plain_text.for_terminal(f"\x1b[2J{SECRET}") == r"\x1b[2J[hidden]"
