"""The completions of a batch: sampled in one go, or around the twins of specialists. All modes ask a policy here."""

from __future__ import annotations

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np

from dtr1_jax import mesh
from dtr1_jax.asking import perceived_twins, requested_work
from dtr1_jax.asking.given_masks import GivenMasks, given_masks
from dtr1_jax.asking.perceived_twins import Insertion, Perception
from dtr1_jax.asking.requested_work import Work
from dtr1_jax.data import completions
from dtr1_jax.data.batches import Batch, shape_of, with_shape
from dtr1_jax.data.closing_tags import closing_table
from dtr1_jax.policies.runtime import Runtime
from dtr1_jax.rewards.answer_regions import RealMasks
from dtr1_jax.rl import rollout as rollouts
from dtr1_jax.rl import staged
from dtr1_jax.run.step_trace import phase
from dtr1_jax.twin.transcript import CLOSING, Transcript
from dtr1_jax.types import Rollout


@dataclasses.dataclass(frozen=True)
class Completions:
    """G completions for each of B queries, the rows of this process.

    Attributes:
      transcripts: B lists of G.
      rollout: their tokens, as numpy.
      seconds: "rollout", the time of the device; with specialists also the time of each of requested_work.PHASES, of
        which "perceive" is the host's and the others are parts of "rollout".
      perception: the twins that specialists made; None where the constructor is another.
      given: for each query the masks of the twin that the data bring; None where the constructor is another.
    """

    transcripts: list[list[Transcript]]
    rollout: Rollout
    seconds: dict[str, float]
    perception: Perception | None = None
    given: list[GivenMasks] | None = None

    @property
    def insertions(self) -> list[list[Insertion]] | None:
        """B lists of G, what was put into the completions; None where no specialist looked."""
        return None if self.perception is None else self.perception.insertions

    @property
    def real(self) -> Sequence[Sequence[RealMasks]] | None:
        """B lists of G, the masks of the twins' objects that specialists found or the data bring; None = neither."""
        if self.given is not None:
            return [[masks] * len(group) for masks, group in zip(self.given, self.transcripts)]
        return self.insertions

    @property
    def work(self) -> Work | None:
        """What specialists were asked for by all completions; None where no specialist looked."""
        return None if self.perception is None else requested_work.added(self.perception.work)


def complete(
    runtime: Runtime, batch: Batch, key: jax.Array, *, group: int, temperature: float, top_k: int = 0,
    top_p: float = 1.0,
) -> Completions:  # fmt: skip
    """Samples G = `group` completions for each query.

    The batch may have any size, and the processes may have different ones. It is padded to the size of the largest, and
    to a multiple of mesh.local_shards; the padding is dropped at the end. All processes must call it, with prompts of
    one shape (`aligned`).

    Args:
      runtime: the policy with its weights; with the constructor "specialists" also the perceiver.
      batch: the B queries.
      key: of the samples.
      group, temperature, top_k, top_p: of the sampling; temperature 0 = greedy.
    """
    sampling = {"group": group, "temperature": temperature, "top_k": top_k, "top_p": top_p}
    return next(complete_in_turn(runtime, [(batch, key)], **sampling))


def complete_in_turn(
    runtime: Runtime, work: Iterable[tuple[Batch, jax.Array]], *, group: int, temperature: float, top_k: int = 0,
    top_p: float = 1.0,
) -> Iterator[Completions]:  # fmt: skip
    """`complete` of several batches, each with its key, in their order. Host and device work at the same time.

    The device has the work of the first batch when this returns. Before a batch's completions are waited for, the
    device has the work of the next batch. So it samples that while specialists look at the pictures of this one, and
    while the caller scores it. Two batches are in flight, three with specialists. The completions are those of
    `complete`, and so are the seconds, which count where the host waits.
    """
    sampling = {"group": group, "temperature": temperature, "top_k": top_k, "top_p": top_p}
    stages = _asking_stages if runtime.policy.style.constructor == "specialists" else _sampling_stages

    def begin(batch: Batch, key: jax.Array) -> Iterator[Completions | None]:
        begun = stages(runtime, batch, key, **sampling)
        next(begun)
        return begun

    begun = itertools.starmap(begin, work)
    return _in_turn(collections.deque(itertools.islice(begun, 1)), begun)


def _in_turn(
    begun: collections.deque[Iterator[Completions | None]], later: Iterator[Iterator[Completions | None]]
) -> Iterator[Completions]:
    """The completions of those in `begun` and of `later`, each of which begins when it is taken."""
    for newest in later:
        yield from _advanced(begun)
        begun.append(newest)
    while begun:
        yield from _advanced(begun)


def _advanced(begun: collections.deque[Iterator[Completions | None]]) -> Iterator[Completions]:
    """Runs the next stage of each, the oldest first; yields, and takes out, the completions of those that end."""
    for stages in list(begun):
        completed = next(stages)
        if completed is not None:
            begun.remove(stages)
            yield completed


def _sampling_stages(
    runtime: Runtime, batch: Batch, key: jax.Array, *, group: int, **sampling: Any
) -> Iterator[Completions | None]:
    """Yields None when the device has its work, then the completions."""
    c, policy, count = runtime.config, runtime.policy, len(batch.examples)
    tokenizer, seconds = policy.style.tokenizer, {}
    with phase("rollout", seconds):
        prompt, number_b = filled_up(runtime, (batch.prompt, batch.numbers))
        rollout = rollouts.sample(
            runtime.params, runtime.lora, prompt, key, policy.banned_v, spec=policy.spec, group=group,
            new_tokens=c.rollout.new_tokens, end=tokenizer.ends, pad=tokenizer.pad, dtype=policy.dtype,
            mesh=runtime.sampling_mesh, number_b=number_b, **sampling,
        )  # fmt: skip
    yield None
    with phase("rollout", seconds):
        rollout = jax.tree.map(lambda x: x[:count], mesh.local(rollout, runtime.mesh))
    given = [given_masks(example) for example in batch.examples] if policy.style.constructor == "given" else None
    yield Completions(completions.read_completions(rollout, batch, policy.style), rollout, seconds, given=given)


def aligned(batch: Batch) -> Batch:
    """The batch with prompts of the largest shape of any process. All processes must call it."""
    return dataclasses.replace(batch, prompt=with_shape(batch.prompt, *mesh.largest(shape_of(batch.prompt))))


def filled_up(runtime: Runtime, tree: Any) -> Any:
    """Copies arrays of rows onto the mesh that samples, each with its last row repeated to a size that it can cut.

    All processes must call it. They may have different numbers of rows, at least one; each is padded to the largest.
    """
    size = mesh.most(len(jax.tree.leaves(tree)[0]))
    size += -size % mesh.local_shards(runtime.mesh)
    return _put(runtime, jax.tree.map(lambda x: _fill_up(x, size), tree))


def _put(runtime, tree):
    """Copies arrays of rows onto the mesh that samples."""
    there = mesh.put_batch(runtime.mesh, tree)
    return there if runtime.rollout_mesh is None else mesh.move_batch(runtime.rollout_mesh, there)


def _asking_stages(
    runtime: Runtime, batch: Batch, key: jax.Array, *, group: int, **sampling: Any
) -> Iterator[Completions | None]:
    """With specialists: yields None when the device writes requests, None when it writes answers, then completions."""
    policy, sizes, weights = runtime.policy, runtime.config.rollout, (runtime.params, runtime.lora)
    if runtime.perceiver is None:
        raise ValueError('the constructor "specialists" needs Runtime.perceiver, got None')
    tokenizer, count, seconds = policy.style.tokenizer, len(batch.examples), {}
    sampling = {"end": tokenizer.ends, **sampling}
    with phase("write_request", seconds):
        prompt, number_b = filled_up(runtime, (batch.prompt, batch.numbers))
        session = staged.write_requests(
            *weights, prompt, key, policy.banned_v, closing_table(tokenizer, policy.spec.vocab, CLOSING),
            spec=policy.spec, group=group, request_tokens=sizes.construct_tokens, new_tokens=sizes.new_tokens,
            twin_tokens=sizes.twin_tokens, pad=tokenizer.pad, dtype=policy.dtype, mesh=runtime.sampling_mesh,
            number_b=number_b, **sampling,
        )  # fmt: skip
    yield None
    with phase("write_request", seconds):
        arrays = (session.token_bgs, session.mask_bgs, session.ended_bg)
        token_bgs, mask_bgs, ended_bg = mesh.local(arrays, runtime.mesh)
    with phase("perceive", seconds):
        texts = [[tokenizer.decode(ids[mask]) for ids, mask in zip(*row)] for row in zip(token_bgs[:count], mask_bgs)]
        perception = perceived_twins.perceive(texts, batch, policy.style, runtime.perceiver, sizes.twin_tokens)
        perception = dataclasses.replace(perception, insertions=_where_open(perception.insertions, ended_bg))
    with phase("insert", seconds):
        for token_bgn, count_bg in _chunks(perception.insertions, len(token_bgs), sizes.twin_tokens):
            part = _put(runtime, (token_bgn, count_bg))
            session = staged.insert_twins(*weights, session, *part, spec=policy.spec, mesh=runtime.sampling_mesh)
        inserted = session.length_bg + 0  # a copy, because write_answers takes over the session
    with phase("write_answer", seconds):
        session = staged.write_answers(
            *weights, session, key, policy.banned_v, spec=policy.spec,
            answer_tokens=sizes.new_tokens - sizes.construct_tokens, mesh=runtime.sampling_mesh, **sampling,
        )  # fmt: skip
    with phase("insert", seconds):
        jax.block_until_ready(inserted)
    yield None
    with phase("write_answer", seconds):
        rollout = jax.tree.map(lambda x: x[:count], staged.local_rollout(session, runtime.mesh))
    seconds["rollout"] = sum(seconds.values()) - seconds["perceive"]
    twins = [[one.twin for one in of_query] for of_query in perception.insertions]
    transcripts = completions.read_completions(rollout, batch, policy.style, twins)
    yield Completions(transcripts, rollout, seconds, perception)


def _where_open(insertions: list[list[Insertion]], ended_bg: np.ndarray) -> list[list[Insertion]]:
    """The same, with nothing in completions that ended before their request did: they take no further token."""
    return [[Insertion() if end else one for one, end in zip(*row)] for row in zip(insertions, ended_bg)]


def _chunks(insertions: Sequence[Sequence[Insertion]], rows: int, twin_tokens: int):
    """Yields (int32[rows, G, chunk] tokens, int32[rows, G] how many of them count), equally often in all processes.

    Rows behind the last query are padding; nothing is put into them.
    """
    group, width = len(insertions[0]), staged.chunk(twin_tokens)
    longest = mesh.most(max(len(one.ids) for of_query in insertions for one in of_query))
    for start in range(0, longest, width):
        token_bgn, count_bg = np.zeros((rows, group, width), np.int32), np.zeros((rows, group), np.int32)
        for b, of_query in enumerate(insertions):
            for g, one in enumerate(of_query):
                part = one.ids[start : start + width]
                token_bgn[b, g, : len(part)], count_bg[b, g] = part, len(part)
        yield token_bgn, count_bg


def _fill_up(x: np.ndarray, size: int) -> np.ndarray:
    """Repeats the last row until there are `size` rows."""
    return np.concatenate([x, np.repeat(x[-1:], size - len(x), 0)]) if len(x) < size else x
