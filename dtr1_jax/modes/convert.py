"""`--mode=convert`: a data set in the format of another trainer or tool becomes a file of JSON lines."""

from __future__ import annotations

from pathlib import Path

from dtr1_jax import config, draw, places
from dtr1_jax.data import image_files, json_files
from dtr1_jax.data.conversion import field_rows, frame_evidence, line_writer, recognition
from dtr1_jax.data.conversion.picture_store import PictureStore
from dtr1_jax.data.readers import file_names, jsonl
from dtr1_jax.report import data_sheet
from dtr1_jax.run import atomic
from dtr1_jax.types import Example

_COPY = "the lines name their pictures by path, so copy the data set to this machine first"
DRAWN = 12  # lines on the sheet
_MAX_OBJECTS = 64  # of a line on the sheet
_PIXELS = 512 * 512  # of a picture on the sheet


def run(
    source: str | None, out: str | None, images: str | None = None, frame: str = "", order: str = "", fields: str = ""
) -> str:  # fmt: skip
    """Converts a data set; returns the report as text.

    Args:
      source: the file or folder.
      out: the file of JSON lines; a sheet with DRAWN samples is written beside it.
      images: a folder in which pictures and videos are looked for first.
      frame: of all coordinates, a key of frame_evidence.FRAMES; "" = by the format's rule and the boxes.
      order: of the four numbers of a box, a key of frame_evidence.ORDERS; "" likewise.
      fields: which key of the rows holds what, see field_rows.py; "" = the file is of a known format.

    Raises ConfigError: a flag is missing or has no such value; DataError: the data set cannot be converted;
    PlaceError: a flag names a bucket.
    """
    path, target = _paths(source, out)
    for flag, value, known in (("frame", frame, frame_evidence.FRAMES), ("box", order, frame_evidence.ORDERS)):
        if value and value not in known:
            raise config.ConfigError(f"--{flag}: expected one of {', '.join(known)}, got {value!r}")
    mapping = _fields(fields, frame) if fields else None
    named = [places.here(images, "--images", _COPY)] if images else []
    found = recognition.recognise(path, mapping)
    store = PictureStore([*named, *found.folders], target.with_name(f"{target.stem}_pictures"))
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic.replacing(target) as partial, partial.open("w", encoding="utf-8") as file:
        report = line_writer.convert(found, file, store, target.parent, frame, order)
    lines, examples = _read_back(target)
    if examples:
        sheet = target.with_name(f"{target.stem}_sheet.png")
        with atomic.replacing(sheet) as partial:
            partial.write_bytes(draw.to_png(data_sheet.sheet(examples)))
        lines.append(f"look at: {sheet}, {len(examples)} samples with their targets drawn")
    return "\n".join([*_text(path, target, found, report), *lines, _next(target, report)])


def _fields(text: str, frame: str) -> dict[str, str]:
    """The mapping of --fields. Raises ConfigError."""
    try:
        mapping = field_rows.parse_fields(text)
    except json_files.DataError:
        raise
    except ValueError as error:
        raise config.ConfigError(f"--fields: {error}") from None
    if "boxes" in mapping and not frame:
        raise config.ConfigError(
            f"--fields with boxes:{mapping['boxes']} needs --frame, because only you know the frame of these "
            f"coordinates: expected one of {', '.join(frame_evidence.FRAMES)}, got none"
        )
    return mapping


def _paths(source: str | None, out: str | None) -> tuple[Path, Path]:
    if not source or not out:
        raise config.ConfigError("--mode=convert needs --from=FILE_OR_FOLDER and --out=FILE.jsonl")
    path = places.here(source, "--from", _COPY)
    target = places.here(out, "--out", "write to this machine, and copy the file and its pictures afterwards")
    if target.suffix != ".jsonl":
        raise config.ConfigError(f"--out: expected the name of a file that ends in .jsonl, got {out!r}")
    if file_names.is_file(target) and file_names.is_file(path) and path.samefile(target):
        raise config.ConfigError("--out: expected another file than --from, got the same")
    return path, target


def _text(path: Path, target: Path, found: recognition.Found, report: line_writer.Report) -> list[str]:
    forms = ", ".join(f"{count} with {form}" for form, count in report.forms.items())
    lines = [
        f"written: {target}, {report.lines} lines ({forms}) of {report.samples} queries in {path}",
        f"format: {found.name}" + (f"; fields of its first row: {', '.join(found.fields)}" if found.fields else ""),
    ]
    for notation, decision in report.decisions.items():
        name, order = frame_evidence.FRAMES[decision.frame], frame_evidence.ORDERS[decision.order]
        lines.append(f"coordinates ({notation}): {name}, {order}; {decision.reason}")
    if report.forms.get("boxes"):
        lines.append(
            "boxes: exact targets for config.data.task=grounding; for segmentation, filled boxes are weak targets"
        )
    if set(report.splits) != {"none"}:
        lines.append("splits: " + ", ".join(f"{count} {name}" for name, count in report.splits.items()))
    if report.pictures:
        lines.append(f"pictures: {report.pictures} written to {target.stem}_pictures, from inside the file")
    lines += [f"remark: {text}" for text in report.remarks]
    lines += [f"left out: {text}" for text in report.left_out]
    return lines


def _read_back(target: Path) -> tuple[list[str], list[tuple[str, Example]]]:
    """(lines of text, up to DRAWN examples) of the written file, as a training reads it: both splits are opened."""
    texts, examples = [], []
    for split, most in (("train", 2 * DRAWN // 3), ("heldout", DRAWN)):
        try:
            source = jsonl.open_jsonl_source(str(target), split, "grounding", max_objects=_MAX_OBJECTS)
        except json_files.DataError as error:
            texts.append(f"remark: not readable as split {split}: {error}")
            continue
        step = max(1, len(source) // most)
        for index in range(0, len(source), step):
            if len(examples) >= most:
                break
            try:
                examples.append((split, source[index]))
            except image_files.ImageError as error:
                texts.append(f"remark: a line that cannot be used: {error}")
    return texts[:5], examples


def _next(target: Path, report: line_writer.Report) -> str:
    settings = "configs/vqa.py" if set(report.forms) == {"answers"} else "configs/seg.py"
    return (
        f"next: python main.py --mode=check --config={settings} --config.data.source=jsonl --config.data.root={target}"
    )
