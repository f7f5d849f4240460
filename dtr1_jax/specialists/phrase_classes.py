"""Which classes of a detector a phrase means, for detectors that know a fixed list of classes.

A phrase is compared word by word, without case, articles and signs. The first rule that finds a class decides:

1. the phrase is the name of a class or its synonym (twin/label_synonyms.py): "couch", "sofa", "a TV"
2. the same with its last word in the singular: "wine glasses", "people"
3. the phrase is a kind of a class (KINDS): "woman" is a person, "mug" a cup
4. its last words pass one of these rules: "red double-decker bus". The words before them are not checked.

A phrase that passes none means no class. What is found has the class as its label, and not the phrase: a detector that
finds persons does not see whether they are women.
"""

from __future__ import annotations

from collections.abc import Sequence

from dtr1_jax.twin import label_synonyms

KINDS = {
    "person": (
        "man", "woman", "boy", "girl", "child", "kid", "baby", "toddler", "adult", "lady", "guy", "player", "rider",
        "driver", "pedestrian", "passenger", "worker", "skier", "surfer", "skateboarder", "cyclist", "student",
        "teacher", "bride", "groom", "chef", "waiter", "crowd",
    ),
    "dog": ("puppy", "poodle", "terrier", "hound"), "cat": ("kitten",), "cow": ("bull", "calf", "cattle"),
    "sheep": ("lamb", "ram"), "horse": ("pony", "foal", "mare", "stallion"),
    "bird": ("seagull", "pigeon", "duck", "parrot", "swan", "goose", "owl", "eagle"),
    "cup": ("mug", "teacup", "coffee cup"), "car": ("taxi", "cab", "sedan", "suv", "jeep"),
    "truck": ("pickup", "van"), "boat": ("ship", "sailboat", "canoe", "kayak", "ferry", "yacht"),
    "motorcycle": ("scooter", "moped"), "bus": ("coach", "minibus"), "clock": ("wall clock", "alarm clock"),
    "chair": ("armchair", "stool", "seat"), "dining table": ("table", "desk"), "tv": ("monitor", "screen"),
    "bottle": ("wine bottle", "water bottle"), "handbag": ("bag", "tote"), "backpack": ("rucksack", "knapsack"),
    "sports ball": ("football", "soccer ball", "basketball", "baseball", "tennis ball", "volleyball"),
    "book": ("notebook", "novel", "textbook"), "potted plant": ("plant", "houseplant"), "donut": ("bagel",),
}  # fmt: skip
_IRREGULAR = {
    "people": "person", "men": "man", "women": "woman", "children": "child", "knives": "knife", "calves": "calf",
    "mice": "mouse", "geese": "goose", "buses": "bus", "glasses": "glass", "sandwiches": "sandwich",
    "benches": "bench", "couches": "couch", "toothbrushes": "toothbrush", "frisbees": "frisbee",
}  # fmt: skip
_ARTICLES = ("a", "an", "the", "any", "all", "every", "some", "one")
_KIND_OF = {kind: name for name, kinds in KINDS.items() for kind in kinds}


def classes_of(phrase: str, classes: Sequence[str]) -> tuple[str, ...]:
    """The classes that a phrase means, in the order of `classes`; () = none."""
    by_name: dict[str, list[str]] = {}
    for name in classes:
        by_name.setdefault(label_synonyms.canonical(name), []).append(name)
    words = label_synonyms.plain(phrase).split()
    while words and words[0] in _ARTICLES:
        words = words[1:]
    for start in range(len(words)):
        name = " ".join(words[start:])
        singular = " ".join([*words[start:-1], _singular(words[-1])])
        for form in (name, singular, _KIND_OF.get(name), _KIND_OF.get(singular)):
            if form and label_synonyms.canonical(form) in by_name:
                return tuple(by_name[label_synonyms.canonical(form)])
    return ()


def _singular(word: str) -> str:
    """The singular of an English noun; a word that is none already stays nearly always as it is."""
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "sses", "xes", "zes", "oes")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 3 else word
