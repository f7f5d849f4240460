"""Implicit queries whose answer is objects of a scene, each with its answer and the oracle's reasoning.

Each kind of query is a function that draws one query from the scene and computes its answer by a chain of filters
(chains.py). It returns None if the scene allows no such query or if a person could doubt the answer. `sample_query`
draws several queries and returns the best one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from dtr1_jax.data.queries import counting, phrases, semantic, spatial
from dtr1_jax.data.queries.chains import Context, QueryKind, best_draft
from dtr1_jax.data.queries.wording import sentence_about
from dtr1_jax.types import Instance, Program


@dataclasses.dataclass(frozen=True)
class Query:
    """A query with its answer.

    Attributes:
      text: the user's words.
      thought: steps "filter ids."; the ids of the last step are the answer.
      ids: ids of the target objects, ascending; empty if no object fits.
      category, level, program: as in types.Example.
    """

    text: str
    thought: str
    ids: tuple[int, ...]
    category: str
    level: int
    program: Program = ()


# (category, level) -> kinds of queries.
KINDS: dict[tuple[str, int], tuple[QueryKind, ...]] = {
    ("semantic", 1): (semantic.by_use,),
    ("semantic", 2): (
        semantic.by_use_and_attribute,
        semantic.by_use_and_attribute,  # listed twice, so that it is drawn twice as often
        semantic.by_use_without_attribute,
    ),
    ("semantic", 3): (semantic.by_use_and_two_attributes, semantic.by_shared_attribute),
    ("semantic", 4): (semantic.by_shared_and_own_attribute, semantic.by_shared_attribute_and_use),
    ("spatial", 1): (spatial.by_extreme, spatial.by_half),
    ("spatial", 2): (spatial.by_relation_to_label, spatial.by_attribute_and_extreme),
    ("spatial", 3): (spatial.by_relation_and_attribute,),
    ("spatial", 4): (spatial.by_relation_attribute_and_extreme, spatial.by_two_relations),
    ("count", 1): (counting.by_extreme_size, counting.by_pair, counting.by_attribute_of_one),
    ("count", 2): (counting.by_most_common, counting.by_unshared_attribute, counting.by_use_and_extreme_size),
    ("count", 3): (
        counting.by_most_common_and_attribute,
        counting.by_most_common_and_extreme,
        counting.by_size_relation_and_attribute,
    ),
    ("count", 4): (
        counting.by_most_common_attribute_and_extreme,
        counting.by_size_relation_attribute_and_extreme,
        counting.by_pair_and_relation,
    ),
}

# The kinds whose answer can be no object, one object or several objects, so that a question can ask for their number.
COUNTED_KINDS: dict[tuple[str, int], tuple[QueryKind, ...]] = KINDS | {
    ("spatial", 1): (spatial.by_half,),
    ("spatial", 2): (spatial.by_relation_to_label,),
    ("spatial", 4): (spatial.by_two_relations,),
    ("count", 1): (counting.by_pair,),
    ("count", 2): (counting.by_most_common, counting.by_unshared_attribute),
    ("count", 3): (counting.by_most_common_and_attribute, counting.by_size_relation_and_attribute),
    ("count", 4): (counting.by_pair_and_relation,),
}


def sample_query(
    rng: np.random.Generator,
    split: str,
    scene: Sequence[Instance],
    category: str,
    level: int,
    answer_count: str,
    prefer: frozenset[int] = frozenset(),
) -> Query | None:
    """Draws a query of one category and level; None if the scene allows none.

    Args:
      split: "train", "heldout" or "validation", which selects the phrases.
      scene: the objects, with the attributes of attributes.py and labels that uses.BY_LABEL knows.
      category, level: a key of KINDS.
      answer_count: "none", "one" or "many", the number of objects that the answer should have, if possible.
      prefer: ids of objects of which the answer should contain one, if possible.
    """
    context = Context(rng, split, {instance.id: instance for instance in scene}, answer_count)
    draft = best_draft(context, KINDS[category, level], prefer)
    if draft is None:
        return None
    text = draft.text if draft.whole else sentence_about(rng, getattr(phrases.SENTENCES, split), draft.text)
    return text and Query(text, " ".join(draft.steps), draft.ids, category, level, draft.program)
