"""Collects the experience of a step: sampled completions, their transcripts and their rewards."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator

import jax
import numpy as np

from dtr1_jax import mesh, plain_text
from dtr1_jax.asking import requested_work
from dtr1_jax.asking.complete import Completions, aligned, complete_in_turn
from dtr1_jax.asking.requested_work import Work
from dtr1_jax.data.batches import Batch, join_prompts
from dtr1_jax.evaluation import blind
from dtr1_jax.modes import refill
from dtr1_jax.policies.runtime import Runtime
from dtr1_jax.rewards import score
from dtr1_jax.rl import advantages
from dtr1_jax.run.step_trace import phase
from dtr1_jax.types import Prompt, Rewards, Rollout


@dataclasses.dataclass(frozen=True)
class Experience:
    """B queries with G scored completions each; arrays are numpy and hold the rows of this process.

    Attributes:
      asked: the B queries, with what the log needs of their completions.
      prompt: the B prompts.
      rollout: the completions.
      rewards: their reward columns and totals.
      seconds: "data", the time spent waiting for queries; "rollout", that of sampling; with specialists, that of each
        of requested_work.PHASES; "score", that of scoring transcripts and asking blind.
      tokens: all tokens that were sampled, also those of groups that dynamic sampling threw away.
      segmenter_failures: completions for which the segmenter made no mask.
      text_failures: completions whose words no text scorer could score.
      work: what specialists were asked for in all rollouts of the step; None where the constructor is another.
    """

    asked: list[refill.Asked]
    prompt: Prompt
    rollout: Rollout
    rewards: Rewards
    seconds: dict[str, float]
    tokens: int
    segmenter_failures: int
    text_failures: int = 0
    work: Work | None = None


def begin_gathering(runtime: Runtime, batch: Batch, key: jax.Array) -> Callable[[], Experience]:
    """Samples G completions for each query of the batch; the result waits for them and scores them.

    The batch is cut into rollout.parts along its queries: the device samples one while the host scores another. It has
    the work of the first when this returns. The samples are the same for any number of parts. All processes must call
    this and the result.
    """
    c = runtime.config
    parts = _cut(aligned(batch), c.rollout.parts)
    sampling = {name: getattr(c.rollout, name) for name in ("group", "temperature", "top_k", "top_p")}
    completed = complete_in_turn(runtime, [(part, key) for part in parts], **sampling)
    scored = (_scored(runtime, part, of_part, key) for part, of_part in zip(parts, completed))
    return lambda: functools.reduce(_join, scored)


def _cut(batch: Batch, parts: int) -> list[Batch]:
    """The batch cut along its queries into `parts` batches of equal size, with the same padding."""
    size = len(batch.examples) // parts
    rows = [slice(start, start + size) for start in range(0, len(batch.examples), size)]
    return [
        Batch(
            batch.examples[x],
            batch.canvases[x],
            jax.tree.map(lambda array, x=x: array[x], batch.prompt),
            batch.numbers[x],
        )
        for x in rows
    ]


def _scored(runtime: Runtime, batch: Batch, completed: Completions, key: jax.Array) -> Experience:
    c, text_scorers = runtime.config, runtime.text_scorers
    transcripts, rollout, seconds = completed.transcripts, completed.rollout, {"data": 0.0, **completed.seconds}
    failures_before = text_scorers.failures if text_scorers else 0
    with phase("score", seconds):
        blind_bg = blind.blind_scores(
            runtime, batch, transcripts, jax.random.fold_in(key, 1), temperature=c.rollout.temperature,
            top_k=c.rollout.top_k, top_p=c.rollout.top_p,
        )  # fmt: skip
        rewards, outcomes = score.score(
            transcripts, batch.examples, batch.canvases, runtime.segmenter, c.reward, text_scorers,
            rollout.mask_bgs.sum(-1), blind_bg, completed.real,
        )  # fmt: skip
    return Experience(
        asked=[refill.asked(example, group) for example, group in zip(batch.examples, transcripts)],
        prompt=batch.prompt,
        rollout=rollout,
        rewards=rewards,
        seconds=seconds,
        tokens=int(rollout.mask_bgs.sum()),
        segmenter_failures=sum(outcome.failed for group in outcomes for outcome in group),
        text_failures=text_scorers.failures - failures_before if text_scorers else 0,
        work=completed.work,
    )


def begin_collecting(runtime: Runtime, batches: Iterator[Batch], key: jax.Array) -> Callable[[], Experience]:
    """Begins to sample the completions of a step; the result gives its experience.

    Groups without spread are replaced by groups of up to grpo.resample further batches.

    This is DAPO's dynamic sampling (arXiv 2503.14476), for several tasks: a group is replaced by a group of the same
    task, so each task keeps its share of the batch and its places in it. Where a task has too few groups with spread,
    its groups without spread fill the places. They have no gradient, and nothing is raised. The batch is filled over
    all processes (refill.py), which all must call this and the result.
    """
    finish_first = _begin_round(runtime, batches, jax.random.fold_in(key, 0))
    return lambda: _collected(runtime, batches, key, finish_first)


def _begin_round(runtime: Runtime, batches: Iterator[Batch], key: jax.Array) -> Callable[[], Experience]:
    """`begin_gathering` with the next batch; its experience has the time that was spent waiting for the batch."""
    seconds: dict[str, float] = {}
    with phase("data", seconds):
        batch = next(batches)
    finish = begin_gathering(runtime, batch, key)

    def finish_round() -> Experience:
        gathered = finish()
        return dataclasses.replace(gathered, seconds=gathered.seconds | seconds)

    return finish_round


def _collected(
    runtime: Runtime, batches: Iterator[Batch], key: jax.Array, finish_first: Callable[[], Experience]
) -> Experience:
    """The experience of a step whose first round was begun."""
    most, exchange = runtime.config.grpo.resample, functools.partial(mesh.of_shares, runtime.mesh)
    rounds: list[Experience] = []
    groups: list[refill.Group] = []
    for i in range(1 + most):
        finish = _begin_round(runtime, batches, jax.random.fold_in(key, i)) if i else finish_first
        gathered = finish()
        rounds.append(gathered)
        if not most:
            break
        has_spread_b = np.asarray(advantages.informative_b(gathered.rewards.total_bg))
        groups += refill.of_all(exchange, gathered.asked, has_spread_b)
        size = len(groups) // len(rounds)
        if refill.is_enough(groups, size):
            break
    if len(rounds) == 1:
        return rounds[0]
    whole = functools.reduce(_join, rounds)
    share = mesh.share_of_rows(runtime.mesh) if jax.process_count() > 1 else (0, 1)
    rows = (whole.prompt, whole.rollout, whole.rewards)
    rows, asked = refill.own_rows(exchange, share, refill.order(groups, size), rows, whole.asked)
    return dataclasses.replace(whole, asked=asked, **dict(zip(("prompt", "rollout", "rewards"), rows)))


def _join(a: Experience, b: Experience) -> Experience:
    arrays = {
        "prompt": join_prompts(a.prompt, b.prompt), "rewards": _join_rewards(a.rewards, b.rewards),
        "rollout": jax.tree.map(lambda x, y: np.concatenate([x, y]), a.rollout, b.rollout),
    }  # fmt: skip
    seconds = {name: a.seconds[name] + b.seconds[name] for name in a.seconds}
    return Experience(
        a.asked + b.asked, **arrays, seconds=seconds, tokens=a.tokens + b.tokens,
        segmenter_failures=a.segmenter_failures + b.segmenter_failures,
        text_failures=a.text_failures + b.text_failures, work=_join_work(a.work, b.work),
    )  # fmt: skip


def _join_work(a: Work | None, b: Work | None) -> Work | None:
    return None if a is None or b is None else requested_work.added((a, b))


def _join_rewards(a: Rewards, b: Rewards) -> Rewards:
    """The rows of `a`, then the rows of `b`, with all columns, so that the rows of all processes have the same.

    A column that one of them lacks is 0 there, and no row there owns it.
    """

    def concatenated(name: str, arrays_of) -> np.ndarray:
        parts = [arrays_of(rewards) for rewards in (a, b)]
        return np.concatenate([part.get(name, np.zeros_like(next(iter(part.values())))) for part in parts])

    return Rewards(
        columns={name: concatenated(name, lambda rewards: rewards.columns) for name in score.COLUMNS},
        total_bg=np.concatenate([a.total_bg, b.total_bg]),
        own={name: concatenated(name, owners) for name in score.COLUMNS},
    )


def owners(rewards: Rewards) -> dict[str, np.ndarray]:
    """Column name -> bool[B]: the queries whose task has that column."""
    if rewards.own is not None:
        return rewards.own
    return {name: np.ones(len(column), bool) for name, column in rewards.columns.items()}


def samples(e: Experience, most: int = 4) -> str:
    """Markdown with the first completion of the first `most` queries and its reward columns.

    Queries and completions are hostile text: nothing in them is rendered (plain_text.py).
    """
    lines = []
    for i, asked in enumerate(e.asked[:most]):
        own, columns = owners(e.rewards), e.rewards.columns
        worth = ", ".join(f"{name} {column[i, 0]:.2f}" for name, column in columns.items() if own[name][i])
        fault = f"\n\nfault: {plain_text.in_line(asked.fault)}" if asked.fault else ""
        query, completion = plain_text.in_line(asked.query), plain_text.in_fence(asked.text)
        lines.append(f"### {query}\n\n{completion}\n\n{worth}{fault}\n")
    return "\n".join(lines)
