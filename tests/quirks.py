"""Quirks of the files that tools and hubs write, as rows of a table; docs/quirks.md lists the same rows.

A test file of a family has the tuple QUIRKS and a function that opens a small data set of this family.
"""

import dataclasses
import logging
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest

SAME = object()  # the values of a row: those of the data set without the quirk


@dataclasses.dataclass(frozen=True)
class Quirk:
    """A row.

    Attributes:
      name: what the tool writes, in plain words.
      happens: what the reader does, in plain words.
      change: brings the quirk into the data set that it is given.
      values: what is read; SAME, or None where the data set is refused.
      says: words of the warning or report, or of the refusal and the warnings before it; "" = nothing.
    """

    name: str
    happens: str
    change: Callable[[Any], None]
    values: Any = dataclasses.field(default_factory=lambda: SAME)
    says: str = ""


def rows(quirks: tuple[Quirk, ...]) -> pytest.MarkDecorator:
    """One test for each row, named after it."""
    return pytest.mark.parametrize("quirk", quirks, ids=[re.sub(r"\W+", "_", quirk.name) for quirk in quirks])


def check(
    quirk: Quirk, read: Callable[[], tuple[Any, str]], usual: Any, caplog: pytest.LogCaptureFixture,
    noise: str = "(?!)",
) -> None:  # fmt: skip
    """Compares what is read after the change with the row.

    Args:
      quirk: the row.
      read: gives (the values, the text of a report, "" if there is none). Raises ValueError for a refusal, which
        DataError and ImageError are.
      usual: the values without the quirk.
      caplog: of the test.
      noise: an expression for warnings that come without the quirk too.
    """
    caplog.set_level(logging.WARNING)
    if quirk.values is None:
        with pytest.raises(ValueError) as refusal:
            read()
        assert type(refusal.value).__name__ in ("DataError", "ImageError", "ConfigError"), repr(refusal.value)
        assert quirk.says and quirk.says in str(refusal.value) + caplog.text
        return
    values, report = read()
    assert values == (usual if quirk.values is SAME else quirk.values)
    said = "".join(line for line in caplog.text.splitlines(True) if not re.search(noise, line)) + report
    assert quirk.says in said and (quirk.says or not said), said


def check_family(
    quirk: Quirk, families: Sequence[tuple[tuple[Quirk, ...], type]], root: Any, caplog: pytest.LogCaptureFixture
) -> None:  # fmt: skip
    """`check` with the data set, made in `root`, whose table has the row; warnings about small copies are usual."""
    kind = next(kind for table, kind in families if quirk in table)
    folder = kind(root)
    quirk.change(folder)
    check(quirk, folder.read, kind.usual, caplog, "but the published split has")
