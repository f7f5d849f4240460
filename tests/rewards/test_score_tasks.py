"""The rewards of videos, of answers in words and of batches of several tasks: by hand and for odd texts."""

import dataclasses

import numpy as np
import pytest
from scored import CANVAS, WANT_LEFT, Segmenter, example, say, settings
from scored_tasks import PATH, TWIN, VIDEO, filled, in_words, question, tell, video_query

from dtr1_jax.rewards import score
from dtr1_jax.twin.coordinates import Canvas, Frame
from dtr1_jax.twin.schema import Answer, Object, Twin
from dtr1_jax.twin.transcript import compose, parse
from dtr1_jax.types import Instance, Target

ABSENT = (0, 0, 0, 0)


class ConstantScorers:
    """Stands in for TextScorers: scores every answer 0.5 and records the rows."""

    failures = 0

    def __init__(self):
        self.rows = []

    def columns(self, rows, names):
        self.rows += rows
        return [dict.fromkeys(of_row, 0.0 if row[1] is None else 0.5) for row, of_row in zip(rows, names)]


def test_the_segmenter_is_asked_once_and_for_each_frame_once():
    frames, boxes = [], []

    def segment(pictures, sets):
        frames.extend(picture.tobytes() for picture in pictures)
        boxes.append(sets)
        return Segmenter()(pictures, sets)

    groups = [[tell(Answer(objects=ids)) for ids in ((1,), (1, 2), (2, 1), ())], [say(1)] * 4]
    queries = [video_query(), example(WANT_LEFT)]
    _, outcomes = score.score(groups, queries, [VIDEO, CANVAS], segment, settings())
    assert len(boxes) == 1 and sorted(map(len, boxes[0])) == [1, 1, 1, 1, 2]
    # in frame 0 both objects are the same box, in frame 4 one is gone, so that only frame 2 differs
    assert len(set(frames)) == 4 and {picture.tobytes() for picture in queries[0].visuals[0].frames} < set(frames)
    np.testing.assert_array_equal(outcomes[0][0].masks, filled(PATH[0]))
    np.testing.assert_array_equal(outcomes[0][0].mask, filled(PATH[0])[0])
    assert not outcomes[0][3].masks.any() and outcomes[1][0].masks is None


def test_columns_of_a_video_by_hand():
    group = [tell(Answer(objects=ids)) for ids in ((1,), (2,), ())]
    group.append(parse("nonsense", task="segmentation", canvas=VIDEO))
    scene = tuple(Instance(i, "mug", tuple(x[0]), np.zeros((4, 8), bool), boxes=x) for i, x in enumerate(PATH, 1))
    rewards, _ = score.score(
        [group],
        [video_query(scene=scene)],
        [VIDEO],
        Segmenter(),
        settings(mask_iou=1.0, box_iou=0.5, twin_iou=0.25, points=1.0),
    )
    np.testing.assert_allclose(rewards.columns["mask_iou"], [[1, (1 + 1 / 3) / 3, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(rewards.columns["box_iou"], [[1, (1 + 1 / 3) / 3, 0, 0]], rtol=1e-6)
    np.testing.assert_allclose(rewards.columns["twin_iou"], [[0.5, 0.5, 0.5, 0]], rtol=1e-6)  # one object too many
    np.testing.assert_allclose(rewards.columns["points"], [[1, 1, 0, 0]])
    np.testing.assert_allclose(rewards.total_bg[0, 0], 1 + 0.5 + 0.125 + 1, rtol=1e-6)


def test_a_frame_that_the_segmenter_loses_costs_the_video_its_masks():
    def segment(pictures, sets):
        return [None] + Segmenter()(pictures[1:], sets[1:])

    rewards, outcomes = score.score([[tell(Answer(objects=(1,)))]], [video_query()], [VIDEO], segment, settings())
    assert outcomes[0][0].failed and outcomes[0][0].masks is None and rewards.columns["mask_iou"][0, 0] == 0


def test_unlabelled_frames_are_not_segmented():
    segment = Segmenter()
    query = video_query(labelled=np.array([False, True, False]))
    _, outcomes = score.score([[tell(Answer(objects=(1,)))]], [query], [VIDEO], segment, settings())
    assert len(segment.calls[0]) == 1 and [m.any() for m in outcomes[0][0].masks] == [False, True, False]


def test_a_batch_of_all_tasks():
    weights = {
        "segmentation": {"structure": 0.5, "mask_iou": 1.0}, "grounding": {"box_iou": 2.0},
        "vqa": {"structure": 0.25, "answer": 1.0}, "summary": {"rouge_l": 1.0, "bleu": 0.5},
    }  # fmt: skip
    reward = dataclasses.replace(settings(), weights=weights)
    queries = [
        example(WANT_LEFT), video_query(task="grounding"), question("two"), question("a red mug", task="summary"),
        video_query(),
    ]  # fmt: skip
    groups = [
        [say(1), say(7)], [tell(Answer(objects=(i,)), task="grounding") for i in (1, 2)],
        [in_words("2"), in_words("three")],
        [in_words("a mug", "summary"), parse("?", task="summary", canvas=CANVAS)],
        [tell(Answer(objects=(i,))) for i in (1, 2)],
    ]  # fmt: skip
    canvases = [CANVAS, VIDEO, CANVAS, CANVAS, VIDEO]
    text_scorers = ConstantScorers()
    rewards, _ = score.score(groups, queries, canvases, Segmenter(), reward, text_scorers)
    third = (1 + 1 / 3) / 3
    by_hand = {
        "structure": [[1, 1], [0, 0], [1, 1], [0, 0], [1, 1]], "mask_iou": [[1, 0], [0, 0], [0, 0], [0, 0], [1, third]],
        "box_iou": [[0, 0], [1, third], [0, 0], [0, 0], [0, 0]], "answer": [[0, 0], [0, 0], [1, 0], [0, 0], [0, 0]],
        "rouge_l": [[0, 0], [0, 0], [0, 0], [0.5, 0], [0, 0]], "bleu": [[0, 0], [0, 0], [0, 0], [0.5, 0], [0, 0]],
    }  # fmt: skip
    assert list(rewards.columns) == list(by_hand)
    for name, column in by_hand.items():
        np.testing.assert_allclose(rewards.columns[name], column, rtol=1e-6, err_msg=name)
    np.testing.assert_allclose(
        rewards.total_bg, [[1.5, 0.5], [2, 2 * third], [1.25, 0.25], [0.75, 0], [1.5, 0.5 + third]], rtol=1e-6
    )
    own = {name: np.flatnonzero(rows).tolist() for name, rows in rewards.own.items()}
    assert own == {
        "structure": [0, 2, 4],
        "mask_iou": [0, 4],
        "box_iou": [1],
        "answer": [2],
        "rouge_l": [3],
        "bleu": [3],
    }
    assert [row[1] for row in text_scorers.rows] == ["a mug", None]


def test_alone_or_in_a_batch_a_query_earns_the_same():
    groups = [[say(1), say(1, 7)], [tell(Answer(objects=(i,))) for i in (1, 2)], [in_words("yes"), in_words("no")]]
    queries, canvases = [example(WANT_LEFT), video_query(), question("yes")], [CANVAS, VIDEO, CANVAS]
    reward = settings(structure=0.5, mask_iou=1.0, box_iou=0.25, answer=1.0)
    whole, _ = score.score(groups, queries, canvases, Segmenter(), reward)
    for i in range(3):
        alone, _ = score.score(groups[i : i + 1], queries[i : i + 1], canvases[i : i + 1], Segmenter(), reward)
        np.testing.assert_array_equal(alone.total_bg[0], whole.total_bg[i])


def test_words_need_text_scorers_and_length_needs_tokens():
    with pytest.raises(ValueError, match="pass text_scorers: the columns rouge_l need them"):
        score.score([[in_words("a")]], [question("a")], [CANVAS], Segmenter(), settings(rouge_l=1.0))
    with pytest.raises(ValueError, match="the column length needs tokens_bg"):
        score.score([[in_words("a")]], [question("a")], [CANVAS], Segmenter(), settings(length=1.0))


def test_length_and_repetition():
    reward = settings(length=1.0, repetition=1.0)
    twice = parse(compose(Twin((8, 4), ()), "a b c d a b c d", Answer(text="e")), task="vqa", canvas=CANVAS)
    unsound = parse("a b c d", task="vqa", canvas=CANVAS)
    tokens = np.array([[reward.length_free, reward.length_most, 1]])
    rewards, _ = score.score(
        [[in_words("a"), twice, unsound]], [question("a")], [CANVAS], Segmenter(), reward, None, tokens
    )
    np.testing.assert_allclose(rewards.columns["length"], [[1, 0, 0]])
    np.testing.assert_allclose(rewards.columns["repetition"], [[1, 5 / 6, 0]], rtol=1e-6)


ODD = {
    "an answer in another task's form": compose(TWIN, "x", Answer(text="two")),
    "a track that ends before it begins": compose(TWIN, "x", Answer(objects=(1,))).replace('"4":[4', '"0":[4'),
    "a track that goes back in time": compose(TWIN, "x", Answer(objects=(1,))).replace(
        '"0":[0,0,4,4],"4":[4,0,8,4]', '"4":[4,0,8,4],"0":[0,0,4,4]'
    ),
    "nothing": "",
    "100 kB": compose(TWIN, "x" * 100_000, Answer(objects=(1,))),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_answers_about_a_video_are_scored(name):
    group = [parse(ODD[name], task="segmentation", canvas=VIDEO), tell(Answer(objects=(1,)))]
    rewards, outcomes = score.score([group], [video_query()], [VIDEO], Segmenter(), settings())
    sound = name == "100 kB"
    assert group[0].sound == sound and (rewards.columns["mask_iou"][0] == [sound, 1]).all()
    assert np.isfinite(rewards.total_bg).all() and (outcomes[0][0].masks is None) == (not sound)


@pytest.mark.parametrize(
    "text", ["قطة حمراء", "\u202eabc", "猫" * 30, "x" * 60_000, "x " * 50_000, "\ud800", "é", "🙂", "0" * 5000, "!"]
)
def test_odd_words_are_scored(text):
    queries = [question("yes"), question("3"), question("a red mug"), question("قطة حمراء"), question()]
    template = '<twin>{"size":[8,4],"objects":[]}</twin><think>x</think><answer>{"text":%s}</answer>'
    for raw in (f'"{text}"', '""', '" "', "null", "3", "[]"):
        group = [[parse(template % raw, task="vqa", canvas=CANVAS)] for _ in queries]
        rewards, _ = score.score(
            group,
            queries,
            [CANVAS] * 5,
            Segmenter(),
            settings(structure=0.5, answer=1.0, token_f1=0.1),
            ConstantScorers(),
        )
        assert ((rewards.total_bg >= 0) & (rewards.total_bg <= 1.6)).all() and rewards.columns["answer"][4] == 0
    if text == "قطة حمراء":
        group = [[parse(template % f'"{text}"', task="vqa", canvas=CANVAS)]]
        rewards, _ = score.score(group, queries[3:4], [CANVAS], Segmenter(), settings(answer=1.0))
        assert rewards.columns["answer"] == [[1]]


def test_a_video_of_one_frame_and_targets_of_another_size():
    canvas = Canvas(Frame.PIXEL, (8, 4), (0,))
    twin = Twin((8, 4), (Object(1, "mug", (0, 0, 4, 4)),), frames=(0,))
    track = PATH[:, :1]
    one = video_query(np.repeat(track, 3, 1))
    video = dataclasses.replace(one.visuals[0], frames=one.visuals[0].frames[:1], index=np.array([0]), total=1)
    large = filled(track[0], 40, 80)
    queries = [
        dataclasses.replace(one, visuals=(video,), target=Target(t[0], track[:, 0], masks=t, tracks=track))
        for t in (filled(track[0]), large)
    ]
    still = example(WANT_LEFT)
    queries.append(dataclasses.replace(still, target=dataclasses.replace(still.target, mask=large[0])))
    queries.append(dataclasses.replace(still, target=dataclasses.replace(still.target, ignore=large[0])))
    transcripts = [[tell(Answer(objects=(1,)), canvas=canvas, twin=twin)]] * 2 + [[say(1)]] * 2
    rewards, _ = score.score(transcripts, queries, [canvas] * 2 + [CANVAS] * 2, Segmenter(), settings())
    np.testing.assert_allclose(rewards.columns["mask_iou"], [[1]] * 4, rtol=1e-6)
    np.testing.assert_allclose(rewards.columns["box_iou"], [[1]] * 4, rtol=1e-6)


def test_frames_of_another_number_than_the_target_are_scored():
    short = dataclasses.replace(video_query().visuals[0], frames=video_query().visuals[0].frames[:2])
    query = dataclasses.replace(video_query(), visuals=(short,))
    rewards, _ = score.score([[tell(Answer(objects=(1,)))]], [query], [VIDEO], Segmenter(), settings())
    np.testing.assert_allclose(rewards.columns["mask_iou"], [[2 / 3]], rtol=1e-6)
