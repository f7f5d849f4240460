"""A label of a data set as a singular noun phrase that fits after "every", "the" and "which"."""

from __future__ import annotations

import re

_IRREGULAR = {
    "people": "person", "men": "man", "women": "woman", "children": "child", "mice": "mouse", "geese": "goose",
    "feet": "foot", "teeth": "tooth", "knives": "knife", "wolves": "wolf", "leaves": "leaf", "shelves": "shelf",
    "loaves": "loaf", "calves": "calf", "halves": "half", "oxen": "ox", "buses": "bus", "lenses": "lens",
    "potatoes": "potato", "tomatoes": "tomato", "bacteria": "bacterium", "cacti": "cactus", "fungi": "fungus",
    "nuclei": "nucleus", "movies": "movie", "cookies": "cookie", "ties": "tie", "shoes": "shoe", "axes": "axe",
    "hooves": "hoof", "scarves": "scarf", "moose": "moose", "policemen": "policeman", "snowmen": "snowman",
}  # fmt: skip
# Words that have no singular: one asks for "every pair of scissors".
_PAIRS = frozenset(
    "scissors glasses sunglasses goggles jeans pants trousers shorts skis pliers tweezers headphones binoculars tongs "
    "leggings tights pajamas overalls shears".split()
)
# Words that end in "s" and are singular, or the same in both.
_SINGULAR = frozenset(
    "bus glass gas lens cactus grass dress moss cross boss class mattress compass canvas walrus octopus virus "
    "apparatus news series species chess tennis billiards canvas iris ibis pancreas platypus hippopotamus abacus "
    "asparagus hummus couscous octopus sheep fish deer aircraft swiss bonus campus circus cypress princess waitress "
    "christmas texas atlas thermos rhinoceros lotus crocus mucus thesis analysis axis basis oasis pelvis penis tv's "
    "fungus nucleus stimulus uterus hibiscus citrus eucalyptus status minus plus yes less always".split()
)


def phrase(label: str) -> str:
    """The label as the user of a policy would write one object of it.

    "traffic_lights" and "TrafficLight" become "traffic light", "Mice" becomes "mouse", and "scissors" becomes "pair of
    scissors". Capitals stay in words that have only capitals ("QR code"). Of "person wearing gloves" the first noun is
    left as it is: only the last word of a label without a preposition is brought to the singular.
    """
    text = re.sub(r"(?<=[a-z]{2})(?=[A-Z][a-z])", " ", label)
    text = re.sub(r"[_\s]+", " ", text).strip(" -.") or label
    if re.fullmatch(r"\w+(?:-\w+)+", text):
        text = text.replace("-", " ") if not re.search(r"\d", text) else text
    words = [word if word.isupper() and len(word) > 1 else word.lower() for word in text.split()]
    if words and words[0] in ("a", "an", "the") and len(words) > 1:
        words = words[1:]
    if words and not any(word in _PREPOSITIONS for word in words):
        drinks = words[-1] == "glasses" and len(words) > 1 and words[-2] in _DRINKS
        words[-1:] = ["glass"] if drinks else [_singular(words[-1])]
        if words[-1] in _PAIRS:
            words = ["pair", "of", *words]
    return " ".join(words)


_DRINKS = frozenset("wine beer water drinking cocktail champagne shot whisky martini juice pint".split())
_PREPOSITIONS = frozenset("of with in on at from for without under over by and or not no wearing holding".split())


def _singular(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word in _PAIRS or word in _SINGULAR or len(word) < 4 or not word.isalpha() or not word.islower():
        return word
    if word.endswith(("ss", "us", "is", "ous")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes", "zes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") else word
