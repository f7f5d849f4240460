"""How many tokens a twin takes, and what is left out of one that takes too many.

The largest objects and those that the query speaks of come first; the cut is said in the twin, as `"more": n`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Collection

from dtr1_jax.twin import text
from dtr1_jax.twin.schema import Object, Twin

# A digit is a token of its own (as in Qwen's tokenizers), so are up to three marks in a row, and up to four characters
# of a word; of other scripts each character counts, which is on the high side for most of them.
_PIECE = re.compile(r"\d|[A-Za-z]{1,4}|[^\w\s]{1,3}|\w|\s{2,}")


def tokens(written: str) -> int:
    """About how many tokens a text takes, on the high side for twins: digits alone, words in fours, marks in threes.

    A tokenizer's own count is exact; this one needs none. Linear in the length.
    """
    return sum(1 for _ in _PIECE.finditer(written))


def fit(
    twin: Twin, budget: int, *, query: str = "", keep: Collection[int] = (), count: Callable[[str], int] = tokens
) -> Twin:
    """The twin with as many objects as `budget` tokens have room for; as it is, where all have.

    Objects go in by their importance until one does not fit: first those of `keep`, then those of whose label or
    attributes the query has a word, and among equals the larger ones, by the largest box of a track. Those that go in
    keep their order. `Twin.more` counts what is left out, on top of what the twin said itself; relations go with it.

    Args:
      twin: sound.
      budget: tokens that `text.dumps_twin` may take, by `count`.
      query: the user's words.
      keep: ids that go first.
      count: tokens of a text; that of the tokenizer, or `tokens`.

    Returns:
      The twin, without any object where not even one fits.
    """
    if count(text.dumps_twin(twin)) <= budget:
        return twin
    words = _words(query)
    ranked = sorted(range(len(twin.objects)), key=lambda i: _unimportance(twin.objects[i], words, keep, i))
    low, high = 0, len(ranked) - 1  # so many of them fit; more than so many do not
    while low < high:
        middle = (low + high + 1) // 2
        if count(text.dumps_twin(_cut(twin, ranked[:middle]))) <= budget:
            low = middle
        else:
            high = middle - 1
    return _cut(twin, ranked[: max(low, 0)])


def _cut(twin: Twin, places: Collection[int]) -> Twin:
    places = set(places)
    objects = tuple(item for i, item in enumerate(twin.objects) if i in places)
    ids = {item.id for item in objects}
    relations = tuple(r for r in twin.relations if r[0] in ids and r[2] in ids)
    return dataclasses.replace(
        twin, objects=objects, relations=relations, more=twin.more + len(twin.objects) - len(objects)
    )


def _unimportance(item: Object, words: Collection[str], keep: Collection[int], place: int) -> tuple:
    """Sorts the most important first."""
    own = [item.box] if item.box is not None else [box for _, box in item.track if box is not None]
    area = max(((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in own), default=0)
    spoken = not words.isdisjoint(_words(" ".join((item.label, *item.attributes))))
    return item.id not in keep, not spoken, -area, place


def _words(spoken: str) -> set[str]:
    """Lower-case words, without a plural's s: "mugs" speaks of a mug."""
    return {word if len(word) < 4 else word.removesuffix("s") for word in re.findall(r"\w+", spoken.lower())}
