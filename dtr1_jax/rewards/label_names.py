"""Names that mean the same: labels, attributes and relations of twins and annotations.

A name equals another one after the case, the blanks and the signs between words are put aside, and where both stand in
one row of a table. The table of labels is in twin/label_synonyms.py.
"""

from __future__ import annotations

import functools

from dtr1_jax.rewards.twin_truth import RELATIONS
from dtr1_jax.twin import label_synonyms

_ATTRIBUTES = (
    ("gray", "grey"),
    ("wood", "wooden"),
    ("metal", "metallic"),
    ("plastic", "made of plastic"),
    ("large", "big"),
    ("small", "little"),
    ("purple", "violet"),
)
_RELATIONS = {
    "left of": ("to the left of", "on the left of", "left"),
    "right of": ("to the right of", "on the right of", "right"),
    "above": ("over", "higher than"),
    "below": ("under", "beneath", "underneath", "lower than"),
    "in front of": ("nearer than", "closer than", "before"),
    "behind": ("farther than", "further than", "in back of"),
    "inside": ("in", "within", "inside of"),
    "around": ("contains", "containing", "surrounds"),
    "overlapping": ("overlaps", "overlaps with"),
    "touching": ("touches", "in contact with"),
    "on": ("on top of", "upon", "resting on", "lying on", "standing on", "sitting on"),
}
_KIND_OF = {name: RELATIONS.index(kind) for kind, names in _RELATIONS.items() for name in (kind, *names)}
_ATTRIBUTE_OF = {name: row[0] for row in _ATTRIBUTES for name in row}


@functools.lru_cache(maxsize=1 << 14)
def canonical(name: str, attribute: bool = False) -> str:
    """The name that stands for all names of a label, or of an attribute."""
    if not attribute:
        return label_synonyms.canonical(name)
    plain = label_synonyms.plain(name)
    return _ATTRIBUTE_OF.get(plain, plain)


@functools.lru_cache(maxsize=1 << 12)
def relation_kind(words: str) -> int:
    """Index in twin_truth.RELATIONS of the relation that the words name; -1 if they name none of them."""
    return _KIND_OF.get(label_synonyms.plain(words).removeprefix("is "), -1)
