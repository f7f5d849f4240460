"""From transcripts to rewards: the gate, the columns, and the cost of a failing segmenter."""

import dataclasses

import jax
import numpy as np
import pytest
from scored import CANVAS, LEFT, TWIN, WANT_LEFT, Segmenter, example, fill, say, say_boxes, settings

from dtr1_jax.evaluation.benchmarks import segmentation
from dtr1_jax.rewards import score
from dtr1_jax.run.worker_pool import Failure
from dtr1_jax.twin.schema import Answer, Twin
from dtr1_jax.twin.transcript import compose, parse
from dtr1_jax.types import Example, Instance, Target

BROKEN = parse('<twin>{}</twin><think>x</think><answer>{"objects":[]}</answer>', task="segmentation", canvas=CANVAS)


def test_columns_and_total_by_hand():
    segment = Segmenter()
    groups = [[say(1), say(1, 7), say(7), BROKEN], [say(), say(1), say_boxes(), BROKEN]]
    rewards, outcomes = score.score(groups, [example(WANT_LEFT), example()], [CANVAS, CANVAS], segment, settings())
    broken = rewards.columns["structure"][0, 3]
    assert 0 < broken < 1
    np.testing.assert_allclose(rewards.columns["structure"], [[1, 1, 1, broken]] * 2)
    np.testing.assert_allclose(rewards.columns["mask_iou"], [[1, 0.5, 0, 0], [1, 0, 1, 0]])
    np.testing.assert_allclose(rewards.columns["box_iou"], [[1, 0.5, 0, 0], [1, 0, 1, 0]])
    np.testing.assert_allclose(
        rewards.total_bg, [[1.75, 1.125, 0.5, 0.5 * broken], [1.75, 0.5, 1.75, 0.5 * broken]], rtol=1e-6
    )
    assert list(rewards.columns) == ["structure", "mask_iou", "box_iou"]
    for x in jax.tree.leaves((rewards.columns, rewards.total_bg)):
        assert isinstance(x, np.ndarray) and x.dtype == np.float32 and x.shape == (2, 4)
    assert outcomes[0][3].mask is None and not outcomes[0][3].failed
    np.testing.assert_array_equal(outcomes[0][0].mask, fill(np.zeros((4, 8)), np.array([WANT_LEFT])))
    assert outcomes[1][0].mask.shape == (4, 8) and not outcomes[1][0].mask.any()


def test_unsound_transcript_earns_no_accuracy_even_with_a_right_answer():
    text = compose(TWIN, "x", Answer(objects=(1,)))
    spoilt = parse(text + " and more", task="segmentation", canvas=CANVAS)
    rewards, outcomes = score.score([[say(1), spoilt]], [example(WANT_LEFT)], [CANVAS], Segmenter(), settings())
    np.testing.assert_allclose(rewards.columns["mask_iou"], [[1, 0]])
    np.testing.assert_allclose(rewards.columns["box_iou"], [[1, 0]])
    assert len(outcomes[0][1].boxes) == 0


def test_segmenter_is_called_once_and_only_for_what_differs():
    segment = Segmenter()
    groups = [[say(1), say(1, 7), say(7, 1), say(), BROKEN], [say(1), say(1), say(1), BROKEN, say()]]
    score.score(groups, [example(WANT_LEFT)] * 2, [CANVAS] * 2, segment, settings())
    assert len(segment.calls) == 1
    assert sorted(map(len, segment.calls[0])) == [1, 1, 2]


def test_segmenter_is_not_called_without_boxes_or_without_weight():
    segment = Segmenter()
    score.score([[say(), BROKEN]], [example()], [CANVAS], segment, settings())
    rewards, outcomes = score.score(
        [[say(1), say()]], [example(WANT_LEFT)], [CANVAS], segment, settings(mask_iou=0.0, box_iou=2.0)
    )
    assert segment.calls == []
    assert list(rewards.columns) == ["box_iou"]
    np.testing.assert_allclose(rewards.total_bg, [[2, 0]])
    assert outcomes[0][0].mask is None and not outcomes[0][0].failed


@pytest.mark.parametrize(
    "bad", [None, Failure("timeout", "too slow"), np.zeros((3, 3), bool), np.full((4, 8), np.nan), "mask"]
)
def test_failed_segmentation_costs_that_sample_its_mask_reward(bad):
    def segment(images, boxes):
        return [bad if len(b) == 2 else fill(i, b) for i, b in zip(images, boxes)]

    # The second query has an empty target: a failure must not pass for an empty answer.
    groups = [[say(1), say(1, 7)], [say(), say(1, 7)]]
    rewards, outcomes = score.score(groups, [example(WANT_LEFT), example()], [CANVAS] * 2, segment, settings())
    np.testing.assert_allclose(rewards.columns["mask_iou"], [[1, 0], [1, 0]])
    np.testing.assert_allclose(rewards.columns["box_iou"], [[1, 0.5], [1, 0]])
    assert [[o.failed for o in group] for group in outcomes] == [[False, True]] * 2


def test_segmenter_that_loses_results_is_an_error():
    with pytest.raises(ValueError, match="expected 1, got 0"):
        score.score([[say(1)]], [example(WANT_LEFT)], [CANVAS], lambda images, boxes: [], settings())


def test_groups_of_different_size_are_an_error():
    with pytest.raises(ValueError, match="one size G"):
        score.score([[say(1)], [say(1)] * 2], [example()] * 2, [CANVAS] * 2, Segmenter(), settings())


@pytest.mark.parametrize("mask_size", [16, 3])  # of the grid of 3, cells are ignored in part
def test_ignored_pixels_count_neither_way(mask_size):
    ignore = np.zeros((4, 8), bool)
    ignore[:, 4:] = True
    for want in (WANT_LEFT, (0, 0, 1, 1)):
        rewards, _ = score.score(
            [[say(1, 7), say(7)]], [example(want, ignore=ignore)], [CANVAS], Segmenter(), settings(mask_size=mask_size)
        )
        np.testing.assert_allclose(rewards.columns["mask_iou"], [[1, 0]])


def test_words_have_no_overlap_to_be_rewarded():
    transcript = parse(compose(TWIN, "x", Answer(text="two")), task="vqa", canvas=CANVAS)
    rewards, _ = score.score([[transcript]], [example(task="vqa")], [CANVAS], Segmenter(), settings())
    np.testing.assert_allclose(rewards.total_bg, [[0.5]])


def test_a_choice_is_rewarded_by_its_letter_or_its_words():
    query = example(task="vqa")
    query = dataclasses.replace(
        query, target=dataclasses.replace(query.target, references=("the dog",), choices=("a cat", "the dog"))
    )
    group = [parse(compose(TWIN, "x", Answer(text=t)), task="vqa", canvas=CANVAS) for t in ("B", "the dog", "A", "two")]
    rewards, _ = score.score([group], [query], [CANVAS], Segmenter(), settings(answer=1.0))
    np.testing.assert_allclose(rewards.columns["answer"], [[1, 1, 0, 0]])


def test_pictures_of_different_sizes_share_a_batch():
    examples = [example(WANT_LEFT, size=s) for s in ((4, 8), (40, 80), (1, 2), (7, 90))]
    rewards, _ = score.score([[say(1), say(1, 7)]] * 4, examples, [CANVAS] * 4, Segmenter(), settings(mask_size=10))
    np.testing.assert_allclose(rewards.columns["mask_iou"], [[1, 0.5]] * 4, rtol=1e-5)


def test_many_boxes_stay_bounded():
    boxes = [(x, y, x + 1, y + 1) for x in range(8) for y in range(4)] * 8
    whole = (0, 0, 8, 4)
    rewards, outcomes = score.score(
        [[say_boxes(*boxes), say_boxes(*boxes[:255], whole)]],
        [example((0, 0, 1, 1), task="grounding")],
        [CANVAS],
        Segmenter(),
        settings(box_iou=1.0),
    )
    assert len(outcomes[0][0].boxes) == 256
    np.testing.assert_allclose(rewards.columns["box_iou"], [[1 / 32 / 256, 1 / 256]], rtol=1e-5)


def test_a_tiny_target_never_becomes_empty():
    target = np.zeros((1000, 1000), bool)
    target[503, 711] = True
    small = Example(
        "u",
        np.zeros((1000, 1000, 3), np.uint8),
        "?",
        "segmentation",
        Target(target, np.array([[0.711, 0.503, 0.712, 0.504]], np.float32)),
    )
    rewards, _ = score.score([[say()]], [small], [CANVAS], Segmenter(), settings(mask_size=8))
    assert rewards.columns["mask_iou"][0, 0] == 0


@pytest.mark.parametrize("mask_size", [1, 7, 96])
def test_masks_side_by_side_score_0_and_the_score_is_that_of_the_metric(mask_size):
    """One-pixel stripes and their gaps share every cell of a grid, but no pixel."""
    stripes = np.zeros((480, 640), bool)
    stripes[:, ::2] = True
    rng = np.random.default_rng(0)
    masks = [stripes, ~stripes, rng.random((480, 640)) < 0.3, np.zeros((480, 640), bool)]
    image, box = np.zeros((480, 640, 3), np.uint8), np.array([[0, 0, 1, 1]], np.float32)
    examples = [Example("u", image, "?", "segmentation", Target(mask, box)) for mask in masks]
    answers = iter([*masks] * 4)
    groups = [[say_boxes((x, 0, x + 1, 1)) for x in range(4)]] * 4

    def segment(images, boxes):
        return [next(answers) for _ in images]

    rewards, _ = score.score(groups, examples, [CANVAS] * 4, segment, settings(mask_size=mask_size))
    want = [[segmentation.overlap(answer, target).iou for answer in masks] for target in masks]
    np.testing.assert_allclose(rewards.columns["mask_iou"], want, rtol=1e-6)
    assert rewards.columns["mask_iou"][0, 1] == rewards.columns["mask_iou"][1, 0] == 0
    assert want[3][3] == 1.0


def test_one_compilation_for_batches_of_one_shape():
    score.score([[say(1)]], [example(WANT_LEFT)], [CANVAS], Segmenter(), settings(mask_size=9))
    size = score._accuracy.__wrapped__._cache_size()
    score.score([[say(1, 7)]], [example(size=(30, 5))], [CANVAS], Segmenter(), settings(mask_size=9))
    assert score._accuracy.__wrapped__._cache_size() == size


def scene(*boxes):
    return tuple(Instance(i + 1, "mug", box, np.zeros((4, 8), bool)) for i, box in enumerate(boxes))


def test_twin_iou_counts_objects_that_the_answer_does_not_need():
    right = (0.5, 0, 1, 1)
    both = dataclasses.replace(example(WANT_LEFT), scene=scene(WANT_LEFT, right))
    one = dataclasses.replace(both, scene=scene(WANT_LEFT))
    hidden = dataclasses.replace(
        both, scene=scene(WANT_LEFT, right, (0, 0, 0, 0))
    )  # an object that appears later in a video
    unknown = example(WANT_LEFT)
    half = Twin((8, 4), (LEFT,))
    rewards, _ = score.score(
        [[say(1), say(1, twin=half), say(7), BROKEN]] * 4, [both, one, hidden, unknown], [CANVAS] * 4, Segmenter(),
        settings(twin_iou=1.0),
    )  # fmt: skip
    assert list(rewards.columns) == ["twin_iou"]
    np.testing.assert_allclose(rewards.total_bg, [[1, 0.5, 1, 0], [0.5, 1, 0.5, 0], [1, 0.5, 1, 0], [0, 0, 0, 0]])


def test_columns_of_the_twin_need_annotation_and_a_sound_transcript():
    right = (0.5, 0, 1, 1)
    things = tuple(
        dataclasses.replace(thing, label=label, attributes=("red",), depth=depth)
        for thing, label, depth in zip(scene(WANT_LEFT, right), ("mug", "key"), (1, 2))
    )
    known = dataclasses.replace(example(WANT_LEFT), scene=things)
    true = (dataclasses.replace(LEFT, attributes=("red",), depth=1), dataclasses.replace(TWIN.objects[1], depth=2))
    swapped = (dataclasses.replace(true[0], label="key", depth=2), dataclasses.replace(true[1], depth=1))
    related = ((1, "left of", 7), (1, "behind", 7))
    group = [say(1, twin=Twin((8, 4), true)), say(1, twin=Twin((8, 4), swapped, related)), BROKEN]
    weights = dict.fromkeys(("twin_labels", "twin_attributes", "twin_depth", "twin_relations", "twin_tracks"), 1.0)
    rewards, _ = score.score([group] * 2, [known, example(WANT_LEFT)], [CANVAS] * 2, Segmenter(), settings(**weights))
    np.testing.assert_allclose(rewards.columns["twin_labels"], [[1, 0.5, 0], [0, 0, 0]])
    np.testing.assert_allclose(rewards.columns["twin_attributes"], [[2 / 3, 2 / 3, 0], [0, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(rewards.columns["twin_depth"], [[1, 0, 0], [0, 0, 0]])
    np.testing.assert_allclose(rewards.columns["twin_relations"], [[1, 0.5, 0], [0, 0, 0]])
    assert {name: list(own_b) for name, own_b in rewards.own.items()} == {
        **{name: [True, False] for name in weights}, "twin_tracks": [False, False],
    }  # fmt: skip


def test_a_given_twin_has_no_columns_of_its_truth():
    known = dataclasses.replace(example(WANT_LEFT), scene=scene(WANT_LEFT, (0.5, 0, 1, 1)))
    text = '<think>x</think><answer>{"objects":[1]}</answer>'
    given = parse(text, task="segmentation", canvas=CANVAS, constructor="given", given_twin=TWIN)
    assert given.sound
    rewards, _ = score.score(
        [[given], [say(1)]], [known, known], [CANVAS] * 2, Segmenter(), settings(twin_iou=1.0, twin_labels=1.0)
    )
    assert [list(own_b) for own_b in rewards.own.values()] == [[False, True]] * 2
    np.testing.assert_allclose(rewards.total_bg[0], 0)
