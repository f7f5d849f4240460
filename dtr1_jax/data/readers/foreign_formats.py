"""Files in the formats of other trainers and tools: each is named in one line, with the fields of a JSON line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dtr1_jax.data import first_bytes, json_files

WANTED = (
    'a JSON line for each query, {"image": path, "query": text, "boxes": [[x1, y1, x2, y2], ...] in pixels} or with '
    "polygons, rle, mask or answers in place of boxes"
)
_CONVERT = "set config.data.source=foreign to read it as it is, or write JSON lines of it by --mode=convert"
# The first bytes of a file -> its format.
_MAGIC = (
    *first_bytes.KINDS,
    (b"PAR1", f"a Parquet file, as EasyR1 and Hugging Face datasets have; {_CONVERT}"),
    (b"ARROW1", "an Arrow file; export its rows as JSON lines"),
    (b"SQLite format 3", "an SQLite database; export its rows as JSON lines"),
    (b"\x89HDF", "an HDF5 file; export its rows as JSON lines"),
    (b"\x93NUMPY", "a NumPy file; export its rows as JSON lines"),
    (b"\x89PNG", "a picture; set data.root to the JSON lines file"),
    (b"\xff\xd8\xff", "a picture; set data.root to the JSON lines file"),
    (
        b"<",
        "XML or HTML, as CVAT and Pascal VOC write it; set config.data.source=foreign and data.root to the folder for "
        "Pascal VOC, otherwise export COCO's format and set data.source=coco",
    ),
)
# Format -> keys of a row that only this format has together.
_ROWS: tuple[tuple[str, frozenset[str]], ...] = (
    ("LLaVA's format (conversations)", frozenset({"conversations"})),
    ("the format of ms-swift and of chat APIs (messages)", frozenset({"messages"})),
    ("VLM-R1's format (problem, solution)", frozenset({"problem", "solution"})),
    ("EasyR1's format (problem, answer)", frozenset({"problem", "answer"})),
    ("TRL's format (prompt, completion)", frozenset({"prompt", "completion"})),
    ("TRL's format (prompt, chosen)", frozenset({"prompt", "chosen"})),
    ("ms-swift's old format (query, response)", frozenset({"query", "response"})),
    ("Alpaca's format (instruction, output)", frozenset({"instruction", "output"})),
    ("VQAv2's format (questions)", frozenset({"questions"})),
    ("RefCOCO's refs (sentences, ann_id)", frozenset({"sentences", "ann_id"})),
    ("LabelMe's format (shapes, imagePath)", frozenset({"shapes", "imagePath"})),
    ("Label Studio's format (data, annotations)", frozenset({"data", "annotations"})),
    ("the expressions of a video benchmark (videos)", frozenset({"videos"})),
    ("results in COCO's format (image_id, category_id)", frozenset({"image_id", "category_id"})),
)
_CONVERTED = frozenset(name for name, keys in _ROWS if keys & {"conversations", "messages", "problem", "completion",
                                                                "response", "output"})  # fmt: skip
_COCO = frozenset({"images", "annotations"})


def name_bytes(file: Path, raw: bytes) -> str | None:
    """The message for a file that is no text or no JSON lines as a whole; None if it may be JSON lines."""
    for magic, format_name in _MAGIC:
        if raw.startswith(magic):
            return _message(file, format_name)
    text = raw.lstrip()
    first = text.split(b"\n", 1)[0].strip()
    if text[:1] == b"[" or (text[:1] == b"{" and not first.endswith(b"}")):
        return _name_document(file, raw)
    if text and text[:1] not in b"{[" and text[:2] != b'"{' and (first.count(b",") > 1 or b"\t" in first):
        return _message(file, "a table of text (CSV); write each row as a JSON object")
    return None


def name_archive(file: Path, head: bytes) -> str | None:
    """The message for the first 512 bytes of an archive, an Arrow file or another file that holds no rows; or None."""
    if head[257:262] == b"ustar":
        return _message(file, "a tar archive, as WebDataset has; unpack it")
    if head.startswith(b"\xff\xff\xff\xff"):
        return _message(file, "an Arrow stream, as Hugging Face's datasets keep them; export it as Parquet")
    kinds = [kind for magic, kind in _MAGIC if head.startswith(magic) and magic not in (b"PAR1", b"<")]
    return _message(file, kinds[0]) if kinds else None


def name_rows(file: Path, rows: Sequence[Any]) -> str | None:
    """The message for rows in a known format of others, judged by the first one; None for any other rows."""
    found = _format_of(rows[0]) if rows else None
    return found and _message(file, f"{len(rows)} lines in {found}; {_next(found)}")


def _name_document(file: Path, raw: bytes) -> str | None:
    """The message for a file that is one JSON value over all its lines."""
    try:
        value = json_files.parse_json(raw)
    except ValueError:
        return _name_objects(file, raw)
    if value == []:
        return None
    if isinstance(value, list):
        found = _format_of(value[0])
        shape = f"one JSON list of {len(value)}" + (f" in {found}; {_next(found)}" if found else "")
        if found is None and isinstance(value[0], dict):
            shape += "; write each of its objects on a line of its own, for example with jq -c '.[]'"
        return _message(file, shape)
    found = _format_of(value) or "one JSON object over several lines; write each query on one line"
    return _message(file, found)


def _name_objects(file: Path, raw: bytes) -> str | None:
    """The message for a file of several JSON objects of which the first takes several lines; None for another file."""
    text = raw.decode("utf-8", "replace").lstrip()
    try:
        value, end = json.JSONDecoder().raw_decode(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or "\n" not in text[:end] or text[end:].lstrip()[:1] != "{":
        return None
    shape = "JSON objects over several lines; write each on one line, for example with jq -c ."
    return _message(file, _format_of(value) or shape)


def _next(format_name: str) -> str:
    """What to do with rows in a format of others."""
    return _CONVERT if format_name in _CONVERTED else "rewrite each line"


def _message(file: Path, found: str) -> str:
    return f"{file}: got {found}. Expected {WANTED}"


def _format_of(row: Any) -> str | None:
    if not isinstance(row, dict):
        return None
    if row.keys() >= _COCO and isinstance(row["annotations"], list):
        return "COCO's format; set data.source=coco and data.root to this file or its folder"
    return next((name for name, keys in _ROWS if row.keys() >= keys), None)
