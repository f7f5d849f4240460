"""The memory that is planned from configurations is that of the loaded weights."""

import json

import jax
import pytest
from plan_settings import settings

from configs import seg
from dtr1_jax import config, specialists
from dtr1_jax.models.weights.native import WeightsError
from dtr1_jax.modes import plan
from dtr1_jax.specialists.needs import needs

torch = pytest.importorskip("torch", reason="torch makes the small models; pip install -e '.[parity]'")
FAMILIES = ("sam", "sam2_video", "owlv2", "depth_anything", "dinov2")


def save(family, folder):
    """A small model of transformers in a folder."""
    import depth_models
    import sam2_models
    import sam_models
    import small_owlv2

    if family == "sam":
        sam_models.save(sam_models.build("windows"), folder)
    elif family == "sam2_video":
        sam2_models.video_model("a").save_pretrained(folder)
    elif family == "owlv2":
        small_owlv2.save(small_owlv2.torch_model("base"), folder)
    elif family == "depth_anything":
        depth_models.depth_anything(next(iter(depth_models.HEADS)), folder)
    else:
        depth_models.backbone(next(iter(depth_models.BACKBONES)), folder)
        (folder / "preprocessor_config.json").write_text("{}")
    return folder


@pytest.fixture(scope="module", params=FAMILIES)
def saved(request, tmp_path_factory):
    return request.param, save(request.param, tmp_path_factory.mktemp(request.param))


def test_the_weights_are_those_that_are_loaded(saved):
    family, folder = saved
    model = specialists.load(folder)
    params = model.params if hasattr(model, "params") else model._params
    loaded = sum(x.nbytes for x in jax.tree.leaves(params))
    found = needs(folder)
    assert found.model == family and found.weights == found.parameters * 4
    assert abs(found.weights - loaded) <= 0.002 * loaded  # the loader may add small tables of its own
    assert needs(folder, "bfloat16").weights == found.weights // 2


def test_more_pictures_take_more(saved):
    _, folder = saved
    one, two = needs(folder), needs(folder, pictures=2)
    assert 0 < one.activations < two.activations < 3 * one.activations and one.weights == two.weights


def test_a_model_in_its_own_process(tmp_path):
    (tmp_path / "depth.onnx").write_bytes(bytes(1000))
    found = needs(tmp_path / "depth.onnx")
    assert (found.model, found.weights, found.activations) == ("onnx", 1000, None)


def test_other_models_are_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(WeightsError, match="model_type 'llama' is no specialist"):
        needs(tmp_path)


def test_the_plan_counts_the_segmenter(tmp_path):
    folder = save("sam", tmp_path / "sam")
    plans = []
    for segmenter in ("grabcut", f"sam:{folder}"):
        c = settings("tiny", reward_segmenter=segmenter)
        plans.append(plan.plan(c, plan.policy_spec(c)))
    without, with_sam = plans
    assert without["scoring"] == {} and without["specialists"] == {}
    assert with_sam["resident"]["specialists"] == needs(folder).weights
    assert with_sam["scoring"] == {"specialists": needs(folder).activations}
    assert with_sam["specialists"]["reward.segmenter"]["model"] == "sam"
    assert json.loads(json.dumps(with_sam)) == with_sam
    c = settings("tiny", reward_segmenter=f"sam:{folder}")
    assert "specialists" in plan.run(c)
    with pytest.raises(config.ConfigError, match=r"config\.reward\.segmenter = 'sam:.*none': .*no such file"):
        plan.plan(settings("tiny", reward_segmenter=f"sam:{tmp_path}/none"), plan.policy_spec(c))


def test_the_plan_counts_the_specialists_of_the_constructor(tmp_path):
    folder = save("sam", tmp_path / "sam")
    values = seg.get_config("tiny")
    values.mesh.data = 1
    values.policy.constructor, values.policy.prompt = "specialists", "full"
    values.specialists.segmenter, values.specialists.detector = f"sam:{folder}", str(tmp_path / "detector.onnx")
    (tmp_path / "detector.onnx").write_bytes(bytes(1000))
    c = config.from_configdict(values)
    found = plan.plan(c, plan.policy_spec(c))
    assert set(found["specialists"]) == {"specialists.segmenter", "specialists.detector"}
    assert found["resident"]["specialists"] == needs(folder).weights + 1000
    assert found["scoring"] == {"specialists": needs(folder).activations}
