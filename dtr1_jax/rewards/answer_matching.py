"""Answers to questions against what is right: exact match and token F1 in jnp, and the typed answers on the host.

Text becomes integers on the host (`word_ids`), after the VQA benchmark's normalisation; matching is written for one
pair of texts, and callers vmap it over queries, rollouts and references.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from dtr1_jax.evaluation.benchmarks import vqa as benchmark
from dtr1_jax.rewards.text_metrics import clean

KINDS = ("number", "choice", "yesno", "open")
WORDS = 32  # words of a text that count
REFERENCES = 16  # references of a query that count
PEOPLE = 4  # so many references are the answers of people, who may differ; of fewer any is right
# Credit of an open answer that shares words with the target but is not it: so much of its token F1.
PARTIAL = 0.5

_YESNO = {"yes": "yes", "yeah": "yes", "yep": "yes", "true": "yes", "no": "no", "nope": "no", "false": "no"}
_NUMBER = re.compile(r"(?<![\w.,])[+-]?\d+(?:,\d+)*(?:\.\d+)?(?![\w]|[.,]\d)", re.ASCII)
# "B", "(b)", "B.", "b) the cat", "B: the cat"; not "A cat".
_LETTER = re.compile(r"\s*[(\[]?([A-Za-z])(?:[)\].:,]|\s*$)")
# "the answer is B", "option (b)"; not "the answer is a cat".
_SAID = re.compile(r"\b(?i:answer|option|choice)\s*(?i:is|:)?\s*[(\[]?([A-Z](?![\w'])|[a-z](?![\w'])(?!\s+\w))")


def exact_match(a_n: jax.Array, a_valid_n: jax.Array, b_n: jax.Array, b_valid_n: jax.Array) -> jax.Array:
    """float[]: 1 where two texts have the same words in the same order, else 0. Both empty = 1.

    Args:
      a_n: int32[n], ids of words (`word_ids`), padded.
      a_valid_n: bool[n], True at words. Example: [1 1 1 0 0].
      b_n: int32[n], the other text; b_valid_n: likewise.
    """
    return jnp.all((a_valid_n == b_valid_n) & (~a_valid_n | (a_n == b_n))).astype(jnp.float32)


def token_f1(a_n: jax.Array, a_valid_n: jax.Array, b_m: jax.Array, b_valid_m: jax.Array) -> jax.Array:
    """float[]: F1 of the words that two texts share, as bags, in [0, 1]: 2 * shared / (words of a + words of b).

    Shared counts a word as often as the text that has it less often (SQuAD, Rajpurkar et al. 2016). Both empty = 1, one
    empty = 0. Arguments as those of `exact_match`; the sizes may differ.
    """
    before_nn = (a_n[:, None] == a_n[None, :]) & a_valid_n[None, :] & jnp.tri(len(a_n), k=-1, dtype=bool)
    there_n = ((a_n[:, None] == b_m[None, :]) & b_valid_m[None, :]).sum(1)
    # The k-th time that a word comes it is shared where the other text has it k times or more.
    shared = (a_valid_n & (before_nn.sum(1) < there_n)).sum()
    total = a_valid_n.sum() + b_valid_m.sum()
    return jnp.where(total == 0, 1.0, 2.0 * shared / jnp.maximum(total, 1))


def word_ids(texts: Sequence[str], vocabulary: dict[str, int], size: int = WORDS) -> tuple[np.ndarray, np.ndarray]:
    """int32[n, size] ids of the words of each text after `benchmark.normalise`, and bool[n, size], True at words.

    Of a longer text, all that follows the first size - 1 words is one word. `vocabulary` is a dict that grows; texts
    that are to be compared share it.
    """
    ids, valid = np.zeros((len(texts), size), np.int32), np.zeros((len(texts), size), bool)
    for row, text in enumerate(texts):
        words = benchmark.normalise(clean(text)).split()
        words[size - 1 :] = [" ".join(words[size - 1 :])] if len(words) >= size else words[size - 1 :]
        ids[row, : len(words)] = [vocabulary.setdefault(word, len(vocabulary)) for word in words]
        valid[row, : len(words)] = True
    return ids, valid


def kind_of(references: Sequence[str], choices: Sequence[str] = ()) -> str:
    """One of KINDS: how the answer to a question is compared, told from what is right and from the choices."""
    if choices:
        return "choice"
    words = [benchmark.normalise(reference) for reference in references]
    if words and all(word in ("yes", "no") for word in words):
        return "yesno"
    if words and all(benchmark.number(word) is not None for word in words):
        return "number"
    return "open"


def typed(
    answer: str, references: Sequence[str], kind: str, choices: Sequence[str] = (), tolerance: float = 0.0
) -> float:
    """The reward of an answer whose kind is not "open", in [0, 1].

    1 where it agrees with one of fewer than PEOPLE references, any of which is right; of more, which people gave, it
    is the VQA benchmark's accuracy.

    number  the only number in the answer, in digits or else as a word up to ten; right within `tolerance` times the
            size of the reference
    yesno   the first word of the answer that says yes or no
    choice  the letter that the answer gives ("B", "(b)", "B. the cat", "the answer is B") or the words of a choice

    Raises ValueError for a kind that is not one of these; no answer makes it raise.
    """
    if kind not in ("number", "yesno", "choice"):
        raise ValueError(f"kind: expected number, yesno or choice, got {kind!r}")
    read = {"number": the_number, "yesno": yes_or_no, "choice": functools.partial(chosen, choices=choices)}[kind]
    mine, others = read(answer), [read(reference) for reference in references]
    if mine is None or not others:
        return 0.0
    if kind == "number":
        same = sum(o is not None and abs(mine - o) <= tolerance * abs(o) * (1 + 1e-9) for o in others)
    else:
        same = sum(mine == other for other in others)
    return benchmark.agreement(same, len(others)) if len(others) >= PEOPLE else float(same > 0)


def the_number(text: str) -> float | None:
    """The only number in a text; None where there is none, or more than one value."""
    text = clean(text)
    whole = benchmark.number(text)
    if whole is not None:
        return whole
    found = _NUMBER.findall(text) or [w for w in re.findall(r"[a-z]+", text.lower()) if w in benchmark.NUMBERS]
    values = {benchmark.number(match) for match in found}
    return values.pop() if len(values) == 1 else None


def yes_or_no(text: str) -> str | None:
    """ "yes" or "no": the first word of the text that says so; None where none does."""
    return next((_YESNO[w] for w in re.findall(r"\w+", clean(text).lower()) if w in _YESNO), None)


def chosen(text: str, choices: Sequence[str] = ()) -> int | None:
    """Number of the choice that a text names, counted from 0; None where it names none.

    Without `choices` any letter will do.
    """
    text = clean(text)
    words = benchmark.normalise(text)
    same = [i for i, choice in enumerate(choices) if benchmark.normalise(clean(choice)) == words]
    if len(same) == 1:
        return same[0]
    letter = _LETTER.match(text) or _SAID.search(text)
    if not letter:
        return None
    index = ord(letter[1].lower()) - ord("a")
    return index if index < (len(choices) or 26) else None


def answer_scores(
    answers: Sequence[Sequence[str | None]],
    references: Sequence[Sequence[str]],
    choices: Sequence[Sequence[str]] | None = None,
    tolerance: float = 0.0,
) -> np.ndarray:
    """float32[B, G], each in [0, 1]: the VQA reward of B groups of G answers.

    Typed answers (`kind_of`) as `typed` has it. An open answer earns the best of: the VQA benchmark's accuracy, where
    there are PEOPLE references or more; 1 where it is one of fewer, after normalisation; PARTIAL times the best F1.

    Args:
      answers: the texts; None where there is none to judge (unsound, or in another task's form), which earns 0.
      references: the right answers of each query; a query that has none earns 0.
      choices: the choices of each query, empty where it has none; None = no query has any.
      tolerance: of numbers, as a share of the right one.

    Raises ValueError where the numbers of groups differ; no answer makes it raise.
    """
    if not len(answers) == len(references) == len(references if choices is None else choices):
        raise ValueError(f"expected references for each group, got {len(answers)} groups and {len(references)}")
    scores_bg = np.zeros((len(answers), max(map(len, answers), default=0)), np.float32)
    open_rows = []
    for b, (group, right) in enumerate(zip(answers, references)):
        options = choices[b] if choices is not None else ()
        kind = kind_of(right, options)
        if kind == "open":
            open_rows += [(b, g) for g, text in enumerate(group) if text is not None and right]
            continue
        for g, text in enumerate(group):
            scores_bg[b, g] = 0.0 if text is None else typed(text, right, kind, options, tolerance)
    if open_rows:
        rows = tuple(zip(*open_rows))
        scores_bg[rows[0], rows[1]] = _open([answers[b][g] for b, g in open_rows], [references[b] for b in rows[0]])
    return scores_bg


def f1_scores(answers: Sequence[str | None], references: Sequence[Sequence[str]]) -> np.ndarray:
    """float32[n], each in [0, 1]: the best token F1 of each of n answers with its references.

    None, an answer without words, and an answer without references score 0. Raises ValueError where the numbers of
    answers and references differ; no answer makes it raise.
    """
    rows = [i for i, pair in enumerate(zip(answers, references, strict=True)) if pair[0] is not None and pair[1]]
    scores_n = np.zeros(len(answers), np.float32)
    if rows:
        _, f1_nt = _compared([answers[i] for i in rows], [references[i] for i in rows])
        scores_n[rows] = f1_nt.max(1)
    return scores_n


def _open(answers: list[str], references: list[Sequence[str]]) -> np.ndarray:
    """float32[n]: rewards of open answers, each with its references."""
    same_nt, f1_nt = _compared(answers, references)
    agree_n, f1_n = same_nt.sum(1), f1_nt.max(1)
    people_n = np.array([min(len(right), REFERENCES) for right in references])
    soft_n = [benchmark.agreement(same, people) for same, people in zip(agree_n, people_n)]
    right_n = np.where(people_n >= PEOPLE, soft_n, agree_n > 0)
    return np.maximum(right_n, PARTIAL * f1_n).astype(np.float32)


def _compared(answers: list[str], references: list[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
    """(exact match, token F1) float32[n, t] of each of n answers with its references; 0 where there is none."""
    references = [right[:REFERENCES] for right in references]
    # Sizes are powers of two, so that a run compiles few programs.
    n, t = (1 << (size - 1).bit_length() for size in (len(answers), max(map(len, references))))
    vocabulary: dict[str, int] = {}
    ids_nk, valid_nk = word_ids(answers + [""] * (n - len(answers)), vocabulary)
    flat = [text for right in references for text in [*right, *[""] * (t - len(right))]] + [""] * t * (n - len(answers))
    ids_ntk, valid_ntk = (x.reshape(n, t, WORDS) for x in word_ids(flat, vocabulary))
    there_nt = np.array([[i < len(right) for i in range(t)] for right in references + [[]] * (n - len(references))])
    # An answer without words, or one that only repeats a reference without words, is no answer.
    there_nt &= valid_nk.any(1)[:, None]
    found = jax.device_get(_compare(ids_nk, valid_nk, ids_ntk, valid_ntk))
    return tuple(np.where(there_nt, x, 0.0)[: len(answers)] for x in found)


@jax.jit
def _compare(ids_nk, valid_nk, ids_ntk, valid_ntk):
    """Exact match and token F1 float32[n, t] of each answer with each of its references."""
    each = [jax.vmap(jax.vmap(pair, in_axes=(None, None, 0, 0))) for pair in (exact_match, token_f1)]
    return tuple(compare(ids_nk, valid_nk, ids_ntk, valid_ntk) for compare in each)
