"""The worker's side of data/sandbox.py: renders chat templates and tries tokenizers, with limits on time and memory."""

from __future__ import annotations

import json
import math
import os
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any

MAX_CHARACTERS = 4_000_000  # of a rendered chat
MAX_BYTES = 200_000_000  # of tokenizer.json; the largest published ones have 35 MB
MAX_WORDS = 2_000_000  # tokens of a vocabulary
MAX_ADDED = 100_000  # tokens that are found before the text is cut into pieces
MAX_GROWTH = 1000  # by which all replacements of a tokenizer together may lengthen a text
# Texts on which a regular expression that backtracks without bound shows it: long runs, and text like that of a prompt.
PROBES = (
    "a" * 4096 + "!",
    " " * 4096 + "!",
    "\n" * 2048 + "x",
    "7" * 4096 + "x",
    "-" * 2048 + "x",
    "Ab1 " * 1024 + "!",
    "the quick brown fox jumps over the lazy dog " * 100 + "!",
    '{"id":1,"label":"red lamp","box":[12,40,96,128],"depth":3},\n' * 64 + "!",
    "".join(map(chr, range(32, 1024))),
)


class LimitPassedError(Exception):
    """A bound on size, memory or depth is passed; the message says which. data/sandbox.py knows it by its name."""


def start(_: str) -> Callable[[dict], Any]:
    """Imports what the items need, and returns the function that serves an item."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import tokenizers  # noqa: F401
    from transformers.utils.chat_template_utils import render_jinja_template

    render_jinja_template([[]], chat_template="{{ 1 }}")  # Imports Jinja.
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # The tokenizers library prints pages where it panics.
    return serve


def serve(item: dict) -> Any:
    """Runs one item: {"task": "render" or "try_tokenizer", "seconds": ..., "memory": ..., "arguments": {...}}.

    The process is killed by SIGPROF after `seconds` of CPU time, even inside C code, and may take `memory` more bytes.
    """
    tasks = {"render": render, "try_tokenizer": try_tokenizer}
    _limit_memory(item["memory"])
    signal.setitimer(signal.ITIMER_PROF, item["seconds"])
    try:
        return tasks[item["task"]](**item["arguments"])
    except (MemoryError, OverflowError, RecursionError) as error:
        # The worker process itself would take a MemoryError for its own limit.
        raise LimitPassedError(str(error)) from None
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def render(template: str, messages: list[dict], variables: dict, add_generation_prompt: bool) -> str:
    """The chat that a template writes, by the environment of transformers. Raises whatever the template raises."""
    from transformers.utils.chat_template_utils import render_jinja_template

    rendered, _ = render_jinja_template(
        [messages], chat_template=template, add_generation_prompt=add_generation_prompt, **variables
    )
    if len(rendered[0]) > MAX_CHARACTERS:
        raise MemoryError(f"it writes {len(rendered[0])} characters, more than {MAX_CHARACTERS}")
    return rendered[0]


def try_tokenizer(path: str) -> None:
    """Loads a tokenizer.json, and encodes and decodes PROBES. A file that does not load is no fault here.

    Raises MemoryError where a bound is passed; the message says which.
    """
    from tokenizers import Tokenizer

    size = os.path.getsize(path)
    if size > MAX_BYTES:
        raise MemoryError(f"it has {size} bytes, more than {MAX_BYTES}")
    try:
        with open(path, encoding="utf-8") as file:
            values = json.load(file)
        _check_sizes(values)
        del values
        tokenizer = Tokenizer.from_file(path)
    except MemoryError:
        raise
    except Exception:  # The loader of the checkpoint says what is wrong.
        return
    for text in PROBES:
        try:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            tokenizer.decode(ids)
        except MemoryError:
            raise
        except Exception:  # A vocabulary without a token for some letter.
            continue
        except BaseException as error:  # The PanicException of the library is no Exception.
            raise MemoryError(f"its regular expressions take too long on {text[:8]!r}... ({error})") from None
        if len(ids) > 20 * len(text):
            raise MemoryError(f"it makes {len(ids)} tokens of {len(text)} characters")


def _check_sizes(values: dict) -> None:
    words, added = values["model"].get("vocab") or (), values.get("added_tokens") or ()
    for name, count, most in (("tokens", len(words), MAX_WORDS), ("added tokens", len(added), MAX_ADDED)):
        if count > most:
            raise MemoryError(f"it has {count} {name}, more than {most}")
    growth = math.prod(_growths([values.get(part) for part in ("normalizer", "pre_tokenizer", "decoder")]))
    if growth > MAX_GROWTH:
        raise MemoryError(f"its replacements may make a text {growth:.3g} times as long, more than {MAX_GROWTH}")


def _growths(parts: list) -> list[int]:
    """How much longer a text can become by each replacement in a part of tokenizer.json."""
    growths, rest = [], list(parts)
    while rest:
        part = rest.pop()
        if isinstance(part, dict):
            longest = max((len(part[k]) for k in ("content", "prepend") if isinstance(part.get(k), str)), default=1)
            growths.append(max(1, longest))
            rest += part.values()
        elif isinstance(part, list):
            rest += part
    return growths


def _limit_memory(extra: int) -> None:
    if not sys.platform.startswith("linux"):  # Elsewhere the limit has no effect or counts what others hold.
        return
    with open("/proc/self/statm") as file:
        held = int(file.read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = held + extra if hard == resource.RLIM_INFINITY else min(held + extra, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
