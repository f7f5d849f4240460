"""Folders of Pascal VOC: Annotations/*.xml and JPEGImages/. Boxes are pixels that count from 1.

Document types and entities are refused, since they can read other files or fill the memory. Source: the development
kit of VOC 2012, host.robots.ox.ac.uk/pascal/VOC/voc2012.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from dtr1_jax.data import first_bytes, json_files
from dtr1_jax.data.conversion import answer_rows, yolo_folders
from dtr1_jax.data.conversion.samples import Box, LeftOut, Sample, Tally
from dtr1_jax.data.readers import file_names

MOST_BYTES = 4 << 20  # of an XML file
_HELD_OUT = ("val", "test")


def xml_files(root: Path) -> list[Path]:
    """The XML files of a folder, sorted; of one file, itself."""
    return [root] if file_names.is_file(root) else file_names.visible_files(root, "**/*.xml")


def samples(root: Path, tally: Tally) -> Iterator[Sample]:
    """The queries of all pictures; objects marked as difficult are left out of the targets, with their label."""
    splits = _split_lists(root)
    files = xml_files(root)
    first = 1 if any(_is_from_one(path) for path in files[:200]) else 0
    tally.remark("files whose boxes count pixels from 1, as VOC does" if first else "files whose boxes count from 0",
        count=len(files))  # fmt: skip
    for path in files:
        try:
            yield from _picture(path, splits, tally, first)
        except LeftOut as reason:
            tally.add(str(reason), reason.example or path.name)


def parse_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file. Raises LeftOut: no XML, too large, or with a document type or entities."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise LeftOut(f"XML files of more than {MOST_BYTES >> 20} MiB", path.name)
        raw = json_files.read_bytes(path)
    except (OSError, json_files.DataError) as error:
        if kind := first_bytes.kind_of(first_bytes.head_of(path)):
            raise LeftOut(f"XML files in whose place there is {kind}", path.name) from None
        raise LeftOut("XML files that cannot be read", str(error)[:80]) from None
    raw = re.sub(
        rb"""(<\?xml[^>]{0,80}?)\sencoding=["']utf-16(?:le|be)?["']""", rb"\1", raw, count=1, flags=re.IGNORECASE
    )
    if re.search(rb"<!\s*(?:DOCTYPE|ENTITY)", raw, re.IGNORECASE):
        raise LeftOut("XML files with a document type or entities, which may be harmful", path.name)
    try:
        root = ElementTree.fromstring(raw)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise LeftOut("XML files that are malformed", f"{path.name}: {error}") from None
    for element in root.iter():  # a name in a namespace is "{address}name"
        element.tag = element.tag.rpartition("}")[2]
    return root


def _picture(path: Path, splits: dict[str, str], tally: Tally, first: int) -> Iterator[Sample]:
    root = parse_xml(path)
    if root.tag != "annotation":
        raise LeftOut(f"XML files of another kind than VOC's (<{root.tag[:20]}>)", path.name)
    size = [_number(root.findtext(f"size/{side}")) for side in ("width", "height")]
    stated = (int(size[0]), int(size[1])) if all(size) else None  # type: ignore[arg-type]
    objects: list[tuple[str, Box]] = []
    unknown = set()
    for item in root.iter("object"):
        label = " ".join((item.findtext("name") or "").split())
        box = [_number(item.findtext(f"bndbox/{edge}")) for edge in ("xmin", "ymin", "xmax", "ymax")]
        if not json_files.is_name(label) or None in box:
            tally.add("objects without a name or box", path.name)
            unknown.add(answer_rows.query_of(label) if label else "")
        elif (item.findtext("difficult") or "0").strip() == "1":
            tally.add("objects marked as difficult", path.name)
            unknown.add(answer_rows.query_of(label))
        else:
            x1, y1, x2, y2 = (float(v) for v in box if v is not None)
            objects.append((label, (x1 - first, y1 - first, x2, y2)))
    if not objects:
        raise LeftOut("pictures without an object", path.name)
    name = root.findtext("filename") or path.stem
    picture = _picture_file(path, name.strip(), root.findtext("folder"))
    split = splits.get(path.stem) or yolo_folders.split_of(path.parts)
    for sample in answer_rows.label_samples(path.name, (picture,), tuple(objects), "Pascal VOC", stated, split):
        if sample.query not in unknown:
            yield sample


def _picture_file(path: Path, name: str, folder: str | None) -> str:
    """The picture: beside the XML file or in a folder of pictures, or under the name of the XML file."""
    beside = (path.parent.parent / n for n in ("JPEGImages", "images", "imgs", folder or "."))
    places = [path.parent, *beside]
    stem = path.with_suffix("").name
    names = [name, *(f"{stem}{suffix}" for suffix in yolo_folders.PICTURES)]
    for candidate in names:
        if file_names.stays_inside(candidate):
            found = file_names.find_file(places, candidate)
            if file_names.is_file(found):
                return str(found)
    return name


def _number(text: str | None) -> float | None:
    try:
        value = float((text or "").strip())
    except ValueError:
        return None
    return value if json_files.is_number(value) else None


def _is_from_one(path: Path) -> bool:
    """Whether a file says in <source> that it is one of VOC's own, which count pixels from 1."""
    try:
        source = parse_xml(path).find("source")
    except LeftOut:
        return False
    return source is not None and "VOC" in " ".join(source.itertext())


def _split_lists(root: Path) -> dict[str, str]:
    """Name of a picture -> its split, by the lists in ImageSets/Main."""
    found: dict[str, str] = {}
    folders = [root, root.parent] if file_names.is_folder(root) else [root.parent.parent]
    for folder in folders:
        for name, split in (("train", "train"), *((n, "heldout") for n in _HELD_OUT)):
            path = folder / "ImageSets" / "Main" / f"{name}.txt"
            if file_names.is_file(path):
                for line in json_files.read_bytes(path).decode("utf-8", "replace").splitlines():
                    if line.strip():
                        found.setdefault(line.split()[0], split)
    return found
