"""RES and GRES against a direct reading of their definitions, on random masks, and by hand."""

import numpy as np
import pytest

from dtr1_jax.evaluation.benchmarks import referring_masks, segmentation
from dtr1_jax.evaluation.benchmarks.referring_masks import MaskAnswer


def answer(pred, target):
    return MaskAnswer(segmentation.overlap(pred, target), int(target.sum()), None if pred is None else int(pred.sum()))


def reference(pairs):
    """GRES sample by sample, as its paper describes it: counters for I, U, TP, FN, TN, FP and each precision."""
    total_i = total_u = tp = fn = tn = fp = 0
    ious, hits, targeted = [], dict.fromkeys((0.7, 0.8, 0.9), 0), 0
    for pred, target in pairs:
        i, u = int(np.sum(pred * target)), int(np.sum((pred + target) > 0))
        total_i, total_u = total_i + i, total_u + u
        if target.sum() == 0:
            ious.append(1.0 if pred.sum() == 0 else 0.0)
            tp, fn = tp + (pred.sum() == 0), fn + (pred.sum() > 0)
        else:
            ious.append(i / u)
            targeted += 1
            tn, fp = tn + (pred.sum() > 0), fp + (pred.sum() == 0)
            for level in hits:
                hits[level] += i / u >= level
    return {
        "giou": sum(ious) / len(ious), "ciou": total_i / total_u, "n_acc": tp / (tp + fn), "t_acc": tn / (tn + fp),
        **{f"pr@{level}": count / targeted for level, count in hits.items()},
    }  # fmt: skip


def random_pairs(seed, empty):
    rng = np.random.default_rng(seed)
    for k in range(40):
        target = rng.random((6, 7)) < 0.5
        pred = np.where(rng.random((6, 7)) < 0.1, ~target, target)
        yield pred & (k % 7 != 0), target & (k % 5 != 0 or not empty)


@pytest.mark.parametrize("seed", range(3))
def test_gres_equals_its_definition(seed):
    pairs = list(random_pairs(seed, True))
    found = referring_masks.gres([answer(*pair) for pair in pairs])
    assert found == pytest.approx(reference([(p.astype(int), t.astype(int)) for p, t in pairs]))
    assert 0 < found["n_acc"] < 1 and 0 < found["t_acc"] < 1 and 0 < found["pr@0.9"] < found["pr@0.7"] < 1


@pytest.mark.parametrize("seed", range(3))
def test_res_equals_its_definition(seed):
    pairs = list(random_pairs(seed, False))
    found = referring_masks.res([answer(*pair) for pair in pairs])
    ious = [(p & t).sum() / (p | t).sum() for p, t in pairs]
    expected = {f"pr@{x}": np.mean([iou >= x for iou in ious]) for x in (0.5, 0.6, 0.7, 0.8, 0.9)}
    union = sum((p | t).sum() for p, t in pairs)
    expected |= {"giou": np.mean(ious), "ciou": sum((p & t).sum() for p, t in pairs) / union}
    assert found == pytest.approx(expected)


def test_failed_samples_are_wrong_everywhere():
    empty, full = np.zeros((2, 2), bool), np.ones((2, 2), bool)
    found = referring_masks.gres([answer(None, empty), answer(None, full), answer(empty, empty), answer(full, full)])
    assert (found["giou"], found["ciou"], found["n_acc"], found["t_acc"], found["pr@0.7"]) == (0.5, 0.5, 0.5, 0.5, 0.5)
    assert referring_masks.gres([answer(full, empty)]) == {"giou": 0.0, "ciou": 0.0, "n_acc": 0.0}
    assert "n_acc" not in referring_masks.gres([answer(full, full)])
