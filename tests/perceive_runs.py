"""Inputs and settings for tests of `--mode=perceive`, whose specialists are those of fake_specialists.py."""

import json

import fake_specialists as fakes
import numpy as np
from coco_folders import CATEGORIES, note, rectangle, write_coco_folder
from fake_specialists import picture
from PIL import Image

from configs import default
from dtr1_jax import config
from dtr1_jax.specialists import perceiver
from dtr1_jax.specialists.toolbox import Toolbox

NAMES = {"detector": "boxes", "segmenter": "colours", "depth": "rows", "tracker": "iou"}


def install(patch, detector=None):
    """Puts the fakes into the place of the models; returns them."""
    made = Toolbox(detector or fakes.Detector(), fakes.Segmenter(), None, fakes.Depth(), fakes.link, NAMES)
    patch.setattr(perceiver, "open_perceiver", lambda c: perceiver.SpecialistPerceiver(made, c.specialists))
    return made


def settings(**changes):
    values = default.get_config()
    flat = {"specialists__detector": "fake", "specialists__depth": "fake", "specialists__batch": 2} | changes
    values.update_from_flattened_dict({name.replace("__", "."): value for name, value in flat.items()})
    return config.from_configdict(values)


def lines(folder, name="twins.jsonl"):
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


def photos(folder, count=5):
    folder.mkdir(exist_ok=True)
    for i in range(count):
        scene = picture(("person", 10 + i, 10, 40, 60), ("dog", 60, 40, 90, 60))
        Image.fromarray(scene).save(folder / f"{i}.png")
    return str(folder)


def coco(folder):
    """Two photos with a person and a dog, annotated to the pixel."""
    notes = []
    for i in (1, 2):
        boxes = ((1, (10 + i, 10, 40, 60)), (2, (60, 40, 90, 60)))
        notes += [note(rectangle(*b), category=k, image=i, number=len(notes) + k) for k, b in boxes]
    write_coco_folder(folder, notes, pictures=2, size=(120, 80), categories=CATEGORIES[:2])
    for i in (1, 2):
        scene = picture(("person", 10 + i, 10, 40, 60), ("dog", 60, 40, 90, 60))
        Image.fromarray(scene).save(folder / "train2017" / f"{i}.png")
    (folder / "annotations" / "instances_other.json").unlink()
    return str(folder)


def davis(folder):
    for t in range(4):
        scene = picture(("person", 10 + 8 * t, 10, 40 + 8 * t, 60), ("dog", 100, 60, 115, 70))
        owner = (scene == fakes.COLOURS["person"]).all(-1).astype(np.uint8)
        owner[(scene == fakes.COLOURS["dog"]).all(-1)] = 2
        for name, image, suffix in (("JPEGImages", scene, "png"), ("Annotations", owner, "png")):
            for video in ("a", "b"):
                (folder / name / video).mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(folder / name / video / f"{t:05d}.{suffix}")
    (folder / "labels.json").write_text(json.dumps({v: {"1": "person", "2": "dog"} for v in "ab"}))
    return str(folder)
