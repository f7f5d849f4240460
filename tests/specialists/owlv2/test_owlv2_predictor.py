"""OWLv2's predictor: detections equal to those of transformers 5.23, batches, caches, devices, and bad input."""

import logging

import jax
import numpy as np
import pytest
import small_owlv2

from dtr1_jax import config, specialists
from dtr1_jax import mesh as meshes
from dtr1_jax.specialists.owlv2 import predictor

torch = pytest.importorskip("torch", reason="compares with the reference model")
PHRASES = small_owlv2.PHRASES[:4]


@pytest.fixture(scope="module")
def reference():
    return small_owlv2.torch_model("base")


@pytest.fixture(scope="module")
def folder(reference, tmp_path_factory):
    return small_owlv2.save(reference, tmp_path_factory.mktemp("owl"))


@pytest.fixture(scope="module")
def owl(folder):
    return specialists.load(folder, batch=2)


@pytest.fixture(scope="module")
def images():
    return [small_owlv2.picture(*size, seed=i) for i, size in enumerate([(41, 67), (130, 95), (64, 64)])]


def outputs(reference, image, phrases):
    processor = small_owlv2.processor(reference)
    ids = small_owlv2.tokenizer()(phrases, padding="max_length", return_tensors="pt")
    pixels = torch.tensor(np.stack(processor(images=[image], return_tensors="np")["pixel_values"]))
    with torch.no_grad():
        return reference(pixel_values=pixels, **ids)


def clipped(boxes, image):
    """The processor's boxes in pixels as ours: shares of width and height, clipped."""
    height, width = image.shape[:2]
    return np.clip(np.asarray(boxes) / [width, height, width, height], 0, 1)


def check_same(found, wanted, image, labels=None):
    """`wanted` of the processor has no order, and has boxes in the padding."""
    boxes = clipped(wanted["boxes"], image)
    inside = (boxes[:, 2:] > boxes[:, :2]).all(1)
    order = np.argsort(-np.asarray(wanted["scores"])[inside], kind="stable")
    assert len(found.scores) == len(order) > 0
    assert np.abs(found.scores - np.asarray(wanted["scores"])[inside][order]).max() < 1e-5
    assert np.abs(found.boxes - boxes[inside][order]).max() < 1e-5
    if labels is not None:
        assert found.labels == tuple(np.array(labels)[np.asarray(wanted["labels"])[inside][order]])


def test_detections_are_those_of_the_reference(reference, owl, images):
    lists = [PHRASES, PHRASES[:1], PHRASES[::-1][:3]]
    found = owl.detect(images, lists, threshold=0.3)
    for image, phrases, detections in zip(images, lists, found):
        wanted = small_owlv2.processor(reference).post_process_object_detection(
            outputs(reference, image, phrases), threshold=0.3, target_sizes=[image.shape[:2]]
        )[0]
        check_same(detections, wanted, image, phrases)
        assert detections.boxes.dtype == detections.scores.dtype == detections.objectness.dtype == np.float32
    assert any((d.boxes == 1).any() for d in found)  # some boxes are clipped


def test_one_list_serves_all_pictures_and_pictures_are_independent(owl, images):
    together = owl.detect(images, PHRASES, threshold=0.2)
    for image, detections in zip(images, together):
        (alone,) = owl.detect(image, [PHRASES], threshold=0.2)
        assert alone.labels == detections.labels
        assert np.abs(alone.boxes - detections.boxes).max() < 1e-6
    assert owl.detect([], PHRASES) == []


def test_scores_of_all_patches(reference, owl, images):
    for image, scores in zip(images, owl.score(images, PHRASES)):
        wanted = outputs(reference, image, PHRASES)
        assert np.abs(scores.logits - wanted.logits[0].numpy()).max() < 1e-4
        assert np.abs(scores.objectness - torch.sigmoid(wanted.objectness_logits[0]).numpy()).max() < 1e-4
        assert scores.boxes.shape == (16, 4) and scores.logits.shape == (16, 4)


def test_suppression_and_most(owl, images):
    (all_boxes,) = owl.detect(images[0], PHRASES, threshold=0)
    (few,) = owl.detect(images[0], PHRASES, threshold=0, nms=0.1)
    (two,) = owl.detect(images[0], PHRASES, threshold=0, nms=0.1, most=2)
    assert 2 < len(few.scores) < len(all_boxes.scores)
    assert (two.scores == few.scores[:2]).all() and (np.diff(all_boxes.scores) <= 0).all()
    assert set(map(tuple, few.boxes)) <= set(map(tuple, all_boxes.boxes))


@pytest.mark.parametrize("one", [False, True])
def test_example_finds_what_the_reference_finds(reference, owl, images, one):
    examples = images[:1] if one else images[::-1]
    found = owl.detect_like(images, examples, threshold=0.1, nms=0.3)
    process = small_owlv2.processor(reference)
    for image, example, detections in zip(images, examples * 3 if one else examples, found):
        pixels, query = (process(images=[x], return_tensors="pt")["pixel_values"] for x in (image, example))
        with torch.no_grad():
            raw = reference.image_guided_detection(pixels, query)
        size = torch.tensor([image.shape[:2]])
        wanted = process.post_process_image_guided_detection(raw, threshold=0.1, nms_threshold=0.3, target_sizes=size)[
            0
        ]
        # The processor's scores are scaled for display: a tenth of the best score becomes 0, the best becomes 1.
        best = torch.sigmoid(raw.logits).max().item() + 1e-6
        wanted["scores"] = wanted["scores"] * best * 0.9 + best * 0.1
        check_same(detections, wanted, image)
        assert set(detections.labels) == {predictor.LIKE}


def test_example_in_a_box(owl, images):
    (example,) = owl.score(images[1], PHRASES)
    boxes = [box for box in example.boxes if (box[2:] > box[:2]).all()]
    best = {owl.detect_like(images[0], images[1], [box])[0].scores[0] for box in boxes}
    assert len(best) > 1  # which object is looked for depends on the box


def test_200_phrases_and_more_than_are_scored_at_once(owl, images, monkeypatch):
    phrases = [f"photo {i}" for i in range(200)]
    (wanted,) = owl.detect(images[0], phrases, threshold=0.1)
    monkeypatch.setattr(predictor, "_PHRASES_AT_ONCE", 64)
    (found,) = owl.detect(images[0], phrases, threshold=0.1)
    assert found.labels == wanted.labels and len(set(found.labels)) > 1
    assert np.abs(found.scores - wanted.scores).max() < 1e-6


def test_pictures_and_phrases_are_computed_once(folder, images):
    owl = specialists.load(folder, batch=2)
    calls = []

    def counted(name):
        function = getattr(owl, name)
        setattr(owl, name, lambda *rows: (calls.append((name, len(rows[-1]))), function(*rows))[1])

    counted("_embed_pictures"), counted("_embed_phrases")
    first = owl.detect([images[0], images[0].copy(), images[1]], PHRASES, threshold=0.2)
    again = owl.detect([images[1], images[0]], PHRASES[:2] + ["dog"], threshold=0.2)
    assert calls == [("_embed_phrases", 4), ("_embed_pictures", 1), ("_embed_pictures", 1), ("_embed_phrases", 1)]
    assert (first[0].boxes == first[1].boxes).all() and len(again) == 2
    without = specialists.load(folder, cache_bytes=0)
    assert (without.detect(images[0], PHRASES, threshold=0.2)[0].labels) == first[0].labels
    assert without.cache.hits == 0


def test_sharded_equals_single_device(folder, owl, images):
    mesh = meshes.make(config.Mesh(data=4, fsdp=2, tensor=1), jax.devices())
    sharded = specialists.load(folder, mesh=mesh, batch=8)
    for a, b in zip(sharded.score(images, PHRASES), owl.score(images, PHRASES)):
        assert np.abs(a.logits - b.logits).max() < 1e-5 and np.abs(a.boxes - b.boxes).max() < 1e-6
        assert np.abs(a.objectness - b.objectness).max() < 1e-6
    for a, b in zip(
        sharded.detect_like(images, images[:1], [[0.1, 0.1, 0.9, 0.8]]),
        owl.detect_like(images, images[:1], [[0.1, 0.1, 0.9, 0.8]]),
    ):
        assert a.labels == b.labels and np.abs(a.scores - b.scores).max() < 1e-5


def test_bfloat16_finds_nearly_the_same(folder, owl, images):
    half = specialists.load(folder, dtype="bfloat16")
    for a, b in zip(half.score(images, PHRASES), owl.score(images, PHRASES)):
        assert 0 < np.abs(a.logits - b.logits).max() < 0.2 and np.abs(a.boxes - b.boxes).max() < 0.1


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (7, 1), (1, 10_000), (33, 20), (9, 30, 1), (20, 10, 4)])
def test_pictures_of_any_size_and_kind(owl, shape):
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    (found,) = owl.detect([image], PHRASES, threshold=0, most=3)
    assert np.isfinite(found.boxes).all() and (found.boxes >= 0).all() and (found.boxes <= 1).all()
    assert len(found.labels) == len(found.scores) == len(found.boxes) == len(found.objectness) <= 3


def test_long_phrases_and_other_scripts(owl, images, caplog):
    long = "a very long phrase about a cat and many other things"
    with caplog.at_level(logging.WARNING):
        (found,) = owl.detect(images[0], ["猫", "собака", "كلب", "\ud800", long], threshold=0)
    assert "phrases are longer than the 14 tokens" in caplog.text
    assert len(found.scores)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"phrases": []}, "phrases: expected a list with at least one phrase"),
        ({"phrases": [["a"]] * 2}, "expected a list for each of 1 pictures, got 2 lists"),
        ({"phrases": ["a"], "threshold": 1.5}, "threshold: expected a number in"),
        ({"phrases": ["a"], "nms": -1}, "nms: expected a number in"),
        ({"phrases": ["a"], "most": 0}, "most: expected at least 1"),
    ],
)
def test_bad_arguments(owl, images, arguments, message):
    with pytest.raises(ValueError, match=message):
        owl.detect(images[:1], **arguments)


@pytest.mark.parametrize(
    ("examples", "boxes", "message"),
    [
        (2, None, "expected one query picture, or one for each of 3, got 2"),
        (1, [[0, 0, 1]], r"query_boxes: expected shape \[1, 4\]"),
        (1, [[0, 0, 0, 1]], "box 0 has no area"),
        (1, [[1.2, 0, 1.5, 1]], "box 0 has no area"),
        (1, [[0, 0, np.nan, 1]], "box 0 has no area"),
    ],
)
def test_bad_examples(owl, images, examples, boxes, message):
    with pytest.raises(ValueError, match=message):
        owl.detect_like(images, images[:examples], boxes)


def test_bad_options(folder):
    with pytest.raises(ValueError, match="batch >= 1"):
        specialists.load(folder, batch=0)
