"""How much of a device the update and the decoding use: `python experiments/utilization.py [--policy=qwen2_5_vl_3b]`.

Random weights of a named policy's decoder (its vision tower is left out), prompts of random text, LoRA of rank 16, no
KL: the update and the sampling are those of the trainer. The last line is one JSON object.

The limits that they are measured against are measured first, on the same device: FLOP/s of one large product of
matrices, and bytes/s of reading an array that no cache holds. `--peak-tflops` and `--peak-gb-s` put the numbers of a
data sheet in their place, which no program reaches.

Fields: `update_s` and `decode_s` are medians in seconds after a warm-up, `decode_s` without the reading of the prompts;
`update_tflops` / `limit_tflops` = `mfu`, where the work is that which the update needs if each prompt is read once:
two operations for each weight of a product and token, as many again for the gradient of its input, none for that of
frozen weights, none for what is computed again instead of being kept, and 4 x context for each head dimension of the
attention, twice that on the way back. `decode_gb_s` / `limit_gb_s` = `decode_share`, where each step must read all
weights, the prompts' keys and values, which a group shares, and those of the completions so far.
"""

import argparse
import dataclasses
import functools
import json
import statistics

import jax
import jax.numpy as jnp
import numpy as np
import speed

from dtr1_jax import config
from dtr1_jax.models import policy, published
from dtr1_jax.models.spec import Spec
from dtr1_jax.rl import rollout, update
from dtr1_jax.run import console

RANK = 16


@dataclasses.dataclass(frozen=True)
class Work(speed.Work):
    """As speed.py has it; the update takes `micro` queries at a time, and of each of them `rows` completions."""

    micro: int = 1
    dtype: str = "bfloat16"


def operations(work: Work, adapters: int) -> float:
    """Floating point operations of an update by LoRA whose adapters have so many numbers."""
    spec, read, rows = work.spec, work.queries * work.prompt_tokens, work.queries * work.group
    fed = rows * (work.new_tokens - 1)  # the last token of a completion is scored, but nothing follows it
    inner = spec.heads * spec.head_dim
    layer = spec.width * (2 * inner + 2 * spec.kv_heads * spec.head_dim + 3 * spec.hidden)
    forward = 2 * (read + fed) * spec.layers * layer + 2 * rows * work.new_tokens * spec.width * spec.vocab
    context = read * (work.prompt_tokens + 1) / 2 + fed * (work.prompt_tokens + work.new_tokens / 2)
    attention = 4 * context * inner * spec.layers
    return 2 * forward + 3 * attention + 3 * 2 * (read + fed) * adapters


def traffic(work: Work, weights: int) -> float:
    """Bytes that S steps of decoding must read of a policy with so many weights."""
    spec = work.spec
    a_token = 2 * spec.layers * spec.kv_heads * spec.head_dim
    held = work.queries * (work.prompt_tokens + work.group * (work.new_tokens - 1) / 2) * a_token
    return work.new_tokens * (weights + held) * jnp.dtype(work.dtype).itemsize


def seconds(function, rounds: int) -> float:
    """The median time of some calls, after one that is not counted."""
    return statistics.median([speed.timed(function)[0] for _ in range(rounds + 1)][1:])


def limits(side: int, size: int, dtype: str, rounds: int) -> tuple[float, float]:
    """(FLOP/s of a product of side x side matrices, bytes/s of reading `size` bytes), as this device reaches them."""
    a, b = (jax.random.normal(key, (side, side), dtype) for key in jax.random.split(jax.random.key(0)))
    product = jax.jit(lambda a, b: a @ b)
    x = jnp.ones(size // jnp.dtype(dtype).itemsize, dtype)
    total = jax.jit(lambda x: x.astype(jnp.float32).sum())
    return 2 * side**3 / seconds(lambda: product(a, b), rounds), size / seconds(lambda: total(x), rounds)


def initial(spec: Spec, dtype: str) -> tuple[dict, dict]:
    """(base, adapters); each number is rounded as it is drawn, so that there is no float32 copy of all of them."""
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
    whole, reading = (seconds(lambda n=n: sample(new_tokens=n), rounds) for n in (work.new_tokens, 1))
    seen = sample(new_tokens=work.new_tokens)
    advantage_bg = np.random.default_rng(0).standard_normal((work.queries, work.group), np.float32)
    batch = update.Minibatch(prompt, seen, advantage_bg)
    state = update.State({"lora": lora}, speed.TX.init({"lora": lora}))
    knobs = dataclasses.replace(speed.GRPO, micro_group=work.rows)

    def learn():
        nonlocal state  # which is donated
        state, metrics = update.update(
            state, {"base": base}, batch, None, spec=spec, tx=speed.TX, knobs=knobs, temperature=1.0, micro=work.micro,
            dtype=dtype,
        )  # fmt: skip
        return metrics

    updating, decoding = seconds(learn, rounds), whole - reading
    count = {name: sum(x.size for x in jax.tree.leaves(tree)) for name, tree in (("base", base), ("lora", lora))}
    return {
        "parameters": count["base"],
        "update_s": updating,
        "update_tflops": operations(work, count["lora"]) / updating / 1e12,
        "prefill_s": reading,
        "decode_s": decoding,
        "decode_tokens_per_s": work.queries * work.group * (work.new_tokens - 1) / decoding,
        "decode_gb_s": traffic(dataclasses.replace(work, new_tokens=work.new_tokens - 1), count["base"])
        / decoding
        / 1e9,
    }


def main(argv: list[str] | None = None) -> None:
    """Prints the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="qwen2_5_vl_3b")
    parser.add_argument("--layers", type=int, default=0, help="keep so many layers of the decoder; 0 = all")
    sizes = {"queries": 8, "group": 8, "prompt_tokens": 1024, "new_tokens": 256, "micro": 1, "rows": 4}
    for name, size in sizes.items():
        parser.add_argument(f"--{name}", type=int, default=size)
    parser.add_argument(
        "--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="of weights and computation"
    )
    parser.add_argument("--remat", action=argparse.BooleanOptionalAction, default=True, help="as config.policy.remat")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--side", type=int, default=8192, help="of the matrices whose product is the limit")
    parser.add_argument("--read-mb", type=int, default=4096, help="size of the array whose reading is the limit")
    parser.add_argument("--peak-tflops", type=float, default=0.0, help="in place of the measured limit")
    parser.add_argument("--peak-gb-s", type=float, default=0.0, help="in place of the measured limit")
    args = parser.parse_args(argv)
    for name in ("rounds", *sizes):
        least = 2 if name == "new_tokens" else 1
        if getattr(args, name) < least:
            parser.error(f"--{name}: expected {least} or more, got {getattr(args, name)}")
    if args.group % args.rows or args.queries % args.micro:
        parser.error(f"expected --rows ({args.rows}) to divide --group, and --micro ({args.micro}) --queries")
    console.set_up_logging()
    try:
        spec = dataclasses.replace(published.get(args.policy), vision=None, remat=args.remat)
    except config.ConfigError as error:
        parser.error(str(error))
    spec = dataclasses.replace(spec, layers=args.layers or spec.layers)
    work = Work(spec, dtype=args.dtype, **{name: getattr(args, name) for name in sizes})
    flops, bytes_s = limits(args.side, args.read_mb * 10**6, args.dtype, args.rounds)
    flops, bytes_s = args.peak_tflops * 1e12 or flops, args.peak_gb_s * 1e9 or bytes_s
    found = measure(work, args.rounds)
    line = {"device": jax.devices()[0].device_kind, "policy": args.policy, "layers": spec.layers, "remat": spec.remat}
    line |= {n: v for n, v in dataclasses.asdict(work).items() if n != "spec"} | found | {
        "limit_tflops": flops / 1e12, "mfu": found["update_tflops"] * 1e12 / flops,
        "limit_gb_s": bytes_s / 1e9, "decode_share": found["decode_gb_s"] * 1e9 / bytes_s,
    }  # fmt: skip
    print(json.dumps({n: float(f"{v:.4g}") if isinstance(v, float) else v for n, v in line.items()}))


if __name__ == "__main__":
    main()
