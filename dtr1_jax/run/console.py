"""The terminal of a run: plain log lines, and no noise from libraries."""

from __future__ import annotations

import logging
import os
import sys

from dtr1_jax import plain_text
from dtr1_jax.run import compile_cache, compile_log


def set_up_logging() -> None:
    """Prints our log messages as plain lines on stderr, and the warnings of libraries with the library's name.

    Also makes JAX keep compiled programs on disk (run/compile_cache.py), and logs the large ones (run/compile_log.py).
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_Plain())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)  # Lines of absl begin with a thread id.
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax reports every save.
    logging.getLogger("dtr1_jax").setLevel(logging.INFO)
    # Transformers would advise the user to install PyTorch.
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    compile_cache.set_up()
    compile_log.set_up()


class _Plain(logging.Formatter):
    """Our messages without a prefix, without passwords and keys, and with nothing that steers a terminal.

    On a terminal a message replaces the progress line, which is printed anew later.
    """

    def format(self, record: logging.LogRecord) -> str:
        text = record.getMessage()
        if record.levelno >= logging.WARNING:
            ours = record.name.startswith("dtr1_jax")
            text = f"{record.levelname.lower()}: " + (text if ours else f"{record.name}: {text}")
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        return ("\r\x1b[K" if sys.stderr.isatty() else "") + plain_text.for_terminal(text)
