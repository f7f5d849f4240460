"""Asked blind: the policy answers a query again from its own twin as text, without the picture.

The accuracy of that answer is the reward column `blind`: a twin that is enough to answer earns it, and a twin that only
accompanies an answer does not. The idea is the self-contained perception of Vision-SR1 (arXiv 2508.19652). It costs
one more rollout of B x G prompts with one completion each, in one fixed shape. Without a weight of the column there is
no such rollout.
"""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from dtr1_jax import config, mesh
from dtr1_jax.asking.complete import filled_up
from dtr1_jax.data.batches import Batch
from dtr1_jax.data.blind_prompts import START, blind_prompts
from dtr1_jax.policies.runtime import Runtime
from dtr1_jax.rewards import score
from dtr1_jax.rl import rollout as rollouts
from dtr1_jax.twin import transcript
from dtr1_jax.twin.transcript import Transcript

ACCURACY = {"segmentation": "mask_iou", "grounding": "box_iou", "vqa": "answer", "summary": "rouge_l"}


def is_on(reward: config.Reward) -> bool:
    """Whether some task's column `blind` has a weight. All processes agree on it, whatever their batches hold."""
    return any(of_task.get("blind") for of_task in reward.weights.values())


def blind_scores(
    runtime: Runtime, batch: Batch, transcripts: list[list[Transcript]], key: jax.Array, *, temperature: float,
    top_k: int = 0, top_p: float = 1.0,
) -> np.ndarray | None:  # fmt: skip
    """float32[B, G], each in [0, 1]: the accuracy of the answers from the twins; None if the column has no weight.

    It is measured by the column of ACCURACY for the query's task, and is 0 where the transcript is unsound.

    Args:
      runtime: the policy, its weights and the tools that score answers.
      batch: the B queries.
      transcripts: B groups of G completions, each with the policy's own twin.
      key: of the samples; not the one of the completions.
      temperature, top_k, top_p: as for the completions; temperature 0 = greedy.
    """
    if not is_on(runtime.config.reward):
        return None
    answers = ask_blind(runtime, batch, transcripts, key, temperature=temperature, top_k=top_k, top_p=top_p)
    weights = {task: {column: 1.0} for task, column in ACCURACY.items()}
    reward = dataclasses.replace(runtime.config.reward, weights=weights)
    rewards, _ = score.score(
        answers, batch.examples, batch.canvases, runtime.segmenter, reward, runtime.text_scorers
    )  # fmt: skip
    return rewards.total_bg


def ask_blind(
    runtime: Runtime, batch: Batch, transcripts: list[list[Transcript]], key: jax.Array, *, temperature: float,
    top_k: int = 0, top_p: float = 1.0,
) -> list[list[Transcript]]:  # fmt: skip
    """B groups of G transcripts with the twin of each completion and the answer from it.

    They are unsound where the completion is, or where its twin does not fit into a prompt. The arguments are those of
    `blind_scores`.
    """
    c, policy = runtime.config, runtime.policy
    tokenizer, new_tokens = policy.style.tokenizer, c.rollout.new_tokens
    twins = [[t.twin if t.sound else None for t in group] for group in transcripts]
    # A prompt has room for the words of any prompt and for the longest twin that a completion can hold.
    prompt, asked_bg = blind_prompts(batch, twins, policy.style, policy.style.length + new_tokens)
    group = asked_bg.shape[1]
    number_r = (batch.numbers[:, None] * group + np.arange(group, dtype=np.int32)).reshape(-1)
    prompt, number_r = filled_up(runtime, (prompt, number_r))
    rollout = rollouts.sample(
        runtime.params, runtime.lora, prompt, key, policy.banned_v, spec=policy.spec,
        group=1, new_tokens=new_tokens, end=tokenizer.ends, pad=tokenizer.pad, temperature=temperature, top_k=top_k,
        top_p=top_p, dtype=policy.dtype, mesh=runtime.sampling_mesh, number_b=number_r,
    )  # fmt: skip
    rollout = mesh.local(rollout, runtime.mesh)

    def read(b: int, g: int) -> Transcript:
        row = b * asked_bg.shape[1] + g
        text = START + tokenizer.decode(rollout.token_bgs[row, 0][rollout.mask_bgs[row, 0]]) if asked_bg[b, g] else ""
        return transcript.parse(
            text, task=batch.examples[b].task, canvas=batch.canvases[b], constructor="given", given_twin=twins[b][g]
        )

    return [[read(b, g) for g in range(asked_bg.shape[1])] for b in range(len(twins))]
