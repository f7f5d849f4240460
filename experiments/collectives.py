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
    parser.add_argument(
        "--compaction", action="store_true", help="with the loops for fewer rows too; their bytes a token are added up"
    )
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

from configs import default  # noqa: E402
from dtr1_jax import config, mesh  # noqa: E402
from dtr1_jax.models import published_sizes  # noqa: E402
from dtr1_jax.models.spec import Spec, VisionSpec  # noqa: E402
from dtr1_jax.policies import ahead_of_time, collectives, pretrained  # noqa: E402

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
    ahead_of_time.prepare()
    return ahead_of_time.devices_of_slice(args.topology)


def settings_of(args: argparse.Namespace) -> config.Config:
    """The settings of a run with the arguments' policy, work and mesh."""
    c = default.get_config()
    changes = {
        "policy": {
            "name": args.policy or c.policy.name, "dtype": args.dtype, "prompt_tokens": args.prompt,
            "weights_dtype": args.dtype if args.lora else "float32",
        },
        "lora": {"rank": args.lora, "alpha": 2.0 * args.lora, "targets": ".*"},
        "rollout": {"queries": args.queries, "group": args.group, "new_tokens": args.new},
        "grpo": {"beta": args.beta, "micro_queries": args.micro_queries, "micro_group": args.micro_group},
        "mesh": dict(zip((*mesh.AXES, "rollout"), (*args.mesh, args.rollout))),
    }  # fmt: skip
    for group, values in changes.items():
        c[group].update(values)
    return config.from_configdict(c)


def lowered(args: argparse.Namespace, phase: str, spec: Spec, device_mesh: jax.sharding.Mesh) -> Any:
    """The program of a phase for the mesh; prompts are half picture."""
    c = settings_of(args)
    spec, patches = pretrained.adjusted(c, spec), args.prompt // 2 * spec.vision.merge**2 if spec.vision else 0
    if phase == "rollout":
        return ahead_of_time.lower_rollout(c, spec, device_mesh, patches, shrink=args.compaction)
    return ahead_of_time.lower_update(c, spec, device_mesh, patches)


def measure(args: argparse.Namespace, phase: str) -> tuple[dict[str, Any], list[collectives.Message]]:
    """(the fields of one phase, its messages)."""
    spec = spec_of(args)
    device_mesh = mesh.make(config.Mesh(*args.mesh), devices_of(args))
    start = time.monotonic()
    # What the CPU compiler does after the program is cut over devices only takes time here.
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    if args.topology:
        options = {"exec_time_optimization_effort": args.effort} if args.effort else {}
    compiled = lowered(args, phase, spec, device_mesh).compile(options)
    if args.hlo:
        pathlib.Path(args.hlo).mkdir(parents=True, exist_ok=True)
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


def main(args: argparse.Namespace) -> None:
    """Prints the operations of each phase, and the JSON line."""
    out: dict[str, Any] = {"mesh": args.mesh, "policy": args.policy or "small", "lora": args.lora}
    for phase in args.phases.split(","):
        out[phase], messages = measure(args, phase)
        print("\n".join([f"{phase}:", *collectives.lines(messages, args.show)]), flush=True)
    print(json.dumps(out))


if __name__ == "__main__":
    main(_args)
