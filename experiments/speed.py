"""Measures the speed of a GRPO step: `python experiments/speed.py [--shape=prefix|text5m]`; prints one JSON line.

Both shapes compare two ways to run the same functions: as in training, where a group shares its prompt, and on *tiled*
prompts, B * G queries with a group of one, as in trainers without a shared prefix. Losses and gradients must agree.
`text5m` also times whole steps (sample, reward, advantages, update), at sizes at which other trainers were measured.

Fields: `update_s`, `rollout_s` and `step_s` are medians in seconds after a warm-up; tokens/s count completion tokens;
`*_tiled` are measured on tiled prompts, timed in turns with shared ones; `loss_diff` is absolute; `grad_diff` is the
largest difference of the gradients in a weight array, divided by the largest gradient there; `same_tokens` is the share
of sampled tokens that are equal; `peak_rss_mb` is the peak memory of the process at the end of the timed steps.
"""

import argparse
import dataclasses
import functools
import json
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax.config import Grpo, Optim
from dtr1_jax.models import policy
from dtr1_jax.models.spec import Spec
from dtr1_jax.rl import advantages, optim, rollout, update
from dtr1_jax.run import compile_log
from dtr1_jax.types import Prompt

TEXT5M = Spec(
    vocab=1024, width=256, layers=6, heads=8, kv_heads=4, head_dim=32, hidden=768, theta=1e4, qk_norm=False,
    qkv_bias=True, unroll=6, remat=False,
)  # fmt: skip
TX = optim.optimizer(
    Optim(
        lr=1e-4, warmup=0, schedule="constant", decay_steps=0, b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.0, clip=1.0
    ),
    1,
)
GRPO = Grpo(
    variant="grpo", advantage="group", ema_decay=0.0, beta=0.0, hold_twin=1.0, clip_low=0.2, clip_high=0.2,
    dual_clip=0.0, importance="off", importance_low=0.0, importance_high=3.0, mask_truncated=False, epochs=1,
    minibatches=1, micro_queries=1, micro_group=0, resample=0,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Work:
    """Sizes of a step; `rows` completions go through each gradient accumulation step."""

    spec: Spec
    queries: int
    group: int
    prompt_tokens: int
    new_tokens: int
    rows: int


SHAPES = {
    "prefix": Work(TEXT5M, queries=2, group=8, prompt_tokens=512, new_tokens=128, rows=4),
    "text5m": Work(TEXT5M, queries=4, group=8, prompt_tokens=256, new_tokens=128, rows=4),
}


def prompts(work: Work, seed: int) -> Prompt:
    """Prompts of random tokens without pictures."""
    b, p = work.queries, work.prompt_tokens
    return Prompt(
        token_bp=np.random.default_rng(seed).integers(2, work.spec.vocab, (b, p), np.int32),
        mask_bp=np.ones((b, p), bool),
        position_bp3=np.broadcast_to(np.arange(p, dtype=np.int32)[:, None], (b, p, 3)),
        slot_bp=np.full((b, p), -1, np.int32),
        next_b=np.full(b, p, np.int32),
        images=None,
    )


def tiled(work: Work, tree: Any) -> Any:
    """Repeats a Prompt for each completion, [B, ...] -> [B * G, ...]; reshapes [B, G, ...] to [B * G, 1, ...]."""
    if isinstance(tree, Prompt):
        return jax.tree.map(lambda x: np.repeat(x, work.group, 0), tree)
    return jax.tree.map(lambda x: x.reshape(-1, 1, *x.shape[2:]), tree)


def sampler(work: Work, group: int) -> Callable:
    """rollout.sample with the sizes of `work`; each completion has `new_tokens` tokens, because no token ends it."""
    return functools.partial(
        rollout.sample, spec=work.spec, group=group, new_tokens=work.new_tokens, end=-1, pad=0, temperature=1.0
    )


def learner(work: Work, group: int) -> Callable:
    """update.update with the sizes of `work`, on `rows` completions at a time."""
    part = min(group, work.rows)
    knobs = dataclasses.replace(GRPO, micro_group=part)
    return functools.partial(
        update.update, spec=work.spec, tx=TX, knobs=knobs, temperature=1.0, micro=max(1, work.rows // group)
    )


@jax.jit  # Each operation by itself would be a program of its own, and a hundred of them take a hundred megabytes.
def fresh(params: dict) -> update.State:
    """A state with a copy of `params`, because the update donates it."""
    trainable = {"base": jax.tree.map(jnp.copy, params)}
    return update.State(trainable, TX.init(trainable))


def timed(function: Callable, *args: Any) -> tuple[float, Any]:
    """Calls the function and waits for its result: (seconds, result)."""
    start = time.perf_counter()
    result = jax.block_until_ready(function(*args))
    return time.perf_counter() - start, result


def steps(work: Work, params: dict, count: int, warmup: int) -> dict[str, float]:
    """Median seconds of whole steps and of their parts, `count` of them after `warmup` that are not timed."""
    sample, learn, state, times = sampler(work, work.group), learner(work, work.group), fresh(params), []
    for i in range(count + warmup):
        prompt = prompts(work, i)
        start = time.perf_counter()
        completions = jax.block_until_ready(sample(state.trainable["base"], None, prompt, jax.random.key(i), None))
        sample_end = time.perf_counter()
        reward_bg = (np.asarray(completions.token_bgs) % 16 == 7).sum(-1).astype(np.float32)
        advantage_bg = np.asarray(advantages.advantages(reward_bg, scale="group"))
        score_end = time.perf_counter()
        state, _ = jax.block_until_ready(learn(state, {}, update.Minibatch(prompt, completions, advantage_bg), None))
        end = time.perf_counter()
        times.append((end - start, sample_end - start, end - score_end))
    return dict(zip(("step_s", "generate_s", "update_s"), map(statistics.median, zip(*times[warmup:]))))


def compare(work: Work, params: dict, rounds: int) -> dict[str, float]:
    """Compares shared prompts with tiled ones, timed in turns: tokens/s, speedups, and differences of the results."""
    prompt, key = prompts(work, 0), jax.random.key(0)
    prompts_of = {"": prompt, "_tiled": tiled(work, prompt)}
    groups = {"": work.group, "_tiled": 1}
    times, completions = {}, {}
    for _ in range(rounds + 1):
        for kind, group in groups.items():
            seconds, completions[kind] = timed(sampler(work, group), params, None, prompts_of[kind], key, None)
            times.setdefault("rollout_s" + kind, []).append(seconds)
    rng = np.random.default_rng(0)
    # Log-probabilities of another old policy, so that ratios differ from 1 and some are clipped.
    noise = 0.1 * rng.standard_normal(completions[""].logp_bgs.shape, np.float32)
    noisy = dataclasses.replace(completions[""], logp_bgs=np.asarray(completions[""].logp_bgs) + noise)
    advantage_bg = rng.standard_normal((work.queries, work.group), np.float32)
    minibatch = update.Minibatch(prompt, noisy, advantage_bg)
    batches = {
        "": minibatch,
        "_tiled": update.Minibatch(prompts_of["_tiled"], tiled(work, noisy), tiled(work, advantage_bg)),
    }
    states = {kind: fresh(params) for kind in groups}
    loss, gradient = {}, {}
    for i in range(rounds + 1):
        for kind, group in groups.items():
            seconds, (states[kind], metrics) = timed(learner(work, group), states[kind], {}, batches[kind], None)
            times.setdefault("update_s" + kind, []).append(seconds)
            if i == 0:  # after one step, AdamW's first moment is the clipped gradient times 1 - b1
                loss[kind] = float(metrics["loss"])
                gradient[kind] = jax.tree.map(np.asarray, jax.tree.leaves(_moment(states[kind].opt)))
    median = {name: statistics.median(seconds[1:]) for name, seconds in times.items()}
    tokens = work.queries * work.group * work.new_tokens
    rates = {name.replace("_s", "_tokens_per_s"): tokens / seconds for name, seconds in median.items()}
    return rates | {
        "update_speedup": median["update_s_tiled"] / median["update_s"],
        "rollout_speedup": median["rollout_s_tiled"] / median["rollout_s"],
        "loss_diff": abs(loss[""] - loss["_tiled"]),
        "grad_diff": max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(*gradient.values())),
        "same_tokens": float(np.mean(tiled(work, completions[""].token_bgs) == completions["_tiled"].token_bgs)),
    }


def _moment(opt: Any) -> Any:
    """AdamW's first moment in the optimizer state."""
    return next(s.mu for s in jax.tree.leaves(opt, is_leaf=lambda s: hasattr(s, "mu")) if hasattr(s, "mu"))


def main(argv: list[str] | None = None) -> None:
    """Prints the measurements of the shape that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="prefix")
    parser.add_argument("--steps", type=int, default=10, help="timed steps of text5m")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds of shared and tiled prompts")
    for name in ("queries", "group", "prompt_tokens", "new_tokens", "rows"):
        parser.add_argument(f"--{name}", type=int)
    args = parser.parse_args(argv)
    sizes = {n: v for n, v in vars(args).items() if n not in ("shape", "steps", "rounds") and v is not None}
    work = dataclasses.replace(SHAPES[args.shape], **sizes)
    compile_log.set_up()  # as main.py does
    params = jax.jit(policy.init, static_argnums=1)(jax.random.key(0), work.spec)
    line = {"shape": args.shape, "params": sum(x.size for x in jax.tree.leaves(params))}
    line |= {n: v for n, v in dataclasses.asdict(work).items() if n != "spec"}
    if args.shape == "text5m":
        line |= steps(work, params, args.steps, warmup=2)
        line["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if args.rounds:
        line |= compare(work, params, args.rounds)
    print(json.dumps({n: float(f"{v:.4g}") if isinstance(v, float) else v for n, v in line.items()}))


if __name__ == "__main__":
    main()
