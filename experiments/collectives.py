"""Shows what devices send each other in a rollout and an update: `python experiments/collectives.py --mesh=1,8,1`.

It compiles the trainer's own `rollout.sample` and `update.update` for a mesh (data, fsdp, tensor) of virtual CPU
devices, from shapes alone, and reads the collective operations in the partitioned programs, with the trip counts of
their loops. The last line is one JSON object.

Fields: `rollout.bytes_per_token` is the bytes of all collective operations for each token of the decode loop, on each
device; `rollout.largest` and `update.largest` are the largest single operation, in bytes; `update.bytes` is the sum
over an update, where each micro-group has the longest completions; `by_kind` divides the sums. An operation counts the
bytes of its operand or its result on one device, whichever is larger.

The default policy is small and random, with the proportions of a 7B model. With `--topology=v5e:4x4` the TPU compiler
(`pip install 'jax[tpu]'`; no TPU is needed) compiles for such a slice, and the memory on each chip is reported too:

    ALLOW_MULTIPLE_LIBTPU_LOAD=1 TPU_SKIP_MDS_QUERY=1 python experiments/collectives.py --topology=v5e:4x4 \\
        --mesh=1,16,1 --policy=qwen2_5_vl_7b --layers=2
"""

import argparse
import dataclasses
import json
import math
import os
import pathlib
import time
from typing import Any

WORK = {  # of a small policy and of a published one
    False: {"queries": 16, "group": 4, "prompt": 64, "new": 32, "micro_queries": 1, "micro_group": 2},
    True: {"queries": 64, "group": 8, "prompt": 2048, "new": 1024, "micro_queries": 4, "micro_group": 8},
}


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The settings of the command line; the sizes of the work depend on whether the policy is a published one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mesh", default="1,8,1", help="data,fsdp,tensor")
    parser.add_argument("--topology", default="", help="TPU slice, such as v5e:4x4; otherwise virtual CPU devices")
    parser.add_argument("--policy", default="", help="name of a published policy; otherwise a small one")
    parser.add_argument("--layers", type=int, default=0, help="layers of decoder and tower; 0 = all")
    parser.add_argument("--dtype", default="", help="compute dtype; bfloat16 on a TPU, otherwise float32")
    parser.add_argument("--lora", type=int, default=16, help="rank of the adapters; 0 = all weights are trained")
    parser.add_argument("--beta", type=float, default=0.0, help="weight of the KL; above 0, the reference is computed")
    parser.add_argument("--rollout", type=int, default=0, help="as config.mesh.rollout")
    parser.add_argument("--effort", type=float, default=0.0, help="of the TPU compiler, from -1 (fast) to 1")
    parser.add_argument("--phases", default="rollout,update")
    parser.add_argument("--hlo", default="", help="folder for the text of the compiled programs")
    parser.add_argument("--show", type=int, default=8, help="lines about the operations with the most bytes")
    for name, value in WORK[False].items():
        parser.add_argument(f"--{name}", type=int, help=f"default {value}, with --policy {WORK[True][name]}")
    args = parser.parse_args(argv)
    for name, value in WORK[bool(args.policy)].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.mesh = tuple(int(n) for n in args.mesh.split(","))
    args.dtype = args.dtype or ("bfloat16" if args.topology else "float32")
    return args


if __name__ == "__main__":  # before JAX starts
    _args = arguments(None)
    os.environ["JAX_PLATFORMS"] = "cpu"
    if not _args.topology:
        _count = math.prod(_args.mesh)
        os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={_count}"

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from configs import default  # noqa: E402
from dtr1_jax import config, mesh  # noqa: E402
from dtr1_jax.models import policy, published_sizes  # noqa: E402
from dtr1_jax.models.spec import Spec, VisionSpec  # noqa: E402
from dtr1_jax.policies import collectives  # noqa: E402
from dtr1_jax.rl import accumulate, optim, rollout, stretches, update  # noqa: E402
from dtr1_jax.types import Images, Prompt, Rollout  # noqa: E402

SMALL = Spec(
    vocab=4096, width=128, layers=2, heads=8, kv_heads=2, head_dim=16, hidden=640, theta=1e4, sections=(2, 3, 3),
    interleaved=False, qk_norm=False, qkv_bias=True, tied=False,
    vision=VisionSpec(
        width=64, layers=2, heads=4, hidden=160, patch=4, temporal_patch=2, merge=2, side=0, norm="rms", gated=True,
        patch_bias=False, window=2, full_layers=(1,), tokens_per_second=2.0,
    ),
)  # fmt: skip


def spec_of(args: argparse.Namespace) -> Spec:
    """The sizes of the policy, with as many layers as the arguments say."""
    spec = published_sizes.get_spec(args.policy) if args.policy else SMALL
    spec = dataclasses.replace(spec, lora_scale=2.0)
    if not args.layers:
        return spec
    tower = spec.vision
    if tower is not None:
        kept = {n: tuple(i for i in getattr(tower, n) if i < args.layers) for n in ("full_layers", "deepstack")}
        tower = dataclasses.replace(tower, layers=args.layers, **kept)
    return dataclasses.replace(spec, layers=args.layers, vision=tower)


def devices_of(args: argparse.Namespace) -> list:
    """The devices of the mesh: virtual ones of this CPU, or those of a TPU slice that need not exist."""
    if not args.topology:
        return jax.devices()[: math.prod(args.mesh)]
    from jax.experimental import topologies

    return list(topologies.get_topology_desc(platform="tpu", topology_name=args.topology).devices)


def batch_shapes(args: argparse.Namespace, spec: Spec, device_mesh: jax.sharding.Mesh) -> update.Minibatch:
    """The shapes of a minibatch whose prompts are half picture, cut over the mesh."""
    b, g, p, s = args.queries, args.group, args.prompt, args.new
    place = mesh.batch(device_mesh)

    def shape(*sizes, dtype=jnp.int32):
        return jax.ShapeDtypeStruct(sizes, dtype, sharding=place)

    images, tower = None, spec.vision
    if tower is not None:
        n = p // 2 * tower.merge**2
        corner = (shape(b, n, 4), shape(b, n, 4, dtype=jnp.float32)) if tower.side else (None, None)
        images = Images(
            shape(b, n, tower.values, dtype=jnp.float32), shape(b, n, 2), *corner, shape(b, n),
            shape(b, n) if tower.window else None,
        )  # fmt: skip
    prompt = Prompt(shape(b, p), shape(b, p, dtype=bool), shape(b, p, 3), shape(b, p), shape(b), images)
    completions = Rollout(
        shape(b, g, s), shape(b, g, s, dtype=bool), shape(b, g, s, dtype=jnp.float32), shape(b, g, dtype=bool)
    )
    return update.Minibatch(prompt, completions, shape(b, g, dtype=jnp.float32))


def weight_shapes(args: argparse.Namespace, spec: Spec) -> tuple[dict, dict]:
    """Shapes of the (trainable, frozen) weights; frozen ones have the compute dtype."""
    base = jax.eval_shape(lambda: policy.init(jax.random.key(0), spec))
    frozen = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, args.dtype), base)
    if not args.lora:
        return {"base": base}, {"reference": frozen} if args.beta else {}
    lora = jax.eval_shape(lambda w: policy.init_lora(jax.random.key(0), w, args.lora, ".*"), base)
    return {"lora": lora}, {"base": frozen}


def placed(tree: Any, shardings: Any) -> Any:
    """The shapes of `tree` with shardings."""
    return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings)


def lower_update(args: argparse.Namespace, spec: Spec, device_mesh: jax.sharding.Mesh) -> Any:
    """update.update, lowered for the mesh, with the branch for the longest completions alone."""
    settings = config.from_configdict(default.get_config())
    tx = optim.optimizer(settings.optim, 10)
    knobs = dataclasses.replace(
        settings.grpo, beta=args.beta, minibatches=1, micro_queries=args.micro_queries, micro_group=args.micro_group
    )
    sizes = dataclasses.replace(settings.rollout, queries=args.queries, group=args.group)
    trainable, frozen = weight_shapes(args, spec)
    state = update.State(trainable, jax.eval_shape(tx.init, trainable))
    state = placed(state, mesh.shardings(device_mesh, state, spec.head_counts))
    frozen = placed(frozen, mesh.shardings(device_mesh, frozen, spec.head_counts))
    every, stretches.STRETCHES = stretches.STRETCHES, 1  # the other branches would only take time to compile
    try:
        return update.update.lower(
            state, frozen, batch_shapes(args, spec, device_mesh), None, spec=spec, tx=tx, knobs=knobs, temperature=1.0,
            micro=accumulate.micro_batch(sizes, knobs, device_mesh), mesh=device_mesh, dtype=jnp.dtype(args.dtype),
        )  # fmt: skip
    finally:
        stretches.STRETCHES = every


def lower_rollout(args: argparse.Namespace, spec: Spec, device_mesh: jax.sharding.Mesh) -> Any:
    """rollout.sample, lowered for the mesh."""
    trainable, frozen = weight_shapes(args, spec)
    base, lora = update.weights(trainable, frozen)
    both = {"base": base, "lora": lora or {}}
    both = placed(both, mesh.shardings(device_mesh, both, spec.head_counts, resident=True))
    key = jax.ShapeDtypeStruct((), jax.random.key(0).dtype, sharding=mesh.replicated(device_mesh))
    return rollout.sample.lower(
        both["base"], both["lora"] or None, batch_shapes(args, spec, device_mesh).prompt, key, None, spec=spec,
        group=args.group, new_tokens=args.new, end=-1, pad=0, temperature=1.0, dtype=jnp.dtype(args.dtype),
        mesh=device_mesh,
    )  # fmt: skip


LOWER = {"rollout": lower_rollout, "update": lower_update}


def measure(args: argparse.Namespace, phase: str) -> tuple[dict[str, Any], list[collectives.Message]]:
    """(the fields of one phase, its messages)."""
    spec = spec_of(args)
    device_mesh = mesh.make(config.Mesh(*args.mesh), devices_of(args))
    start = time.monotonic()
    # What the CPU compiler does after the program is cut over devices only takes time here.
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    if args.topology:
        options = {"exec_time_optimization_effort": args.effort} if args.effort else {}
    compiled = LOWER[phase](args, spec, device_mesh).compile(options)
    if args.hlo:
        pathlib.Path(args.hlo, f"{phase}.txt").write_text(compiled.as_text())
    messages = collectives.read(compiled.as_text())
    largest = collectives.largest(messages)
    fields = {"bytes": collectives.total(messages), "largest": largest.bytes if largest else 0}
    if phase == "rollout":
        each = collectives.bytes_each_trip(messages)
        in_loop = collectives.largest(m for m in messages if m.unknown)
        fields = {
            "bytes_per_token": each, "largest_per_token": in_loop.bytes if in_loop else 0,
            "bytes": fields["bytes"] + each * (args.new - 1), "largest": fields["largest"],
        }  # fmt: skip
    fields["by_kind"] = collectives.by_kind(messages)
    if args.topology:
        memory = compiled.memory_analysis()
        fields |= {"arguments": memory.argument_size_in_bytes, "temporary": memory.temp_size_in_bytes}
    return fields | {"compile_s": round(time.monotonic() - start, 1)}, messages


def lines(messages: list[collectives.Message], count: int) -> list[str]:
    """Lines about the operations with the most bytes."""
    order = sorted(messages, key=lambda m: -m.bytes * m.trips)[:count]
    return [
        f"  {m.bytes * m.trips:>16,} B = {m.kind} {m.shape} x {m.trips}{' each token' if m.unknown else ''}  {m.source}"
        for m in order
    ]


def main(args: argparse.Namespace) -> None:
    """Prints the operations of each phase, and the JSON line."""
    out: dict[str, Any] = {"mesh": args.mesh, "policy": args.policy or "small", "lora": args.lora}
    for phase in args.phases.split(","):
        out[phase], messages = measure(args, phase)
        print("\n".join([f"{phase}:", *lines(messages, args.show)]), flush=True)
    print(json.dumps(out))


if __name__ == "__main__":
    main(_args)
