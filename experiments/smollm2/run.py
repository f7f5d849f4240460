"""Runs SmolLM2-135M-Instruct, published weights, through our decoder: `python experiments/smollm2/run.py --check`.

weights.py downloads the weights.

With --check the last line is one JSON object:
  paris: whether the greedy continuation of "The capital of France is" names Paris;
  text: that continuation;
  max_logit_diff: largest difference between our logits and those of transformers, from the same file (float32);
  positions: number of tokens at which the logits were compared.
Without --check it has the first two fields only. --check needs torch (`pip install -e '.[parity]'`).
"""

import argparse
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import weights

from dtr1_jax.models import policy, spec
from dtr1_jax.models.weights import gguf
from dtr1_jax.rl import rollout
from dtr1_jax.types import Prompt

QUESTION = "The capital of France is"
TEXTS = (
    QUESTION,
    "def fibonacci(n):\n    return n if n < 2 else",
    "<|im_start|>user\nWhich mug is nearest? Boxes: [12, 40, 96, 128]<|im_end|>\n<|im_start|>assistant\n",
)


def prompt(ids: list[int]) -> Prompt:
    """A prompt of one text, without pictures."""
    length = len(ids)
    return Prompt(
        token_bp=np.asarray([ids], np.int32), mask_bp=np.ones((1, length), bool),
        position_bp3=np.repeat(np.arange(length, dtype=np.int32)[None, :, None], 3, -1),
        slot_bp=np.full((1, length), -1, np.int32), next_b=np.asarray([length], np.int32), images=None,
    )  # fmt: skip


def greedy(params: dict, shape: spec.Spec, ids: list[int], count: int) -> list[int]:
    """The `count` most likely next tokens, one after the other."""
    completion = rollout.sample(
        params, None, prompt(ids), jax.random.key(0), None, spec=shape, group=1, new_tokens=count, end=-1, pad=0,
        temperature=0.0,
    )  # fmt: skip
    return np.asarray(completion.token_bgs)[0, 0].tolist()


def all_logits(params: dict, shape: spec.Spec, ids: list[int]) -> np.ndarray:
    """float32[len(ids), V]: the logits of the token after each of `ids`."""
    prefix = policy.prefill(params, None, shape, prompt(ids[:1]))
    token = jnp.asarray([[[*ids[1:], 0]]], jnp.int32)  # hidden() gives the state before each of them
    return np.asarray(policy.logits(params, shape, policy.hidden(params, None, shape, prefix, token)))[0, 0]


def difference(file: Path, params: dict, shape: spec.Spec, rows: list[list[int]]) -> float:
    """Largest absolute difference between our logits and those that transformers computes from the file, float32."""
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(str(file.parent), gguf_file=file.name, dtype=torch.float32).eval()
    largest = 0.0
    for ids in rows:
        with torch.no_grad():
            theirs = model(torch.tensor([ids])).logits[0].numpy()
        largest = max(largest, float(np.abs(all_logits(params, shape, ids) - theirs).max()))
    return largest


def main() -> None:
    """Continues the question, and with --check compares the logits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=weights.FOLDER, help="folder for the weights")
    parser.add_argument("--check", action="store_true", help="compare the logits with transformers (needs torch)")
    arguments = parser.parse_args()
    file = weights.fetch(arguments.out)
    params, shape = weights.load_policy(file)
    tokenizer = gguf.tokenizer(file)
    rows = [tokenizer.encode(text, add_special_tokens=False) for text in TEXTS]
    text = tokenizer.decode(greedy(params, shape, rows[0], 8))
    result = {"paris": "Paris" in text, "text": text}
    if arguments.check:
        result |= {
            "max_logit_diff": difference(file, params, shape, rows), "positions": sum(map(len, rows)),
        }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
