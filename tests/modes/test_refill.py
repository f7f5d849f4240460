"""The refilled batch is the same on any number of processes, which are mostly threads here, and by hand.

As a program it is one process of `test_two_real_processes`; its argument is the start of the name of the file that it
writes.
"""

import dataclasses
import json
import os
import random
import sys
import threading
import types as pytypes

import jax
import numpy as np
import pytest
import real_processes
import tiny
from hypothesis import given
from hypothesis import strategies as st

from dtr1_jax import config, mesh
from dtr1_jax.modes import experience, refill, step_numbers
from dtr1_jax.rewards import score
from dtr1_jax.types import TASKS, Images, Prompt, Rewards, Rollout

G, S, P = 2, 3, 4
Group = refill.Group
OTHERS = tuple(name for name in score.COLUMNS if name != "structure")


def sampled(rng: random.Random, round_number: int, size: int, flat: float) -> experience.Experience:
    """A round of `size` groups; query b has the number 100 * round + b in all its arrays and in its texts."""
    number_b = 100 * round_number + np.arange(size)
    tasks = [rng.choice(TASKS[:2]) for _ in number_b]

    def filled(dtype, *shape):
        return np.broadcast_to(number_b.reshape(-1, *(1,) * len(shape)), (size, *shape)).astype(dtype)

    total_bg = np.array([[0.5, 0.5 + (rng.random() > flat)] for _ in number_b], np.float32)
    images = Images(filled(np.float32, 5, 2), filled(np.int32, 5, 2), None, None, filled(np.int32, 5))
    width = P + 2 * round_number
    return experience.Experience(
        asked=[
            refill.Asked(task, f"query {n} \ud800", f"text {n}", "", (True, bool(n % 2)), (False, bool(n % 3)))
            for task, n in zip(tasks, number_b.tolist())
        ],
        prompt=Prompt(
            filled(np.int32, width), filled(bool, width), filled(np.int32, width, 3), filled(np.int32, width),
            filled(np.int32), images,
        ),
        rollout=Rollout(filled(np.int32, G, S), filled(bool, G, S), filled(np.float32, G, S), filled(bool, G)),
        rewards=Rewards({"structure": total_bg}, total_bg, {"structure": np.ones(size, bool)}),
        seconds={"data": 0.0, "rollout": 1.0, "score": 0.5}, tokens=6 * size, segmenter_failures=0,
    )  # fmt: skip


def share_of(e: experience.Experience, rows: slice, columns: tuple[str, ...]) -> experience.Experience:
    """What one process sampled of a round; its rewards have `columns` too, of which no query has one."""
    cut = {name: jax.tree.map(lambda x: x[rows], getattr(e, name)) for name in ("prompt", "rollout")}
    rewards = jax.tree.map(lambda x: x[rows], e.rewards)
    none = np.zeros(len(rewards.total_bg), bool)
    rewards = Rewards(
        rewards.columns | {name: np.zeros_like(rewards.total_bg) for name in columns}, rewards.total_bg,
        rewards.own | dict.fromkeys(columns, none),
    )  # fmt: skip
    return dataclasses.replace(e, asked=e.asked[rows], rewards=rewards, tokens=6 * len(rewards.total_bg), **cut)


class Processes:
    """`count` processes of one run, each a thread, that send each other messages."""

    def __init__(self, count: int):
        self.count, self.here, self._barrier = count, threading.local(), threading.Barrier(count)
        self._messages: list[bytes] = [b""] * count
        self.sizes: list[int] = []

    def of_shares(self, _, message: bytes) -> list[bytes]:
        self._messages[self.here.rank] = message
        self._barrier.wait(60)
        got = list(self._messages)
        if self.here.rank == 0:
            self.sizes.append(max(map(len, got)))
        self._barrier.wait(60)
        return got

    def run(self, work) -> list:
        results: list = [None] * self.count

        def act(rank):
            self.here.rank = rank
            results[rank] = work(rank)

        threads = [threading.Thread(target=act, args=(rank,)) for rank in range(self.count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        return results


def collected(monkeypatch, rounds, count: int, resample: int):
    """(the experience of each of `count` processes that share these rounds, how many batches each asked for)."""
    processes, asked = Processes(count), [0] * count
    monkeypatch.setattr(experience.mesh, "of_shares", processes.of_shares)
    monkeypatch.setattr(experience.mesh, "share_of_rows", lambda _: (processes.here.rank, count))
    monkeypatch.setattr(experience.jax, "process_count", lambda: count)

    def begin(runtime, batch, key):
        asked[processes.here.rank] += 1
        return lambda: batch

    monkeypatch.setattr(experience, "begin_gathering", begin)
    runtime = pytypes.SimpleNamespace(
        config=pytypes.SimpleNamespace(grpo=pytypes.SimpleNamespace(resample=resample)), mesh=None
    )

    def work(rank):
        size = len(rounds[0].asked) // count
        rows = slice(rank * size, (rank + 1) * size)
        own = [share_of(e, rows, OTHERS[rank : rank + 1]) for e in rounds]
        return experience.begin_collecting(runtime, iter(own), jax.random.key(0))()

    got = processes.run(work)
    monkeypatch.undo()
    return got, asked, processes.sizes


def together(parts: list[experience.Experience]) -> dict[str, np.ndarray]:
    """The rows of all processes by name."""
    trees = [(e.prompt, e.rollout, e.rewards.total_bg, e.rewards.columns["structure"]) for e in parts]
    whole = jax.tree.map(lambda *x: np.concatenate(x), *trees)
    return {jax.tree_util.keystr(path): x for path, x in jax.tree_util.tree_leaves_with_path(whole)}


@pytest.mark.parametrize("seed, flat, resample", [(0, 0.5, 3), (1, 0.8, 2), (2, 0.95, 2), (3, 1.0, 1), (4, 0.1, 2)])
def test_any_number_of_processes_makes_the_same_batch(monkeypatch, seed, flat, resample):
    rng = random.Random(seed)
    rounds = [sampled(rng, i, 8, flat) for i in range(1 + resample)]
    ((one,), (count,), _) = collected(monkeypatch, rounds, 1, resample)
    numbers = [int(query.query.split()[1]) for query in one.asked]
    assert len(set(numbers)) == 8 and [q.task for q in one.asked] == [q.task for q in rounds[0].asked]
    assert one.prompt.next_b.tolist() == one.rollout.token_bgs[:, 0, 0].tolist() == numbers
    for processes in (2, 4, 8):
        parts, counts, sizes = collected(monkeypatch, rounds, processes, resample)
        assert counts == [count] * processes
        assert [query for part in parts for query in part.asked] == one.asked
        for name, array in together(parts).items():
            assert array.dtype == together([one])[name].dtype
            np.testing.assert_array_equal(array, together([one])[name], err_msg=name)
        assert sum(part.tokens for part in parts) == one.tokens == 48 * count
        assert max(sizes) < 3000  # a row at a time, however many move


def test_two_real_processes(monkeypatch, tmp_path):
    tiny.finish(real_processes.launch(__file__, [str(tmp_path / "rows")], 2, 1), 600)
    (one,), _, _ = collected(monkeypatch, real_rounds(), 1, 2)
    parts = [np.load(tmp_path / f"rows{rank}.npz") for rank in (0, 1)]
    queries = [dataclasses.asdict(query) for query in one.asked]
    sampled_by_0 = [int(query["query"].split()[1]) % 100 < 4 for query in queries]
    assert sampled_by_0 != [True] * 4 + [False] * 4  # groups change their process
    assert [query for part in parts for query in json.loads(str(part["asked"]))] == json.loads(json.dumps(queries))
    for name, array in together([one]).items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), array, err_msg=name)


def real_rounds() -> list[experience.Experience]:
    return [sampled(random.Random(10 + i), i, 8, 0.7) for i in range(3)]


def work_in_a_process(out: str) -> None:
    """`experience.begin_collecting` of a real process of two, with the rows that it would have sampled."""
    rank = int(os.environ["JAX_PROCESS_ID"])
    jax.distributed.initialize(os.environ["JAX_COORDINATOR_ADDRESS"], 2, rank)
    rows = slice(4 * rank, 4 * rank + 4)
    own = iter([share_of(e, rows, OTHERS[rank : rank + 1]) for e in real_rounds()])
    experience.begin_gathering = lambda runtime, batch, key: lambda: batch
    runtime = pytypes.SimpleNamespace(
        config=pytypes.SimpleNamespace(grpo=pytypes.SimpleNamespace(resample=2)), mesh=mesh.make(config.Mesh(2, 1, 1))
    )
    got = experience.begin_collecting(runtime, own, jax.random.key(0))()
    asked = json.dumps([dataclasses.asdict(query) for query in got.asked])
    np.savez(f"{out}{rank}.npz", asked=asked, **together([got]))


def test_the_numbers_of_the_log_are_the_same(monkeypatch):
    rounds = [sampled(random.Random(7), i, 8, 0.7) for i in range(3)]
    (one,), _, _ = collected(monkeypatch, rounds, 1, 2)
    parts, _, sizes = collected(monkeypatch, rounds, 2, 2)
    assert len(sizes) > 3  # three rounds are compared, and rows move
    processes = Processes(2)
    monkeypatch.setattr(step_numbers.mesh, "of_shares", processes.of_shares)
    got = processes.run(lambda rank: step_numbers.numbers(parts[rank]))
    monkeypatch.undo()
    a, b, want = tiny.timeless([*got, step_numbers.numbers(one)])
    assert a == b == want


def test_off_it_sends_nothing(monkeypatch):
    _, counts, sizes = collected(monkeypatch, [sampled(random.Random(0), 0, 8, 1.0)], 2, 0)
    assert counts == [1, 1] and sizes == []


def test_order_by_hand():
    groups = [Group(*x) for x in (("vqa", False), ("summary", False), ("vqa", True), ("vqa", True))]
    assert refill.order(groups, 2) == [2, 1]
    assert not refill.is_enough(groups, 2) and refill.is_enough([*groups, Group("summary", True)], 2)
    assert refill.order([*groups, Group("summary", True)], 2) == [2, 4]
    assert refill.is_enough(groups[2:], 2)


@given(st.integers(1, 6), st.lists(st.tuples(st.sampled_from(TASKS), st.booleans()), min_size=6, max_size=24))
def test_the_batch_keeps_its_tasks_and_takes_spread_first(size, values):
    groups = [Group(*value) for value in values]
    numbers = refill.order(groups, size)
    assert len(set(numbers)) == len(numbers) == size
    assert [groups[n].task for n in numbers] == [g.task for g in groups[:size]]
    for task in TASKS:
        left = [n for n, g in enumerate(groups) if g.task == task and g.has_spread and n not in numbers]
        flat = [n for n in numbers if groups[n].task == task and not groups[n].has_spread]
        assert not (left and flat)
    enough = all(groups[n].has_spread for n in numbers)
    assert refill.is_enough(groups, size) == enough


def test_each_share_sends_what_others_need():
    """Two rounds of four groups in two processes: the first sampled 0, 1, 4, 5, the second 2, 3, 6, 7."""
    assert refill._sent([5, 1, 4, 7], 2) == [[4], []]
    assert refill._sent([7, 6, 2, 0], 2) == [[0], [7, 6]]
    assert [refill._local(n, 4, 2) for n in (0, 1, 4, 5, 2, 3, 6, 7)] == [0, 1, 2, 3] * 2


def test_rows_of_another_shape_are_refused():
    tree, query = np.zeros((2, 3), np.float32), refill.Asked("vqa", "q", "t", "", (True,), (True,))
    other = refill._message([np.zeros(2, np.float32)], query)
    with pytest.raises(ValueError, match="a group from another process has 8 bytes, expected 12"):
        refill.own_rows(lambda own: [own, other], (0, 2), [1, 0], tree, [query] * 2)


if __name__ == "__main__":
    work_in_a_process(sys.argv[1])
