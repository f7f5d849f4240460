"""CPU seconds and memory until the first batch of a data set of full size, which is made for the purpose.

python experiments/data_size.py --out=runs/size                     # makes the files, then measures
python experiments/data_size.py --out=runs/size --beside=OTHER      # in turns with another checkout of this project

Two data sets: a file like COCO's instances_train2017.json (118,287 photos, 860,001 annotations, a crowd for each 86 of
them; every name leads to one photo of 640 x 480), and 1,000,000 JSON lines about 200,000 pictures, of which one line in
seven has a scene. Both splits are opened, as training does, and a batch of 8 queries is made for the policy `tiny`.

Each measurement is a process of its own on one core, without a cached index: `import_s` until the modules are imported,
`open_s` for both splits, `batch_s` for the first batch, in CPU seconds of all threads, and `sum_s` of the last two;
`peak_gb` of memory, of which `idle_gb` was taken before the data were opened.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
from PIL import Image

PHOTOS, NOTES, LINES, PICTURES = 118_287, 860_001, 1_000_000, 200_000
CROWD_EVERY, SCENE_EVERY, BATCH = 86, 7, 8
COCO_FILE = "annotations/instances_train2017.json"
SIZE = (640, 480)  # w, h in pixels
_MEASURE = """
import os, resource, sys, time
spent = lambda: sum(os.times()[:2])
from dtr1_jax import config
from dtr1_jax.data import pipeline, sources
from dtr1_jax.policies import pretrained
from configs import default
imported = spent()
c = default.get_config()
c.data.source, c.data.root = sys.argv[1:3]
c = config.from_configdict(c)
style = pretrained.load_policy(c).style
ready, idle = spent(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
source, heldout = (sources.open_source(c.data, split) for split in (c.data.train_split, c.data.eval_split))
opened = spent()
batch = next(iter(pipeline.query_batches(source, style, int(sys.argv[3]), seed=1)))
print(imported, opened - ready, spent() - opened, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, idle,
      len(source), len(heldout))
"""


def polygon(rng: np.random.Generator) -> list[float]:
    """x, y, x, y, ... in pixels around a random centre, as many points as COCO's outlines have on average."""
    points = int(rng.integers(6, 38))
    angle, (x, y), radius = np.linspace(0, 6.28, points), rng.uniform(60, 400, 2), rng.uniform(15, 50, points)
    return np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], 1).ravel().round(2).tolist()


def write_coco(folder: pathlib.Path, photos: int = PHOTOS, notes: int = NOTES) -> None:
    """Writes the annotations and photos of a folder in COCO's format, with the separators of COCO's own files."""
    rng = np.random.default_rng(0)
    shapes = [json.dumps([polygon(rng)], separators=(",", ":")) for _ in range(2000)]
    ids = (np.arange(photos) * 5 + 9).tolist()
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / "train2017").mkdir(exist_ok=True)
    photo = folder / "train2017" / f"{ids[0]:012d}.jpg"
    Image.fromarray(rng.integers(0, 255, (SIZE[1], SIZE[0], 3), np.uint8)).save(photo, quality=60)
    for number in ids[1:]:
        (photo.parent / f"{number:012d}.jpg").symlink_to(photo.name)
    of = [*range(photos), *rng.integers(0, photos, notes - photos).tolist()]
    counts = json.dumps([1000, *[30, 450] * 300, 307_200 - 1000 - 480 * 300], separators=(",", ":"))
    # The numbers of the 80 labels go from 1 to 90 with gaps in COCO; their names are those of any 80 labels here.
    with (folder / COCO_FILE).open("w") as file:
        file.write('{"info": {"year": 2017},"licenses": [{"id": 1,"name": "none"}],"images": [')
        for i, number in enumerate(ids):
            name = f"{number:012d}.jpg"
            file.write(
                f'{"," * (i > 0)}{{"license": 3,"file_name": "{name}","coco_url": "http://images.cocodataset.org/'
                f'train2017/{name}","height": 480,"width": 640,"date_captured": "2013-11-14 11:18:45","flickr_url": '
                f'"http://farm9.staticflickr.com/8186/{number}_4e622c8349_z.jpg","id": {number}}}'
            )
        file.write('],"annotations": [')
        for i in range(notes):
            crowd = i % CROWD_EVERY == CROWD_EVERY - 1
            shape = f'{{"counts": {counts},"size": [480,640]}}' if crowd else shapes[i % 1999]
            number, label = (900_100_000_000 if crowd else 1) + i, 1 + i * 7 % 80
            area = rng.integers(10**6) / 100
            file.write(
                f'{"," * (i > 0)}{{"segmentation": {shape},"area": {area},"iscrowd": {int(crowd)},"image_id": '
                f'{ids[of[i]]},"bbox": [{area % 99:.2f},{i % 97}.5,77.71,{i % 89 + 1}.25],"category_id": {label},'
                f'"id": {number}}}'
            )
        names = [{"supercategory": "thing", "id": i, "name": f"thing {chr(97 + i % 26)}{i}"} for i in range(1, 81)]
        file.write(f'],"categories": {json.dumps(names)}}}')


def write_lines(file: pathlib.Path, lines: int = LINES, pictures: int = PICTURES) -> None:
    """Writes JSON lines about pictures/0.jpg, ..., links to one picture."""
    folder = file.parent / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    photo = folder / "0.jpg"
    Image.new("RGB", SIZE, "grey").save(photo)
    for number in range(1, pictures):
        (folder / f"{number}.jpg").symlink_to(photo.name)
    with file.open("w") as opened:
        for i in range(lines):
            x, y = i % 400, i % 300
            row = {"image": f"pictures/{i * 7919 % pictures}.jpg", "query": f"the thing number {i} that keeps tea hot",
                   "boxes": [[x, y, x + 100.5, y + 80.25]]}  # fmt: skip
            if i % SCENE_EVERY == 0:
                row["objects"] = [{"label": "mug", "box": row["boxes"][0], "attributes": ["red"]},
                                  {"label": "table", "box": [0, 200, 640, 480]}]  # fmt: skip
            opened.write(json.dumps(row) + "\n")


def measure(checkout: pathlib.Path, source: str, root: pathlib.Path) -> dict[str, float]:
    """CPU seconds and gigabytes of a process of its own on one core."""
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"PYTHONPATH": str(checkout), "XDG_CACHE_HOME": cache, "JAX_PLATFORMS": "cpu"}
        core = min(os.sched_getaffinity(0))
        done = subprocess.run(
            [sys.executable, "-c", _MEASURE, source, str(root.resolve()), str(BATCH)], cwd=checkout, env=environment,
            stdout=subprocess.PIPE, text=True, check=True, preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        )  # fmt: skip
    imported, opened, batch, peak, idle, train, heldout = map(float, done.stdout.split()[-7:])
    return {
        "import_s": round(imported, 2), "open_s": round(opened, 2), "batch_s": round(batch, 2),
        "peak_gb": round(peak / 2**20, 2), "idle_gb": round(idle / 2**20, 2),
        "train": int(train), "heldout": int(heldout), "sum_s": round(opened + batch, 2),
    }  # fmt: skip


def main() -> None:
    """Makes the data sets that are missing, measures each in turns, and prints a line of JSON for each measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the data sets")
    parser.add_argument("--beside", type=pathlib.Path, help="another checkout to measure in turns")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--share", type=float, default=1.0, help="of the records, for a trial")
    a = parser.parse_args()
    here = pathlib.Path(__file__).resolve().parents[1]
    folder, lines = a.out / "coco", a.out / "lines" / "a.jsonl"
    if not (folder / COCO_FILE).exists():
        write_coco(folder, int(PHOTOS * a.share), int(NOTES * a.share))
    if not lines.exists():
        write_lines(lines, int(LINES * a.share), int(PICTURES * a.share))
    for _ in range(a.repeats):
        for source, root in (("coco", folder), ("jsonl", lines)):
            for checkout in filter(None, (a.beside and a.beside.resolve(), here)):
                found = {"source": source, "checkout": checkout.name} | measure(checkout, source, root)
                print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
