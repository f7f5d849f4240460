"""Do the pictures matter? The policy answers held-out queries again, with the pixels of another query."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import numpy as np

from dtr1_jax import mesh
from dtr1_jax.data import pipeline
from dtr1_jax.data.batches import Batch
from dtr1_jax.data.sources import Source
from dtr1_jax.evaluation import predict
from dtr1_jax.policies.runtime import Runtime
from dtr1_jax.types import Prompt


def same_answers(runtime: Runtime, source: Source, predictions: Sequence[predict.Prediction]) -> tuple[float, int]:
    """(share of the queries that get the same transcript with the pixels of another query, their number).

    It asks the queries of the first batch of an evaluation, in the same way and with the same random key; so a policy
    that does not look says the same, word for word. The number is 0 if there is nothing to compare: the policy sees no
    pictures, it does not write the twin, or all pictures are the same. All processes must call it.

    Args:
      runtime: with the weights that made the predictions.
      source: the examples of the evaluation.
      predictions: those of `predict.evaluate` on `source` in this process.
    """
    c, style = runtime.config, runtime.policy.style
    if runtime.policy.spec.vision is None or style.constructor != "policy":
        return 0.0, 0
    silent = pipeline.SkipCounter(warnings=0)  # The evaluation has warned of the examples that cannot be used.
    # Each process prepares all queries of the batch, because each may get the pixels of any other.
    whole = pipeline.evaluation_batches(source, style, c.train.eval_batch, c.train.eval_examples, silent)
    batch = next((batch for batch in whole if batch is not None), None)
    if batch is None:
        return 0.0, 0
    prompt, changed_b = with_pixels_of_others(batch.prompt)
    if not changed_b.any():
        return 0.0, 0
    texts = {p.place: p.transcript.text for p in predictions}
    own = [i for i, place in enumerate(batch.numbers) if int(place) in texts and changed_b[i]]
    asked = rows_of(
        dataclasses.replace(batch, prompt=prompt), own or [0]
    )  # Without queries it takes part all the same.
    transcripts = predict.ask(runtime, asked, jax.random.key(c.seed)).transcripts
    same = sum(t[0].text == texts[int(batch.numbers[i])] for i, t in zip(own, transcripts))
    same, changed = (mesh.total_of_shares(runtime.mesh, count) for count in (same, len(own)))
    return same / max(changed, 1), changed


def rows_of(batch: Batch, rows: Sequence[int]) -> Batch:
    """The batch of some rows of another one."""
    chosen = np.asarray(rows)
    return Batch(
        [batch.examples[i] for i in rows],
        [batch.canvases[i] for i in rows],
        jax.tree.map(lambda x: x[chosen], batch.prompt),
        batch.numbers[chosen],
    )


def with_pixels_of_others(prompt: Prompt) -> tuple[Prompt, np.ndarray]:
    """(the prompts, each with the pixels of the next query whose pixels differ; bool[B], True where there is one).

    All else stays: the text, the number of vision tokens and the layout of the patches. So a picture of another size is
    scrambled, but only the pixels can change the answer.
    """
    images = prompt.images
    count = len(prompt.token_bp)
    source_b = np.arange(count)
    if images is not None:
        for i in range(count):
            others = ((i + k) % count for k in range(1, count))
            different = (j for j in others if not np.array_equal(images.patch_bnc[i], images.patch_bnc[j]))
            source_b[i] = next(different, i)
        sees_b = (np.asarray(prompt.slot_bp) >= 0).any(1)
        source_b = np.where(sees_b, source_b, np.arange(count))
        images = dataclasses.replace(images, patch_bnc=np.asarray(images.patch_bnc)[source_b])
    return dataclasses.replace(prompt, images=images), source_b != np.arange(count)
