"""The patch that describes an example: against OWL-ViT of transformers 5.23, and by hand."""

import numpy as np
import pytest

from dtr1_jax.specialists.owlv2 import query_choice


def definition(embeds, boxes, query):
    """The rule for one picture, written out."""
    corners = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)
    low, high = np.maximum(corners[:, :2], query[:2]), np.minimum(corners[:, 2:], query[2:])
    common = np.prod(np.maximum(high - low, 0), 1)
    union = np.prod(boxes[:, 2:], 1) + np.prod(query[2:] - query[:2]) - common
    fit = common / union
    if not fit.any():
        hull = np.prod(np.maximum(corners[:, 2:], query[2:]) - np.minimum(corners[:, :2], query[:2]), 1)
        fit = fit - (hull - union) / hull
    near = np.flatnonzero(fit >= min(fit.max(), 0.8 * fit.max()))
    return near[np.argmin(embeds[near] @ embeds.mean(0))]


def test_in_a_box_by_definition():
    rng = np.random.default_rng(0)
    embeds = rng.normal(size=(40, 25, 8)).astype(np.float32)
    boxes = np.concatenate([rng.uniform(0.2, 0.8, (40, 25, 2)), rng.uniform(0.05, 0.4, (40, 25, 2))], -1)
    corner = rng.uniform(0, 0.7, (40, 2))
    query = np.concatenate([corner, corner + rng.uniform(0.02, 0.3, (40, 2))], -1)
    query[:3] = [[0, 0, 0.001, 0.001], [0.999, 0.999, 1, 1], [0, 0, 1, 1]]
    got = np.asarray(query_choice.in_box(embeds, boxes.astype(np.float32), query.astype(np.float32)))
    wanted = [definition(*row) for row in zip(embeds, boxes, query)]
    assert got.tolist() == wanted


def test_whole_picture_as_owlvit_chooses():
    torch = pytest.importorskip("torch", reason="compares with the reference model")
    from transformers import OwlViTForObjectDetection

    rng = np.random.default_rng(1)
    embeds = rng.normal(size=(6, 16, 8)).astype(np.float32)
    boxes = np.concatenate([rng.uniform(0.3, 0.7, (6, 16, 2)), rng.uniform(0.1, 0.6, (6, 16, 2))], -1)
    boxes = boxes.astype(np.float32)

    class Heads:
        """The two functions that the rule calls."""

        def class_predictor(self, features):
            return None, torch.tensor(embeds)

        def box_predictor(self, features, feature_map, interpolate):
            return torch.tensor(boxes)

    _, wanted, _ = OwlViTForObjectDetection.embed_image_query(Heads(), torch.tensor(embeds), None)
    whole = np.tile(np.float32([0, 0, 1, 1]), (6, 1))
    assert np.asarray(query_choice.in_box(embeds, boxes, whole)).tolist() == wanted.flatten().tolist()


def test_most_objectlike():
    assert query_choice.most_objectlike(np.float32([[0, 2, 1], [3, 2, 1]])).tolist() == [1, 0]
