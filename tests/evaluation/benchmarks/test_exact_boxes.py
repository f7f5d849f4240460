"""Ties of the IoU with a threshold: thousands of pairs whose IoU is exactly the threshold, by whole numbers."""

import random
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dtr1_jax.evaluation.benchmarks import boxes, exact_boxes, twin_fidelity
from dtr1_jax.evaluation.benchmarks.exact_boxes import simplest


def whole_iou(a, b):
    """The IoU of two boxes of whole numbers, by counting."""
    inter = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return Fraction(inter, sum(areas) - inter)


def ties(count, most=640, least=Fraction(1, 2), seed=0):
    """Pairs of boxes of whole pixels in a picture of most x most pixels whose IoU is `least`."""
    rng = random.Random(seed)
    pairs = []
    while len(pairs) < count:
        width, height = rng.randint(1, most), rng.randint(1, most)
        part = Fraction(width * least.numerator, least.denominator)
        shift = width * (1 - least) / (1 + least)
        x, y = rng.randint(0, most - width), rng.randint(0, most - height)
        box = (x, y, x + width, y + height)
        if part.denominator == 1 and rng.random() < 0.5:  # a box inside the other
            pairs.append((box, (x, y, x + int(part), y + height)))
        elif shift.denominator == 1 and x + width + shift <= most:  # two boxes of one size, shifted
            pairs.append((box, (x + int(shift), y, x + width + int(shift), y + height)))
    assert all(whole_iou(*pair) == least for pair in pairs)
    return pairs


@pytest.mark.parametrize("least", [Fraction(1, 2), Fraction(7, 10), Fraction(9, 10)])
@pytest.mark.parametrize("size", [(640, 480), (427, 640), (1000, 1000), (333, 997), (4000, 3000)])
def test_an_exact_tie_is_correct_and_a_pixel_less_is_not(size, least):
    limit = np.array([*size, *size])
    for a, b in ties(150, min(size), least):
        a, b = (a, b) if random.Random(str(a)).random() < 0.5 else (b, a)
        pred, target = ((np.array([x]) / limit).astype(np.float32) for x in (a, b))
        for given_size in (None, size):
            assert boxes.is_correct(pred, target, float(least), given_size), (a, b)
        assert boxes.is_correct(np.array([a]), np.array([b]), float(least))
        worse = [min((a, b), key=lambda x: x[2] - x[0])]
        worse = np.array([(*worse[0][:3], worse[0][3] - 1)])
        larger = np.array([max((a, b), key=lambda x: x[2] - x[0])])
        want = whole_iou(worse[0].tolist(), larger[0].tolist()) >= least
        pred, target = ((x / limit).astype(np.float32) for x in (worse, larger))
        assert boxes.is_correct(pred, target, float(least), size) == want


def test_floats_got_a_third_of_the_ties_wrong():
    limit = np.array([640, 480, 640, 480])
    pairs = [[(np.array([x]) / limit).astype(np.float32) for x in pair] for pair in ties(2000, 480)]
    in_floats = np.array([boxes.iou_matrix(*pair)[0, 0] >= 0.5 for pair in pairs])
    assert 0.5 < in_floats.mean() < 0.9
    assert all(boxes.is_correct(*pair, size=(640, 480)) for pair in pairs)


def test_ties_of_hundredths_of_a_pixel_against_a_frame_of_1000():
    """RefCOCO's boxes have two decimals; answers of published policies are whole thousandths of the picture."""
    rng, checked = random.Random(3), 0
    while checked < 500:
        w, h = rng.choice([(640, 480), (500, 375), (612, 612), (427, 640)])
        x1, y1 = rng.randint(0, 400), rng.randint(0, 400)
        answer = (x1, y1, x1 + rng.randint(2, 500), y1 + rng.randint(2, 500))
        exact = [Fraction(v * side, 1000) for v, side in zip(answer, (w, h, w, h))]
        half = [exact[0], exact[1], (exact[0] + exact[2]) / 2, exact[3]]
        if any((v * 100).denominator != 1 for v in half):
            continue
        pred = np.array([[v / 1000 for v in answer]], np.float32)
        target = np.array([[float(v) / side for v, side in zip(half, (w, h, w, h))]], np.float32)
        assert boxes.is_correct(pred, target, size=(w, h)), (answer, w, h)
        less = np.array([[*target[0, :2], (float(half[2]) - 0.01) / w, target[0, 3]]], np.float32)
        assert not boxes.is_correct(pred, less, size=(w, h))
        checked += 1


def test_several_boxes_at_ties_pair_off():
    pairs = ties(200, 480)
    limit = np.array([640, 480, 640, 480])
    for i in range(0, 200, 2):
        (a, b), (c, d) = pairs[i : i + 2]
        if whole_iou(a, c) or whole_iou(a, d) or whole_iou(b, c) or whole_iou(b, d):
            continue
        pred, target = ((np.array(x) / limit).astype(np.float32) for x in ([a, c], [d, b]))
        assert boxes.is_correct(pred, target, size=(640, 480))


def test_a_twin_matches_at_a_tie():
    for a, b in ties(500, 480):
        one, two = (
            [twin_fidelity.DescribedObject("mug", (np.array(x) / [640, 480, 640, 480]).astype(t).tolist())]
            for x, t in ((a, np.float64), (b, np.float32))
        )
        assert twin_fidelity.fidelity(one, two).matches == 1


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 4096), st.data())
def test_a_fraction_is_found_again_from_its_float(denominator, data):
    numerator = data.draw(st.integers(0, denominator))
    for kind in (np.float32, np.float64):
        assert exact_boxes._coordinate(kind(numerator / denominator), None) == Fraction(numerator, denominator)


@settings(max_examples=200, deadline=None)
@given(st.fractions(-3, 3, max_denominator=99), st.fractions(0, 1, max_denominator=99))
def test_the_simplest_fraction_is_that_of_a_search(low, width):
    high = low + width
    denominator = next(q for q in range(1, 10_000) if -(-low.numerator * q // low.denominator) <= high * q)
    got = simplest(low, high)
    assert low <= got <= high and got.denominator == denominator


def test_odd_boxes_are_wrong_but_do_not_raise():
    one = np.array([[0, 0, 1, 1]], np.float32)
    for odd in ([np.nan, 0, 1, 1], [np.inf, 0, 1, 1], [0, 0, np.inf, 1], [1, 1, 0, 0], [0, 0, 0, 0]):
        assert boxes.is_correct(np.array([odd]), one) is False
