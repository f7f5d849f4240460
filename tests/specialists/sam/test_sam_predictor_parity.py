"""SAM equals SamModel of transformers 5.23 with its own processor: embeddings, IoU, logits and masks, odd sizes."""

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the reference model needs torch: pip install -e '.[parity]'")

import jax  # noqa: E402
import sam_models  # noqa: E402

from dtr1_jax import config, mesh, specialists  # noqa: E402

RNG = np.random.default_rng(0)
SIZES = [(37, 61), (64, 33), (129, 50)]
IMAGES = [RNG.integers(0, 256, (h, w, 3), np.uint8) for h, w in SIZES]
BOXES = [np.array([[0.1, 0.2, 0.7, 0.9], [0.0, 0.0, 1.0, 1.0], [0.33, 0.41, 0.52, 0.6]][i : i + 2]) for i in (0, 1, 0)]
POINTS = [RNG.uniform(0, 1, (2, 3, 2)) for _ in IMAGES]
LABELS = [RNG.integers(0, 2, (2, 3)) for _ in IMAGES]


@pytest.fixture(scope="module", params=sam_models.CONFIGS)
def pair(request, tmp_path_factory):
    model = sam_models.build(request.param)
    folder = sam_models.save(model, tmp_path_factory.mktemp(request.param))
    return model, specialists.load(folder), folder


def compare(model, sam, multimask, **prompts):
    """Compares the answers to prompts given by picture; for candidates, the one with the best expected IoU."""
    found = sam.segment(IMAGES, multimask=multimask, **prompts)
    spread = 0.0
    for i, masks in enumerate(found):
        logits, iou, large = sam_models.answers(
            model, IMAGES[i], multimask, **{name: values[i] for name, values in prompts.items()}
        )
        choice = np.arange(len(iou)), iou.argmax(1)
        np.testing.assert_allclose(masks.scores, iou[choice], atol=1e-4)
        np.testing.assert_allclose(masks.logits, logits[choice], atol=1e-3)
        spread = max(spread, logits.std())
        differs = masks.masks != large[choice]
        assert differs.mean() < 1e-3
        assert masks.masks.shape == (len(iou), *IMAGES[i].shape[:2])
    assert spread > 0.1  # so that the tolerances say something


def test_embeddings(pair):
    model, sam, _ = pair
    own = sam_models.processor(model)
    for image, cells in zip(IMAGES, sam.embed(IMAGES)):
        with torch.no_grad():
            expected = model.get_image_embeddings(own(image, return_tensors="pt")["pixel_values"])[0].numpy()
        np.testing.assert_allclose(cells.T.reshape(expected.shape), expected, atol=1e-4)
        assert expected.std() > 0.1


@pytest.mark.parametrize("multimask", [False, True])
def test_boxes(pair, multimask):
    compare(*pair[:2], multimask, boxes=BOXES)


def test_points(pair):
    compare(*pair[:2], True, points=POINTS, labels=LABELS)


def test_points_with_boxes(pair):
    compare(*pair[:2], False, points=POINTS, labels=LABELS, boxes=BOXES)


def test_masks_refine(pair):
    """One object a picture, because SamModel takes one mask for all objects of a picture."""
    model, sam, _ = pair
    masks = [RNG.normal(0, 3, (1, sam.spec.low, sam.spec.low)).astype(np.float32) for _ in IMAGES]
    compare(model, sam, False, boxes=[b[:1] for b in BOXES], masks=masks)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """The first model alone, for tests of what does not depend on the sizes."""
    folder = sam_models.save(sam_models.build("windows"), tmp_path_factory.mktemp("one"))
    return specialists.load(folder), folder


def test_sharded_over_devices_is_the_same(one):
    sam, folder = one
    wide = specialists.load(folder, mesh=mesh.make(config.Mesh(data=4, fsdp=2, tensor=1)))
    for a, b in zip(sam.segment(IMAGES, boxes=BOXES), wide.segment(IMAGES, boxes=BOXES)):
        np.testing.assert_allclose(a.logits, b.logits, atol=1e-4)
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)
    assert len(jax.tree.leaves(wide.params)[0].sharding.device_set) == 8


def test_bfloat16_is_near(one):
    """The bound: 6 % of the range of the logits."""
    sam, folder = one
    half = specialists.load(folder, dtype="bfloat16")
    for a, b in zip(sam.segment(IMAGES, boxes=BOXES), half.segment(IMAGES, boxes=BOXES)):
        assert np.abs(a.logits - b.logits).max() < 0.06 * np.ptp(a.logits)
        assert np.abs(a.scores - b.scores).max() < 0.06 * max(np.abs(a.scores).max(), 1)
    assert half.embed(IMAGES[:1])[0].dtype != np.float32
