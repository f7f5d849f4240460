"""Estimates the tokens of a twin's text, and leaves relations and objects out of a twin that is too long.

Relations go before objects do. The objects that the query names are kept first, then the largest. The twin says how
many objects are missing, as `"more": n`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection, Set

from dtr1_jax.twin import text
from dtr1_jax.twin.schema import Object, Twin

# The estimate counts one token for each digit (as in Qwen's tokenizers), for up to three marks in a row, and for up to
# four Latin letters. In other scripts it counts one for each character, which is too many for most of them.
_PIECE = re.compile(r"\d|[A-Za-z]{1,4}|[^\w\s]{1,3}|\w|\s{2,}")


def estimate_tokens(text: str) -> int:
    """Estimates the number of tokens of a text without a tokenizer; for twins it is rather too high than too low."""
    return sum(1 for _ in _PIECE.finditer(text))


def fit(
    twin: Twin,
    budget: int,
    *,
    query: str = "",
    first_ids: Collection[int] = (),
    count: Callable[[str], int] = estimate_tokens,
) -> Twin:
    """Leaves out relations, and then the least important objects of a twin, until its text fits into `budget` tokens.

    The most important objects are those of `first_ids`, then those with a word of the query in their label or
    attributes. Among equals, larger ones are more important; an object with a track has the size of its largest box.
    The objects that stay keep their order, and `Twin.more` grows by the number of removed objects. The room that is
    left takes relations between them: those of two important objects in the above sense first, then those of one, then
    the others, each in the twin's order.

    Args:
      twin: sound.
      budget: tokens that `text.dumps_twin` may take, by `count`.
      query: the user's words.
      first_ids: ids of the objects that are kept before all others.
      count: text -> number of tokens.

    Returns:
      The same twin where all its objects fit; a twin without objects where not even one fits.
    """
    if count(text.dumps_twin(twin)) <= budget:
        return twin
    words = _words(query)
    ranked = sorted(range(len(twin.objects)), key=lambda i: _sort_key(twin.objects[i], words, first_ids, i))

    def of_objects(n: int) -> Twin:
        return _cut(twin, ranked[:n])

    bare = of_objects(_most(len(ranked), lambda n: count(text.dumps_twin(of_objects(n))) <= budget))
    important = set(first_ids) | named_ids(twin, query)
    ids = {item.id for item in bare.objects}
    related = sorted(
        (r for r in twin.relations if r[0] in ids and r[2] in ids), key=lambda r: -len({r[0], r[2]} & important)
    )

    def with_relations(n: int) -> Twin:
        chosen = set(related[:n])
        return dataclasses.replace(bare, relations=tuple(r for r in twin.relations if r in chosen))

    return with_relations(_most(len(related), lambda n: count(text.dumps_twin(with_relations(n))) <= budget))


def _most(n: int, fits: Callable[[int], bool]) -> int:
    """The largest of 0 to n that fits, by a binary search; 0 if none does. What fits stays so when it is smaller."""
    low, high = 0, n
    while low < high:
        middle = (low + high + 1) // 2
        if fits(middle):
            low = middle
        else:
            high = middle - 1
    return low


def named_ids(twin: Twin, query: str) -> set[int]:
    """Ids of the objects with a word of the query in their label or attributes."""
    words = _words(query)
    return {item.id for item in twin.objects if _is_named(item, words)}


def _cut(twin: Twin, places: Collection[int]) -> Twin:
    """The twin with the objects at these places only, and without relations."""
    places = set(places)
    objects = tuple(item for i, item in enumerate(twin.objects) if i in places)
    return dataclasses.replace(twin, objects=objects, relations=(), more=twin.more + len(twin.objects) - len(objects))


def _sort_key(item: Object, words: Set[str], first_ids: Collection[int], place: int) -> tuple:
    """A key that sorts the most important object first."""
    boxes = [item.box] if item.box is not None else [box for _, box in item.track if box is not None]
    area = max(((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in boxes), default=0)
    return item.id not in first_ids, not _is_named(item, words), -area, place


def _is_named(item: Object, words: Set[str]) -> bool:
    return not words.isdisjoint(_words(" ".join((item.label, *item.attributes))))


def _words(text: str) -> set[str]:
    """The lower-case words of a text, without a plural's s, so that "mugs" matches "mug"."""
    return {word if len(word) < 4 else word.removesuffix("s") for word in re.findall(r"\w+", text.lower())}
