"""Uses of COCO's labels."""

import json
import re

import assets

from dtr1_jax.data.queries.coco_uses import FAMILIES, SINGLES, STUFF


def test_phrases_are_unique_and_never_name_their_label():
    table = {(label,): phrases for label, phrases in SINGLES.items()} | FAMILIES
    rows = [(labels, phrase) for labels, phrases in table.items() for phrase in phrases]
    assert len({phrase for _, phrase in rows}) == len(rows)
    assert all(len(phrases) >= 2 for phrases in table.values())
    for labels, phrase in rows:
        assert not [label for label in labels if re.search(rf"\b{label}(s|es)?\b", phrase)], (labels, phrase)
        assert not re.match(r"(a|an|the|any|every)\b", phrase) and "<" not in phrase


def test_words_cover_every_label_of_coco():
    value = json.loads((assets.path("coco_panoptic_val100") / "panoptic_val2017.json").read_text())
    assert {c["name"] for c in value["categories"] if not c["isthing"]} == set(STUFF)
    names = {STUFF.get(c["name"], c["name"]) for c in value["categories"]}
    assert len(names) == 133
    assert names == set(SINGLES) | {label for family in FAMILIES for label in family}
