"""Columns of answers in words: each in [0, 1], on the host, where nothing that is slow or crashes holds up the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from dtr1_jax import config
from dtr1_jax.evaluation.benchmarks import captions
from dtr1_jax.rewards import answer_matching, text_metrics
from dtr1_jax.rewards.columns import used
from dtr1_jax.rewards.judge import Judge
from dtr1_jax.run.workers import Failure, Pool


class TextScorers:
    """Those who compare an answer with its references; use as a context manager or `close()` it.

    Worker processes for ROUGE, BLEU and CIDEr start with the first answer, so that a run without words has none.
    """

    def __init__(self, reward: config.Reward, embedder: Callable[[str], text_metrics.EmbedFn] | None = None):
        """Opens what the columns that weigh something need.

        Args:
          reward: weights and settings.
          embedder: folder of a model -> texts -> embeddings (models.sentence.embedder).

        Raises ConfigError where a column lacks what it needs; what `embedder` raises; WorkerError.
        """
        names = used(reward.weights)
        self._reward, self._pool, self._judge, self._embed = reward, None, None, None
        where = "a column of config.reward.weights needs it"
        if "cider" in names and reward.idf:
            try:
                captions.read_frequencies(reward.idf)
            except ValueError as error:
                raise config.ConfigError(f"config.reward.idf: {error}") from None
        if "similarity" in names:
            if not reward.sentences or embedder is None:
                raise config.ConfigError(
                    f"config.reward.sentences: expected the folder of a sentence model, got {reward.sentences!r}; "
                    f"similarity, {where}"
                )
            self._embed = embedder(reward.sentences)
        if "judge" in names:
            j = reward.judge
            if not j.url or not j.model:
                raise config.ConfigError(
                    f"config.reward.judge: expected url and model, got {j.url!r} and {j.model!r}; judge, {where}"
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
        """Answers that fell so far: a worker hung or crashed, or the judge gave no grade. Each cost that column."""
        parts = [part.failures for part in (self._pool, self._judge) if part is not None]
        return sum(count for part in parts for count in part.values())

    def columns(
        self, rows: Sequence[tuple[str, str | None, Sequence[str]]], names: Sequence[Sequence[str]]
    ) -> list[dict[str, float]]:
        """For each row (query, answer, references): name -> score in [0, 1] of the columns in `names` of that row.

        An answer of None (unsound, or in another task's form) scores 0 everywhere, and so does one without references.
        Nothing about an answer raises.
        """
        found = [dict.fromkeys(of_row, 0.0) for of_row in names]
        told = [i for i, (_, answer, references) in enumerate(rows) if answer is not None and references]

        def of(name: str) -> list[int]:
            return [i for i in told if name in names[i]]

        self._plain(rows, [i for i in told if set(names[i]) & set(text_metrics.PLAIN)], found)
        if of("token_f1"):
            scores = answer_matching.f1_scores(
                [rows[i][1] for i in of("token_f1")], [rows[i][2] for i in of("token_f1")]
            )
            _fill(found, "token_f1", of("token_f1"), scores)
        if of("similarity"):
            pairs = [rows[i][1:] for i in of("similarity")]
            _fill(found, "similarity", of("similarity"), text_metrics.similarity(*map(list, zip(*pairs)), self._embed))
        if of("judge"):
            _fill(found, "judge", of("judge"), self._judge.scores([rows[i] for i in of("judge")]))
        return found

    def _plain(self, rows, places: list[int], found: list[dict[str, float]]) -> None:
        """ROUGE, BLEU and CIDEr, in the workers; equal answers to a query are scored once."""
        items: dict[tuple, list[int]] = {}
        for i in places:
            wanted = tuple(name for name in text_metrics.PLAIN if name in found[i])
            items.setdefault((wanted, rows[i][1], tuple(rows[i][2])), []).append(i)
        if not items:
            return
        if self._pool is None:
            reward = self._reward
            self._pool = Pool("dtr1_jax.rewards.text_metrics:scorer", reward.workers, reward.deadline, reward.idf)
        sent = [
            # what follows the first CUT characters does not count, so it need not travel
            {"columns": list(wanted), "answer": answer[: text_metrics.CUT], "references": [r[: text_metrics.CUT] for r
            in references]} for wanted, answer, references in items
        ]  # fmt: skip
        for (wanted, _, _), places_of, scores in zip(items, items.values(), self._pool.map(sent)):
            if isinstance(scores, Failure):
                continue
            for i in places_of:
                found[i] |= dict(zip(wanted, scores))

    def close(self) -> None:
        """Ends the workers. May be called twice."""
        for part in (self._pool, self._judge):
            if part is not None:
                part.close()

    def __enter__(self) -> TextScorers:
        return self

    def __exit__(self, *_) -> None:
        self.close()


def _fill(found: list[dict[str, float]], name: str, places: list[int], scores: Sequence[float] | np.ndarray) -> None:
    for i, score in zip(places, scores, strict=True):
        found[i][name] = float(score)
