"""Requests become scenes: what each operation adds, what is computed once, and what happens where something fails."""

import dataclasses

import fake_specialists as fakes
import numpy as np
import pytest
from fake_specialists import picture

from configs import default
from dtr1_jax import config
from dtr1_jax.specialists import perceiver
from dtr1_jax.specialists.perceiver import SpecialistPerceiver
from dtr1_jax.specialists.toolbox import Toolbox
from dtr1_jax.twin.construct import Request
from dtr1_jax.types import Video

ALL = ("detect", "segment", "depth", "track")
SCENE = picture(("person", 10, 10, 30, 60), ("dog", 60, 40, 90, 60), ("dining table", 50, 60, 110, 75))
PEOPLE = Request(("people", "a dog", "table"), ALL[:3])
NAMES = {"detector": "boxes", "segmenter": "colours", "depth": "rows", "tracker": "iou"}


def settings(**changes):
    c = config.from_configdict(default.get_config()).specialists
    return dataclasses.replace(c, **changes)


def tools(**changes):
    made = {"detector": fakes.Detector(), "segmenter": fakes.Segmenter(), "depth": fakes.Depth(), "link": fakes.link}
    return Toolbox(**(made | changes), names=NAMES)


def look(visuals, requests, c=None, **changes):
    return SpecialistPerceiver(tools(**changes), c or settings()).perceive(visuals, requests)


def video(*frames, index=None):
    stacked = np.stack(frames)
    return Video(stacked, np.arange(len(frames)) if index is None else np.array(index), 10.0, 100)


def test_all_fields_of_a_picture():
    (scene,) = look([SCENE], [PEOPLE])
    assert scene.failures == () and scene.frames == ()
    assert [(x.id, x.label, x.depth, x.attributes) for x in scene.instances] == [
        (1, "person", 3, ("red", "large")), (2, "dog", 2, ("blue",)), (3, "dining table", 1, ("green",)),
    ]  # fmt: skip
    np.testing.assert_allclose(scene.instances[0].box, (10 / 120, 10 / 80, 30 / 120, 60 / 80))
    for one in scene.instances:
        np.testing.assert_array_equal(one.mask, (SCENE == fakes.COLOURS[one.label]).all(-1))
    assert (2, "on", 3) in scene.relations and (3, "in front of", 2) in scene.relations
    assert (1, "left of", 2) in scene.relations or (1, "left of", 3) in scene.relations
    facts = scene.provenance[1]
    assert facts["label"] == {"by": "boxes", "score": 0.9} and facts["mask"] == {"by": "colours", "score": 0.8}
    assert facts["attributes"] == {"by": "pixels", "shares": {"red": 1.0}} and facts["depth"]["by"] == "rows"


def test_what_is_not_asked_is_not_done():
    with_tools = tools()
    (scene,) = SpecialistPerceiver(with_tools, settings()).perceive([SCENE], [Request(("person",))])
    (one,) = scene.instances
    assert (one.label, one.depth, one.attributes) == ("person", 0, ()) and scene.failures == ()
    assert one.mask.sum() == 20 * 50 and scene.provenance[1]["mask"] == {"by": "box"}
    assert with_tools.segmenter.pictures == with_tools.depth.pictures == 0


def test_each_picture_and_operation_once():
    """Eight requests about two pictures, then the same again."""
    with_tools, other = tools(), picture(("dog", 5, 5, 40, 40))
    looks = SpecialistPerceiver(with_tools, settings())
    phrases = [("person",), ("dog",), ("person", "dog"), ("table",)]
    visuals = [SCENE, other] * 4
    requests = [Request(phrases[i // 2], ALL[:3]) for i in range(8)]
    first = looks.perceive(visuals, requests)
    assert with_tools.detector.pictures == 2
    assert with_tools.segmenter.pictures == 2 and with_tools.depth.pictures == 2
    second = looks.perceive([image.copy() for image in visuals], requests)
    assert (with_tools.detector.pictures, with_tools.segmenter.pictures, with_tools.depth.pictures) == (2, 2, 2)
    assert [[x.label for x in scene.instances] for scene in first] == [
        ["person"], [], ["dog"], ["dog"], ["person", "dog"], ["dog"], ["dining table"], [],
    ]  # fmt: skip
    assert [len(scene.instances) for scene in second] == [len(scene.instances) for scene in first]


def test_a_request_gets_the_same_alone_and_among_others():
    requests = [PEOPLE, Request(("dog",), ALL[:2]), Request(("car",), ALL[:1])]
    for detector in (fakes.Detector, fakes.OpenDetector):
        together = look([SCENE] * 3, requests, detector=detector())
        for request, scene in zip(requests, together):
            (alone,) = look([SCENE], [request], detector=detector())
            assert [(x.label, x.box, x.depth) for x in alone.instances] == [
                (x.label, x.box, x.depth) for x in scene.instances
            ]


def test_memory_is_bounded():
    looks = SpecialistPerceiver(tools(), settings(cache_mb=0))
    for _ in range(2):
        (scene,) = looks.perceive([SCENE], [PEOPLE])
        assert len(scene.instances) == 3 and looks.cache._bytes == 0


def test_phrases_without_a_class_are_named():
    (scene,) = look([SCENE], [Request(("kettle", "woman", "toaster"))])
    assert [x.label for x in scene.instances] == ["person"]
    assert scene.failures == ("detect: the detector has no class for kettle, toaster; it knows 4",)
    assert scene.detected and not look([SCENE], [Request(("kettle", "toaster"))])[0].detected


def test_an_open_detector_gets_the_phrases():
    (scene,) = look([SCENE], [Request(("dog", "kettle"))], detector=fakes.OpenDetector())
    assert [x.label for x in scene.instances] == ["dog"] and scene.failures == ()


def test_the_threshold_reaches_the_detector():
    assert len(look([SCENE], [PEOPLE], settings(threshold=0.89))[0].instances) == 3
    assert look([SCENE], [PEOPLE], settings(threshold=0.95))[0].instances == ()


def test_objects_that_were_found_twice_are_one():
    (scene,) = look([SCENE], [PEOPLE], detector=fakes.Detector(repeats=5))
    assert [x.label for x in scene.instances] == ["person", "dog", "dining table"] and scene.failures == ()


def test_most_objects():
    (scene,) = look([SCENE], [PEOPLE], settings(max_objects=2))
    assert len(scene.instances) == 2
    assert scene.failures == ("detect: 1 objects with the lowest scores were left out (specialists.max_objects = 2)",)


def test_five_hundred_detections():
    class Many(fakes.Detector):
        def detect(self, images, threshold=0.5):
            boxes = np.random.default_rng(0).uniform(-0.5, 1.5, (500, 4)).astype(np.float32)
            boxes[::50] = np.nan
            scores, labels = np.linspace(1, 0.5, 500, dtype=np.float32), ("person", "dog") * 250
            return [fakes.Detections(boxes, scores, labels) for _ in images]

    (scene,) = look([SCENE], [PEOPLE], detector=Many())
    assert len(scene.instances) <= 40 and any("left out" in text for text in scene.failures)
    assert all(0 <= x.box[0] < x.box[2] <= 1 and 0 <= x.box[1] < x.box[3] <= 1 for x in scene.instances)


def test_nothing_there():
    blank = picture()
    (scene,) = look([blank], [PEOPLE])
    assert scene == perceiver.PerceivedScene(())


def test_no_detector():
    (scene,) = look([SCENE], [PEOPLE], detector=None)
    assert scene.instances == () and scene.failures[0].startswith("detect: there is no detector")
    assert not scene.detected


@pytest.mark.parametrize("role", ["detector", "segmenter", "depth"])
def test_a_picture_on_which_a_specialist_fails_costs_that_picture_alone(role):
    small = picture(("dog", 5, 5, 40, 40), size=(60, 70))
    broken = {"detector": fakes.Detector, "segmenter": fakes.Segmenter, "depth": fakes.Depth}[role](broken={(60, 70)})
    good, bad = look([SCENE, small], [PEOPLE, PEOPLE], **{role: broken})
    assert len(good.instances) == 3 and good.failures == ()
    assert bad.detected == (role != "detector") and good.detected
    assert len(bad.failures) == 1 and "RuntimeError: the model broke" in bad.failures[0]
    if role == "segmenter":
        assert "1 objects have the filled box" in bad.failures[0] and bad.provenance[1]["mask"] == {"by": "box"}
    else:
        assert [x.depth for x in bad.instances] == ([] if role == "detector" else [0])


@pytest.mark.parametrize("role", ["segmenter", "depth"])
def test_results_of_another_size_are_failures(role):
    class Wrong(fakes.Segmenter, fakes.Depth):
        def segment(self, images, boxes):
            return [fakes.Masks(np.ones((1, 3, 3), bool), np.ones(1))] * len(images)

        def estimate(self, images):
            return [fakes.DepthMap(np.full(image.shape[:2], np.nan, np.float32)) for image in images]

    (scene,) = look([SCENE], [PEOPLE], **{role: Wrong()})
    assert len(scene.instances) == 3 and any("ValueError: expected" in text for text in scene.failures)


def test_bad_pictures_are_failures():
    visuals = [np.zeros((4, 4, 7), np.uint8), np.zeros((0, 5, 3), np.uint8), np.full((5, 5), np.inf), None, SCENE]
    *bad, good = look(visuals, [PEOPLE] * 5)
    assert all(scene.instances == () and scene.failures[0].startswith("picture: ") for scene in bad)
    assert not any(scene.detected for scene in bad) and good.detected
    assert len(good.instances) == 3


def test_gray_and_tiny_and_huge_pictures():
    huge = np.kron(SCENE[:, :, :1], np.ones((40, 40, 1), np.uint8)).repeat(3, axis=2)[:3000, :4000]
    gray, tiny = np.full((50, 40), 9, np.uint8), np.zeros((1, 1, 3), np.uint8)
    scenes = look([gray, tiny, huge], [PEOPLE] * 3)
    assert all(scene.failures == () for scene in scenes)
    wide = np.zeros((100, 10000, 3), np.uint8)
    wide[20:60, 2000:4000] = fakes.COLOURS["person"]
    (scene,) = look([wide], [PEOPLE], settings(max_pixels=10_000))
    (one,) = scene.instances
    assert one.mask.size <= 10_000 and abs(one.mask.mean() - 0.08) < 0.02
    np.testing.assert_allclose(one.box, (0.2, 0.2, 0.4, 0.6), atol=0.1)


def test_a_video():
    frames = [picture(("person", 10 + 10 * t, 10, 30 + 10 * t, 60), ("dog", 100, 60, 110, 70)) for t in range(4)]
    frames[1] = picture(("dog", 100, 60, 110, 70))
    request = Request(("person", "dog"), ALL, (0, 4, 9))
    (scene,) = look([video(*frames, index=[0, 4, 7, 9])], [request])
    assert scene.failures == () and scene.frames == (0, 4, 9)
    person, dog = scene.instances
    assert (person.label, dog.label) == ("person", "dog") and person.masks.shape == (3, 80, 120)
    np.testing.assert_allclose(person.boxes[2], (40 / 120, 10 / 80, 60 / 120, 60 / 80), atol=1e-6)
    assert not person.boxes[1].any() and not person.masks[1].any()
    np.testing.assert_allclose(person.velocity, (15 / 120, 0), atol=1e-6)
    np.testing.assert_allclose(dog.velocity, (0, 0), atol=1e-6)
    assert scene.provenance[1]["track"] == {"by": "iou", "frames": 2}
    assert all(words != "right of" for _, words, _ in scene.relations)


def test_the_motion_of_the_camera_is_taken_out():
    """The window onto a textured scene moves; the dog stands still in the scene and moves in the picture."""
    rng = np.random.default_rng(0)
    world = np.kron(rng.integers(60, 200, (40, 60, 1)), np.ones((5, 5, 1))).astype(np.uint8).repeat(3, 2)
    world[90:110, 140:170] = fakes.COLOURS["dog"]
    frames = [world[20:140, 60 + 6 * t : 220 + 6 * t] for t in range(4)]
    (scene,) = look([video(*frames)], [Request(("dog",), ALL, (0, 1, 2, 3))])
    (dog,) = scene.instances
    assert dog.boxes[3][0] - dog.boxes[0][0] == pytest.approx(-18 / 160, abs=1e-6)
    assert np.abs(dog.velocity).max() < 2e-3 and scene.failures == ()


def test_without_tracking_each_frame_has_its_own_objects():
    frames = [picture(("person", 10 + 10 * t, 10, 30 + 10 * t, 60)) for t in range(3)]
    (scene,) = look([video(*frames)], [Request(("person",), ALL[:2], (0, 1, 2))])
    assert [x.boxes.any(1).tolist() for x in scene.instances] == np.eye(3, dtype=bool).tolist()
    (scene,) = look([video(*frames)], [Request(("person",), ALL, (0, 1, 2))], link=None)
    assert len(scene.instances) == 3 and scene.failures[0].startswith("track: there is no tracker")


def test_videos_of_different_sizes_and_frames_that_were_not_shown():
    one = video(*[picture(("person", 5, 5, 25, 40), size=(50, 60))] * 2)
    other = video(*[picture(("dog", 5, 5, 25, 40), size=(70, 40))] * 3, index=[3, 5, 8])
    requests = [Request(("person",), ALL, (0, 1)), Request(("dog",), ALL, (3, 6, 8))]
    first, second = look([one, other], requests)
    assert first.instances[0].masks.shape == (2, 50, 60) and second.instances[0].masks.shape == (2, 70, 40)
    assert second.frames == (3, 8) and second.failures[0].startswith("frames: [6] were not shown")


def test_a_tracker_that_fails_is_named():
    def broken(*_, **__):
        raise ValueError("no")

    (scene,) = look([video(SCENE, SCENE)], [Request(("dog",), ALL, (0, 1))], link=broken)
    assert len(scene.instances) == 2 and scene.failures == ("track: ValueError: no",)


DOGS = [picture(("dog", 10 + 10 * t, 10, 40 + 10 * t, 40), ("person", 90, 40, 110, 70)) for t in range(4)]


class Blinking(fakes.Detector):
    """Sees the dog in the second frame alone."""

    def _one(self, image, threshold, labels=None):
        found = super()._one(image, threshold, labels)
        return found if (image == DOGS[1]).all() else super()._one(picture(("person", 90, 40, 110, 70)), threshold)


def test_a_memory_finds_the_objects_that_the_detector_overlooked():
    request = Request(("dog", "person"), ("detect", "segment", "track"), (0, 1, 2, 3))
    (scene,) = look([video(*DOGS)], [request], detector=Blinking(), track=fakes.Follower())
    dog, person = sorted(scene.instances, key=lambda x: x.label)
    for one in (dog, person):
        np.testing.assert_array_equal(one.masks, [(f == fakes.COLOURS[one.label]).all(-1) for f in DOGS])
    assert all(failure.startswith("camera: ") for failure in scene.failures)  # the background is flat
    assert scene.provenance[dog.id]["track"]["frames"] == 4
    assert scene.provenance[dog.id]["mask"] == {"by": "iou", "score": 0.7}  # the name of the tracker here
    (linked,) = look([video(*DOGS)], [request], detector=Blinking())
    assert min(one.boxes.any(1).sum() for one in linked.instances) == 1


def test_a_memory_makes_no_masks_where_none_are_asked_for():
    request = Request(("dog", "person"), ("detect", "track"), (0, 1, 2, 3))
    (scene,) = look([video(*DOGS)], [request], detector=Blinking(), track=fakes.Follower())
    assert [one.boxes.any(1).sum() for one in scene.instances] == [4, 4]
    assert {facts["mask"]["by"] for facts in scene.provenance.values()} == {"box"}


def test_where_the_memory_fails_boxes_are_linked():
    def broken(frames, prompts):
        raise MemoryError("no room")

    request = Request(("dog",), ALL, (0, 1, 2, 3))
    (scene,) = look([video(*DOGS)], [request], track=broken)
    (wanted,) = look([video(*DOGS)], [request])
    assert scene.failures[0] == "track: the memory failed, so boxes were linked by their overlap: MemoryError: no room"
    assert scene.failures[1:] == wanted.failures
    assert [x.boxes.tolist() for x in scene.instances] == [x.boxes.tolist() for x in wanted.instances]


def test_detections_outside_all_tracks_keep_a_row():
    (scene,) = look([video(SCENE, SCENE)], [Request(("dog",), ALL, (0, 1))], link=lambda *_, **__: [])
    assert len(scene.instances) == 2


def test_grabcut_and_box_need_no_weights():
    c = config.from_configdict(default.get_config())
    for name in ("box", "grabcut"):
        with perceiver.open_perceiver(dataclasses.replace(c, specialists=settings(segmenter=name))) as looks:
            looks._tools = dataclasses.replace(looks._tools, detector=fakes.Detector())
            looks.classes = fakes.Detector.classes
            cut = picture(("person", 10, 10, 70, 70))
            cut[40:70, 40:70] = 128
            (scene,) = looks.perceive([cut], [Request(("person",), ALL[:2])])
            (person,) = scene.instances
            assert scene.provenance[1]["mask"] == {"by": name} and f"segmenter: {name}" in looks.description
            truth = (cut == fakes.COLOURS["person"]).all(-1)
            overlap = (person.mask & truth).sum() / (person.mask | truth).sum()
            assert overlap == pytest.approx(0.75) if name == "box" else overlap > 0.95
            assert person.attributes == (() if name == "box" else ("red", "large"))


def test_closing_ends_the_models():
    with_tools = tools()
    with SpecialistPerceiver(with_tools, settings()):
        pass
    assert with_tools.detector.closed == with_tools.segmenter.closed == with_tools.depth.closed == 1


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("merge_iou", 0.9, lambda scene: len(scene.instances)),
        ("depth_tie", 0.9, lambda scene: [one.depth for one in scene.instances]),
        ("colour_share", 1.0, lambda scene: [one.attributes for one in scene.instances]),
    ],
)
def test_settings_move_the_scene(name, value, read):
    class Shifted(fakes.Detector):
        """Sees each object twice, the second time with a box of three quarters of its height."""

        def _one(self, image, threshold, labels=None):
            found = super()._one(image, threshold, labels)
            low = found.boxes.copy()
            low[:, 3] -= 0.25 * (low[:, 3] - low[:, 1])
            scores = np.concatenate([found.scores, found.scores - 0.1])
            return fakes.Detections(np.concatenate([found.boxes, low]), scores, found.labels * 2)

    mixed = SCENE.copy()
    mixed[12:20, 12:28] = 0
    ops = ALL[:1] if name == "merge_iou" else ALL[:3]
    request = Request(("person", "dog", "table"), ops)
    changes = {} if name == "merge_iou" else {"segmenter": type("Boxes", (), {"segment": staticmethod(filled)})()}
    detector = Shifted() if name == "merge_iou" else fakes.Detector()
    (before,) = look([mixed], [request], detector=detector, **changes)
    (after,) = look([mixed], [request], settings(**{name: value}), detector=detector, **changes)
    assert read(before) != read(after)


def filled(images, boxes):
    """The filled boxes, as a model that is no segmenter would give them."""
    shapes = [image.shape for image in images]
    return [
        fakes.Masks(np.array([perceiver.assembly.box_mask(np.zeros(shape), box) for box in rows]), np.ones(len(rows)))
        for shape, rows in zip(shapes, boxes)
    ]


def test_the_gap_reaches_the_tracker():
    gaps = []

    def link(frames, detections, gap, high, low):
        gaps.append(gap)
        return fakes.link(frames, detections, gap, high, low)

    look([video(SCENE, SCENE)], [Request(("dog",), ALL, (0, 1))], settings(gap=7), link=link)
    assert gaps == [7]
