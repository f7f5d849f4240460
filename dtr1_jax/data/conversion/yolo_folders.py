"""Folders of YOLO: data.yaml, images/ and labels/ with a text file for each picture.

Darknet, and CVAT's YOLO 1.1, have obj.names, and the text files beside the pictures.

A line of a text file is `class x y width height` (centre and size, 0 to 1), or `class x y x y ...` with a polygon of at
least 3 points. Source: docs.ultralytics.com/datasets/detect and /segment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dtr1_jax.data import json_files
from dtr1_jax.data.conversion import answer_rows
from dtr1_jax.data.conversion.samples import Box, LeftOut, Sample, Tally
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import file_names

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
NAME_FILES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml", "classes.txt", "obj.names", "labels/classes.txt")
_SPLITS = {"train": "train", "val": "heldout", "valid": "heldout", "validation": "heldout", "test": "test"}


def find_names(root: Path, files: Sequence[Path] = ()) -> Path | None:
    """The file with the names of the classes, in a folder or in one between it and the first of its text files."""
    inner = [] if not files else [p for p in files[0].parents if p != root and p.is_relative_to(root)][::-1]
    for folder in (root, *inner):
        found = [folder / name for name in NAME_FILES if file_names.is_file(folder / name)]
        if found := [*found, *file_names.visible_files(folder, "*.yaml")]:
            return found[0]
    return None


def label_files(root: Path) -> list[Path]:
    """The text files of the pictures, sorted: those in folders `labels`, or else those beside a picture."""
    texts = [path for path in file_names.visible_files(root, "**/*.txt") if path.name != "classes.txt"]
    files = [path for path in texts if "labels" in path.relative_to(root).parts[:-1]]
    if not files and find_names(root, texts):
        files = [path for path in texts if _beside(path)]
    return files


def samples(root: Path, tally: Tally) -> Iterator[Sample]:
    """The queries of all pictures. Raises DataError if the names of the classes are missing or cannot be read."""
    files = label_files(root)
    file = find_names(root, files)
    if file is None:
        raise DataError(
            f"{root}: expected data.yaml or classes.txt with the names of the classes, got neither; add one"
        )
    names, posed = read_names(file), has_keypoints(file)
    if posed:
        tally.remark("files of labels with keypoints, of which the boxes are used", file.name, len(files))
    for path in files:
        try:
            yield from _picture(root, path, names, posed, tally)
        except LeftOut as reason:
            tally.add(str(reason), reason.example or path.name)


def has_keypoints(file: Path) -> bool:
    """Whether a YAML file says that keypoints stand behind each box (kpt_shape)."""
    return (
        file.suffix in (".yaml", ".yml") and re.search(rb"^kpt_shape\s*:", file.read_bytes(), re.MULTILINE) is not None
    )


def read_names(file: Path) -> dict[int, str]:
    """Class number -> name, from the `names` of a YAML file in any of its usual forms, or a text file of lines.

    Only this part of YAML is read: `names: [a, b]`, and lists `- a` or maps `0: a` below `names:`. Raises DataError.
    """
    try:
        text = json_files.read_bytes(file).decode()
    except UnicodeDecodeError:
        raise DataError(f"{file}: expected UTF-8, got other bytes; save the file as UTF-8") from None
    if file.suffix not in (".yaml", ".yml"):
        found = {i: " ".join(line.split()) for i, line in enumerate(text.splitlines()) if line.strip()}
        if not found or not all(map(json_files.is_name, found.values())):
            raise DataError(f"{file}: expected the name of a class on each line, got {text[:60]!r}")
        return found
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if re.match(r"names\s*:", line)), None)
    if start is None:
        raise DataError(f"{file}: expected the names of the classes (names: [...]), got none; add them")
    inline = lines[start].partition(":")[2].strip()
    inline = inline if inline[:1] in ("'", '"') else re.sub(r"(^|\s)#.*", "", inline).strip()
    below = []
    for line in lines[start + 1 :]:
        if line.strip() and not line.startswith((" ", "\t", "-", "]", "}", "#")):
            break
        below.append(line)
    if inline[:1] in ("[", "{"):
        names = _inline("\n".join([inline, *below]), file)
    else:
        names = _listed(below)
    if not names or not all(json_files.is_name(name) for name in names.values()):
        raise DataError(f"{file}: expected the names of the classes as a list or a map, got {inline or below[:2]}")
    return names


def _inline(text: str, file: Path) -> dict[int, str]:
    body = re.match(r"[\[{](.*?)[\]}]", text, re.DOTALL)
    if body is None:
        raise DataError(f"{file}: the list of names is not closed; write names: [a, b]")
    items = re.findall(
        r"""\s*(?:(\d+)\s*:\s*)?(?:'((?:[^']|'')*)'|"([^"]*)"|([^,'"#\n][^,\n]*?))\s*(?:,|\n|$)""", body[1]
    )
    found = {}
    for i, (number, single, double, bare) in enumerate(item for item in items if any(item[1:])):
        found[int(number) if number else i] = (single.replace("''", "'") or double or bare).strip()
    return found


def _listed(lines: list[str]) -> dict[int, str]:
    found: dict[int, str] = {}
    for line in lines:
        if match := re.match(r"\s*(?:-|(?:['\"]?(\d+)['\"]?\s*:))\s+(.+?)\s*$", line):
            name = match[2]
            quoted = re.match(r"""(['"])(.*?)\1""", name)
            name = quoted[2] if quoted else re.sub(r"\s+#.*", "", name)
            found[int(match[1]) if match[1] else len(found)] = name.strip()
    return found


def picture_of(root: Path, path: Path) -> Path:
    """The picture of a text file: the same name below `images` in place of `labels`. Raises LeftOut."""
    parts = list(path.relative_to(root).parts)
    places = [i for i, part in enumerate(parts[:-1]) if part == "labels"]
    if places:
        parts[places[-1]] = "images"
        if found := _beside(root.joinpath(*parts)):
            return found
    if found := _beside(path):
        return found
    raise LeftOut("label files without a picture", path.name)


def _beside(path: Path) -> Path | None:
    """The picture in the folder of a file, under its name."""
    for suffix in PICTURES:
        found = file_names.find_file([path.parent], path.with_suffix("").name + suffix)
        if file_names.is_file(found):
            return found
    return None


def _picture(root: Path, path: Path, names: dict[int, str], posed: bool, tally: Tally) -> Iterator[Sample]:
    objects: list[tuple[str, Box]] = []
    outlines: list[list[float] | None] = []
    for number, line in enumerate(json_files.read_bytes(path).decode("utf-8", "replace").splitlines(), 1):
        if line.strip():
            try:
                label, box, outline = _object(line, names, posed)
            except LeftOut as reason:
                tally.add(str(reason), f"{path.name}:{number}")
                continue
            if (label, box) in objects:
                tally.add("objects that stand twice", f"{path.name}:{number}")
                continue
            objects.append((label, box))
            outlines.append(outline)
    picture = picture_of(root, path)
    if not objects:
        raise LeftOut("pictures without an object", picture.name)
    split = split_of(path.relative_to(root).parts)
    if all(outline is None for outline in outlines):
        yield from answer_rows.label_samples(path.name, (str(picture),), tuple(objects), "YOLO", None, split)
        return
    for sample in answer_rows.label_samples(path.name, (str(picture),), tuple(objects), "YOLO", None, split):
        chosen = [o for (_, box), o in zip(objects, outlines) if sample.boxes and box in sample.boxes]
        if all(chosen):
            yield _outlined(sample, chosen)
        else:
            yield sample


def _outlined(sample: Sample, outlines: list[Any]) -> Sample:
    fields = {name: getattr(sample, name) for name in ("location", "pictures", "query", "notation", "objects", "split")}
    return Sample(**fields, masks=tuple([outline] for outline in outlines))


def split_of(parts: tuple[str, ...]) -> str | None:
    """The split that a folder in a path names; None if none does."""
    return next((_SPLITS[part.casefold()] for part in parts[:-1] if part.casefold() in _SPLITS), None)


def _object(line: str, names: dict[int, str], posed: bool) -> tuple[str, Box, list[float] | None]:
    """(label, centre and size, polygon in 0 to 1 or None) of a line. Raises LeftOut.

    With `posed`, keypoints stand behind the box.
    """
    words = line.split()
    try:
        number, values = float(words[0]), [float(word) for word in words[1:]]
    except ValueError:
        raise LeftOut("lines that are not numbers") from None
    if not all(map(json_files.is_number, (number, *values))):
        raise LeftOut("lines that are not numbers")
    if not number.is_integer() or int(number) not in names:
        raise LeftOut("lines of a class without a name")
    label = names[int(number)]
    values = values[:4] if posed else values
    if len(values) in (4, 5):  # a fifth number is the score of a prediction
        x, y, w, h = values[:4]
        return label, (x, y, w, h), None
    if len(values) < 6 or len(values) % 2:
        raise LeftOut("lines that are neither a box nor a polygon")
    xs, ys = values[::2], values[1::2]
    w, h = max(xs) - min(xs), max(ys) - min(ys)
    return label, (min(xs) + w / 2, min(ys) + h / 2, w, h), values
