"""Queries about pictures: answers follow from the annotations, all kinds occur."""

import re
from collections import Counter

from scene_thoughts import replay, steps_of

from dtr1_jax.data.queries import pointing

COUNT = 500  # pictures of a split


def test_every_thought_follows_from_the_annotations_and_ends_in_the_answer(all_pictures):
    for example in all_pictures:
        assert tuple(replay(example)) == example.answer_ids
        assert len(example.thought.split()) <= 34
        assert len(set(steps_of(example))) == len(steps_of(example)), "no step is said twice"


def test_a_query_never_names_the_category_of_its_target(all_pictures):
    for example in all_pictures:
        names = {thing.label for thing in example.scene if thing.id in example.answer_ids}
        assert not names & set(re.findall(r"\w+", example.query)), example.query


def test_all_kinds_of_queries_occur_about_equally_often(pictures):
    for part in pictures.values():
        cells = Counter((example.category, example.level) for example in part)
        assert set(cells) == set(pointing.KINDS)
        assert min(cells.values()) >= 0.03 * COUNT and max(cells.values()) <= 0.16 * COUNT
        answers = Counter(min(2, len(example.answer_ids)) for example in part)
        assert 0.05 <= answers[0] / COUNT <= 0.16
        assert 0.14 <= answers[2] / COUNT <= 0.30
