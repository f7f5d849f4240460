"""gIoU, cIoU and the bootstrap interval by hand and against a plain version of LISA's own accumulation."""

import numpy as np
import pytest

from dtr1_jax.evaluation.benchmarks import segmentation
from dtr1_jax.evaluation.benchmarks.segmentation import Overlap, bootstrap, ciou, giou, overlap


def mask_of(row):
    return np.array([[c == "1" for c in row]])


@pytest.mark.parametrize(
    ("pred", "target", "ignore", "want"),
    [
        ("1110", "0111", None, (2, 4, 0.5)),
        ("1110", "0111", "1000", (2, 3, 2 / 3)),
        ("0000", "0000", None, (0, 0, 1.0)),
        ("0010", "0000", None, (0, 1, 0.0)),
        ("0000", "0110", None, (0, 2, 0.0)),
        ("1000", "0001", "1001", (0, 0, 1.0)),
    ],
)
def test_overlap_by_hand(pred, target, ignore, want):
    assert overlap(mask_of(pred), mask_of(target), None if ignore is None else mask_of(ignore)) == pytest.approx(want)


def test_failed_sample_counts_as_wrong_and_keeps_its_union():
    assert overlap(None, mask_of("0110")) == (0, 2, 0.0)
    assert overlap(None, mask_of("0110"), mask_of("0100")) == (0, 1, 0.0)
    assert overlap(None, mask_of("0000")) == (0, 0, 0.0)
    good = overlap(mask_of("0110"), mask_of("0110"))
    assert giou([good, overlap(None, mask_of("0110"))]) == 0.5
    assert ciou([good, overlap(None, mask_of("0110"))]) == 0.5


def test_giou_is_a_mean_of_ratios_and_ciou_a_ratio_of_sums():
    rows = [Overlap(1, 10, 0.1), Overlap(90, 90, 1.0)]
    assert giou(rows) == pytest.approx(0.55)
    assert ciou(rows) == pytest.approx(0.91)
    assert giou([Overlap(0, 0, 1.0)]) == 1.0
    assert ciou([Overlap(0, 0, 1.0)]) == 0.0


def test_agrees_with_the_accumulation_of_lisa():
    """The loop of LISA's `validate`: class histograms without ignored pixels, IoU + 1 if the union is 0."""
    rng = np.random.default_rng(0)
    rows, inter_sum, union_sum, ious = [], 0.0, 0.0, []
    for i in range(60):
        pred, target, ignore = (rng.random((9, 7)) < p for p in (0.3 * (i % 4 > 0), 0.3 * (i % 3 > 0), 0.1))
        rows.append(overlap(pred, target, ignore))
        label = np.where(ignore, 255, target)
        output = np.where(label == 255, 255, pred)
        inter = np.sum((output == 1) & (output == label))
        union = np.sum(output == 1) + np.sum(label == 1) - inter
        inter_sum, union_sum = inter_sum + inter, union_sum + union
        ious.append(inter / (union + 1e-5) + (union == 0))
    assert sum(row.union == 0 for row in rows) >= 3
    assert giou(rows) == pytest.approx(np.mean(ious), abs=1e-5)
    assert ciou(rows) == pytest.approx(inter_sum / (union_sum + 1e-10))


def test_sizes_must_agree():
    with pytest.raises(ValueError, match=r"pred.*\(1, 3\).*target.*\(1, 4\)"):
        overlap(mask_of("111"), mask_of("1111"))
    with pytest.raises(ValueError, match="ignore"):
        overlap(None, mask_of("111"), mask_of("1"))


@pytest.mark.parametrize("figure", [giou, ciou, lambda rows: bootstrap(rows, giou)])
def test_no_samples_is_an_error(figure):
    with pytest.raises(ValueError, match="at least one"):
        figure([])


def test_bootstrap_agrees_with_the_normal_interval_and_is_repeatable():
    hits = np.random.default_rng(0).random(400) < 0.3
    low, high = bootstrap(hits, np.mean)
    half = 1.96 * np.sqrt(hits.mean() * (1 - hits.mean()) / len(hits))
    assert low == pytest.approx(hits.mean() - half, abs=0.01)
    assert high == pytest.approx(hits.mean() + half, abs=0.01)
    assert (low, high) == bootstrap(hits, np.mean)
    assert (low, high) != bootstrap(hits, np.mean, seed=1)
    narrow = bootstrap(hits, np.mean, level=0.5)
    assert low < narrow[0] < narrow[1] < high


def test_bootstrap_resamples_whole_rows():
    rows = [Overlap(1, 4, 0.25)] * 5
    assert bootstrap(rows, ciou, rounds=20) == (0.25, 0.25)
    assert bootstrap(rows, giou, rounds=20) == (0.25, 0.25)
    assert segmentation.bootstrap([Overlap(0, 9, 0.0), Overlap(9, 9, 1.0)], giou, rounds=200) == (0.0, 1.0)
