"""experiments/specialists/davis.py on a small video in DAVIS's folders, with a segmenter that knows the answer."""

import json
import types

import numpy as np
import pytest
import scripts
import textured
from PIL import Image

script = scripts.load_script("experiments/specialists/davis.py")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("davis")
    for name, step in (("still", 0), ("walk", 4)):
        frames, masks = textured.video(4, (96, 128), (0, 0), [(40, 20, 30, step, 1)])
        for kind in ("JPEGImages", "Annotations"):
            (folder / script.FOLDER / kind / name).mkdir(parents=True)
        for t, (frame, mask) in enumerate(zip(frames, masks[0])):
            Image.fromarray(frame).save(folder / script.FOLDER / "JPEGImages" / name / f"{t:05d}.jpg", quality=95)
            Image.fromarray((255 * mask).astype(np.uint8)).save(
                folder / script.FOLDER / "Annotations" / name / f"{t:05d}.png"
            )
    return folder


class Filled:
    """A segmenter whose first mask fills the box, and whose second one is better by its score but empty elsewhere."""

    def segment(self, images, boxes):
        ((box,),) = boxes
        mask = script.segmenter.box_mask(images[0], box)
        return [types.SimpleNamespace(masks=np.stack([~mask, mask]), scores=np.array([0.1, 0.9], np.float32))]


def test_the_line(root, capsys, monkeypatch):
    monkeypatch.setattr(script.specialists, "load", lambda path: Filled(), raising=False)
    script.main([f"--assets={root}", "--sam=x.pt"])
    lines = capsys.readouterr().out.splitlines()
    line = json.loads(lines[-1])
    assert len(lines) == 3 and set(line["videos"]) == {"still", "walk"}
    for name in ("first_mask", "grabcut", "box", "sam", "sam_tracked"):
        assert 0.5 < line[f"davis_{name}"] <= 1
    assert line["davis_sam"] == line["davis_box"]


def test_fewer_videos_and_frames(root, capsys):
    script.main([f"--assets={root}", "--videos=1", "--frames=2"])
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert set(line["videos"]) == {"still"} and "davis_sam" not in line
    frames, masks = script.read_video(root / script.FOLDER, "walk", 3)
    assert len(frames) == len(masks) == 3 and masks.dtype == bool


def test_a_lost_object_has_empty_masks(root):
    frames, masks = script.read_video(root / script.FOLDER, "walk")
    masks[2] = False
    found = script.from_boxes(frames, masks, script.segmenter.box_mask)
    assert found.shape == masks.shape and not found[2].any() and found[3].any()
