"""Runs the programs that come with a checkpoint's tokenizer in a worker process, with limits on time and memory.

A chat template is a program in the language of Jinja, and may loop for ever or fill the memory. The regular expressions
of a tokenizer.json may take exponential time. Both are foreign data. So every chat is rendered in a worker, and a
tokenizer is tried in it before it is loaded here. The worker starts at the first call, and all calls share it.
"""

from __future__ import annotations

import functools
import signal
import threading
from pathlib import Path
from typing import Any

from dtr1_jax.run import worker_pool

# Task of the worker -> (seconds of CPU time, bytes of memory). A published template takes a millisecond.
LIMITS = {"render": (1.0, 2**29), "try_tokenizer": (10.0, 2**31)}
WALL_SECONDS = 60.0  # limit on a machine that is busy with other work
MAX_TEMPLATE = 200_000  # characters; the longest published templates have about 20,000

_lock = threading.Lock()


class SandboxError(ValueError):
    """The foreign program failed; the message has the cause."""


class LimitError(SandboxError):
    """The foreign program takes more time or memory than it may; the message says which."""


def render(template: str, messages: list[dict], variables: dict[str, Any], add_generation_prompt: bool = True) -> str:
    """The text that a chat template writes, as transformers renders it.

    Args:
      template: in the language of Jinja.
      messages: the turns of the chat.
      variables: other names that the template can use, such as bos_token.
      add_generation_prompt: whether the chat ends with the beginning of the policy's turn.

    Raises LimitError, and SandboxError where the template fails.
    """
    if len(template) > MAX_TEMPLATE:
        raise LimitError(f"it has {len(template)} characters, more than {MAX_TEMPLATE}")
    arguments = {"template": template, "messages": messages, "variables": variables}
    return _call("render", arguments | {"add_generation_prompt": add_generation_prompt})


def try_tokenizer(path: Path) -> None:
    """Loads a tokenizer.json in the worker and encodes texts with it.

    Raises LimitError if it is too large, or takes too much time or memory. A file that does not load is no error here.
    """
    _call("try_tokenizer", {"path": str(path)})


def _call(task: str, arguments: dict) -> Any:
    seconds, memory = LIMITS[task]
    item = {"task": task, "seconds": seconds, "memory": memory, "arguments": arguments}
    with _lock:
        try:
            (result,) = _pool().map([item])
        except worker_pool.WorkerError as error:
            raise SandboxError(f"the worker for foreign programs does not start: {error}") from error
    if not isinstance(result, worker_pool.Failure):
        return result
    if result.kind == "timeout" or f"by signal {int(signal.SIGPROF)} " in result.message:
        raise LimitError(f"it takes more than {seconds:g} s")
    name, _, cause = result.message.partition(":")
    if result.kind == "error" and name != "LimitPassedError":
        raise SandboxError(result.message)
    cause = cause.strip() if result.kind == "error" else ""
    raise LimitError(cause or f"it takes more than {memory // 2**20} MB of memory")


@functools.cache
def _pool() -> worker_pool.Pool:
    return worker_pool.Pool("dtr1_jax.data.sandbox_process:start", 1, WALL_SECONDS, argument="")
