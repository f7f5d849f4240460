"""Sampling against transformers on the same weights: `python experiments/smollm2/speed.py`; needs torch.

8 rows of 64 greedy tokens each after prompts of 256, in float32 on a CPU, with as many threads for torch as
`--threads` says (XLA takes all cores that the process may use: `taskset` binds both). Ours is rl/rollout.py, what
training samples with; theirs is `generate` of transformers. They take turns, and each round gives a ratio, so that
what else the machine does hits both; the medians over rounds are printed.

The last line is one JSON object; *_ratio is ours / theirs in tokens/s, above 1 = ours is faster:
  prefill_ratio: reading the prompts up to the logits of the next token;
  decode_ratio: the 64 tokens, a whole generation less that reading;
  whole_ratio: reading and generating together;
  group_ratio: the same for 8 completions of one prompt, which ours reads once and theirs 8 times;
  cpu_ratio: the four ratios in seconds that the processors worked, of all threads together, in place of seconds on
    the clock: of use where other work takes most of the machine, but idle threads are for free here;
  ours, theirs: tokens/s of the four, on the clock;
  differing_tokens: most tokens by which a row of ours differs from theirs; first_difference: the earliest place, or
    null. Both are greedy, so rows part where two tokens are as likely as float32 can tell.
"""

import argparse
import json
import time
from pathlib import Path

import jax
import numpy as np
import weights

from dtr1_jax.models import policy
from dtr1_jax.models.weights import gguf
from dtr1_jax.rl import rollout
from dtr1_jax.types import Prompt

TEXT = Path(__file__).resolve().parents[2] / "docs" / "results.md"  # The prompts are pieces of this text.


def pieces(file: Path, rows: int, length: int) -> np.ndarray:
    """int32[rows, length]: neighbouring pieces of a text, from its start again where it is too short."""
    ids = gguf.tokenizer(file).encode(TEXT.read_text("utf-8"), add_special_tokens=False)
    return np.resize(np.asarray(ids, np.int32), (rows, length))


def prompts(token_bp: np.ndarray) -> Prompt:
    """Prompts of text, all of one length."""
    b, p = token_bp.shape
    return Prompt(
        token_bp=token_bp, mask_bp=np.ones((b, p), bool),
        position_bp3=np.broadcast_to(np.arange(p, dtype=np.int32)[:, None], (b, p, 3)),
        slot_bp=np.full((b, p), -1, np.int32), next_b=np.full(b, p, np.int32), images=None,
    )  # fmt: skip


class Ours:
    """Our policy: reading alone, and whole generations of a group for each prompt."""

    def __init__(self, file: Path, new_tokens: int):
        self.params, self.spec = weights.read(file)
        self.new_tokens = new_tokens
        self._read = jax.jit(self._logits)

    def _logits(self, params, prompt):
        prefix = policy.prefill(params, None, self.spec, prompt)
        return policy.logits(params, self.spec, prefix.last_bd), prefix.kv

    def read(self, token_bp: np.ndarray) -> None:
        """Up to the logits of the next token, with the keys and values kept."""
        jax.block_until_ready(self._read(self.params, prompts(token_bp)))

    def whole(self, token_bp: np.ndarray, group: int = 1) -> np.ndarray:
        """int32[B * group, new_tokens], the most likely tokens."""
        sampled = rollout.sample(
            self.params, None, prompts(token_bp), jax.random.key(0), None, spec=self.spec, group=group,
            new_tokens=self.new_tokens, end=-1, pad=0, temperature=0.0,
        )  # fmt: skip
        return np.asarray(sampled.token_bgs).reshape(-1, self.new_tokens)


class Theirs:
    """The same of transformers."""

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

    def read(self, token_bp: np.ndarray) -> None:
        """Up to the logits of the next token, with the keys and values kept."""
        with self.torch.no_grad():
            self.model(self.torch.tensor(token_bp.astype(np.int64)), use_cache=True, logits_to_keep=1)

    def whole(self, token_bp: np.ndarray, group: int = 1) -> np.ndarray:
        """int32[B * group, new_tokens], the most likely tokens."""
        token = self.torch.tensor(np.repeat(token_bp, group, 0).astype(np.int64))
        out = self.model.generate(
            token, attention_mask=self.torch.ones_like(token), do_sample=False, min_new_tokens=self.new_tokens,
            max_new_tokens=self.new_tokens, eos_token_id=None, pad_token_id=0,
        )  # fmt: skip
        return out[:, token.shape[1] :].numpy().astype(np.int32)


def timed(function, *arguments) -> tuple[np.ndarray, np.ndarray | None]:
    """(float[2]: seconds on the clock and of the processors that a call takes, what it returns)."""
    start = np.array([time.perf_counter(), time.process_time()])
    result = function(*arguments)
    return np.array([time.perf_counter(), time.process_time()]) - start, result


def compare(ours, theirs, token_bp: np.ndarray, new_tokens: int, rounds: int) -> dict:
    """The fields of the last line. The first call of each compiles or warms up, and is left out."""
    b, p = token_bp.shape
    jobs = {
        "prefill": lambda x: x.read(token_bp),
        "whole": lambda x: x.whole(token_bp),
        "group": lambda x: x.whole(token_bp[:1], b),
    }
    sides = {"ours": ours, "theirs": theirs}
    took, wrote = {}, {}
    for i in range(rounds + 1):
        for job, run in jobs.items():
            for side, model in sides.items():
                spent, wrote[side, job] = timed(run, model)
                if i:
                    took.setdefault((side, job), []).append(spent)
    took = {which: np.array(spent) for which, spent in took.items()}  # [rounds, 2]
    for side in sides:
        took[side, "decode"] = np.maximum(took[side, "whole"] - took[side, "prefill"], 1e-9)
    tokens = {"prefill": b * p, "decode": b * new_tokens, "whole": b * new_tokens, "group": b * new_tokens}
    ratio = {job: np.median(took["theirs", job] / took["ours", job], 0).tolist() for job in tokens}
    line = {f"{job}_ratio": clock for job, (clock, _) in ratio.items()}
    line["cpu_ratio"] = {job: worked for job, (_, worked) in ratio.items()}
    for side in sides:
        line[side] = {job: count / float(np.median(took[side, job][:, 0])) for job, count in tokens.items()}
    parted = wrote["ours", "whole"] != wrote["theirs", "whole"]
    line["differing_tokens"] = int(parted.sum(1).max())
    line["first_difference"] = int(parted.any(0).argmax()) if parted.any() else None
    return line


def rounded(value):
    """Numbers with four digits, in dicts too."""
    if isinstance(value, dict):
        return {name: rounded(x) for name, x in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    """Reads the weights twice, and lets both take turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=weights.FOLDER, help="where the file is kept")
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
