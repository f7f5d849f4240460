"""Compares answers to questions with their references.

Open answers are matched by their words: text becomes integers on the host (`word_ids`), after the VQA benchmark's
normalisation and in American spelling, and exact match and token F1 are jnp functions of one pair of texts, which
callers vmap over queries, rollouts and references. Numbers, choices and yes or no (*typed* answers) are matched on the
host. How a text is read stands in number_answers.py, yes_no_answers.py, choice_answers.py and open_answers.py.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax.evaluation.benchmarks import vqa as benchmark
from dtr1_jax.rewards.choice_answers import choice_index
from dtr1_jax.rewards.host_jit import host_jit
from dtr1_jax.rewards.number_answers import is_number, the_number
from dtr1_jax.rewards.open_answers import answer_words, core
from dtr1_jax.rewards.yes_no_answers import yes_or_no

KINDS = ("number", "choice", "yesno", "open")
WORDS = 32  # the most words of a text
REFERENCES = 16  # the most references of a query; later ones do not count
# With PEOPLE references or more, they are answers of different people, who may disagree: an answer is right to the
# degree that people agree with it. With fewer references, each of them is right.
PEOPLE = 4
PARTIAL = 0.5  # an open answer that is not right earns PARTIAL times its token F1


def exact_match(a_n: jax.Array, a_valid_n: jax.Array, b_n: jax.Array, b_valid_n: jax.Array) -> jax.Array:
    """float[]: 1 where two texts have the same words in the same order, else 0; two empty texts are the same.

    Args:
      a_n: int32[n], ids of words (`word_ids`), padded.
      a_valid_n: bool[n], True at words. Example: [1 1 1 0 0].
      b_n: int32[n], the other text.
      b_valid_n: bool[n], likewise.
    """
    return jnp.all((a_valid_n == b_valid_n) & (~a_valid_n | (a_n == b_n))).astype(jnp.float32)


def token_f1(a_n: jax.Array, a_valid_n: jax.Array, b_m: jax.Array, b_valid_m: jax.Array) -> jax.Array:
    """float[]: F1 of the words that two texts share, as bags, in [0, 1]: 2 * shared / (words of a + words of b).

    A word counts as shared as often as both texts have it (SQuAD, Rajpurkar et al. 2016). Two empty texts score 1, one
    empty text 0. The arguments are those of `exact_match`, but the sizes may differ.
    """
    before_nn = (a_n[:, None] == a_n[None, :]) & a_valid_n[None, :] & jnp.tri(len(a_n), k=-1, dtype=bool)
    there_n = ((a_n[:, None] == b_m[None, :]) & b_valid_m[None, :]).sum(1)
    # The k-th occurrence of a word is shared where the other text has the word k times or more.
    shared = (a_valid_n & (before_nn.sum(1) < there_n)).sum()
    total = a_valid_n.sum() + b_valid_m.sum()
    return jnp.where(total == 0, 1.0, 2.0 * shared / jnp.maximum(total, 1))


def word_ids(texts: Sequence[str], vocabulary: dict[str, int], size: int = WORDS) -> tuple[np.ndarray, np.ndarray]:
    """int32[n, size] ids of the words of each text (`open_answers.answer_words`), and bool[n, size], True at words.

    In a text of more than `size` words, all words after the first size - 1 become one word. New words are added to
    `vocabulary`; texts that are compared must share it.
    """
    ids, valid = np.zeros((len(texts), size), np.int32), np.zeros((len(texts), size), bool)
    for row, text in enumerate(texts):
        words = answer_words(text)
        words[size - 1 :] = [" ".join(words[size - 1 :])] if len(words) >= size else words[size - 1 :]
        ids[row, : len(words)] = [vocabulary.setdefault(word, len(vocabulary)) for word in words]
        valid[row, : len(words)] = True
    return ids, valid


def answer_kind(references: Sequence[str], choices: Sequence[str] = ()) -> str:
    """The kind of a question, one of KINDS, from its references and its choices."""
    if choices:
        return "choice"
    words = [benchmark.normalise(reference) for reference in references]
    if words and all(word in ("yes", "no") for word in words):
        return "yesno"
    if references and all(map(is_number, references)):
        return "number"
    return "open"


def typed_score(
    answer: str, references: Sequence[str], kind: str, choices: Sequence[str] = (), tolerance: float = 0.0
) -> float:
    """The reward of an answer whose kind is not "open", in [0, 1].

    With fewer than PEOPLE references, 1 where the answer agrees with one of them; with more, the VQA benchmark's
    accuracy. By kind, these parts of a text are compared:

    number  the number that it states (number_answers.py); two numbers agree where they differ by at most `tolerance`
            times the size of the reference
    yesno   whether it says yes or no (yes_no_answers.py)
    choice  the choice that it names (choice_answers.py)

    Raises ValueError for another kind; no answer makes it raise.
    """
    if kind not in ("number", "yesno", "choice"):
        raise ValueError(f"kind: expected number, yesno or choice, got {kind!r}")
    parse = {"number": the_number, "yesno": yes_or_no, "choice": functools.partial(choice_index, choices=choices)}[kind]
    value, targets = parse(answer), [parse(reference) for reference in references]
    if value is None or not targets:
        return 0.0
    if kind == "number":
        same = sum(t is not None and abs(value - t) <= tolerance * abs(t) * (1 + 1e-9) for t in targets)
    else:
        same = sum(value == target for target in targets)
    return benchmark.agreement(same, len(targets)) if len(targets) >= PEOPLE else float(same > 0)


def answer_scores(
    answers: Sequence[Sequence[str | None]],
    references: Sequence[Sequence[str]],
    choices: Sequence[Sequence[str]] | None = None,
    tolerance: float = 0.0,
) -> np.ndarray:
    """float32[B, G], each in [0, 1]: the VQA reward of B groups of G answers.

    Answers to a question of another kind than "open" (`answer_kind`) earn their `typed_score`. An open answer earns the
    larger of PARTIAL times its best token F1 and its match, both without the sentence around it (open_answers.py): with
    PEOPLE references or more the VQA
    benchmark's accuracy, with fewer 1 where it equals one of them.

    Args:
      answers: the texts; None (an unsound transcript, or an answer in another task's form) earns 0.
      references: the right answers of each query; without references all its answers earn 0.
      choices: the choices of each query, empty if it has none; None = no query has any.
      tolerance: how far a right number may be from the reference, as a share of the reference.

    Raises ValueError if the numbers of groups differ; no answer makes it raise.
    """
    if not len(answers) == len(references) == len(references if choices is None else choices):
        raise ValueError(f"expected references for each group, got {len(answers)} groups and {len(references)}")
    scores_bg = np.zeros((len(answers), max(map(len, answers), default=0)), np.float32)
    open_rows = []
    for b, (group, right) in enumerate(zip(answers, references)):
        options = choices[b] if choices is not None else ()
        kind = answer_kind(right, options)
        if kind == "open":
            open_rows += [(b, g) for g, text in enumerate(group) if text is not None and right]
            continue
        for g, text in enumerate(group):
            scores_bg[b, g] = 0.0 if text is None else typed_score(text, right, kind, options, tolerance)
    if open_rows:
        rows = tuple(zip(*open_rows))
        scores_bg[rows[0], rows[1]] = _open_scores(
            [answers[b][g] for b, g in open_rows], [references[b] for b in rows[0]]
        )
    return scores_bg


def f1_scores(answers: Sequence[str | None], references: Sequence[Sequence[str]]) -> np.ndarray:
    """float32[n], each in [0, 1]: the best token F1 of each of n answers with its references.

    None, an answer without words, and an answer without references score 0. Raises ValueError if there are more
    answers than references or fewer; no answer makes it raise.
    """
    rows = [i for i, pair in enumerate(zip(answers, references, strict=True)) if pair[0] is not None and pair[1]]
    scores_n = np.zeros(len(answers), np.float32)
    if rows:
        _, f1_nt = _compared([answers[i] for i in rows], [references[i] for i in rows])
        scores_n[rows] = f1_nt.max(1)
    return scores_n


def _open_scores(answers: list[str], references: list[Sequence[str]]) -> np.ndarray:
    """float32[n]: rewards of open answers, each with its references."""
    same_nt, f1_nt = _compared([core(text) for text in answers], [[core(text) for text in r] for r in references])
    same_n, f1_n = same_nt.sum(1), f1_nt.max(1)
    count_n = np.array([min(len(right), REFERENCES) for right in references])
    agreement_n = [benchmark.agreement(same, count) for same, count in zip(same_n, count_n)]
    match_n = np.where(count_n >= PEOPLE, agreement_n, same_n > 0)
    return np.maximum(match_n, PARTIAL * f1_n).astype(np.float32)


def _compared(answers: list[str], references: list[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
    """(exact match, token F1) float32[n, t] of each of n answers with its references; 0 if there is none."""
    references = [right[:REFERENCES] for right in references]
    # Sizes are rounded up to powers of two, so that a run compiles few programs.
    n, t = (1 << (size - 1).bit_length() for size in (len(answers), max(map(len, references))))
    vocabulary: dict[str, int] = {}
    ids_nk, valid_nk = word_ids(answers + [""] * (n - len(answers)), vocabulary)
    flat = [text for right in references for text in [*right, *[""] * (t - len(right))]] + [""] * t * (n - len(answers))
    ids_ntk, valid_ntk = (x.reshape(n, t, WORDS) for x in word_ids(flat, vocabulary))
    counted_nt = np.array([[i < len(right) for i in range(t)] for right in references + [[]] * (n - len(references))])
    # An answer without words scores 0, even where a reference has no words either.
    counted_nt &= valid_nk.any(1)[:, None]
    scores = _compare(ids_nk, valid_nk, ids_ntk, valid_ntk)
    return tuple(np.where(counted_nt, x, 0.0)[: len(answers)] for x in scores)


@host_jit
def _compare(ids_nk, valid_nk, ids_ntk, valid_ntk):
    """Exact match and token F1 float32[n, t] of each answer with each of its references."""
    each = [jax.vmap(jax.vmap(pair, in_axes=(None, None, 0, 0))) for pair in (exact_match, token_f1)]
    return tuple(compare(ids_nk, valid_nk, ids_ntk, valid_ntk) for compare in each)
