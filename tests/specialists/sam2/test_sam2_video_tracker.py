"""Tracking equals transformers' Sam2VideoModel, and neither windows nor groups of objects change it."""

import functools
import types

import jax
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the reference model runs in torch")
import sam2_models  # noqa: E402

from dtr1_jax import config, specialists  # noqa: E402
from dtr1_jax import mesh as meshes  # noqa: E402
from dtr1_jax.specialists import memory_rows  # noqa: E402
from dtr1_jax.specialists.sam2 import Prompt  # noqa: E402
from dtr1_jax.specialists.sightings import Sighting  # noqa: E402

BOX = np.array([0.1, 0.2, 0.6, 0.7], np.float32)
CLICKS = np.array([[0.3, 0.4], [0.8, 0.9]], np.float32)
CLICK = np.array([[0.5, 0.25]], np.float32)


def mask_of(side):
    mask = np.zeros((side, side), bool)
    mask[side // 4 : side // 2, side // 8 : side // 2] = True
    return mask


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """size -> (reference, ours, frames), made when it is first asked for."""
    made = {}

    def get(size):
        if size not in made:
            reference = sam2_models.video_model(size)
            folder = tmp_path_factory.mktemp(size)
            reference.save_pretrained(folder)
            made[size] = reference, specialists.load(folder, batch=2), sam2_models.moving(size)
        return made[size]

    return get


def scenario(size, side):
    """Prompts of ours, and {frame: [prompts of the reference before and after the frame is tracked]}."""
    box, clicks, click = (BOX.reshape(2, 2) * side, [2, 3]), (CLICKS * side, [1, 0]), (CLICK * side, [1])
    if size == "a":  # a box and two clicks, then a correction by a click
        ours = [Prompt(0, 1, box=BOX), Prompt(0, 2, points=CLICKS, labels=[1, 0]), Prompt(3, 2, points=CLICK)]
        return ours, {0: [{1: box, 2: clicks}, {}], 3: [{}, {2: click}]}
    if size == "b":  # a given mask and one click, then a correction by a box and a click
        ours = [Prompt(0, 1, mask=mask_of(side)), Prompt(0, 2, points=CLICK), Prompt(3, 1, box=BOX, points=CLICK)]
        both = np.concatenate([box[0], click[0]]), [2, 3, 1]
        return ours, {0: [{1: mask_of(side), 2: click}, {}], 3: [{}, {1: both}]}
    # Two clicks and a box; object 1 starts anew on frame 2, and a mask corrects object 2 on frame 3.
    ours = [
        Prompt(0, 1, points=CLICKS, labels=[1, 0]), Prompt(0, 2, box=BOX), Prompt(2, 1, points=CLICK, restart=True),
        Prompt(3, 2, mask=mask_of(side)),
    ]  # fmt: skip
    return ours, {0: [{1: clicks, 2: box}, {}], 2: [{1: click}, {}], 3: [{}, {2: mask_of(side)}]}


def reference_outputs(model, frames, asked, rules):
    state = sam2_models.session(frames, rules)
    outputs = []
    with torch.inference_mode():
        for frame in range(len(frames)):
            before, after = asked.get(frame, [{}, {}])
            for prompts in [before, after]:
                if prompts or prompts is before:
                    sam2_models.ask(state, frame, prompts)
                    out = model(state, frame_idx=frame)
            outputs.append((out.pred_masks[:, 0].numpy(), out.object_score_logits[:, 0].numpy()))
    return outputs


@pytest.mark.parametrize("size", ["a", "b", "c"])
def test_equals_sam2_video_model(models, size):
    """6 frames, 2 objects, frame 4 is black; object scores have both signs, so memories of hidden objects are read."""
    reference, sam, frames = models(size)
    ours, asked = scenario(size, sam.spec.image_size)
    wanted = reference_outputs(reference, frames, asked, sam._rules)
    got = list(sam.track(frames, ours, feed_previous=False))
    assert len(got) == 6 and got[3].frame == 3 and set(got[0].objects) == {1, 2}
    order = [got[0].objects.index(name) for name in (1, 2)]
    for out, (logits, present) in zip(got, wanted):
        np.testing.assert_allclose(out.logits[order], logits, atol=1e-3, rtol=0)
        np.testing.assert_allclose(out.present[order], present, atol=1e-4, rtol=0)
    scores = np.array([out.present for out in got])
    assert (scores > 0).any() and (scores[:-1] <= 0).any()


def test_previous_mask_goes_into_a_correction(models, monkeypatch):
    """The reference can take the logits of an earlier mask; its forward does not pass them, so the test does."""
    reference, sam, frames = models("a")
    ours, asked = scenario("a", sam.spec.image_size)
    seen, run = {}, reference._run_single_frame_inference

    def with_previous(self, **arguments):
        key = arguments["obj_idx"], arguments["frame_idx"]
        corrected = arguments["point_inputs"] is not None and not arguments["is_init_cond_frame"]
        out = run(**arguments, prev_sam_mask_logits=seen[key].clamp(-32, 32) if corrected else None)
        seen[key] = out["pred_masks"]
        return out

    monkeypatch.setattr(reference, "_run_single_frame_inference", types.MethodType(with_previous, reference))
    wanted = reference_outputs(reference, frames, asked, sam._rules)
    got = list(sam.track(frames, ours))
    for out, (logits, present) in zip(got, wanted):
        np.testing.assert_allclose(out.logits, logits, atol=1e-3, rtol=0)
        np.testing.assert_allclose(out.present, present, atol=1e-4, rtol=0)
    without = list(sam.track(frames, ours, feed_previous=False))
    assert np.abs(got[3].present - without[3].present).max() > 1e-3


def same(got, wanted, atol=1e-4):
    assert len(got) == len(wanted)
    for a, b in zip(got, wanted):
        np.testing.assert_allclose(a.logits, b.logits, atol=atol * 10)
        np.testing.assert_allclose(a.present, b.present, atol=atol)


def test_windows_groups_and_generators_change_nothing(models, monkeypatch):
    _, sam, frames = models("a")
    ours, _ = scenario("a", sam.spec.image_size)
    wanted = list(sam.track(frames, ours, feed_previous=False))
    monkeypatch.setattr(sam, "_batch", 1)
    monkeypatch.setattr(sam, "_objects", 1)
    same(list(sam.track(frames, ours, feed_previous=False)), wanted)


def test_frames_that_are_remembered_are_encoded_once(models, monkeypatch):
    _, sam, frames = models("a")
    ours, _ = scenario("a", sam.spec.image_size)
    wanted, encoded, encode = list(sam.track(frames, ours)), [], sam._encode

    def counted(images):
        encoded.append(len(images))
        return encode(images)

    monkeypatch.setattr(sam, "_encode", counted)
    same(list(sam.track(frames, ours, remember=True)), wanted)
    assert sum(encoded) == len(frames)
    same(list(sam.track(frames, ours, remember=True)), wanted)
    backwards = [Prompt(0, "dog", box=BOX)]
    same(list(sam.track(frames[::-1], backwards, remember=True)), list(sam.track(frames[::-1], backwards)))
    assert sum(encoded) == 2 * len(frames)  # the last call, which does not look at the cache


def test_objects_of_a_video_by_the_real_memory(models):
    """memory_rows.rows: the first and the third frame have a sighting; the masks are those of `track` both ways."""
    _, sam, frames = models("a")
    side = frames.shape[1]
    boxes = np.array([[0.1, 0.2, 0.6, 0.7], [0.5, 0.1, 0.9, 0.4]])
    seen = [[Sighting("dog", 0.9, boxes[0])], [], [Sighting("cat", 0.8, boxes[1])], [], [], []]
    rows = memory_rows.rows(seen, list(frames), functools.partial(sam.track, remember=True), 0.6, "memory")
    dog = list(sam.track(frames, [Prompt(0, 0, box=boxes[0])]))
    later = list(sam.track(frames[2:], [Prompt(0, 0, box=boxes[1])]))
    cat = [*reversed(list(sam.track(frames[2::-1], [Prompt(0, 0, box=boxes[1])]))[1:]), *later]
    assert len(rows) == 2
    for row, tracked, first in zip(rows, (dog, cat), (0, 2)):
        for t, (one, at) in enumerate(zip(row, tracked, strict=True)):
            if at.visible[0] and at.masks[0].any():
                assert one.label == seen[first][0].label and one.mask.shape == (side, side)
                assert (one.mask == at.masks[0]).mean() > 0.999
            else:
                assert one is (seen[first][0] if t == first else None)
        assert any(one is not None and one.mask is not None for one in row)


def test_a_long_video_is_streamed(models):
    """Frames are pulled a window at a time, and a result is there before the next window is pulled."""
    _, sam, frames = models("a")
    pulled = []

    def stream():
        for i in range(23):
            pulled.append(i)
            yield frames[i % 4]

    count = 0
    for out in sam.track(stream(), [Prompt(0, "dog", box=BOX), Prompt(0, "cat", points=CLICKS)]):
        assert len(pulled) <= out.frame + sam._batch
        assert out.objects == ("dog", "cat") and out.masks.shape == (2, *frames.shape[1:3])
        count += 1
    assert count == 23


def test_sharded_and_bfloat16_are_near(models, tmp_path):
    """Objects cut over two devices; and bfloat16, with object scores (which range over 8) within 0.5."""
    reference, sam, frames = models("c")
    reference.save_pretrained(tmp_path)
    ours = [Prompt(0, 1, points=CLICKS, labels=[1, 0]), Prompt(0, 2, box=BOX)]
    wanted = list(sam.track(frames, ours))
    if len(jax.devices()) > 1:
        device_mesh = meshes.make(config.Mesh(data=2, fsdp=1, tensor=1), jax.devices()[:2])
        same(list(specialists.load(tmp_path, mesh=device_mesh, batch=1).track(frames, ours)), wanted, 3e-4)
    half = list(specialists.load(tmp_path, dtype="bfloat16", batch=2).track(frames, ours))
    got, exact = (np.array([out.present for out in outs]) for outs in (half, wanted))
    assert np.abs(got - exact).max() < 0.5


def test_an_object_is_absent_before_its_first_prompt(models):
    _, sam, frames = models("a")
    ours = [Prompt(2, 2, points=CLICK), Prompt(1, 1, box=BOX)]
    got = list(sam.track(frames, ours))
    assert got[0].objects == (1, 2) and not got[0].masks.any() and not got[0].visible.any()
    assert (got[1].logits[1] == -1024).all() and got[1].scores[1] == 0 and got[1].scores[0] > 0
    alone = list(sam.track(frames[1:], [Prompt(0, 1, box=BOX)]))
    np.testing.assert_allclose(got[1].logits[0], alone[0].logits[0], atol=1e-3)


def test_corrections_can_be_remembered_for_good(models):
    """With a correction as conditioning frame the next frame reads it as such, and the result moves."""
    _, sam, frames = models("a")
    ours, _ = scenario("a", sam.spec.image_size)
    short, long = (
        list(sam.track(frames, ours, corrections_condition=flag, feed_previous=False)) for flag in (False, True)
    )
    np.testing.assert_allclose(short[3].present, long[3].present, atol=1e-4)
    assert np.abs(short[4].present - long[4].present).max() > 1e-3


def test_each_weight_of_the_memory_moves_an_output(models, monkeypatch):
    """Object 2 is hidden on frame 0: its given mask is empty."""
    _, sam, frames = models("a")
    side = sam.spec.image_size
    empty = np.zeros((side, side), bool)
    ours = [Prompt(0, 1, mask=mask_of(side)), Prompt(0, 2, mask=empty), Prompt(2, 2, box=BOX)]
    params = sam._params
    names = [n for n in params if n.startswith(("memory_", "mask_down", "object_", "temporal_", "no_obj", "occlusion"))]
    assert len(names) > 60

    def outputs(values):
        monkeypatch.setattr(sam, "_params", values)
        outs = sam.track(frames[:3], ours, feed_previous=False)
        return np.concatenate([np.ravel(x) for out in outs for x in (out.logits, out.present)])

    before, noise = outputs(params), np.random.default_rng(0)
    still = []
    for name in names:
        moved = params[name] + 0.3 * noise.normal(size=params[name].shape).astype(np.float32)
        if np.abs(outputs(params | {name: moved}) - before).max() < 1e-5:
            still.append(name)
    assert not still


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "at least one Prompt"),
        ([Prompt(9, 1, box=BOX)], "frame 9: the video has 6 frames"),
        ([Prompt(0, 1)], "object 1 on frame 0: expected a box, points or a mask, got none"),
        ([Prompt(0, 1, box=BOX), Prompt(0, 1, points=CLICK)], "expected one prompt, got two"),
        ([Prompt(0, 1, box=BOX, mask=np.ones((4, 4), bool))], "got both"),
        ([Prompt(0, "a", box=[0.5, 0.5, 0.2, 0.9])], "object 'a' on frame 0: expected a box"),
        ([Prompt(0, 1, points=[[1.5, 0.2]])], "expected points"),
        ([Prompt(0, 1, mask=np.ones((4, 4)))], "expected mask bool"),
    ],
)
def test_bad_prompts_are_refused_at_once(models, prompts, message):
    _, sam, frames = models("a")
    with pytest.raises(ValueError, match=message):
        sam.track(frames, prompts)


def test_bad_frames_are_refused(models):
    _, sam, frames = models("a")
    with pytest.raises(ValueError, match="frame 1: expected 64 x 64 pixels as frame 0 has, got 32 x 64"):
        list(sam.track([frames[0], frames[1][:32]], [Prompt(0, 1, box=BOX)]))
    with pytest.raises(ValueError, match="a prompt is on frame 3, but the video has 2 frames"):
        list(sam.track(iter(frames[:2]), [Prompt(3, 1, box=BOX)]))
