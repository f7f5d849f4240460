"""Groups without spread are replaced, rows stay together, and the numbers are those of a hand calculation."""

import dataclasses
import types as pytypes

import jax
import numpy as np
import pytest

from dtr1_jax.modes import experience, refill, step_numbers
from dtr1_jax.run import run_log
from dtr1_jax.twin.schema import Fault
from dtr1_jax.twin.transcript import Transcript
from dtr1_jax.types import Example, Prompt, Rewards, Rollout, Target

G, S = 2, 3
FLAT, SPREAD = (0.5, 0.5), (0.0, 1.0)


def transcript(text, *faults, thought=None):
    return Transcript(text, {}, None, thought, None, tuple(Fault("transcript", f) for f in faults))


def asked(query, *transcripts, task="segmentation"):
    target = Target(np.zeros((1, 1), bool), np.zeros((0, 4), np.float32))
    return refill.asked(Example("uid", np.zeros((1, 1, 3), np.uint8), query, task, target), transcripts)


def made(number, rewards):
    """One round: query i of it carries the number 10 * number + i in every array and in its texts."""
    b = len(rewards)
    names = 10 * number + np.arange(b)

    def filled(*shape):
        return np.broadcast_to(names.reshape(b, *(1,) * len(shape)), (b, *shape)).copy()

    total = np.array(rewards, np.float32)
    return experience.Experience(
        asked=[asked(f"query {n}", *(transcript(f"{n} {g}") for g in range(G))) for n in names],
        prompt=Prompt(filled(4), filled(4) >= 0, filled(4, 3), filled(4), filled(), None),
        rollout=Rollout(filled(G, S), filled(G, S) >= 0, -1.0 * filled(G, S), filled(G) >= 0),
        rewards=Rewards({"structure": total, "mask_iou": filled(G) + 0.0}, total),
        seconds={"data": 0.0, "rollout": 1.0, "score": 0.5},
        tokens=6 * b,
        segmenter_failures=number,
    )


def described(e):
    return step_numbers.describe(step_numbers.gather(e))


def by_task(e):
    return step_numbers.by_task(step_numbers.gather(e))


def collect(monkeypatch, rounds, resample):
    """(what `collect` makes of these rounds, the batches and keys it asked for)."""
    asked = []

    def begin(runtime, batch, key):
        asked.append((batch, jax.random.key_data(key).tolist()))
        return lambda: rounds[batch]

    monkeypatch.setattr(experience, "begin_gathering", begin)
    c = pytypes.SimpleNamespace(grpo=pytypes.SimpleNamespace(resample=resample))
    runtime = pytypes.SimpleNamespace(config=c, mesh=None)
    return experience.begin_collecting(runtime, iter(range(len(rounds))), jax.random.key(0))(), asked


def names(e):
    """The numbers of the queries, after checking that everything of a query is still in one row."""
    out = [int(x.query.split()[1]) for x in e.asked]
    expected = np.array(out)
    assert [x.text for x in e.asked] == [f"{n} 0" for n in out]
    for x in (
        e.prompt.token_bp,
        e.prompt.next_b,
        e.rollout.token_bgs,
        -e.rollout.logp_bgs,
        e.rewards.columns["mask_iou"],
    ):
        assert isinstance(x, np.ndarray) and (x == expected.reshape(-1, *(1,) * (x.ndim - 1))).all()
    assert (e.rewards.columns["structure"] == e.rewards.total_bg).all()
    return out


def test_one_round_is_enough(monkeypatch):
    rounds = [made(0, [SPREAD, SPREAD]), made(1, [SPREAD, SPREAD])]
    got, asked = collect(monkeypatch, rounds, 3)
    assert got.asked is rounds[0].asked and got.rollout is rounds[0].rollout and len(asked) == 1
    assert got.seconds.keys() == {"data", "rollout", "score"}


def test_without_resampling_flat_groups_stay(monkeypatch):
    got, asked = collect(monkeypatch, [made(0, [FLAT, SPREAD]), made(1, [SPREAD, SPREAD])], 0)
    assert names(got) == [0, 1] and len(asked) == 1


def test_flat_groups_are_replaced(monkeypatch):
    rounds = [made(0, [FLAT, SPREAD, FLAT]), made(1, [FLAT, FLAT, SPREAD]), made(2, [SPREAD, SPREAD, SPREAD])]
    got, asked = collect(monkeypatch, rounds, 5)
    assert names(got) == [1, 12, 20]
    assert [batch for batch, _ in asked] == [0, 1, 2] and len({str(key) for _, key in asked}) == 3
    assert got.rewards.total_bg.tolist() == [list(SPREAD)] * 3
    assert (
        got.seconds | {"data": 0} == {"data": 0, "rollout": 3.0, "score": 1.5}
        and got.tokens == 54
        and got.segmenter_failures == 3
    )
    assert [e.tokens for e in rounds] == [18] * 3  # the rounds themselves are as they were


@pytest.mark.parametrize("resample", [1, 2])
def test_too_few_with_spread(monkeypatch, resample):
    rounds = [made(0, [FLAT, FLAT, SPREAD]), made(1, [FLAT, SPREAD, FLAT]), made(2, [FLAT, FLAT, FLAT])]
    got, asked = collect(monkeypatch, rounds, resample)
    assert names(got) == [2, 11, 0] and len(asked) == 1 + resample


def test_no_spread_at_all(monkeypatch):
    rounds = [made(i, [FLAT, (0.0, 0.0)]) for i in range(3)]
    got, _ = collect(monkeypatch, rounds, 2)
    assert names(got) == [0, 1] and described(got)["train/groups_without_spread"] == 1


def test_unscored_rewards_are_no_spread(monkeypatch):
    nan = float("nan")
    got, _ = collect(monkeypatch, [made(0, [(nan, 1.0), (nan, nan)]), made(1, [SPREAD, SPREAD])], 1)
    assert names(got) == [10, 11]


def example():
    e = made(0, [(0.0, 1.0), (0.25, 0.25)])
    mask = np.array([[[1, 1, 1], [1, 0, 0]], [[1, 1, 0], [1, 1, 0]]], bool)
    logp = np.where(mask, -0.5, -99.0)
    logp[0, 0, 0] = -2.5
    rollout = Rollout(e.rollout.token_bgs, mask, logp, np.array([[False, True], [True, True]]))
    queries = [
        asked("query 0", transcript("one", "no twin"), transcript("two")),
        asked("query 1", transcript("a ``` b", thought=" "), transcript("four", thought="hm")),
    ]
    rewards = Rewards({"structure": np.array([[0.0, 1.0], [1.0, 1.0]])}, e.rewards.total_bg)
    return dataclasses.replace(
        e, rollout=rollout, asked=queries, rewards=rewards, tokens=20, segmenter_failures=1, text_failures=2,
        seconds={"data": 0.1, "rollout": 2.0, "score": 0.5},
    )  # fmt: skip


def test_describe_by_hand():
    assert described(example()) == pytest.approx({
        "train/reward": 0.375, "train/reward_std": 0.25, "train/groups_without_spread": 0.5,
        "train/length": 2.0, "train/length_max": 3.0, "train/truncated": 0.25, "train/sound": 0.75,
        "train/reasoned": 0.25,
        "train/entropy": (7 * 0.5 + 2.5) / 8, "train/segmenter_failed": 1.0, "train/unread": 2.0,
        "train/data_s": 0.1, "train/rollout_s": 2.0, "train/score_s": 0.5, "train/rollout_tokens_per_s": 10.0,
        "train/structure": 0.75, "train/structure_std": 0.25,
    })  # fmt: skip


def test_table():
    e = example()
    shown = experience.samples(e)
    assert shown.index("### query 0") < shown.index("```\none\n```") < shown.index("structure 0.00")
    assert shown.index("fault: no twin") < shown.index("### query 1")
    assert "````\na ``` b\n````\n\nstructure 1.00" in shown  # a longer fence than the policy's own
    assert shown.count("fault:") == 1 and "four" not in shown
    assert "query 1" not in experience.samples(e, most=1)


def test_hostile_completions_and_queries_are_shown_harmlessly(tmp_path):
    evil = "\x1b]0;x\x07\r\u202e\ud800 <img src=x onerror=alert(1)> [a](javascript:x) # `b` **c**\n```\n# d"
    e = example()
    queries = [dataclasses.replace(x, query=evil, text=evil, fault=evil) for x in e.asked]
    shown = experience.samples(dataclasses.replace(e, asked=queries))
    with run_log.RunLog(tmp_path) as log:
        log.write_text(1, "samples", shown)
        log.write_text(2, "samples", evil)  # also what is no table
    text = (tmp_path / "samples" / "step_000001.md").read_text("utf-8")
    assert text == shown and r"\x1b]0;x\x07\x0d\u202e\ud800" in text
    for name in ("step_000001.md", "step_000002.md"):
        assert not set("\x1b\x07\r\u202e\ud800") & set((tmp_path / "samples" / name).read_text("utf-8"))
    blocks = text.split("````\n")
    assert len(blocks) == 2 * len(queries) + 1  # each completion is in one code block
    for outside in blocks[::2]:
        assert "<img" not in outside and "[a]" not in outside and "\n#" not in outside.replace("\n### ", "\n")


def mix(e, *tasks):
    return dataclasses.replace(e, asked=[dataclasses.replace(x, task=t) for x, t in zip(e.asked, tasks)])


V, Q, U = "vqa", "segmentation", "summary"


def test_a_group_is_replaced_by_one_of_its_own_task(monkeypatch):
    rounds = [
        mix(made(0, [FLAT, SPREAD, FLAT, FLAT]), V, V, Q, U),
        mix(made(1, [SPREAD, SPREAD, SPREAD, FLAT]), Q, Q, Q, U),
        mix(made(2, [FLAT, FLAT, SPREAD, SPREAD]), V, Q, U, V),
        mix(made(3, [SPREAD] * 4), V, V, V, V),
    ]
    got, asked = collect(monkeypatch, rounds, 5)
    assert len(asked) == 3  # not yet enough after two rounds, though four groups have spread
    assert names(got) == [1, 23, 10, 22] and [x.task for x in got.asked] == [V, V, Q, U]
    got, asked = collect(monkeypatch, rounds, 1)
    assert names(got) == [1, 0, 10, 3]  # its own groups without spread fill up, and not those of other tasks
    assert [x.task for x in got.asked] == [V, V, Q, U] and len(asked) == 2


def test_each_task_keeps_its_place(monkeypatch):
    """So that minibatches stay as mixed as they were."""
    rounds = [mix(made(i, [SPREAD if i else FLAT] * 4), V, Q, V, Q) for i in range(2)]
    got, _ = collect(monkeypatch, rounds, 1)
    assert names(got) == [10, 11, 12, 13] and [x.task for x in got.asked] == [V, Q, V, Q]


def test_numbers_by_task_by_hand():
    e = mix(example(), V, U)
    columns = e.rewards.columns | {"token_f1": np.array([[0.0] * 2, [0.5, 1.0]])}
    rewards = Rewards(columns, e.rewards.total_bg, {name: np.array([name != "token_f1", True]) for name in columns})
    assert by_task(dataclasses.replace(e, rewards=rewards)) == pytest.approx({
        "train/vqa/reward": 0.5, "train/vqa/reward_std": 0.5, "train/vqa/groups_without_spread": 0.0,
        "train/vqa/length": 2.0, "train/vqa/sound": 0.5, "train/vqa/structure": 0.5,
        "train/summary/reward": 0.25, "train/summary/reward_std": 0.0, "train/summary/groups_without_spread": 1.0,
        "train/summary/length": 2.0, "train/summary/sound": 1.0, "train/summary/structure": 1.0,
        "train/summary/token_f1": 0.75,
    })  # fmt: skip
    assert by_task(example()) == {}


def test_numbers_are_those_of_all_processes(monkeypatch):
    """Each process has two of four queries. The tasks of one are not those of the other."""
    columns = {"answer": np.array([[0.0, 1.0], [0.5, 0.5]]), "structure": np.array([[0.25, 0.75], [1.0, 1.0]])}
    first = dataclasses.replace(mix(example(), V, U), rewards=Rewards(columns, example().rewards.total_bg))
    second = dataclasses.replace(
        mix(made(3, [SPREAD, (1.0, 1.0)]), Q, Q), seconds={"data": 0.3, "rollout": 4.0, "score": 1.5}, tokens=30
    )
    whole = step_numbers.numbers(experience._join(first, second))
    messages = []
    monkeypatch.setattr(step_numbers.mesh, "of_shares", lambda mesh, message: messages.append(message) or [message])
    for e in (first, second):
        step_numbers.gather(e)
    monkeypatch.setattr(step_numbers.mesh, "of_shares", lambda mesh, message: messages)
    got = [step_numbers.numbers(e) for e in (first, second)]
    assert got[0] == got[1]
    assert got[0].pop("train/rollout_s") == 3.0 and whole.pop("train/rollout_s") == 6.0  # they sample at the same time
    assert got[0].pop("train/data_s") == pytest.approx(0.2) and whole.pop("train/data_s") == pytest.approx(0.4)
    assert got[0].pop("train/score_s") == 1.0 and whole.pop("train/score_s") == 2.0
    assert got[0].pop("train/rollout_tokens_per_s") == 50 / 3 and whole.pop("train/rollout_tokens_per_s") == 50 / 6
    assert got[0] == whole and got[0]["train/vqa/reward"] == 0.5 and got[0]["train/segmentation/reward"] == 0.75


def test_columns_of_several_tasks():
    """Means are over the queries whose task has the column, also where groups of other tasks replace flat ones."""
    first, second = made(0, [SPREAD, FLAT]), made(1, [SPREAD, SPREAD])
    columns = {"mask_iou": np.array([[0.25, 0.75], [0, 0]]), "answer": np.array([[0, 0], [1.0, 1.0]])}
    own = {"mask_iou": np.array([True, False]), "answer": np.array([False, True])}
    first = dataclasses.replace(first, rewards=Rewards(columns, first.rewards.total_bg, own))
    words = {"answer": np.array([[0.0, 1.0], [0.5, 0.5]])}
    second = dataclasses.replace(second, rewards=Rewards(words, second.rewards.total_bg))
    numbers = described(first)
    assert (numbers["train/mask_iou"], numbers["train/mask_iou_std"], numbers["train/answer"]) == (0.5, 0.25, 1.0)
    both = experience._join(first, second).rewards
    assert both.own["mask_iou"].tolist() == [True] + [False] * 3 and both.own["answer"].tolist() == [False] + [True] * 3
    assert both.columns["mask_iou"].tolist() == [[0.25, 0.75]] + [[0, 0]] * 3
    assert described(experience._join(first, second))["train/answer"] == pytest.approx(2 / 3)
    shown = experience.samples(first).split("### ")
    assert "mask_iou 0.25" in shown[1] and "answer" not in shown[1] and "mask_iou" not in shown[2]
