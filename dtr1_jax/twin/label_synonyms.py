"""Labels that mean the same thing: "sofa" and "couch".

A label equals another one after the case, the blanks and the signs between words are put aside, and where both stand in
one row of the table. The table holds words that mean the same thing, never a kind and its class ("man", "person").
"""

from __future__ import annotations

import functools
import re

LABELS = (
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
_LABEL_OF = {name: row[0] for row in LABELS for name in row}


@functools.lru_cache(maxsize=1 << 14)
def canonical(label: str) -> str:
    """The name that stands for all names of a label."""
    return _LABEL_OF.get(plain(label), plain(label))


def plain(name: str) -> str:
    """Lower case, with single blanks between words."""
    return re.sub(r"[\s_\-]+", " ", name.casefold()).strip()
