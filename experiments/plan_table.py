"""Plans steps of several policies on several TPU slices: `python experiments/plan_table.py --out=plan.jsonl`.

Each cell is one call of `main.py --mode=plan --topology=...` and becomes one line of JSON in the file, so a run that
was stopped goes on with the cells that are missing. At the end, and with `--table` alone, it prints the table of what
the file has. It needs `pip install 'dtr1_jax[tpu]'`, but no TPU; a cell takes minutes.

The work is that of docs/devices.md: 64 queries x 8 completions of 2048 + 1024 tokens, half of a prompt a picture. The
mesh has fsdp as large as the queries allow, and tensor the rest. An update takes 1 query x 4 completions at a time, or
x 8 on chips with more memory.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

ROOT = pathlib.Path(__file__).parents[1]
QUERIES = 64
POLICIES = ("qwen2_5_vl_7b", "qwen2_5_vl_3b", "qwen2_5_vl_32b", "qwen3_vl_2b", "qwen3_vl_8b")
CHIPS = {"v5e:4x4": 16, "v5e:16x16": 256, "v6e:8x8": 64, "v5p:4x4x4": 64}
AT_ONCE = {"v5e": 4, "v6e": 8, "v5p": 8}  # completions of a query in a part of the update
FIRST = ("qwen2_5_vl_7b/lora/v5e:4x4", "qwen2_5_vl_7b/full/v5e:16x16", "qwen2_5_vl_32b/full/v5p:4x4x4")


def cells() -> list[str]:
    """All cells POLICY/TRAINING/SLICE; those that a slice was chosen for come first."""
    every = [
        f"{policy}/{training}/{slice_}" for slice_ in CHIPS for policy in POLICIES for training in ("lora", "full")
    ]
    return [*FIRST, *(cell for cell in every if cell not in FIRST)]


def command(cell: str, settings: list[str], fast: bool) -> list[str]:
    """The words of the command that plans a cell."""
    policy, training, topology = cell.split("/")
    tensor = max(1, CHIPS[topology] // QUERIES)
    full = ["--config.lora.rank=0", "--config.policy.weights_dtype=float32"] if training == "full" else []
    return [
        "main.py", f"--config=configs/seg.py:{policy}", "--mode=plan", f"--topology={topology}", *["--fast"] * fast,
        f"--config.rollout.queries={QUERIES}", "--config.rollout.group=8", "--config.rollout.new_tokens=1024",
        "--config.policy.prompt_tokens=2048", f"--config.policy.max_pixels={1024 * _pixels(policy)}",
        f"--config.train.eval_batch={QUERIES}", "--config.mesh.data=1", "--config.mesh.fsdp=-1",
        f"--config.mesh.tensor={tensor}", f"--config.grpo.micro_group={AT_ONCE[topology.split(':')[0]]}", *full,
        *settings,
    ]  # fmt: skip


def _pixels(policy: str) -> int:
    """Pixels of a vision token: patches of 14 x 14 (Qwen2.5-VL) or 16 x 16, of which 2 x 2 are merged."""
    return 32**2 if "qwen3" in policy else 28**2


def run(cell: str, settings: list[str], fast: bool) -> dict[str, Any]:
    """The line of a cell: {"cell", "command", "seconds", and "planned" or "error"}."""
    words, start = command(cell, settings, fast), time.monotonic()
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    line = {"cell": cell, "command": " ".join(["python", *words]), "seconds": round(time.monotonic() - start)}
    last = done.stdout.strip().splitlines()[-1:]
    if done.returncode or not last:
        return line | {"error": f"exit status {done.returncode}"}
    return line | {"planned": json.loads(last[0])}


def read(path: pathlib.Path) -> dict[str, dict[str, Any]]:
    """The lines of the file by cell; a line that was cut off when a run was stopped is left out."""
    found = {}
    for text in path.read_text("utf-8").splitlines() if path.exists() else ():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        found[line["cell"]] = line
    return found


def table(lines: dict[str, dict[str, Any]]) -> Iterator[str]:
    """A row in Markdown for each cell that was planned, in GiB, seconds and GB."""
    names = "policy", "training", "slice", "GiB of usable", "fits", "update, s", "MFU", "GB sent"
    names += "token, ms", "bandwidth", "ms sent"
    yield f"| {' | '.join(names)} |"
    yield "|---" * len(names) + "|"
    for cell in cells():
        planned = lines.get(cell, {}).get("planned")
        if planned:
            yield "| " + " | ".join((*cell.split("/"), *_columns(planned))) + " |"


def _columns(planned):
    memory = f"{planned['hbm_bytes_per_chip'] / 2**30:.1f} of {planned['usable_bytes'] / 2**30:.2f}"
    update, decode = planned["update"], planned["decode"]
    yield from (memory, "yes" if planned["fits"] else "no")
    if update:
        yield from (f"{update['seconds']:.2f}", f"{planned['mfu']:.2f}", f"{update['sent_bytes'] / 1e9:.0f}")
    else:
        yield from ("", "", "")
    if decode:
        yield f"{1e3 * decode['token_seconds']:.2f}"
        yield from (f"{decode['bandwidth_share']:.2f}", f"{decode['token_ici_ms']:.3f}")
    else:
        yield from ("", "", "")


def main(argv: list[str] | None = None) -> None:
    """Plans the cells that the file lacks, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="plan.jsonl", help="file of JSON lines")
    parser.add_argument("--cells", default="", help="POLICY/lora or full/SLICE, with commas between; default: all")
    parser.add_argument("--fast", action="store_true", help="the compiler works with low effort")
    parser.add_argument("--table", action="store_true", help="only print the table of what the file has")
    args, settings = parser.parse_known_args(argv)
    if strange := [word for word in settings if not word.startswith("--config.")]:
        parser.error(f"unexpected arguments: {' '.join(strange)}; settings are --config.section.name=value")
    wanted = args.cells.split(",") if args.cells else cells()
    if unknown := [cell for cell in wanted if cell not in cells()]:
        parser.error(f"--cells: expected POLICY/TRAINING/SLICE such as {FIRST[0]}, got {', '.join(unknown)}")
    path = pathlib.Path(args.out)
    for cell in [] if args.table else wanted:
        if "planned" in read(path).get(cell, {}):
            continue
        print(f"{cell} ...", file=sys.stderr, flush=True)
        line = run(cell, settings, args.fast)
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
    print("\n".join(table(read(path))))


if __name__ == "__main__":
    main()
