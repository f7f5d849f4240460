"""What a step learns from: sampled completions, what they say, and what they are worth."""

from __future__ import annotations

import collections
import dataclasses
import functools
import time
from collections.abc import Iterator

import jax
import numpy as np

from dtr1_jax import config, mesh
from dtr1_jax.data.batches import Batch, join_prompts
from dtr1_jax.data.tokenizer import Tokenizer
from dtr1_jax.evaluation import predict
from dtr1_jax.policies.pretrained import PretrainedPolicy
from dtr1_jax.rewards import score
from dtr1_jax.rewards.text_scorers import TextScorers
from dtr1_jax.rl import advantages
from dtr1_jax.rl import rollout as rollouts
from dtr1_jax.twin.transcript import Transcript
from dtr1_jax.types import TASKS, Example, Prompt, Rewards, Rollout


@dataclasses.dataclass(frozen=True)
class Experience:
    """B queries with G scored completions each; arrays are numpy, the rows of this process.

    seconds: of the sampling ("rollout") and of reading and scoring ("score"). tokens: sampled, in groups that were not
    kept too. failed: samples that the segmenter gave no mask for.
    """

    examples: list[Example]
    transcripts: list[list[Transcript]]
    prompt: Prompt
    rollout: Rollout
    rewards: Rewards
    seconds: dict[str, float]
    tokens: int
    failed: int
    unread: int = 0


def gather(
    params: dict, lora: dict | None, pretrained_policy: PretrainedPolicy, c: config.Config, device_mesh, batch:
    Batch,
    key: jax.Array, segmenter, text_scorers: TextScorers | None = None,
) -> Experience:  # fmt: skip
    """Samples G completions for each query of the batch and scores them."""
    started = time.monotonic()
    tokenizer = pretrained_policy.style.tokenizer
    rollout = rollouts.sample(
        params, lora, mesh.put_batch(device_mesh, batch.prompt), key, pretrained_policy.banned_v,
        spec=pretrained_policy.spec, group=c.rollout.group, new_tokens=c.rollout.new_tokens, end=tokenizer.end,
        pad=tokenizer.pad, temperature=c.rollout.temperature, top_k=c.rollout.top_k, top_p=c.rollout.top_p,
        dtype=pretrained_policy.dtype,
    )  # fmt: skip
    rollout = mesh.local(rollout)
    sampled = time.monotonic()
    transcripts = predict.parse(rollout, batch, pretrained_policy)
    unread = text_scorers.failures if text_scorers else 0
    rewards, outcomes = score.score(
        transcripts, batch.examples, batch.canvases, segmenter, c.reward, text_scorers, rollout.mask_bgs.sum(-1)
    )
    seconds = {"rollout": sampled - started, "score": time.monotonic() - sampled}
    failed = sum(o.failed for group in outcomes for o in group)
    return Experience(
        batch.examples, transcripts, batch.prompt, rollout, rewards, seconds, int(rollout.mask_bgs.sum()), failed,
        text_scorers.failures - unread if text_scorers else 0,
    )  # fmt: skip


def collect(
    params: dict, lora: dict | None, pretrained_policy: PretrainedPolicy, c: config.Config, device_mesh, data:
    Iterator[Batch],
    key: jax.Array, segmenter, text_scorers: TextScorers | None = None,
) -> Experience:  # fmt: skip
    """A batch of experience; groups without spread are replaced by those of up to grpo.resample further batches (DAPO).

    A group is replaced by one of its own task, so that each task keeps its share of the batch, and its places in it.
    Where a task has not enough of them, its groups without spread fill up: they weigh nothing, and nothing is raised.
    """
    rounds, found = [], collections.Counter()
    for i in range(1 + c.grpo.resample):
        round_key = jax.random.fold_in(key, i)
        rounds.append(
            gather(params, lora, pretrained_policy, c, device_mesh, next(data), round_key, segmenter, text_scorers)
        )
        useful = np.asarray(advantages.informative_b(rounds[-1].rewards.total_bg))
        found.update(e.task for e, teaches in zip(rounds[-1].examples, useful) if teaches)
        shares = collections.Counter(e.task for e in rounds[0].examples)
        if mesh.least(all(found[task] >= share for task, share in shares.items())):
            break
    if len(rounds) == 1:
        return rounds[0]
    whole = functools.reduce(_join, rounds)
    useful = np.asarray(advantages.informative_b(whole.rewards.total_bg))
    order = _refilled([e.task for e in whole.examples], useful, len(rounds[0].examples))
    return dataclasses.replace(
        whole, examples=[whole.examples[i] for i in order], transcripts=[whole.transcripts[i] for i in order],
        **{name: jax.tree.map(lambda x: x[order], getattr(whole, name)) for name in ("prompt", "rollout", "rewards")},
    )  # fmt: skip


def twin_tokens(rollout: Rollout, tokenizer: Tokenizer) -> np.ndarray:
    """bool[B, G, S], True at the tokens of each completion up to "</twin>", all where that is missing; none of a
    completion that does not begin with a twin, as where the data gives it."""
    out = np.zeros(rollout.mask_bgs.shape, bool)
    for b, g in np.ndindex(out.shape[:2]):
        ids = rollout.token_bgs[b, g][rollout.mask_bgs[b, g]].tolist()
        if tokenizer.decode(ids).lstrip().startswith("<twin>"):
            out[b, g, : tokenizer.until(ids, "</twin>")] = True
    return out


def _refilled(tasks: list[str], useful: np.ndarray, size: int) -> list[int]:
    """Rows that take the first `size` places, each of the task that stood there: those that teach before the others.

    _refilled(["vqa", "summary", "vqa", "vqa"], [0, 0, 1, 1], 2) == [2, 1]
    """
    order = np.argsort(~np.asarray(useful, bool), kind="stable").tolist()
    queues = {task: iter([i for i in order if tasks[i] == task]) for task in tasks[:size]}
    return [next(queues[task]) for task in tasks[:size]]


def _join(a: Experience, b: Experience) -> Experience:
    arrays = {
        "prompt": join_prompts(a.prompt, b.prompt), "rewards": _join_rewards(a.rewards, b.rewards),
        "rollout": jax.tree.map(lambda x, y: np.concatenate([x, y]), a.rollout, b.rollout),
    }  # fmt: skip
    seconds = {name: a.seconds[name] + b.seconds[name] for name in a.seconds}
    return Experience(
        a.examples + b.examples, a.transcripts + b.transcripts, **arrays, seconds=seconds, tokens=a.tokens + b.tokens,
        failed=a.failed + b.failed, unread=a.unread + b.unread,
    )  # fmt: skip


def _join_rewards(a: Rewards, b: Rewards) -> Rewards:
    """The rows of both; a column that only one of them has is nobody's in the rows of the other."""
    names = [name for name in score.COLUMNS if name in a.columns or name in b.columns]

    def both(name: str, of) -> np.ndarray:
        return np.concatenate([of(r).get(name, np.zeros_like(next(iter(of(r).values())))) for r in (a, b)])

    return Rewards(
        columns={name: both(name, lambda r: r.columns) for name in names},
        total_bg=np.concatenate([a.total_bg, b.total_bg]),
        own={name: both(name, owners) for name in names},
    )


def owners(rewards: Rewards) -> dict[str, np.ndarray]:
    """name -> bool[B], the queries whose task has the column."""
    if rewards.own is not None:
        return rewards.own
    return {name: np.ones(len(column), bool) for name, column in rewards.columns.items()}


def describe(e: Experience) -> dict[str, float]:
    """`train/...` numbers of the completions: reward columns, groups without spread, length, entropy, speed.

    A column's mean is over the queries whose task has it; the column length is `train/reward_length`.
    """
    mask_bgs = e.rollout.mask_bgs
    length_bg = mask_bgs.sum(-1)
    flat = ~np.asarray(advantages.informative_b(e.rewards.total_bg))
    out = {
        "train/reward": e.rewards.total_bg.mean(), "train/reward_std": e.rewards.total_bg.std(1).mean(),
        "train/groups_without_spread": flat.mean(),
        "train/length": length_bg.mean(), "train/length_max": length_bg.max(),
        "train/truncated": 1 - e.rollout.stopped_bg.mean(),
        "train/sound": np.mean([t.sound for group in e.transcripts for t in group]),
        "train/reasoned": np.mean([t.reasoned for group in e.transcripts for t in group]),
        # -log p of what was sampled: an unbiased estimate of the entropy of a token, at no cost
        "train/entropy": -(e.rollout.logp_bgs * mask_bgs).sum() / max(1, mask_bgs.sum()),
        "train/segmenter_failed": e.failed, "train/unread": e.unread,
        "train/rollout_s": e.seconds["rollout"], "train/score_s": e.seconds["score"],
        "train/rollout_tokens_per_s": e.tokens / e.seconds["rollout"],
    }  # fmt: skip
    own = owners(e.rewards)
    for name, column_bg in e.rewards.columns.items():
        rows = column_bg[own[name]]
        key = f"train/reward_{name}" if f"train/{name}" in out else f"train/{name}"
        if len(rows):
            out |= {key: rows.mean(), f"{key}_std": rows.std(1).mean()}
    return {name: float(value) for name, value in out.items()}


def by_task(e: Experience) -> dict[str, float]:
    """`train/<task>/...` numbers over all processes: rewards, groups without spread, length and soundness of each task.

    Queries whose number is not finite are left out of its mean, and so are those whose task has not the column; the
    column length is `reward_length`. Empty where the batch has one task alone: then `describe` says it all. All
    processes must call it.
    """
    flat_b = ~np.asarray(advantages.informative_b(e.rewards.total_bg))
    rows = {
        "reward": e.rewards.total_bg.mean(1), "reward_std": e.rewards.total_bg.std(1), "groups_without_spread": flat_b,
        "length": e.rollout.mask_bgs.sum(-1).mean(1),
        "sound": np.array([np.mean([t.sound for t in group]) for group in e.transcripts]),
    }  # fmt: skip
    own = owners(e.rewards)
    for name in score.COLUMNS:  # all there are: a process must name what only the tasks of another have
        has_b = own.get(name, np.zeros(len(e.examples), bool))
        value_b = e.rewards.columns[name].mean(1) if name in own else np.zeros(len(e.examples))
        rows[f"reward_{name}" if name in rows else name] = np.where(has_b, value_b, np.nan)
    task_b = np.array([x.task for x in e.examples])
    sums, counts = {}, {}  # the same names in the same order in every process
    for task in TASKS:
        for name, row_b in rows.items():
            known = row_b[(task_b == task) & np.isfinite(row_b)]
            key = f"train/{task}/{name}"
            sums[key], counts[key] = float(known.sum()), float(len(known))
    sums, counts = mesh.total(sums), mesh.total(counts)
    several = sum(counts[f"train/{task}/length"] > 0 for task in TASKS) > 1
    return {name: value / counts[name] for name, value in sums.items() if several and counts[name]}


def table(e: Experience, most: int = 4) -> str:
    """Markdown: the first completion of the first queries, with its rewards."""
    lines = []
    for i, example in enumerate(e.examples[:most]):
        own, columns = owners(e.rewards), e.rewards.columns
        worth = ", ".join(f"{name} {column[i, 0]:.2f}" for name, column in columns.items() if own[name][i])
        first = e.transcripts[i][0]
        fault = f"\n\nfault: {first.faults[0].message}" if first.faults else ""
        fence = "```"
        while fence in first.text:  # the policy may write one too
            fence += "`"
        lines.append(f"### {example.query}\n\n{fence}\n{first.text}\n{fence}\n\n{worth}{fault}\n")
    return "\n".join(lines)
