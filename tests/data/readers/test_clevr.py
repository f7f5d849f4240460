"""CLEVR: questions and whole scenes by hand; boxes against a pinhole camera that looks at the objects' surfaces."""

import json

import numpy as np
import pytest
from PIL import Image

from dtr1_jax.data import prompts
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers import clevr
from dtr1_jax.twin.coordinates import Canvas, Frame

NAME = "CLEVR_val_000000.png"
W, H, FOCAL = 480, 320, 525.0
QUESTION = {"split": "val", "image_index": 0, "image_filename": NAME, "question": "How many cubes are there?",
            "answer": "1", "question_family_index": 3,
            "program": [{"function": "scene", "inputs": [], "value_inputs": []},
                        {"function": "count", "inputs": [0], "value_inputs": []}]}  # fmt: skip


class Camera:
    """A pinhole camera above the ground that looks at the origin, as that of the release does."""

    def __init__(self, place=(7.48, -6.5, 5.34)):
        self.place = np.array(place)
        self.forward = -self.place / np.linalg.norm(self.place)
        self.right = np.cross(self.forward, [0, 0, 1])
        self.right /= np.linalg.norm(self.right)
        self.up = np.cross(self.right, self.forward)
        behind = np.array([*self.forward[:2], 0])
        self.directions = {"right": self.right.tolist(), "behind": (behind / np.linalg.norm(behind)).tolist()}

    def project(self, points):
        """float[n, 3], x and y in pixels and the depth along the axis."""
        offset = points - self.place
        depth = offset @ self.forward
        x, y = offset @ self.right / depth * FOCAL, offset @ self.up / depth * FOCAL
        return np.stack([W / 2 + x, H / 2 - y, depth], -1)

    def item(self, x, y, size, shape, rotation=0.0, colour="red"):
        s = {"small": 0.35, "large": 0.7}[size] / (2**0.5 if shape == "cube" else 1)
        centre = np.array([x, y, s])
        px, py, depth = self.project(centre[None])[0]
        return {"3d_coords": centre.tolist(), "pixel_coords": [round(px), round(py), depth], "rotation": rotation,
                "size": size, "color": colour, "material": "metal", "shape": shape}  # fmt: skip


def surface(item):
    """float[n, 3], points all over the surface of an object."""
    s, centre = item["3d_coords"][2], np.array(item["3d_coords"])
    u = np.linspace(-1, 1, 41)
    a = np.linspace(0, 2 * np.pi, 90)
    if item["shape"] == "sphere":
        z = np.repeat(u, 90)
        points = np.stack(
            [np.sqrt(1 - z**2) * np.tile(np.cos(a), 41), np.sqrt(1 - z**2) * np.tile(np.sin(a), 41), z], 1
        )
    elif item["shape"] == "cylinder":
        points = np.concatenate([np.stack([np.cos(a), np.sin(a), np.full(90, z)], 1) for z in u])
    else:
        grid = np.stack(np.meshgrid(u, u, u), -1).reshape(-1, 3)
        turn = np.radians(item["rotation"])
        points = grid @ np.array([[np.cos(turn), np.sin(turn), 0], [-np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    return centre + s * points


def test_boxes_are_those_of_a_camera_within_a_few_pixels():
    """The error is the change of perspective inside an object: the largest, nearest object has the largest."""
    rng = np.random.default_rng(0)
    errors, sides = [], []
    for _ in range(20):
        camera = Camera(np.array([7.48, -6.5, 5.34]) + rng.uniform(-0.5, 0.5, 3))
        items = [camera.item(*rng.uniform(-2.5, 2.5, 2), str(rng.choice(["small", "large"])),
                             str(rng.choice(["cube", "sphere", "cylinder"])), float(rng.uniform(0, 360)))
                 for _ in range(5)]  # fmt: skip
        for item, box in zip(items, clevr.boxes_of(items, camera.directions, W, H)):
            seen = camera.project(surface(item))
            truth = np.clip([*seen[:, :2].min(0), *seen[:, :2].max(0)], 0, [W, H, W, H])
            errors.append(np.abs(truth - box).max())
            sides.append(min(truth[2] - truth[0], truth[3] - truth[1]))
    assert np.median(errors) < 3 and max(errors) < 10 and np.median(sides) > 30


def scene(items, camera):
    return {"split": "val", "image_index": 0, "image_filename": NAME, "objects": items, "directions": camera.directions,
            "relations": {}}  # fmt: skip


CAMERA = Camera()
ITEMS = [CAMERA.item(2, 2, "large", "cube", 30.0), CAMERA.item(-2, -1, "small", "sphere", colour="blue")]


def write(root, questions=(QUESTION,), scenes=None, image=NAME):
    for kind, rows in (
        ("questions", list(questions)),
        ("scenes", [scene(ITEMS, CAMERA)] if scenes is None else scenes),
    ):
        (root / kind).mkdir(parents=True, exist_ok=True)
        (root / kind / f"CLEVR_val_{kind}.json").write_text(json.dumps({"info": {}, kind: rows}))
    (root / "images" / "val").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (W, H)).save(root / "images" / "val" / image)
    return root


def open_source(root, split="val"):
    return clevr.open_clevr_source(str(root), split, "vqa")


def test_by_hand(tmp_path, caplog):
    source = open_source(write(tmp_path / "CLEVR_v1.0").parent)
    example = source[0]
    assert (example.uid, example.query, example.tags) == ("clevr/val/0", "How many cubes are there?", ("count",))
    assert example.target.references == ("1",) and example.benchmark == "clevr" and example.image.shape == (H, W, 3)
    assert [(o.id, o.label, o.attributes, o.depth, o.outlined) for o in example.scene] == [
        (1, "sphere", ("blue", "small", "metal"), 2, False), (2, "cube", ("red", "large", "metal"), 1, False),
    ]  # fmt: skip
    x, y, _ = ITEMS[1]["pixel_coords"]
    box = np.array(example.scene[0].box) * [W, H, W, H]
    assert box[0] < x < box[2] and box[1] < y < box[3] and "published split has 149991" in caplog.text
    twin = prompts.given_twin(example, Canvas(Frame.PIXEL, (W, H)))
    assert [o.depth for o in twin.objects] == [2, 1] and len(twin.objects) == 2


def test_without_scenes(tmp_path, caplog):
    (write(tmp_path) / "scenes" / "CLEVR_val_scenes.json").unlink()
    assert open_source(tmp_path)[0].scene == () and "no scenes of val" in caplog.text


def dropped(row, *keys):
    return {key: value for key, value in row.items() if key not in keys}


QUIRKS = [  # (the second question, number of queries, words of the warning)
    (QUESTION | {"answer": True}, 2, ""), (QUESTION | {"answer": 3}, 2, ""), (dropped(QUESTION, "program"), 2, ""),
    (QUESTION | {"program": [{"type": "exist", "inputs": [0], "side_inputs": []}]}, 2, ""),
    (dropped(QUESTION, "image_filename") | {"image": "CLEVR_val_000000", "question_index": 9}, 2, ""),
    (QUESTION | {"program": 3}, 2, ""), (QUESTION | {"image_filename": "CLEVR_val_000000"}, 2, ""),
    (dropped(QUESTION, "answer"), 1, "1 questions without image_filename, question or answer (such as 1)"),
    (QUESTION | {"question": ""}, 1, "1 questions without"), (QUESTION | {"image_filename": "../a.png"}, 1, "1 q"),
    (QUESTION | {"image_filename": "/a.png"}, 1, "1 questions without"), (None, 1, "1 questions without"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(QUIRKS)))
def test_quirks(tmp_path, caplog, number):
    second, count, warning = QUIRKS[number]
    source = open_source(write(tmp_path, [QUESTION, second]))
    assert len(source) == count and warning in caplog.text and ("left out" in caplog.text) == bool(warning)
    assert all(len(example.scene) == 2 for example in source)


@pytest.mark.parametrize(
    "change", [{"3d_coords": [1, 2]}, {"pixel_coords": [1, 2, -1]}, {"shape": 3}, {"color": "<b>"}, {"rotation": "x"},
               {"pixel_coords": None}, {"3d_coords": [0, 0, 0]}],
)  # fmt: skip
def test_objects_of_another_form_cost_their_scene(tmp_path, caplog, change):
    source = open_source(write(tmp_path, scenes=[scene([ITEMS[0] | change, ITEMS[1]], CAMERA)]))
    assert (
        source[0].scene == ()
        and f"1 scenes without image_filename, or with an object of another form (such as {NAME}" in caplog.text
    )


def test_refusals(tmp_path):
    with pytest.raises(DataError, match="clevr test has no answers"):
        open_source(tmp_path, "test")
    with pytest.raises(DataError, match=r"expected questions/CLEVR_val_questions\.json, .*got no questions of val"):
        open_source(tmp_path)
    with pytest.raises(DataError, match="expected the picture"):
        open_source(write(tmp_path, image="other.png"))
