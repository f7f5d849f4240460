"""The columns about answers in words, each in [0, 1], computed on the host.

A scorer that is slow or crashes costs its answer the column; it never holds up the run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from dtr1_jax import config
from dtr1_jax.evaluation.benchmarks import captions
from dtr1_jax.rewards import answer_matching, text_metrics
from dtr1_jax.rewards.columns import weighted_columns
from dtr1_jax.rewards.judge import Judge
from dtr1_jax.run import local_copy
from dtr1_jax.run.worker_pool import Failure, Pool


class TextScorers:
    """Compares answers with their references; use it as a context manager or `close()` it.

    Worker processes for ROUGE, BLEU and CIDEr start with the first answer, so a run without answers in words starts
    none.
    """

    def __init__(self, reward: config.Reward, embedder: Callable[[str], text_metrics.EmbedFn] | None = None):
        """Loads the models and connects the judge that the columns with a weight need.

        Args:
          reward: weights and settings.
          embedder: loads a sentence model: folder -> (texts -> embeddings), see models.sentence_encoder.embedder.

        Raises ConfigError if a setting that a column needs is missing or wrong, WorkerError, and the errors of
        `embedder`.
        """
        names = weighted_columns(reward.weights)
        self._judge, self._embed = None, None
        self._pool: Pool | None = None
        if "cider" in names and reward.idf:
            reward = dataclasses.replace(reward, idf=str(local_copy.fetch(reward.idf, "config.reward.idf")))
            try:
                captions.read_frequencies(reward.idf)
            except ValueError as error:
                raise config.ConfigError(f"config.reward.idf: {error}") from None
        self._reward = reward
        if "similarity" in names:
            if not reward.sentences or embedder is None:
                raise config.ConfigError(
                    f"config.reward.sentences: expected the folder of a sentence model, got {reward.sentences!r}; the "
                    "column similarity in config.reward.weights needs it"
                )
            self._embed = embedder(reward.sentences)
        if "judge" in names:
            j = reward.judge
            if not j.url or not j.model:
                raise config.ConfigError(
                    f"config.reward.judge: expected url and model, got {j.url!r} and {j.model!r}; the column judge in "
                    "config.reward.weights needs them"
                )
            try:
                self._judge = Judge(
                    j.url, j.model, cache=j.cache or None, key_env=j.key_env, deadline=j.deadline, budget=j.budget,
                    workers=j.workers,
                )  # fmt: skip
            except ValueError as error:
                raise config.ConfigError(f"config.reward.judge.{error}") from None

    @property
    def failures(self) -> int:
        """Answers that lost a column so far, because a worker hung or crashed or the judge gave no grade."""
        parts = [part.failures for part in (self._pool, self._judge) if part is not None]
        return sum(count for part in parts for count in part.values())

    def columns(
        self, rows: Sequence[tuple[str, str | None, Sequence[str]]], names: Sequence[Sequence[str]]
    ) -> list[dict[str, float]]:
        """The scores of each row: name -> score in [0, 1].

        An answer of None (the transcript is unsound, or it answers in another task's form) scores 0 in every column,
        and so does an answer without references. No answer makes it raise.

        Args:
          rows: n times (query, answer, references).
          names: n times the columns that the row needs.
        """
        scores = [dict.fromkeys(row_names, 0.0) for row_names in names]
        answered = [i for i, (_, answer, references) in enumerate(rows) if answer is not None and references]

        def rows_with(name: str) -> list[int]:
            return [i for i in answered if name in names[i]]

        self._score_in_workers(rows, [i for i in answered if set(names[i]) & set(text_metrics.PLAIN)], scores)
        if places := rows_with("token_f1"):
            f1_n = answer_matching.f1_scores([rows[i][1] for i in places], [rows[i][2] for i in places])
            _fill(scores, "token_f1", places, f1_n)
        if places := rows_with("similarity"):
            answers, references = map(list, zip(*[rows[i][1:] for i in places]))
            _fill(scores, "similarity", places, text_metrics.similarity(answers, references, self._embed))
        if places := rows_with("judge"):
            _fill(scores, "judge", places, self._judge.scores([rows[i] for i in places]))
        return scores

    def _score_in_workers(self, rows, places: list[int], scores: list[dict[str, float]]) -> None:
        """Writes ROUGE, BLEU and CIDEr of the rows at `places` into `scores`; equal answers to a query go out once."""
        items: dict[tuple, list[int]] = {}
        for i in places:
            columns = tuple(name for name in text_metrics.PLAIN if name in scores[i])
            items.setdefault((columns, rows[i][1], tuple(rows[i][2])), []).append(i)
        if not items:
            return
        if self._pool is None:
            reward = self._reward
            self._pool = Pool("dtr1_jax.rewards.text_metrics:scorer", reward.workers, reward.deadline, reward.idf)
        cut = text_metrics.CUT  # only the first CUT characters count, so only they are sent
        messages = [
            {"columns": list(columns), "answer": answer[:cut], "references": [r[:cut] for r in references]}
            for columns, answer, references in items
        ]
        for (columns, _, _), same_rows, reply in zip(items, items.values(), self._pool.map(messages)):
            if isinstance(reply, Failure):
                continue
            for i in same_rows:
                scores[i] |= dict(zip(columns, reply))

    def close(self) -> None:
        """Ends the workers. May be called twice."""
        for part in (self._pool, self._judge):
            if part is not None:
                part.close()

    def __enter__(self) -> TextScorers:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _fill(scores: list[dict[str, float]], name: str, places: list[int], column: Sequence[float] | np.ndarray) -> None:
    for i, score in zip(places, column, strict=True):
        scores[i][name] = float(score)
