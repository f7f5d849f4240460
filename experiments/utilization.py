"""Measures the share of a device that update and decoding use: `python experiments/utilization.py [--policy=NAME]`.

It runs the update and the sampling of the trainer, with random weights of a published policy's decoder (without the
vision tower), prompts of random tokens, LoRA of rank 16 and no KL. The last line is one JSON object.

Their speed is divided by limits that are measured first, on the same device: FLOP/s of one large matrix product, and
bytes/s of reading an array that is larger than all caches. `--peak-tflops` and `--peak-gb-s` replace these limits by
the numbers of a data sheet, which no program reaches.

Fields: `update_s` and `decode_s` are medians in seconds after a warm-up; `decode_s` excludes the prefill.
`mfu` = `update_tflops` / `limit_tflops`. It counts the operations of an update that reads each prompt once. A matrix
product has two for each weight and token, and two more for the gradient of its input. Attention has 4 x context for
each head dimension, and twice that in the backward pass. Gradients of frozen weights and rematerialisation count 0.
`decode_share` = `decode_gb_s` / `limit_gb_s`. It counts the bytes that each step must read: all weights, the keys and
values of the prompts, which a group shares, and the keys and values of the completions so far.
"""

import argparse
import dataclasses
import functools
import json
import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import speed

from dtr1_jax import config
from dtr1_jax.models import policy, published_sizes
from dtr1_jax.models.spec import Spec
from dtr1_jax.policies import model_flops
from dtr1_jax.rl import rollout, update
from dtr1_jax.run import console

RANK = 16


@dataclasses.dataclass(frozen=True)
class Work(speed.Work):
    """Sizes of a step; the update takes `micro` queries at a time, with `rows` completions of each."""

    micro: int = 1
    dtype: str = "bfloat16"


def operations(work: Work, adapters: int) -> float:
    """Floating point operations of an update by LoRA; `adapters` is the number of LoRA weights."""
    sizes = model_flops.Sizes(work.queries, work.group, work.prompt_tokens, work.new_tokens)
    return model_flops.update(work.spec, sizes, adapters=adapters)


def traffic(work: Work, weights: int) -> float:
    """Bytes that decoding `new_tokens` tokens must read; `weights` is the number of the policy's weights."""
    sizes = model_flops.Sizes(work.queries, work.group, work.prompt_tokens, work.new_tokens)
    item = jnp.dtype(work.dtype).itemsize
    return work.new_tokens * model_flops.bytes_of_token(work.spec, sizes, weights * item, tensor=1, item=item)


def seconds(function: Callable[[], Any], rounds: int) -> float:
    """Median seconds of `rounds` calls, after one that is not counted."""
    return statistics.median([speed.timed(function)[0] for _ in range(rounds + 1)][1:])


def limits(side: int, size: int, dtype: str, rounds: int) -> tuple[float, float]:
    """Measures the device: (FLOP/s of a product of side x side matrices, bytes/s of reading `size` bytes)."""
    a, b = (jax.random.normal(key, (side, side), dtype) for key in jax.random.split(jax.random.key(0)))
    product = jax.jit(lambda a, b: a @ b)
    x = jnp.ones(size // jnp.dtype(dtype).itemsize, dtype)
    total = jax.jit(lambda x: x.astype(jnp.float32).sum())
    return 2 * side**3 / seconds(lambda: product(a, b), rounds), size / seconds(lambda: total(x), rounds)


def initial(spec: Spec, dtype: str) -> tuple[dict, dict]:
    """Random (weights of `dtype`, LoRA weights). One program draws and rounds, so that no float32 copy is kept."""
    base = jax.jit(lambda key: jax.tree.map(lambda x: x.astype(dtype), policy.init(key, spec)))(jax.random.key(0))
    return base, policy.init_lora(jax.random.key(1), base, RANK, "decoder/.*")


def measure(work: Work, rounds: int) -> dict[str, float]:
    """Seconds, TFLOP/s and GB/s of the update and of the decoding."""
    spec, dtype = work.spec, jnp.dtype(work.dtype)
    (base, lora), prompt = initial(spec, work.dtype), jax.device_put(speed.prompts(work, 0))
    sample = functools.partial(
        rollout.sample, base, lora, prompt, jax.random.key(0), None, spec=spec, group=work.group, end=-1, pad=0,
        temperature=1.0, dtype=dtype,
    )  # fmt: skip
    whole, prefill = (seconds(lambda n=n: sample(new_tokens=n), rounds) for n in (work.new_tokens, 1))
    completions = sample(new_tokens=work.new_tokens)
    advantage_bg = np.random.default_rng(0).standard_normal((work.queries, work.group), np.float32)
    batch = update.Minibatch(prompt, completions, advantage_bg)
    state = update.State({"lora": lora}, speed.TX.init({"lora": lora}))
    knobs = dataclasses.replace(speed.GRPO, micro_group=work.rows)

    def learn():
        nonlocal state  # the update donates it
        state, metrics = update.update(
            state, {"base": base}, batch, None, spec=spec, tx=speed.TX, knobs=knobs, temperature=1.0, micro=work.micro,
            dtype=dtype,
        )  # fmt: skip
        return metrics

    update_s, decode_s = seconds(learn, rounds), whole - prefill
    count = {name: sum(x.size for x in jax.tree.leaves(tree)) for name, tree in (("base", base), ("lora", lora))}
    return {
        "parameters": count["base"],
        "update_s": update_s,
        "update_tflops": operations(work, count["lora"]) / update_s / 1e12,
        "prefill_s": prefill,
        "decode_s": decode_s,
        "decode_tokens_per_s": work.queries * work.group * (work.new_tokens - 1) / decode_s,
        "decode_gb_s": traffic(dataclasses.replace(work, new_tokens=work.new_tokens - 1), count["base"])
        / decode_s
        / 1e9,
    }


def main(argv: list[str] | None = None) -> None:
    """Prints the measurements of the policy and sizes that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="qwen2_5_vl_3b")
    parser.add_argument("--layers", type=int, default=0, help="layers of the decoder to keep; 0 = all")
    sizes = {"queries": 8, "group": 8, "prompt_tokens": 1024, "new_tokens": 256, "micro": 1, "rows": 4}
    for name, size in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=size)
    parser.add_argument(
        "--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="of weights and computation"
    )
    parser.add_argument("--remat", action=argparse.BooleanOptionalAction, default=True, help="like config.policy.remat")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", type=int, default=8192, help="side of the matrices whose product is the limit")
    parser.add_argument("--read-mb", type=int, default=4096, help="size of the array whose reading is the limit")
    parser.add_argument("--peak-tflops", type=float, default=0.0, help="TFLOP/s in place of the measured limit")
    parser.add_argument("--peak-gb-s", type=float, default=0.0, help="GB/s in place of the measured limit")
    args = parser.parse_args(argv)
    for name in ("rounds", *sizes):
        least = 2 if name == "new_tokens" else 1
        if getattr(args, name) < least:
            parser.error(f"--{name}: expected {least} or more, got {getattr(args, name)}")
    if args.group % args.rows or args.queries % args.micro:
        parser.error(f"expected --rows ({args.rows}) to divide --group, and --micro ({args.micro}) --queries")
    console.set_up_logging()
    try:
        spec = dataclasses.replace(published_sizes.get_spec(args.policy), vision=None, remat=args.remat)
    except config.ConfigError as error:
        parser.error(str(error))
    spec = dataclasses.replace(spec, layers=args.layers or spec.layers)
    work = Work(spec, dtype=args.dtype, **{name: getattr(args, name) for name in sizes})
    flops, bytes_s = limits(args.side, args.read_mb * 10**6, args.dtype, args.rounds)
    flops, bytes_s = args.peak_tflops * 1e12 or flops, args.peak_gb_s * 1e9 or bytes_s
    figures = measure(work, args.rounds)
    line = {"device": jax.devices()[0].device_kind, "policy": args.policy, "layers": spec.layers, "remat": spec.remat}
    line |= {n: v for n, v in dataclasses.asdict(work).items() if n != "spec"} | figures | {
        "limit_tflops": flops / 1e12, "mfu": figures["update_tflops"] * 1e12 / flops,
        "limit_gb_s": bytes_s / 1e9, "decode_share": figures["decode_gb_s"] * 1e9 / bytes_s,
    }  # fmt: skip
    print(json.dumps({n: float(f"{v:.4g}") if isinstance(v, float) else v for n, v in line.items()}))


if __name__ == "__main__":
    main()
