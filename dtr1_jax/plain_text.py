"""Text of a model, a data set or a file, made harmless before a person sees it: on a terminal, in Markdown, in a log.

Escape sequences can rewrite a terminal, marks for the direction of writing can turn a line around, lone surrogates
cannot be written at all, Markdown and HTML are rendered, and an error can quote a password or key.
"""

from __future__ import annotations

import html
import os
import re
import unicodedata
from collections.abc import Mapping

HIDDEN = "[hidden]"

_SHOWN_CONTROLS = "\n\t"
_JOINERS = "\u200c\u200d"  # invisible, but scripts of India and Iran, and emoji, are spelled with them
_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")  # Unicode's categories of what is no mark on paper
_MARKUP = re.compile(r"([\\`*_\[\]~|#$])")

_CREDENTIALS = re.compile(r"(?i)\b([a-z][a-z0-9+.-]{0,20}://)[^\s/@]{1,500}@")
_PARAMETER = re.compile(r"(?i)([?&;](?:[\w-]{0,40}(?:key|token|secret|password|signature|auth)|sig)=)[^&\s]+")
_KEYS = re.compile(r"\b(?:hf_\w{16,}|sk-[\w-]{16,}|gh[pousr]_\w{16,}|AKIA[0-9A-Z]{16})|(?<=Bearer )[\w.~+/-]{8,}=*")
_SECRET = re.compile(r"(?i)(?:key|token|secret|password|credentials)$")
_SHORTEST = 12  # characters of a variable's value that is looked for: a short one may be an ordinary word


def visible(text: str) -> str:
    r"""The text with every character that is invisible or steers a terminal written as an escape, such as \x1b.

    Line ends and tabs stay. The result can be encoded as UTF-8.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in _SHOWN_CONTROLS else _escape(c) for c in text)


def in_line(text: str) -> str:
    """The text for one line of Markdown: visible, without line ends, and such that nothing in it is markup."""
    line = visible(" ".join(text.split("\n")).replace("\t", " "))
    return _MARKUP.sub(r"\\\1", html.escape(line, quote=False))


def in_fence(text: str) -> str:
    """The text as a code block of Markdown, visible; it cannot end the block."""
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}\n{visible(text)}\n{fence}"


def without_keys(text: str, environment: Mapping[str, str] | None = None) -> str:
    """The text without passwords and keys: in addresses, in the form of well-known keys, and the values of environment
    variables whose name ends in KEY, TOKEN, SECRET or PASSWORD (default: those of this process).
    """
    for name, value in (os.environ if environment is None else environment).items():
        if len(value) >= _SHORTEST and value in text and _SECRET.search(name):
            text = text.replace(value, HIDDEN)
    text = _CREDENTIALS.sub(rf"\1{HIDDEN}@", text)
    return _KEYS.sub(HIDDEN, _PARAMETER.sub(rf"\1{HIDDEN}", text))


def is_secret(name: str) -> bool:
    """Whether a setting of this name may hold a password or key."""
    return bool(_SECRET.search(name))


def for_terminal(text: str) -> str:
    """A message for a terminal or a log: visible, and without passwords and keys."""
    return visible(without_keys(text))


def _escape(character: str) -> str:
    if character in _JOINERS or unicodedata.category(character) not in _INVISIBLE:
        return character  # such as the wide space of Chinese and Japanese
    number = ord(character)
    return f"\\x{number:02x}" if number < 256 else f"\\u{number:04x}" if number < 1 << 16 else f"\\U{number:08x}"
