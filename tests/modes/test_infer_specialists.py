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
from dtr1_jax.asking import complete
from dtr1_jax.data import completions
from dtr1_jax.evaluation import predict
from dtr1_jax.models import policy, spec
from dtr1_jax.models.weights import native
from dtr1_jax.modes import infer
from dtr1_jax.specialists.perceived import PerceivedScene
from dtr1_jax.twin.construct import Request
from dtr1_jax.types import Instance, Rollout, Video

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


GIVEN = {
    "policy__constructor": "given", "policy__prompt": "full", "policy__prompt_tokens": 700, "rollout__new_tokens": 40,
    "specialists__detector": "fake", "specialists__phrases": "mug,kettle", "specialists__depth": "fake",
}  # fmt: skip


def look_first(small, tmp_path, see, *, video=False, text=REPLY):
    """Runs infer with the constructor "given" and a policy that reads text; (folder, the requests of specialists)."""
    blind = dataclasses.replace(tiny.SPEC, vision=None)
    small.setitem(spec.SPECS, "tiny", blind)
    file = tmp_path / "text.safetensors"
    native.save_native(file, policy.init(jax.random.key(1), blind))
    asked = []
    module = fake_perceivers.install(small, lambda visual, request: asked.append(request) or see(visual, request))
    small.setattr(predict, "ask", lambda runtime, batch, key: reply(runtime, batch, text))
    pixels = np.random.default_rng(0).integers(0, 255, (*SIZE, 3), np.uint8)
    for i in range(3):
        (tmp_path / "frames").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "frames" / f"{i}.png")
    place = {"video": str(tmp_path / "frames")} if video else {}
    c = tiny.settings(str(file), **GIVEN)
    folder = infer.run(c, tmp_path / "run", None if video else str(tmp_path / "frames/0.png"), "The Mug?", **place)
    assert module.opened[0].closed
    return folder, asked


def reply(runtime, batch, text):
    """The completion `text`, read as `complete` reads it."""
    tokenizer = runtime.policy.style.tokenizer
    ids = np.array([[[*tokenizer.encode(text), tokenizer.end]]], np.int32)
    zeros = np.zeros(ids.shape, np.float32)
    rollout = Rollout(ids, np.ones(ids.shape, bool), zeros, np.ones((1, 1), bool))
    read = completions.read_completions(rollout, batch, runtime.policy.style)
    return complete.Completions(read, rollout, {})


def test_the_twin_is_there_before_the_policy_answers(small, tmp_path):
    folder, asked = look_first(small, tmp_path, see)
    answer, mask = json.loads((folder / "answer.json").read_text()), np.asarray(Image.open(folder / "mask.png")) > 0
    assert answer["sound"] and answer["masks_by"] == answer["twin_by"] == "a fake" and (mask == corner().mask).all()
    assert asked == [Request(("mug", "kettle"), ("detect", "segment", "depth"))]
    assert json.loads((folder / "twin.json").read_text())["objects"][0]["label"] == "mug"
    assert "<construct>" not in (folder / "transcript.txt").read_text()


def test_relations_are_in_the_prompt_too(small, tmp_path):
    def related(visual, request):
        scene = see(visual, request)
        two = (*scene.instances, dataclasses.replace(scene.instances[0], id=2, label="kettle"))
        return dataclasses.replace(scene, instances=two, relations=((1, "touching", 2),))

    folder, _ = look_first(small, tmp_path, related)
    assert json.loads((folder / "twin.json").read_text())["relations"] == [[1, "touching", 2]]


def test_the_twin_of_a_video_is_there_before_the_policy_answers(small, tmp_path):
    folder, asked = look_first(small, tmp_path, see, video=True)
    assert asked[0].ops == ("detect", "segment", "depth", "track") and len(asked[0].frames) == 3
    masks = [np.asarray(Image.open(path)) > 0 for path in sorted((folder / "masks").iterdir())]
    assert (masks[0] == corner().mask).all() and len(masks) == 3


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ('<answer>{"objects":[1]}</answer>', True), ('<think>a mug<answer>{"objects":[1]}</answer>', True),
        ('<answer>{"objects":[1]}', True), ('<think>a</think><answer>{"objects":[1]}', True),
        ('<answer>{"objects":[1', False),
        ('<answer>{"objects":[7]}</answer>', False), ('<think>a</think><answer>{"objects":[7]}</answer>', False),
        ("a mug", False),
    ],
)  # fmt: skip
def test_an_answer_without_a_thought_is_drawn_and_called_unsound(small, tmp_path, caplog, text, drawn):
    folder, _ = look_first(small, tmp_path, see, text=text)
    answer, mask = json.loads((folder / "answer.json").read_text()), np.asarray(Image.open(folder / "mask.png")) > 0
    assert not answer["sound"] and (mask == (corner().mask if drawn else False)).all()
    assert ("masks_by" in answer) == drawn and ("drawn all the same" in caplog.text) == drawn


def test_specialists_that_find_nothing(small, tmp_path):
    with pytest.raises(config.ConfigError, match=r"0\.png: the specialists found none of 2 kinds of things"):
        look_first(small, tmp_path, lambda *_: PerceivedScene(()))


@pytest.mark.parametrize("settings", [GIVEN, ASKING])
def test_without_a_detector_the_message_says_how_to_get_one(path, small, tmp_path, settings):
    with pytest.raises(config.ConfigError, match=r"specialists\.detector: .*--mode=fetch --out=weights` downloads"):
        ask(small, tiny.settings(path, **{**settings, "specialists__detector": ""}), tmp_path)


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
    with pytest.raises(config.ConfigError, match=r"constructor = 'policy': tiny .* sees no pictures.*specialists"):
        infer.run(tiny.settings(str(file)), tmp_path / "run", str(tmp_path / "frames/0.png"), "The Mug?")
