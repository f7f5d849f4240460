"""A question about a picture or video, answered over the twin that specialists make; no policy has to see it."""

import dataclasses
import json

import fake_perceivers
import jax
import numpy as np
import pytest
import tiny
from PIL import Image

from dtr1_jax import config
from dtr1_jax.models import policy, spec
from dtr1_jax.models.weights import native
from dtr1_jax.modes import infer
from dtr1_jax.specialists.perceived import PerceivedScene
from dtr1_jax.types import Instance, Video

SIZE = (40, 60)  # of the picture, height and width
ASKING = fake_perceivers.ASKING | {"rollout__twin_tokens": 200}
REPLY = '<think>a mug</think><answer>{"objects":[1]}</answer>'


def corner(frames=0):
    """A mug in the left half, of which two pixels are seen; in a video in its first frame only."""
    pixels = np.zeros(SIZE, bool)
    pixels[3, 4:6] = True
    mug = Instance(1, "mug", (0.0, 0.0, 0.5, 1.0), pixels)
    if not frames:
        return mug
    boxes = np.tile(np.array(mug.box), (frames, 1))
    masks = np.stack([pixels] + [pixels * False] * (frames - 1))
    return dataclasses.replace(mug, boxes=boxes, masks=masks)


def see(visual, request):
    count = len(visual.index) if isinstance(visual, Video) else 0
    return PerceivedScene((corner(count),), frames=request.frames)


def ask(patch, c, tmp_path, *, video=False, ops=("segment",)):
    """Runs infer about a picture or a folder of frames; returns the folder of the answer."""
    fake_perceivers.speak(patch, c, [fake_perceivers.request("mug", ops=ops)], [REPLY])
    rng = np.random.default_rng(0)
    for i in range(3):
        (tmp_path / "frames").mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (*SIZE, 3), np.uint8)).save(tmp_path / "frames" / f"{i}.png")
    place = {"video": str(tmp_path / "frames")} if video else {}
    return infer.run(c, tmp_path / "run", None if video else str(tmp_path / "frames/0.png"), "The Mug?", **place)


def test_a_picture(path, small, tmp_path):
    module = fake_perceivers.install(small, see)
    folder = ask(small, tiny.settings(path, **ASKING), tmp_path)
    answer, mask = json.loads((folder / "answer.json").read_text()), np.asarray(Image.open(folder / "mask.png")) > 0
    assert answer["sound"] and answer["twin_by"] == "a fake" and (mask == corner().mask).all()
    assert answer["masks_by"] == "a fake"
    assert json.loads((folder / "twin.json").read_text())["objects"][0]["label"] == "mug"
    assert "<construct>" in (folder / "transcript.txt").read_text() and module.opened[0].closed


def test_without_pixels_the_segmenter_takes_the_box(path, small, tmp_path):
    fake_perceivers.install(small, see)
    folder = ask(small, tiny.settings(path, **ASKING), tmp_path, ops=())
    mask = np.asarray(Image.open(folder / "mask.png")) > 0
    assert json.loads((folder / "answer.json").read_text())["masks_by"] != "a fake"
    assert mask[:, :28].all() and not mask[:, 32:].any()


@pytest.mark.parametrize("video", [False, True])
def test_a_policy_that_reads_text(small, tmp_path, video):
    text = dataclasses.replace(tiny.SPEC, vision=None)
    small.setitem(spec.SPECS, "tiny", text)
    file = tmp_path / "text.safetensors"
    native.save_native(file, policy.init(jax.random.key(1), text))
    fake_perceivers.install(small, see)
    c = tiny.settings(str(file), **{**ASKING, "policy__prompt_tokens": 700})
    folder = ask(small, c, tmp_path, video=video, ops=("segment", "track")[: 1 + video])
    answer = json.loads((folder / "answer.json").read_text())
    assert answer["sound"], answer["faults"]
    if video:
        masks = [np.asarray(Image.open(file)) > 0 for file in sorted((folder / "masks").iterdir())]
        assert (masks[0] == corner().mask).all() and not masks[-1].any() and len(masks) >= 2
    with pytest.raises(config.ConfigError, match=r"needs a policy that sees pictures.*constructor=specialists"):
        c = tiny.settings(str(file), policy__constructor="given")
        infer.run(c, tmp_path / "run", str(tmp_path / "frames/0.png"), "The Mug?")
