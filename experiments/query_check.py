"""Draws random queries on sheets for a person to judge: picture with the target outlined, query and answer, numbered.

python experiments/query_check.py --source=coco --root=COCO --split=val --n=50 --seed=1 --out=runs/check/coco
python experiments/query_check.py --source=davis --root=DAVIS --split=train --n=25 --seed=1 --out=runs/check/davis
python experiments/query_check.py --source=twinworld --n=50 --seed=1 --out=runs/check/twinworld

`--out` gets sheet_00.png, sheet_01.png, ... and table.csv with a row for each query. Fill in its columns: verdict
(right, wrong or doubtful), reason, and annotation (yes where the fault is that of the annotation, such as an object
that it misses). Then `python experiments/query_check.py --count runs/check/*/table.csv` counts the verdicts.
"""

import argparse
import collections
import csv
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dtr1_jax import types
from dtr1_jax.data.readers import coco, davis
from dtr1_jax.data.twinworld import picture_examples, tasks

VERDICTS = ("right", "wrong", "doubtful")
COLUMNS = ("number", "source", "uid", "task", "query", "answer", "verdict", "reason", "annotation")
_WIDTH, _PAD, _LINE = 1440, 6, 17  # pixels: of a sheet, around a tile, of a line of text
_FRAMES = 6  # of a video on a sheet, at most
_SPLITS = {"coco": "val", "davis": "train", "twinworld": "heldout"}


def drawn(source: str, root: str, split: str, n: int, seed: int) -> Iterator[types.Example]:
    """Yields n examples of a source at random, each once; of TwinWorld, of all tasks, of pictures and of videos."""
    rng = np.random.default_rng(seed)
    if source == "twinworld":
        for index in rng.choice(10**6, n, replace=False).tolist():
            task, video = types.TASKS[index % len(types.TASKS)], bool(rng.integers(2))
            yield tasks.example(task, seed, split, index, video=video, frames=_FRAMES, size=picture_examples.SMALLEST)
        return
    if source == "coco":
        data = coco.open_coco_source(root, split, "segmentation", seed=seed, max_objects=16)
    else:
        data = davis.open_davis_source(root, split, "segmentation", seed=seed, max_objects=8)
    for index in rng.choice(len(data), min(n, len(data)), replace=False).tolist():
        yield data[index]


def answer_text(example: types.Example) -> str:
    """The answer in words: the reference text, or how many objects are outlined, and which."""
    if example.target.references:
        return example.target.references[0]
    named = [f"{item.label} {item.id}" for item in example.scene if item.id in (example.answer_ids or ())]
    return f"{len(named)} outlined: {', '.join(named)}" if named else "nothing"


def tile(example: types.Example, number: int, columns: int) -> Image.Image:
    """Draws an example: its picture, or its frames in rows of three, and below them number, task, query and answer."""
    width = _WIDTH // columns
    pictures = [(example.image, example.target.mask)]
    per_row = 1
    if example.visuals:
        frames, masks = example.visuals[0].frames, example.target.masks
        shown = np.unique(np.linspace(0, len(frames) - 1, min(_FRAMES, len(frames))).round().astype(int))
        pictures = [(frames[t], masks[t] if masks is not None else None) for t in shown]
        per_row = min(3, len(pictures))
    side = (width - _PAD) // per_row - _PAD
    panels = [_outlined(picture, mask, side) for picture, mask in pictures]
    rows = [panels[i : i + per_row] for i in range(0, len(panels), per_row)]
    text = f"{number} [{example.task}] {example.query}\n=> {answer_text(example)}"
    lines = [line for part in text.split("\n") for line in textwrap.wrap(part, width // 8)]
    height = sum(row[0].height + _PAD for row in rows) + len(lines) * _LINE + 3 * _PAD
    canvas = Image.new("RGB", (width, height), "white")
    top = _PAD
    for row in rows:
        for column, panel in enumerate(row):
            canvas.paste(panel, (_PAD + column * (side + _PAD), top))
        top += row[0].height + _PAD
    pen = ImageDraw.Draw(canvas)
    for k, line in enumerate(lines):
        pen.text((_PAD, top + k * _LINE), line, fill="black", font=ImageFont.load_default(size=15))
    return canvas


def _outlined(picture: np.ndarray, mask: np.ndarray | None, side: int) -> Image.Image:
    """The picture at most `side` wide and high, with the outline of the mask."""
    scale = side / max(picture.shape[:2])
    size = (round(picture.shape[1] * scale), round(picture.shape[0] * scale))
    large = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)
    if mask is not None:
        inside = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        outlines, _ = cv2.findContours(inside, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(large, outlines, -1, (255, 255, 255), 4)
        cv2.drawContours(large, outlines, -1, (255, 0, 255), 2)
    return Image.fromarray(large)


def sheet(tiles: Sequence[Image.Image], columns: int) -> Image.Image:
    """Sets tiles side by side in rows of `columns`."""
    rows = [tiles[i : i + columns] for i in range(0, len(tiles), columns)]
    heights = [max(item.height for item in row) for row in rows]
    canvas = Image.new("RGB", (_WIDTH, sum(heights)), "white")
    for row, top in zip(rows, np.cumsum([0, *heights]).tolist()):
        for column, item in enumerate(row):
            canvas.paste(item, (column * item.width, top))
    return canvas


def verdicts(tables: Sequence[Path]) -> dict[str, dict[str, int]]:
    """Counts the verdicts of filled tables by source, and among them those that are an annotation's fault.

    Raises SystemExit if a row has no verdict.
    """
    counts: dict[str, dict[str, int]] = collections.defaultdict(lambda: dict.fromkeys((*VERDICTS, "annotation"), 0))
    for table in tables:
        with table.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                if row["verdict"] not in VERDICTS:
                    raise SystemExit(
                        f"{table}: row {row['number']}: expected a verdict of {', '.join(VERDICTS)}, got"
                        f" {row['verdict']!r}; fill it in"
                    )
                counts[row["source"]][row["verdict"]] += 1
                counts[row["source"]]["annotation"] += row["annotation"] == "yes"
    return dict(counts)


def main() -> None:
    """Reads the command line; writes sheets and a table, or counts the verdicts of filled tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", choices=_SPLITS, default="twinworld")
    parser.add_argument("--root", default="", help="folder of the data set")
    parser.add_argument("--split", help="default: val of coco, train of davis, heldout of twinworld")
    parser.add_argument("--n", type=int, default=50, help="number of queries")
    parser.add_argument("--seed", type=int, default=0, help="of the queries and of the choice among them")
    parser.add_argument("--columns", type=int, default=3, help="tiles side by side")
    parser.add_argument("--rows", type=int, default=3, help="rows of tiles on a sheet")
    parser.add_argument("--out", type=Path, help="folder to write to")
    parser.add_argument("--count", type=Path, nargs="+", help="filled tables, to count their verdicts")
    args = parser.parse_args()
    if args.count:
        for source, counts in sorted(verdicts(args.count).items()):
            print(source, *(f"{name} {count}" for name, count in counts.items()))
        return
    if args.out is None or args.n < 1:
        parser.error("expected --out=DIR and --n of at least 1")
    args.out.mkdir(parents=True, exist_ok=True)
    examples = list(drawn(args.source, args.root, args.split or _SPLITS[args.source], args.n, args.seed))
    per_sheet = args.columns * args.rows
    for start in range(0, len(examples), per_sheet):
        part = [tile(e, start + k, args.columns) for k, e in enumerate(examples[start : start + per_sheet])]
        sheet(part, args.columns).save(args.out / f"sheet_{start // per_sheet:02d}.png")
    with (args.out / "table.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number, e in enumerate(examples):
            writer.writerow((number, args.source, e.uid, e.task, e.query, answer_text(e), "", "", ""))


if __name__ == "__main__":
    main()
