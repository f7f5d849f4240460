"""Compares the speed of sampling with transformers, on the same weights: `python experiments/smollm2/speed.py`.

Needs torch. It generates 8 rows of 64 greedy tokens after prompts of 256, in float32 on a CPU. torch has `--threads`
threads; XLA takes all cores that the process may use (`taskset` limits both). Ours is rl/rollout.py, which training
uses; theirs is `generate` of transformers. They take turns and each round gives a ratio, so that other work on the
machine slows both; the medians over rounds are printed.

The last line is one JSON object; *_ratio is ours / theirs in tokens/s, above 1 = ours is faster:
  prefill_ratio: prefill, up to the logits of the next token;
  decode_ratio: decoding of the 64 tokens, measured as a whole generation minus the prefill;
  whole_ratio: prefill and decoding together;
  group_ratio: prefill and decoding of 8 completions of one prompt, which ours reads once and theirs 8 times;
  cpu_ratio: the four ratios in CPU seconds, summed over threads, in place of wall-clock seconds. They help where other
    work takes most of the machine, but they do not count idle threads;
  ours, theirs: tokens/s of the four, by the wall clock;
  differing_tokens: largest number of tokens in which a row of ours differs from theirs;
  first_difference: the earliest position of a difference, or null. Both are greedy, so rows differ only after a step at
    which two tokens are equally likely within float32 precision.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import weights

from dtr1_jax.models import policy
from dtr1_jax.models.weights import gguf
from dtr1_jax.rl import rollout
from dtr1_jax.types import Prompt

TEXT = Path(__file__).resolve().parents[2] / "docs" / "results.md"  # the prompts are pieces of it


def pieces(file: Path, rows: int, length: int) -> np.ndarray:
    """int32[rows, length]: consecutive pieces of TEXT, which is repeated if it is too short."""
    ids = gguf.tokenizer(file).encode(TEXT.read_text("utf-8"), add_special_tokens=False)
    return np.resize(np.asarray(ids, np.int32), (rows, length))


def prompts(token_bp: np.ndarray) -> Prompt:
    """Prompts of text tokens, all of one length."""
    b, p = token_bp.shape
    return Prompt(
        token_bp=token_bp, mask_bp=np.ones((b, p), bool),
        position_bp3=np.broadcast_to(np.arange(p, dtype=np.int32)[:, None], (b, p, 3)),
        slot_bp=np.full((b, p), -1, np.int32), next_b=np.full(b, p, np.int32), images=None,
    )  # fmt: skip


class Ours:
    """Our policy: prefill alone, and whole generations of a group for each prompt."""

    def __init__(self, file: Path, new_tokens: int):
        self.params, self.spec = weights.load_policy(file)
        self.new_tokens = new_tokens
        self._prefill = jax.jit(self._logits)

    def _logits(self, params, prompt):
        prefix = policy.prefill(params, None, self.spec, prompt)
        return policy.logits(params, self.spec, prefix.last_bd), prefix.kv

    def prefill(self, token_bp: np.ndarray) -> None:
        """Computes the logits of the next token and the keys and values of the prompts."""
        jax.block_until_ready(self._prefill(self.params, prompts(token_bp)))

    def generate(self, token_bp: np.ndarray, group: int = 1) -> np.ndarray:
        """int32[B * group, new_tokens], the most likely tokens."""
        completions = rollout.sample(
            self.params, None, prompts(token_bp), jax.random.key(0), None, spec=self.spec, group=group,
            new_tokens=self.new_tokens, end=-1, pad=0, temperature=0.0,
        )  # fmt: skip
        return np.asarray(completions.token_bgs).reshape(-1, self.new_tokens)


class Theirs:
    """transformers, with the methods of `Ours`."""

    def __init__(self, file: Path, new_tokens: int, threads: int):
        import torch
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging

        self.torch, self.new_tokens = torch, new_tokens
        torch.set_num_threads(threads)
        logging.disable_progress_bar()
        self.model = AutoModelForCausalLM.from_pretrained(
            str(file.parent), gguf_file=file.name, dtype=torch.float32
        ).eval()  # fmt: skip

    def prefill(self, token_bp: np.ndarray) -> None:
        """Computes the logits of the next token and the keys and values of the prompts."""
        with self.torch.no_grad():
            self.model(self.torch.tensor(token_bp.astype(np.int64)), use_cache=True, logits_to_keep=1)

    def generate(self, token_bp: np.ndarray, group: int = 1) -> np.ndarray:
        """int32[B * group, new_tokens], the most likely tokens."""
        token = self.torch.tensor(np.repeat(token_bp, group, 0).astype(np.int64))
        out = self.model.generate(
            token, attention_mask=self.torch.ones_like(token), do_sample=False, min_new_tokens=self.new_tokens,
            max_new_tokens=self.new_tokens, eos_token_id=None, pad_token_id=0,
        )  # fmt: skip
        return out[:, token.shape[1] :].numpy().astype(np.int32)


def timed(function: Callable, *arguments: Any) -> tuple[np.ndarray, Any]:
    """Calls the function: (float[2], wall-clock and CPU seconds of the call; its result)."""
    start = np.array([time.perf_counter(), time.process_time()])
    result = function(*arguments)
    return np.array([time.perf_counter(), time.process_time()]) - start, result


def compare(ours: Ours, theirs: Theirs, token_bp: np.ndarray, new_tokens: int, rounds: int) -> dict:
    """Computes the fields of the last line. The first call of each job compiles or warms up, and is not counted."""
    b, p = token_bp.shape
    jobs = {
        "prefill": lambda x: x.prefill(token_bp),
        "whole": lambda x: x.generate(token_bp),
        "group": lambda x: x.generate(token_bp[:1], b),
    }
    sides = {"ours": ours, "theirs": theirs}
    times, tokens_of = {}, {}
    for i in range(rounds + 1):
        for job, call in jobs.items():
            for side, model in sides.items():
                spent, tokens_of[side, job] = timed(call, model)
                if i:
                    times.setdefault((side, job), []).append(spent)
    times = {key: np.array(spent) for key, spent in times.items()}  # [rounds, 2]
    for side in sides:
        times[side, "decode"] = np.maximum(times[side, "whole"] - times[side, "prefill"], 1e-9)
    tokens = {"prefill": b * p, "decode": b * new_tokens, "whole": b * new_tokens, "group": b * new_tokens}
    ratio = {job: np.median(times["theirs", job] / times["ours", job], 0).tolist() for job in tokens}
    line = {f"{job}_ratio": wall for job, (wall, _) in ratio.items()}
    line["cpu_ratio"] = {job: cpu for job, (_, cpu) in ratio.items()}
    for side in sides:
        line[side] = {job: count / float(np.median(times[side, job][:, 0])) for job, count in tokens.items()}
    differs = tokens_of["ours", "whole"] != tokens_of["theirs", "whole"]
    line["differing_tokens"] = int(differs.sum(1).max())
    line["first_difference"] = int(differs.any(0).argmax()) if differs.any() else None
    return line


def rounded(value: Any) -> Any:
    """Rounds floats to four digits, also inside dicts."""
    if isinstance(value, dict):
        return {name: rounded(x) for name, x in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    """Loads the weights into both and prints the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=weights.FOLDER, help="folder for the weights")
    parser.add_argument("--rounds", type=int, default=3, help="timed rounds")
    parser.add_argument("--threads", type=int, default=2, help="threads of torch")
    for name, size in (("rows", 8), ("prompt_tokens", 256), ("new_tokens", 64)):
        parser.add_argument(f"--{name}", type=int, default=size)
    args = parser.parse_args()
    file = weights.fetch(args.out)
    ours, theirs = Ours(file, args.new_tokens), Theirs(file, args.new_tokens, args.threads)
    token_bp = pieces(file, args.rows, args.prompt_tokens)
    sizes = {n: getattr(args, n) for n in ("rows", "prompt_tokens", "new_tokens", "threads", "rounds")}
    print(json.dumps(sizes | rounded(compare(ours, theirs, token_bp, args.new_tokens, args.rounds))))


if __name__ == "__main__":
    main()
