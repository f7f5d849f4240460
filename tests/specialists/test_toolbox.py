"""Which models the settings open, and messages for settings that cannot be used."""

import dataclasses
import types

import fake_specialists as fakes
import pytest

from configs import default
from dtr1_jax import config
from dtr1_jax.checked_fields import ConfigError
from dtr1_jax.models.weights.native import WeightsError
from dtr1_jax.specialists import catalogue, toolbox

SETTINGS = config.from_configdict(default.get_config()).specialists


@pytest.fixture
def opened(monkeypatch):
    """Replaces `load`; returns the list of the paths that were asked for."""
    models = {"ssd": fakes.Detector, "owl": fakes.OpenDetector, "mobile": fakes.Segmenter, "near": fakes.Depth}
    calls = []

    def load(path, mesh=None, dtype="float32"):
        calls.append((path, dtype))
        if path not in models:
            raise WeightsError(f"{path}: no such file or folder")
        return models[path]()

    monkeypatch.setattr(catalogue, "load", load)
    return calls


def test_the_models_of_the_settings(opened):
    c = dataclasses.replace(SETTINGS, detector="ssd", segmenter="sam:mobile", depth="near", dtype="bfloat16")
    tools = toolbox.open_toolbox(c)
    assert opened == [("ssd", "bfloat16"), ("mobile", "bfloat16"), ("near", "bfloat16")]
    assert tools.classes == fakes.Detector.classes and tools.grabcut is None
    assert tools.names["detector"] == "Detector of ssd" and tools.names["segmenter"] == "Segmenter of sam:mobile"
    assert toolbox.open_toolbox(dataclasses.replace(c, segmenter="mobile")).segmenter is not None
    tools.close()
    assert tools.detector.closed == tools.depth.closed == 1


def test_nothing_is_opened_by_default(opened):
    tools = toolbox.open_toolbox(dataclasses.replace(SETTINGS, segmenter=""))
    assert opened == [] and (tools.detector, tools.segmenter, tools.grabcut, tools.depth) == (None,) * 4
    assert tools.names["segmenter"] == "box" and tools.classes is None


def test_an_open_detector_has_no_classes(opened):
    assert toolbox.open_toolbox(dataclasses.replace(SETTINGS, detector="owl", segmenter="box")).classes is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"detector": "nowhere"}, r"config\.specialists\.detector: nowhere: no such file or folder"),
        ({"detector": "mobile"}, r"config\.specialists\.detector: expected a model that can detect, got mobile, which"),
        ({"segmenter": "sam:near"}, r"config\.specialists\.segmenter: .* can segment, got near, which can estimate"),
        ({"segmenter": "grabcutt"}, r"segmenter: grabcutt: no such file or folder; without a model: grabcut or box$"),
        ({"depth": "ssd"}, r"config\.specialists\.depth: .* can estimate, got ssd, which can detect"),
    ],
)
def test_settings_that_cannot_be_used(opened, changes, message):
    with pytest.raises(ConfigError, match=message):
        toolbox.open_toolbox(dataclasses.replace(SETTINGS, **{"segmenter": "box", **changes}))


def test_a_detector_without_names_is_refused(opened, monkeypatch):
    monkeypatch.setattr(fakes.Detector, "classes", ())
    monkeypatch.setattr(
        fakes.Detector, "spec", dataclasses.make_dataclass("Spec", [("classes", tuple, ())])(), raising=False
    )
    with pytest.raises(ConfigError, match="names no classes"):
        toolbox.open_toolbox(dataclasses.replace(SETTINGS, detector="ssd", segmenter="box"))


MEMORY = "memory of Video of sam2"


@pytest.mark.parametrize("tracker, expected", [("auto", MEMORY), ("memory", MEMORY), ("iou", "iou"), ("none", None)])
def test_the_memory_of_the_segmenter_tracks_where_it_has_one(opened, monkeypatch, tracker, expected):
    class Video(fakes.Segmenter):
        spec = types.SimpleNamespace(memory=object())

        def track(self, frames, prompts, remember=False):
            return remember

    load = catalogue.load
    monkeypatch.setattr(catalogue, "load", lambda path, **more: Video() if path == "sam2" else load(path, **more))
    tools = toolbox.open_toolbox(dataclasses.replace(SETTINGS, segmenter="sam2", tracker=tracker))
    assert tools.names.get("tracker") == expected
    assert (tools.track is not None) == (tracker in ("auto", "memory")) and (tools.link is None) == (tracker == "none")
    if tools.track:
        assert tools.track([], [])  # feature maps of frames are kept between its calls


@pytest.mark.parametrize("segmenter", ["mobile", "box", "grabcut"])
def test_a_segmenter_without_video_memory(opened, monkeypatch, segmenter):
    monkeypatch.setattr(fakes.Segmenter, "spec", types.SimpleNamespace(memory=None), raising=False)  # sam2 of pictures
    monkeypatch.setattr(fakes.Segmenter, "track", lambda *_: 1, raising=False)
    c = dataclasses.replace(SETTINGS, segmenter=segmenter)
    tools = toolbox.open_toolbox(c)
    assert tools.names["tracker"] == "iou" and tools.track is None and tools.link is not None
    tools.close()
    with pytest.raises(
        ConfigError, match=f"tracker = memory: expected a segmenter with a video memory, .* '{segmenter}'"
    ):
        toolbox.open_toolbox(dataclasses.replace(c, tracker="memory"))


def test_no_tracker_is_opened_if_none_is_asked_for(opened):
    c = dataclasses.replace(SETTINGS, segmenter="box", tracker="none")
    assert toolbox.open_toolbox(c).link is None
