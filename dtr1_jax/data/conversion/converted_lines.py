"""A data set in the format of another trainer or tool as a file of JSON lines, made when it is opened.

The file is kept in a cache folder under a name that the place, size and time of the data set's files give, so that both
splits, later runs and other processes of this machine read the same lines. --mode=convert writes the same file where
the user wants it, draws samples of it, and can be told the frame of the coordinates.
"""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

from dtr1_jax.data.conversion import frame_evidence, line_writer, recognition
from dtr1_jax.data.conversion.picture_store import PictureStore
from dtr1_jax.data.json_files import DataError
from dtr1_jax.run import atomic, local_copy

_LINES, _REPORT = "lines.jsonl", "report.txt"

log = logging.getLogger(__name__)


def converted_lines(root: str) -> Path:
    """The file of JSON lines of a data set, from the cache or made now; logs what was understood.

    Args:
      root: a file or folder that --mode=convert understands; pictures are looked for beside the file.

    Raises DataError: nothing there can be converted, or the frame of the coordinates is not clear.
    """
    path = Path(root).absolute()
    found = recognition.recognise(path)
    folder = local_copy.folder().parent / "converted" / _key(path, found)
    report = folder / _REPORT
    if not report.exists():
        try:
            _write(path, found, folder)
        except OSError as error:
            raise DataError(
                f"{path}: the converted lines cannot be written to {folder} ({error}); set XDG_CACHE_HOME to a folder "
                "with room, or use --mode=convert --out=FILE.jsonl"
            ) from None
    for line in report.read_text("utf-8").splitlines():
        level = logging.WARNING if line.startswith(("left out", "coordinates")) else logging.INFO
        log.log(level, "%s: %s", path, line)
    return folder / _LINES


def _key(path: Path, found: recognition.Found) -> str:
    """A name for the files of a data set as they are now."""
    digest = hashlib.sha256(str(path).encode("utf-8", "surrogateescape"))
    for file in found.files:
        stat = file.stat()
        digest.update(f"\0{file}\0{stat.st_size}\0{stat.st_mtime_ns}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]


def _write(path: Path, found: recognition.Found, folder: Path) -> None:
    """Converts into a folder. Raises DataError; OSError if the folder cannot be written."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic.replacing_folder(folder) as partial:  # beside `folder`, so that relative paths stay true
        store = PictureStore(found.folders, partial / "pictures")
        with (partial / _LINES).open("w", encoding="utf-8") as file:
            try:
                report = line_writer.convert(found, file, store, partial)
            except DataError as error:
                raise DataError(
                    f"{error}; --mode=convert --from={path} --out=mine.jsonl takes --frame, --box and --images, and "
                    "config.data.source=jsonl reads what it writes"
                ) from None
        (partial / _REPORT).write_text("\n".join(_text(found, report)), "utf-8")


def _text(found: recognition.Found, report: line_writer.Report) -> list[str]:
    forms = ", ".join(f"{count} with {form}" for form, count in report.forms.items())
    lines = [f"read as {found.name}: {report.lines} lines ({forms}) of {report.samples} queries"]
    for notation, decision in report.decisions.items():
        name, order = frame_evidence.FRAMES[decision.frame], frame_evidence.ORDERS[decision.order]
        lines.append(f"coordinates ({notation}): {name}, {order}; {decision.reason}")
    return [*lines, *(f"left out: {text}" for text in report.left_out), *(f"remark: {text}" for text in report.remarks)]
