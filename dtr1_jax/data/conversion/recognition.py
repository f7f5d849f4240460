"""The format of a file or folder, recognised by looking into it, and the reader of its samples."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dtr1_jax.data.conversion import (
    answer_rows,
    chat_rows,
    field_rows,
    row_files,
    video_lists,
    voc_folders,
    yolo_folders,
)
from dtr1_jax.data.conversion.samples import LeftOut, Sample, Tally
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import coco_layout, file_names, foreign_formats

_OWN = frozenset({"image", "query"})
_MANY = 8  # names that a message lists


@dataclasses.dataclass(frozen=True)
class Found:
    """A recognised data set.

    Attributes:
      name: of the format, for the report.
      files: the files that are read.
      folders: where pictures and videos are looked for.
      samples: reads its samples, and counts what is left out.
      fields: the fields of its rows that are used.
    """

    name: str
    files: tuple[Path, ...]
    folders: tuple[Path, ...]
    samples: Callable[[Tally], Iterator[Sample]]
    fields: tuple[str, ...] = ()


def recognise(path: Path, fields: field_rows.Fields | None = None) -> Found:
    """Looks into a file or folder; with `fields`, the user says which key of a file of rows holds what (field_rows.py).

    Raises DataError with the format and what to do where it cannot be converted.
    """
    if fields:
        return _by_fields(path, fields)
    if file_names.is_folder(path):
        return _folder(path)
    if not file_names.is_file(path):
        raise DataError(f"{path}: no such file or folder; set --from to a data set")
    if path.suffix.lower() == ".xml":
        return _voc(path)
    if path.suffix.lower() in (".yaml", ".yml") and file_names.is_folder(path.parent):
        return _yolo(path.parent)
    return _rows([path], path.parent)


def _folder(root: Path) -> Found:
    if yolo_folders.label_files(root):
        return _yolo(root)
    if voc_folders.xml_files(root):
        return _voc(root)
    try:
        coco_layout.find_annotation_file(root, "train")
    except DataError:
        pass
    else:
        raise DataError(_coco(root))
    parquet = file_names.visible_files(root, "**/*.parquet")
    if parquet:
        return _rows(parquet, root)
    if arrow := file_names.visible_files(root, "**/*.arrow"):
        raise DataError(
            f"{root}: expected Parquet, got Arrow files as `save_to_disk` of Hugging Face's datasets writes them, such "
            f"as {arrow[0].name}; export them with datasets.load_from_disk({root.name!r}).to_parquet('data.parquet')"
        )
    files = [file for file in file_names.visible_files(root, "*") if file.suffix.lower() in (".json", ".jsonl")]
    if len(files) == 1:
        return _rows(files, root)
    below = files or [
        file for file in file_names.visible_files(root, "*/*") if file.suffix.lower() in (".json", ".jsonl")
    ]
    names = ", ".join(file.relative_to(root).as_posix() for file in below[:_MANY])
    fault = f"{len(below)} JSON files, {names}; set --from to one of them" if below else "none of these files"
    raise DataError(
        f"{root}: expected labels/*.txt (YOLO), *.xml (Pascal VOC), *.parquet, or one .json or .jsonl file, got {fault}"
    )


def _by_fields(file: Path, fields: field_rows.Fields) -> Found:
    if not file_names.is_file(file):
        raise DataError(f"{file}: expected a file of rows for --fields, got none; set --from to a JSON or Parquet file")
    keys = field_rows.check_keys(file, fields)

    def samples(tally: Tally) -> Iterator[Sample]:
        for place, row in field_rows.rows(file, fields):
            try:
                if not isinstance(row, dict):
                    raise LeftOut("rows that are no JSON objects", row if isinstance(row, ValueError) else place)
                yield from field_rows.samples(place, row, fields, tally)
            except LeftOut as reason:
                tally.add(str(reason), reason.example or place)

    name = f"rows by --fields ({field_rows.describe(fields)})"
    return Found(name, (file,), _folders(file.parent), samples, keys)


def _folders(root: Path) -> tuple[Path, ...]:
    return tuple(root / name for name in ("", "images", "image", "videos", "train", "data", "imgs"))


def _yolo(root: Path) -> Found:
    files = yolo_folders.label_files(root)
    return Found("YOLO", tuple(files), (root,), lambda tally: yolo_folders.samples(root, tally))


def _voc(root: Path) -> Found:
    files = voc_folders.xml_files(root)
    folder = root if file_names.is_folder(root) else root.parent
    return Found("Pascal VOC", tuple(files), (folder,), lambda tally: voc_folders.samples(root, tally))


def _rows(files: Sequence[Path], root: Path) -> Found:
    """The format of files of rows, by the first row of the first file."""
    first = next((file for file in files if _has_row(file)), files[0])  # a split's shard may be empty
    with first.open("rb") as opened:
        if archive := foreign_formats.name_archive(first, opened.read(512)):
            raise DataError(archive)
    folders = _folders(root)
    if document := _document(first):
        return dataclasses.replace(document, folders=folders)
    row = next((value for _, value in row_files.rows(first) if isinstance(value, dict)), None)
    if row is None:
        named = foreign_formats.name_bytes(first, first.read_bytes()[: 1 << 16])
        raise DataError(named or f"{first}: expected rows that are JSON objects, got none; check the file")
    name, read = _format_of(row, first)
    names = _label_names(first) if name.startswith("object detection") else {}

    def samples(tally: Tally) -> Iterator[Sample]:
        for file in files:
            split = _split_of_shard(file) if len(files) > 1 else None
            for place, value in row_files.rows(file):
                try:
                    if not isinstance(value, dict):
                        raise LeftOut(
                            "rows that are no JSON objects", value if isinstance(value, ValueError) else place
                        )
                    for sample in read(place, value, tally, names):
                        yield sample if sample.split or not split else dataclasses.replace(sample, split=split)
                except LeftOut as reason:
                    tally.add(str(reason), reason.example or place)

    return Found(name, tuple(files), folders, samples, tuple(row))


def _has_row(file: Path) -> bool:
    """Whether a Parquet file states a row; True for other files, and for a damaged one, which reading it names."""
    if file.suffix != ".parquet":
        return True
    try:
        return row_files.parquet_length(file) > 0
    except DataError:
        return True


def _format_of(row: Mapping[str, Any], file: Path) -> tuple[str, Callable[..., Iterator[Sample]]]:
    """(name, reader of a row) of the format of a row. Raises DataError."""
    if row.keys() >= _OWN:
        if row_files.is_list(file):
            raise DataError(
                f"{file}: this is one JSON list of queries in the format of JSON lines; write each of its objects on a "
                f"line of its own, for example with jq -c '.[]' {file} > mine.jsonl, and use that with "
                "--config.data.source=jsonl"
            )
        raise DataError(
            f"{file}: this is the format of JSON lines already; use it with --config.data.source=jsonl "
            f"--config.data.root={file}"
        )

    def chat(place: str, value: Mapping, tally: Tally, names: Mapping) -> Iterator[Sample]:
        return chat_rows.samples(place, value, tally)

    def answer(place: str, value: Mapping, tally: Tally, names: Mapping) -> Iterator[Sample]:
        return answer_rows.samples(place, value, tally)

    def detection(place: str, value: Mapping, tally: Tally, names: Mapping) -> Iterator[Sample]:
        return answer_rows.detection_samples(place, value, names)

    keys = row.keys()
    if "conversations" in keys or "conversation" in keys:
        return "LLaVA / ShareGPT (conversations)", chat
    if "messages" in keys:
        return (
            "ms-swift (messages)" if "objects" in keys else "chat messages, as ms-swift and chat APIs have them",
            chat,
        )
    if {"query", "response"} <= keys:
        return "ms-swift's old format (query, response)", chat
    if "reward_model" in keys or "data_source" in keys:
        return "verl (prompt, reward_model)", answer
    if {"problem", "solution"} <= keys:
        return "VLM-R1 (problem, solution)", answer
    if {"problem", "answer"} <= keys:
        return "EasyR1 (problem, answer)", answer
    if {"prompt", "completion"} <= keys:
        return "TRL (prompt, completion)", answer
    if "objects" in keys and chat_rows.pictures_of(row):
        return "object detection, as Hugging Face has it (objects)", detection
    if (
        set(answer_rows.QUESTIONS) & keys
        and {*answer_rows.ANSWERS, *answer_rows.NUMBERS, *answer_rows.BOXES, "mask"} & keys
    ):
        return "rows of a question and an answer", answer
    lists = [key for key, value in row.items() if isinstance(value, list) and value and isinstance(value[0], dict)]
    if lists:
        raise DataError(
            f"{file}: expected a row, got one object whose list {lists[0]!r} may hold the rows; write them one a line, "
            f"for example with jq -c '.[\"{lists[0]}\"][]'"
        )
    raise DataError(
        foreign_formats.name_rows(file, [row])
        or f"{file}: the fields {', '.join(map(str, list(row)[:_MANY]))} are of no known format; write JSON lines with "
        'the fields "image", "query" and "boxes" or "answers"'
    )


def _document(file: Path) -> Found | None:
    """The format of a file that is one JSON object over all its lines; None for rows. Raises DataError for COCO."""
    with file.open("rb") as opened:
        head = opened.read(1 << 16).removeprefix(b"\xef\xbb\xbf").lstrip()
    if head[:1] != b"{" or _is_line(head):
        return None
    if b'"videos"' in head:
        return Found("YouTube-VIS", (file,), (file.parent,), lambda tally: video_lists.samples(file, tally))
    if b'"images"' in head or b'"annotations"' in head or b'"categories"' in head:
        raise DataError(_coco(file))
    named = foreign_formats.name_bytes(file, file.read_bytes())
    raise DataError(named or f"{file}: one JSON object that is no data set of a known format; write one row a line")


def _is_line(head: bytes) -> bool:
    """Whether the head of a file begins with a whole row on a line of its own."""
    first = head.split(b"\n", 1)[0]
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        return (
            not first.rstrip().endswith((b"{", b"[", b",")) and b'"images": [{' not in first and len(first) >= 1 << 16
        )
    return not (isinstance(value, dict) and isinstance(value.get("annotations"), list) and "images" in value) and not (
        video_lists.is_video_list(value)
    )


def _coco(path: Path) -> str:
    return (
        f"{path}: COCO's format needs no conversion: it is read directly, and queries about use, place and number are "
        f"made from it. Run --config.data.source=coco --config.data.root={path}"
    )


def _split_of_shard(file: Path) -> str | None:
    """The split in the name of a shard of Hugging Face's data sets, such as "train-00000-of-00002.parquet"."""
    name = file.stem.partition("-")[0].casefold()
    return {"train": "train", "val": "heldout", "valid": "heldout", "validation": "heldout", "test": "test"}.get(name)


def _label_names(file: Path) -> dict[int, str]:
    """The names of the labels that the metadata of a Parquet file of Hugging Face's data sets give; {} if none."""
    if file.suffix != ".parquet":
        return {}
    parquet, _ = row_files._pyarrow()
    raw = (parquet.read_schema(file).metadata or {}).get(b"huggingface")
    try:
        stack = [json.loads(raw)] if raw else []
    except ValueError:
        return {}
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            if value.get("_type") == "ClassLabel" and isinstance(value.get("names"), list):
                return dict(enumerate(map(str, value["names"])))
            stack += value.values()
        elif isinstance(value, list):
            stack += value
    return {}
