"""SAM 2 on pictures equals transformers' Sam2Model, and each of its weights moves an output."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the reference model runs in torch")
import sam2_models  # noqa: E402

from dtr1_jax import mesh as meshes  # noqa: E402
from dtr1_jax.models.weights import hf_checkpoint  # noqa: E402
from dtr1_jax.specialists import batching  # noqa: E402
from dtr1_jax.specialists.sam2 import model, picture_input, two_way_decoder, weights  # noqa: E402
from dtr1_jax.specialists.sam2.prompt_tokens import NO_POINT, UNUSED  # noqa: E402
from dtr1_jax.specialists.sam2.spec import from_config  # noqa: E402


def forward(w, spec, rules, pixels, points, labels, masks, several):
    features = model.embed(w, spec, rules, pixels)
    found = model.segment(w, spec, features, points, labels, masks)
    return features, found, two_way_decoder.choose(spec.decoder, found, several)


@pytest.fixture(scope="module", params=["a", "b", "c"])
def pair(request, tmp_path_factory):
    """(reference, spec, weights, pictures as uint8 and as the reference takes them, our jitted function)."""
    reference = sam2_models.picture_model(request.param)
    folder = tmp_path_factory.mktemp("sam2")
    reference.save_pretrained(folder)
    checkpoint = hf_checkpoint.open_folder(folder)
    spec = from_config(checkpoint.config)
    w = weights.load(checkpoint, spec, meshes.replicated(batching.single_device_mesh()), jnp.float32)
    rules = picture_input.PictureInput(spec.image_size)
    pixels = np.random.default_rng(0).integers(0, 256, (2, spec.image_size, spec.image_size, 3), np.uint8)
    run = jax.jit(lambda w, *arrays: forward(w, spec, rules, *arrays))
    return reference, spec, w, pixels, sam2_models.pixel_values(pixels, rules), run


def prompts(spec, kind):
    """Arguments of the reference, and points and labels of ours, for 3 objects on each of 2 pictures."""
    random = np.random.default_rng(1)
    side, shape = spec.image_size, (2, 3)
    boxes = np.sort(random.uniform(0, side, (*shape, 2, 2)), axis=2).astype(np.float32)
    points = random.uniform(0, side, (*shape, 2, 2)).astype(np.float32)
    marks = random.integers(0, 2, (*shape, 2)).astype(np.int32)
    ours, labels, theirs = np.zeros((*shape, 8, 2), np.float32), np.full((*shape, 8), UNUSED, np.int32), {}
    count = 0
    if "points" in kind:
        theirs |= {"input_points": torch.tensor(points), "input_labels": torch.tensor(marks)}
        ours[:, :, :2], labels[:, :, :2], count = points, marks, 2
    if "boxes" in kind:
        theirs["input_boxes"] = torch.tensor(boxes.reshape(*shape, 4))
        ours[:, :, count : count + 2], labels[:, :, count : count + 2] = boxes, (2, 3)
        count += 2
    labels[:, :, count] = NO_POINT
    return theirs, ours, labels


@pytest.mark.parametrize("kind", ["boxes", "points", "points and boxes", "points and mask"])
def test_equals_sam2_model(pair, kind):
    """Feature maps, every candidate, expected IoUs and object scores; single masks with and without stable ones."""
    reference, spec, w, pixels, values, run = pair
    theirs, points, labels = prompts(spec, kind)
    logits = np.random.default_rng(2).normal(0, 4, (2, 1, spec.mask_size, spec.mask_size)).astype(np.float32)
    masks = model.MaskPrompts(np.repeat(logits, 3, axis=1), np.full((2, 3), "mask" in kind))
    if "mask" in kind:
        theirs["input_masks"] = torch.tensor(logits)
    with torch.no_grad():
        several, single = (reference(pixel_values=values, multimask_output=flag, **theirs) for flag in (True, False))
    features, found, chosen = run(w, pixels, points, labels, masks, np.zeros((2, 3), bool))
    coarse = features.coarse + w["no_memory_embedding"][0, 0]
    for ours, map_ in zip((features.fine, features.middle, coarse), several.image_embeddings):
        np.testing.assert_allclose(ours, map_.permute(0, 2, 3, 1), atol=1e-4, rtol=0)
    np.testing.assert_allclose(found.logits[:, :, 1:], several.pred_masks, atol=1e-3, rtol=0)
    np.testing.assert_allclose(found.ious[:, :, 1:], several.iou_scores, atol=1e-4, rtol=0)
    np.testing.assert_allclose(found.present, several.object_score_logits[..., 0], atol=1e-4, rtol=0)
    np.testing.assert_allclose(chosen.logits, single.pred_masks[:, :, 0], atol=1e-3, rtol=0)
    np.testing.assert_allclose(chosen.ious, single.iou_scores[..., 0], atol=1e-4, rtol=0)


def test_choice_by_hand():
    """The best of several; a stable single mask; an unstable one that is replaced by the best."""
    spec = from_config(sam2_models.PICTURES["a"] | {"model_type": "sam2"}).decoder
    logits = np.stack([np.full((2, 2), value) for value in (5.0, 1.0, 2.0, 3.0)])
    unstable = logits.copy()
    unstable[0] = [[5, 0.01], [-0.01, -5]]  # above +0.05: 1 pixel; above -0.05: 3 pixels
    found = two_way_decoder.Candidates(
        jnp.array([logits, logits, unstable])[None], jnp.array([[[0.9, 0.1, 0.8, 0.2]] * 3]),
        jnp.arange(4.0)[None, None, :, None].repeat(3, 1), jnp.zeros((1, 3)),
    )  # fmt: skip
    chosen = two_way_decoder.choose(spec, found, jnp.array([[True, False, False]]))
    assert chosen.logits[0, :, 0, 0].tolist() == [2.0, 5.0, 2.0]
    np.testing.assert_allclose(chosen.ious[0], [0.8, 0.9, 0.8])
    assert chosen.tokens[0, :, 0].tolist() == [2.0, 0.0, 0.0]


def test_padding_and_other_objects_change_nothing(pair):
    _, spec, w, pixels, _, run = pair
    _, points, labels = prompts(spec, "points and boxes")
    none = model.MaskPrompts(np.zeros((2, 3, spec.mask_size, spec.mask_size), np.float32), np.zeros((2, 3), bool))
    wanted = run(w, pixels, points, labels, none, np.zeros((2, 3), bool))[1]
    points[labels == UNUSED] = 17.0
    points[:, 1:], labels[:, 1:, 3] = points[:, 1:] + 3, UNUSED
    got = run(w, pixels, points, labels, none, np.zeros((2, 3), bool))[1]
    np.testing.assert_allclose(got.logits[:, 0], wanted.logits[:, 0], atol=1e-4)
    assert np.abs(np.asarray(got.logits - wanted.logits))[:, 1:].max() > 1e-2


def test_each_weight_moves_an_output(pair):
    _, spec, w, pixels, _, run = pair
    _, points, labels = prompts(spec, "points and boxes")
    logits = np.random.default_rng(2).normal(0, 4, (2, 3, spec.mask_size, spec.mask_size)).astype(np.float32)
    masks = model.MaskPrompts(logits, np.array([[True, False, True]] * 2))
    arrays = pixels, points, labels, masks, np.zeros((2, 3), bool)

    def outputs(values):
        found = run(values, *arrays)[1]
        return np.concatenate([np.ravel(x) for x in (found.logits, found.ious, found.present)])

    before = outputs(w)
    noise = np.random.default_rng(3)
    still = [
        name
        for name, value in w.items()
        if np.abs(outputs(w | {name: value + 0.1 * noise.normal(size=value.shape).astype(np.float32)}) - before).max()
        < 3e-5
    ]
    # A bias of keys adds the same number to all scores of a query, which softmax does not see.
    assert set(still) == {name for name in w if name.startswith("mask_decoder.") and name.endswith("k_proj.bias")}
