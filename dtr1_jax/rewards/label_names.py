"""Names that mean the same: labels, attributes and relations of twins and annotations.

A label equals another one after the case, the blanks and the signs between words are put aside, and where both stand in
one row of a table. The tables hold words that mean the same thing, never a kind and its class ("man", "person").
"""

from __future__ import annotations

import functools
import re

from dtr1_jax.rewards.twin_truth import RELATIONS

_LABELS = (
    ("airplane", "aeroplane", "plane"),
    ("bicycle", "bike", "push bike"),
    ("motorcycle", "motorbike"),
    ("car", "automobile"),
    ("truck", "lorry"),
    ("traffic light", "traffic signal", "stoplight"),
    ("fire hydrant", "hydrant"),
    ("stop sign", "stop traffic sign"),
    ("couch", "sofa", "settee"),
    ("tv", "television", "tv monitor", "television set"),
    ("cell phone", "mobile phone", "cellphone", "cellular phone", "mobile", "smartphone", "phone"),
    ("refrigerator", "fridge"),
    ("hair drier", "hair dryer", "hairdryer", "blow dryer"),
    ("remote", "remote control", "tv remote"),
    ("mouse", "computer mouse"),
    ("keyboard", "computer keyboard"),
    ("laptop", "laptop computer"),
    ("microwave", "microwave oven"),
    ("donut", "doughnut"),
    ("hot dog", "hotdog"),
    ("wine glass", "wineglass"),
    ("teddy bear", "teddy"),
    ("potted plant", "pottedplant", "pot plant", "plant in a pot"),
    ("handbag", "hand bag", "purse"),
    ("suitcase", "luggage"),
    ("tie", "necktie"),
    ("frisbee", "flying disc"),
    ("skis", "ski", "pair of skis"),
    ("scissors", "pair of scissors"),
    ("sports ball", "ball"),
    ("baseball glove", "baseball mitt"),
    ("toilet", "lavatory"),
    ("rug", "carpet"),
    ("person", "human"),
)
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
}
_KIND_OF = {name: RELATIONS.index(kind) for kind, names in _RELATIONS.items() for name in (kind, *names)}
_LABEL_OF = {name: row[0] for row in _LABELS for name in row}
_ATTRIBUTE_OF = {name: row[0] for row in _ATTRIBUTES for name in row}


@functools.lru_cache(maxsize=1 << 14)
def canonical(name: str, attribute: bool = False) -> str:
    """The name that stands for all names of a label, or of an attribute."""
    plain = _plain(name)
    return (_ATTRIBUTE_OF if attribute else _LABEL_OF).get(plain, plain)


@functools.lru_cache(maxsize=1 << 12)
def relation_kind(words: str) -> int:
    """Index in twin_truth.RELATIONS of the relation that the words name; -1 if they name none of them."""
    return _KIND_OF.get(_plain(words).removeprefix("is "), -1)


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-]+", " ", name.casefold()).strip()
