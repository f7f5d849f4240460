"""Dynamic sampling over all processes of a run: which groups fill the batch, and the groups that change their process.

Every process sees the task of each sampled group and whether it has spread, so all decide alike, and the batch is the
same on any number of processes. A group that fills a place of another process is sent there, with prompt and rewards.
"""

from __future__ import annotations

import collections
import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from dtr1_jax.twin.transcript import Transcript
from dtr1_jax.types import Example

Exchange = Callable[[bytes], list[bytes]]  # own message -> those of all shares in their order (mesh.of_shares)


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the run log needs of a query and its G completions. Texts are hostile.

    Attributes:
      task: of the query, one of types.TASKS.
      query: its words.
      text: the first completion.
      fault: the first fault of the first completion; "" = it has none.
      sound, reasoned: G flags, those of each transcript.
    """

    task: str
    query: str
    text: str
    fault: str
    sound: tuple[bool, ...]
    reasoned: tuple[bool, ...]


@dataclasses.dataclass(frozen=True)
class Group:
    """What decides whether a sampled group is in the batch.

    Attributes:
      task: of its query.
      has_spread: whether its rewards differ.
    """

    task: str
    has_spread: bool


def asked(example: Example, transcripts: Sequence[Transcript]) -> Asked:
    """What the log needs of a query and its completions."""
    first = transcripts[0]
    return Asked(
        example.task, example.query, first.text, first.faults[0].message if first.faults else "",
        tuple(t.sound for t in transcripts), tuple(t.reasoned for t in transcripts),
    )  # fmt: skip


def of_all(exchange: Exchange, queries: Sequence[Asked], has_spread_b: np.ndarray) -> list[Group]:
    """The groups of a round of all processes, in the order of the whole batch. All processes must call it."""
    message = json.dumps([[query.task, bool(has_spread)] for query, has_spread in zip(queries, has_spread_b)])
    return [Group(*values) for part in exchange(message.encode()) for values in json.loads(part)]


def is_enough(groups: Sequence[Group], size: int) -> bool:
    """Whether each task has as many groups with spread as places among the first `size` groups, the batch."""
    informative = collections.Counter(group.task for group in groups if group.has_spread)
    return all(informative[task] >= count for task, count in collections.Counter(g.task for g in groups[:size]).items())


def order(groups: Sequence[Group], size: int) -> list[int]:
    """The number of the group at each of the `size` places of the batch; no group is there twice.

    Each place keeps its task, so each task keeps its share of the batch. Groups with spread come first; where a task
    has too few of them, its other groups fill the places.

    With groups of the tasks [vqa, summary, vqa, vqa], of which the last two have spread, order(groups, 2) == [2, 1].
    """
    first = sorted(range(len(groups)), key=lambda number: not groups[number].has_spread)  # the sort is stable
    queues = {g.task: iter([n for n in first if groups[n].task == g.task]) for g in groups[:size]}
    return [next(queues[group.task]) for group in groups[:size]]


def own_rows(
    exchange: Exchange, share: tuple[int, int], numbers: Sequence[int], tree: Any, queries: Sequence[Asked]
) -> tuple[Any, list[Asked]]:
    """The rows of this process in the refilled batch. All processes must call it.

    With B groups in a round of all processes, group r of round i has the number i * B + r. Each of the k shares sampled
    B / k neighbouring groups of each round, and gets as many neighbouring places of the batch.

    Args:
      exchange: brings the messages of all shares together.
      share: (number of this process' share, k).
      numbers: B numbers of groups, see `order`.
      tree: numpy arrays with the rows that this process sampled, round after round on the first axis. The shapes behind
        that axis must be the same in all processes.
      queries: the same rows, for the log.

    Raises ValueError if a message does not fit the arrays of this process.
    """
    index, count = share
    size = len(numbers) // count
    leaves, structure = jax.tree.flatten(tree)
    sent = _sent(numbers, count)
    places = numbers[index * size : (index + 1) * size]
    received: dict[int, tuple[list[np.ndarray], Asked]] = {}
    for turn in range(max(map(len, sent))):  # One row at a time: no process holds the rows of all others.
        going = [_local(n, len(numbers), size) for n in sent[index][turn : turn + 1]]
        parts = exchange(b"".join(_message([x[row] for x in leaves], queries[row]) for row in going))
        for numbers_of_share, part in zip(sent, parts):
            if turn < len(numbers_of_share) and numbers_of_share[turn] in places:
                received[numbers_of_share[turn]] = _read(part, leaves)
    rows = []
    for number in places:
        local = _local(number, len(numbers), size)
        rows.append(received[number] if number in received else ([x[local] for x in leaves], queries[local]))
    stacked = [np.stack([arrays[i] for arrays, _ in rows]) for i in range(len(leaves))]
    return jax.tree.unflatten(structure, stacked), [query for _, query in rows]


def _sent(numbers: Sequence[int], count: int) -> list[list[int]]:
    """For each of `count` shares, the numbers of its groups that fill places of other shares."""
    size, sent = len(numbers) // count, [[] for _ in range(count)]
    for place, number in enumerate(numbers):
        owner = number % len(numbers) // size
        if owner != place // size:
            sent[owner].append(number)
    return sent


def _local(number: int, batch: int, size: int) -> int:
    """The row, in the arrays of the process that sampled it, of a group of `batch` in a round, `size` of each share."""
    return number // batch * size + number % size


def _message(arrays: Sequence[np.ndarray], query: Asked) -> bytes:
    words = json.dumps(dataclasses.asdict(query)).encode()
    return b"".join([len(words).to_bytes(8, "big"), words, *(np.asarray(x).tobytes() for x in arrays)])


def _read(message: bytes, leaves: Sequence[np.ndarray]) -> tuple[list[np.ndarray], Asked]:
    """The arrays and the query of a message; `leaves` have the same shapes behind their first axis."""
    start = 8 + int.from_bytes(message[:8], "big")
    values = json.loads(message[8:start])
    expected = sum(x[0].nbytes for x in leaves)
    if len(message) - start != expected:
        raise ValueError(f"a group from another process has {len(message) - start} bytes, expected {expected}")
    arrays = []
    for x in leaves:
        shape = x.shape[1:]
        part = np.frombuffer(message, x.dtype, int(np.prod(shape)), start)
        arrays.append(part.reshape(shape))
        start += part.nbytes
    return arrays, Asked(**values | {name: tuple(values[name]) for name in ("sound", "reasoned")})
