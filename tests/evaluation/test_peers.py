"""Figures as other projects compute them, each case by hand; the benchmark's own figures stay as they are."""

import dataclasses
import json

import numpy as np
import pytest
from referred_folders import square, write_mevis
from scored import CANVAS, WANT_LEFT, Segmenter, example, say
from square_answers import CANVAS as VIDEO_CANVAS
from square_answers import Filled, source
from square_answers import say as say_track

from dtr1_jax import config
from dtr1_jax.data.json_files import DataError
from dtr1_jax.data.readers.benchmark import Benchmark
from dtr1_jax.evaluation import benchmark_rows, peers, query_metrics, table, whole_videos
from dtr1_jax.modes import evaluate
from dtr1_jax.rewards import answer_regions
from dtr1_jax.rewards.answer_regions import Outcome
from dtr1_jax.twin.transcript import parse

BROKEN = parse("no", task="segmentation", canvas=CANVAS)


def row(query, transcript, *names):
    outcome = answer_regions.outcomes([[transcript]], [query], [CANVAS], Segmenter(), [True])[0][0]
    field = benchmark_rows.measure(query, transcript, outcome, emulate=names)
    line = {"task": query.task, "modality": "picture", "category": "", "level": 0, "sound": transcript.sound}
    return json.loads(json.dumps(line | query_metrics.measure(query, transcript, outcome) | {"benchmark": field}))


def test_visionreasoner_takes_ignored_pixels_for_targets():
    """Target: left half of 4 x 8; ignored: columns 4 and 5; the answer is the left half: 16 / 24 against 16 / 16."""
    ignore = np.zeros((4, 8), bool)
    ignore[:, 4:6] = True
    query = example(WANT_LEFT)
    query = dataclasses.replace(query, benchmark="reasonseg", target=dataclasses.replace(query.target, ignore=ignore))
    rows = [row(query, say(1), "visionreasoner"), row(query, BROKEN, "visionreasoner")]
    assert [r["benchmark"]["peers"]["visionreasoner"] for r in rows] == [
        {"intersection": 16, "union": 24}, {"intersection": 0, "union": 24},
    ]  # fmt: skip
    found, own = benchmark_rows.figures(rows), benchmark_rows.figures([row(query, say(1)), row(query, BROKEN)])
    assert found["eval/reasonseg/visionreasoner_giou"] == pytest.approx((16 / 24 + 0) / 2)
    assert found["eval/reasonseg/visionreasoner_ciou"] == pytest.approx(16 / 48)
    assert own == {key: value for key, value in found.items() if "visionreasoner" not in key}
    assert own["eval/reasonseg/giou"] == 0.5


def test_two_empty_masks_score_nothing():
    values = [{"intersection": 0, "union": 0}, {"intersection": 5, "union": 10}]
    rows = [{"benchmark": {"peers": {"visionreasoner": v, "onethinker": v}}} for v in values]
    assert peers.figures(rows) == {
        "visionreasoner_giou": 0.25, "visionreasoner_ciou": 0.5, "onethinker_giou": 0.25, "onethinker_ciou": 0.5,
    }  # fmt: skip
    assert peers.figures([*rows, {"benchmark": {}}]) == {}  # a part of the rows is no figure


def boxed(*boxes, target=((0.0, 0.0, 0.5, 0.5),)):
    """What peers need of an answer with these boxes on a picture of 100 x 200 pixels."""
    query = example(WANT_LEFT)
    target = dataclasses.replace(query.target, boxes=np.array(target, np.float32))
    query = dataclasses.replace(
        query, task="grounding", benchmark="refcoco", image=np.zeros((100, 200, 3), np.uint8), target=target
    )
    outcome = Outcome(np.array(boxes, np.float32).reshape(-1, 4))
    return peers.measure(("visionreasoner", "lmms_eval", "onethinker"), query, outcome, sound=True)


def test_boxes():
    right, half, far = (0.0, 0.0, 0.5, 0.5), (0.0, 0.0, 0.25, 0.5), (0.6, 0.6, 0.9, 0.9)
    assert boxed(far, right) == {"visionreasoner": {"iou": 1.0}, "lmms_eval": {"iou": 0.0, "centre": 0.0}}
    assert boxed(half) == {"visionreasoner": {"iou": 0.5}, "lmms_eval": {"iou": 0.5, "centre": 1.0}}
    assert boxed() == {"visionreasoner": {"iou": 0.0}, "lmms_eval": {"iou": 0.0, "centre": 0.0}}
    rows = [{"benchmark": {"peers": boxed(*answer)}} for answer in ((far, right), (half,), (), (right,))]
    found = peers.figures(rows)
    assert found["visionreasoner_box_acc"] == 0.5  # half has exactly 0.5, which is not above it
    assert found["lmms_eval_acc@0.5"] == 0.5 and found["lmms_eval_acc@0.7"] == 0.25  # and here it counts
    assert found["lmms_eval_iou"] == pytest.approx(1.5 / 4) and found["lmms_eval_center_acc"] == 0.5


def by_loops(mask, target):
    """Boundary F of onethinker by its definition, pixel by pixel."""
    h, w = mask.shape
    radius = max(1, round(0.0075 * np.hypot(h, w)))

    def edge(m):
        found = np.zeros_like(m)
        for y, x in np.argwhere(m):
            around = [(y + a, x + b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b]
            found[y, x] = any(not (0 <= v < h and 0 <= u < w and m[v, u]) for v, u in around)
        return found

    def share(one, other):
        hits = sum(other[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1].any()
                   for y, x in np.argwhere(one))  # fmt: skip
        return hits / one.sum()

    p, r = share(edge(mask), edge(target)), share(edge(target), edge(mask))
    return 2 * p * r / (p + r) if p + r else 0.0


def test_boundaries_of_onethinker():
    rng = np.random.default_rng(0)
    for side in (20, 150):
        for _ in range(6):
            x, y, size = rng.integers(0, side // 2, 3)
            mask, target = np.zeros((side, side + 7), bool), np.zeros((side, side + 7), bool)
            mask[y : y + size + 1, x : x + 3] = True
            target[y + 1 : y + size + 3, max(0, x - 1) : x + 4] = True
            assert peers.boundary_f(mask, target) == pytest.approx(by_loops(mask, target))
    empty, full = np.zeros((5, 5), bool), np.ones((5, 5), bool)
    assert (peers.boundary_f(empty, empty), peers.boundary_f(empty, full), peers.boundary_f(full, full)) == (1, 0, 1)


def test_videos_of_onethinker_leave_out_frames_without_a_target(tmp_path):
    found = source(write_mevis(tmp_path, mask_dict=None))
    example_ = dataclasses.replace(found[1], task="segmentation")  # the second square is not there in frames 0 and 1
    query = source(write_mevis(tmp_path / "2", expressions={"0": {"exp": "low", "anno_id": [12]}}))[0]
    transcript, segmenter = say_track({"objects": [1]}, track=(2, 18, 10, 26), last=(7, 18, 15, 26)), Filled()

    def measured(item, said):
        (outcome,) = answer_regions.outcomes([[said]], [item], [VIDEO_CANVAS], segmenter, [True])[0]
        return whole_videos.measure(item, said, VIDEO_CANVAS, outcome, segmenter, ("onethinker",))

    right = measured(query, transcript)
    assert right["peers"] == {"onethinker": {"j": 1.0, "f": 1.0}} and right["j"] == pytest.approx(4 / 6)
    broken = measured(example_, parse("no", task="segmentation", canvas=VIDEO_CANVAS))
    assert broken["peers"] == {"onethinker": {"j": 0.0, "f": 0.0}}
    rows = [{"benchmark": right | {"name": "mevis"}}, {"benchmark": broken | {"name": "mevis"}}]
    assert peers.figures(rows) == {"onethinker_jf": 0.5, "onethinker_j": 0.5, "onethinker_f": 0.5}
    assert peers.frame_scores(square(0), np.zeros((30, 40), bool)) is None


@pytest.mark.parametrize(
    "field",
    [
        [], {"other": {}}, {"onethinker": 3}, {"onethinker": {}}, {"onethinker": {"j": 1}},
        {"lmms_eval": {"iou": "1", "centre": 0}}, {"visionreasoner": {"intersection": 3, "union": 2}},
        {"visionreasoner": {"iou": -1}},
    ],
)  # fmt: skip
def test_faulty_rows_are_refused(tmp_path, field):
    line = row(dataclasses.replace(example(WANT_LEFT), benchmark="reasonseg"), say(1), "visionreasoner")
    file = tmp_path / "predictions.jsonl"
    file.write_text(json.dumps(line))
    assert table.read_predictions(file) == [line]
    file.write_text(json.dumps(line | {"benchmark": line["benchmark"] | {"peers": field}}))
    with pytest.raises(DataError, match=r"benchmark\.peers"):
        table.read_predictions(file)


def test_the_flag(tmp_path):
    reasonseg = Benchmark("reasonseg", tmp_path, "val", "segmentation", (), None)
    videos = Benchmark("mevis", tmp_path, "valid_u", "segmentation", (), None, frames=8)
    assert evaluate.peers_of("", reasonseg) == () == evaluate.peers_of(" , ", reasonseg)
    assert evaluate.peers_of("visionreasoner,visionreasoner", reasonseg) == ("visionreasoner",)
    assert evaluate.peers_of("onethinker", videos) == ("onethinker",)
    with pytest.raises(config.ConfigError, match=r"expected some of visionreasoner, .*, got 'visoin'"):
        evaluate.peers_of("visoin", reasonseg)
    with pytest.raises(config.ConfigError, match=r"--emulate=lmms_eval: expected .* got reasonseg \(segmentation\)"):
        evaluate.peers_of("lmms-eval", reasonseg)
    with pytest.raises(config.ConfigError, match="got no public benchmark"):
        evaluate.peers_of("onethinker", range(3))
