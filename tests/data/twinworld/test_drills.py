"""Drills: each step follows from the scene."""

import re
import types

from scene_thoughts import FARTHEST_ALONG, SIDES, WORDS, ids_of, replay, split

from dtr1_jax.data.queries import chains
from dtr1_jax.data.twinworld import categories, picture_examples


def test_every_step_of_a_drill_is_right_by_itself():
    kinds = set()
    for index in range(100):
        things, (query,) = picture_examples.practice_queries(5, index, 2 + index % 6, 0, 1)
        assert query.ids == tuple(thing.id for thing in things)
        for step in query.thought[:-1].split(". "):
            how = split(step)[0]
            if how in WORDS or how in categories.LABELS:
                assert ids_of(step) == [t.id for t in things if how == t.label or how in t.attributes]
            elif relation := re.fullmatch(r"(.+) (\d) is", how):
                offset, anchor = chains.OFFSETS[relation[1]], things[int(relation[2]) - 1]
                assert ids_of(step) == [t.id for t in things if t.id != anchor.id and offset(t, anchor) > 0]
            else:
                assert replay(types.SimpleNamespace(scene=things, thought=f"{step}.")) == ids_of(step)
            kinds.add(re.sub(r" \d is", "", how))
    assert set(SIDES) <= kinds and set(FARTHEST_ALONG) <= kinds and set(WORDS) <= kinds
