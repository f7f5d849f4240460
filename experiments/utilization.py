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
import time

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax import cli, config
from dtr1_jax.config import Grpo, Optim
from dtr1_jax.models import named, policy
from dtr1_jax.models.spec import Spec
from dtr1_jax.rl import optim, rollout, update
from dtr1_jax.types import Prompt

RANK = 16
TX = optim.make(
    Optim(lr=1e-4, warmup=0, schedule="constant", b1=0.9, b2=0.999, eps=1e-8, weight_decay=0.0, clip=1.0), 1
)
GRPO = Grpo(
    variant="grpo", advantage="group", ema_decay=0.0, beta=0.0, hold_twin=1.0, clip_low=0.2, clip_high=0.2,
    dual_clip=0.0, mask_truncated=False, epochs=1, minibatches=1, micro_queries=1, micro_group=0, resample=0,
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Work:
    """A step: B queries of P prompt tokens with G completions of S tokens.

    The update takes `micro` queries at a time, and of each of them `rows` completions.
    """

    queries: int
    group: int
    prompt: int
    new: int
    micro: int
    rows: int
    dtype: str = "bfloat16"


def operations(spec: Spec, work: Work, adapters: int) -> float:
    """Floating point operations of an update by LoRA whose adapters have so many numbers."""
    read, rows = work.queries * work.prompt, work.queries * work.group
    fed = rows * (work.new - 1)  # the last token of a completion is scored, but nothing follows it
    inner = spec.heads * spec.head_dim
    layer = spec.width * (2 * inner + 2 * spec.kv_heads * spec.head_dim + 3 * spec.hidden)
    forward = 2 * (read + fed) * spec.layers * layer + 2 * rows * work.new * spec.width * spec.vocab
    context = read * (work.prompt + 1) / 2 + fed * (work.prompt + work.new / 2)
    attention = 4 * context * inner * spec.layers
    return 2 * forward + 3 * attention + 3 * 2 * (read + fed) * adapters


def traffic(spec: Spec, work: Work, weights: int) -> float:
    """Bytes that S steps of decoding must read of a policy with so many weights."""
    a_token = 2 * spec.layers * spec.kv_heads * spec.head_dim
    held = work.queries * (work.prompt + work.group * (work.new - 1) / 2) * a_token
    return work.new * (weights + held) * jnp.dtype(work.dtype).itemsize


def seconds(function, rounds: int) -> float:
    """The median time of some calls, after one that is not counted."""
    took = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        jax.block_until_ready(function())
        took.append(time.perf_counter() - start)
    return statistics.median(took[1:])


def limits(side: int, size: int, dtype: str, rounds: int) -> tuple[float, float]:
    """(FLOP/s of a product of side x side matrices, bytes/s of reading `size` bytes), as this device reaches them."""
    a, b = (jax.random.normal(key, (side, side), dtype) for key in jax.random.split(jax.random.key(0)))
    product = jax.jit(lambda a, b: a @ b)
    x = jnp.ones(size // jnp.dtype(dtype).itemsize, dtype)
    total = jax.jit(lambda x: x.astype(jnp.float32).sum())
    return 2 * side**3 / seconds(lambda: product(a, b), rounds), size / seconds(lambda: total(x), rounds)


def prompts(spec: Spec, work: Work) -> Prompt:
    """Random text."""
    b, p = work.queries, work.prompt
    return Prompt(
        token_bp=np.random.default_rng(0).integers(0, spec.vocab, (b, p), np.int32),
        mask_bp=np.ones((b, p), bool),
        position_bp3=np.broadcast_to(np.arange(p, dtype=np.int32)[:, None], (b, p, 3)),
        slot_bp=np.full((b, p), -1, np.int32),
        next_b=np.full(b, p, np.int32),
        images=None,
    )


def initial(spec: Spec, dtype: str) -> tuple[dict, dict]:
    """(base, adapters); each number is rounded as it is drawn, so that there is no float32 copy of all of them."""
    base = jax.jit(lambda key: jax.tree.map(lambda x: x.astype(dtype), policy.init(key, spec)))(jax.random.key(0))
    return base, policy.init_lora(jax.random.key(1), base, RANK, "decoder/.*")


def measure(spec: Spec, work: Work, rounds: int) -> dict[str, float]:
    """Seconds, TFLOP/s and GB/s of the update and of the decoding."""
    (base, lora), prompt = initial(spec, work.dtype), jax.device_put(prompts(spec, work))
    sample = functools.partial(
        rollout.sample, base, lora, prompt, jax.random.key(0), None, spec=spec, group=work.group, end=-1, pad=0,
        temperature=1.0, dtype=jnp.dtype(work.dtype),
    )  # fmt: skip
    whole, reading = (seconds(lambda n=n: sample(new_tokens=n), rounds) for n in (work.new, 1))
    seen = sample(new_tokens=work.new)
    advantage_bg = np.random.default_rng(0).standard_normal((work.queries, work.group), np.float32)
    batch = update.Minibatch(prompt, seen, advantage_bg)
    state = update.State({"lora": lora}, TX.init({"lora": lora}))
    knobs = dataclasses.replace(GRPO, micro_group=work.rows)

    def learn():
        nonlocal state  # which is donated
        state, metrics = update.update(
            state,
            {"base": base},
            batch,
            None,
            spec=spec,
            tx=TX,
            knobs=knobs,
            temperature=1.0,
            micro=work.micro,
            dtype=jnp.dtype(work.dtype),
        )
        return metrics

    updating, decoding = seconds(learn, rounds), whole - reading
    count = {name: sum(x.size for x in jax.tree.leaves(tree)) for name, tree in (("base", base), ("lora", lora))}
    return {
        "parameters": count["base"],
        "update_s": updating,
        "update_tflops": operations(spec, work, count["lora"]) / updating / 1e12,
        "prefill_s": reading,
        "decode_s": decoding,
        "decode_tokens_per_s": work.queries * work.group * (work.new - 1) / decoding,
        "decode_gb_s": traffic(spec, dataclasses.replace(work, new=work.new - 1), count["base"]) / decoding / 1e9,
    }


def main(argv: list[str] | None = None) -> None:
    """Prints the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="qwen2_5_vl_3b")
    parser.add_argument("--layers", type=int, default=0, help="keep so many layers of the decoder; 0 = all")
    sizes = {"queries": 8, "group": 8, "prompt": 1024, "new": 256, "micro": 1, "rows": 4}
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
    work = Work(**{name: getattr(args, name) for name in (*sizes, "dtype")})
    if (
        min(getattr(work, name) for name in sizes) < 1
        or work.new < 2
        or args.rounds < 1
        or work.group % work.rows
        or work.queries % work.micro
    ):
        parser.error(
            "expected sizes from 1 on, --new from 2 on, --rows a divisor of --group and --micro one of --queries, got "
            f"{work}"
        )
    cli.quiet()
    try:
        spec = dataclasses.replace(named.get(args.policy), vision=None)
    except config.ConfigError as error:
        parser.error(str(error))
    spec = dataclasses.replace(spec, layers=args.layers or spec.layers, remat=args.remat)
    flops, bytes_s = limits(args.side, args.read_mb * 10**6, args.dtype, args.rounds)
    flops, bytes_s = args.peak_tflops * 1e12 or flops, args.peak_gb_s * 1e9 or bytes_s
    found = measure(spec, work, args.rounds)
    line = {"device": jax.devices()[0].device_kind, "policy": args.policy, "layers": spec.layers, "remat": spec.remat}
    line |= dataclasses.asdict(work) | found | {
        "limit_tflops": flops / 1e12, "mfu": found["update_tflops"] * 1e12 / flops,
        "limit_gb_s": bytes_s / 1e9, "decode_share": found["decode_gb_s"] * 1e9 / bytes_s,
    }  # fmt: skip
    print(json.dumps({n: float(f"{v:.4g}") if isinstance(v, float) else v for n, v in line.items()}))


if __name__ == "__main__":
    main()
