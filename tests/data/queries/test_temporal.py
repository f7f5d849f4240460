"""Queries about time: every step of a thought follows from the tracks, by rules of this file's own."""

import re
from collections import Counter

import numpy as np
import pytest
from moving_squares import GONE, RIGHT, SLOW, STILL, instances_along

from dtr1_jax.data.queries import temporal, uses
from dtr1_jax.data.queries import temporal_phrases as words
from dtr1_jax.data.twinworld import picture_examples, video_examples
from dtr1_jax.types import Instance

COUNT = 140


@pytest.fixture(scope="module")
def examples():
    return {split: [video_examples.example(5, split, i) for i in range(COUNT)] for split in picture_examples.SPLITS}


@pytest.fixture(scope="module")
def about_time(examples):
    return [e for part in examples.values() for e in part if e.category == "temporal"]


def split(step):
    """("towards 3 is", [1, 2]) from the step "towards 3 is 1 2"; the filter of a step "a: b 1" is "a"."""
    how, colon, rest = step.partition(": ")
    if not colon:
        how, rest = re.fullmatch(r"(.*?)((?: \d)+| none)\.?", step).groups()
    return how, [int(number) for number in re.findall(r"\d", rest)]


class Track:
    """What a person reads off the boxes of an object."""

    def __init__(self, thing):
        self.there = np.flatnonzero(thing.boxes[:, 2] > 0)
        self.centre = (thing.boxes[:, :2] + thing.boxes[:, 2:]) / 2
        self.enters, self.leaves = self.there[0], self.there[-1]
        self.total = len(thing.boxes)
        boxes = thing.boxes[self.there]
        grown = boxes.max(0)[2:] - boxes.min(0)[:2] - (boxes[:, 2:] - boxes[:, :2]).max(0)
        self.moves = grown.max() > 0.05
        self.shift = self.centre[self.leaves] - self.centre[self.enters]
        self.speed = np.hypot(*thing.velocity) if self.moves else 0
        turned = np.diff(np.sign(np.round(np.diff(self.centre[self.there], axis=0), 2)), axis=0)
        self.turned = (np.abs(turned) == 2).any()

    def since(self, event):
        """The first frame that shows it to have happened."""
        return {"enters": self.enters, "leaves": self.leaves + 1}[event]

    def does(self, state):
        if state.startswith("moves "):
            x, y = self.shift
            right = {"left": -x, "right": x, "up": -y, "down": y}[state[6:]]
            return self.moves and right >= max(abs(x), abs(y))
        return {
            "still": not self.moves, "moves": self.moves, "enters": self.enters > 0,
            "leaves": self.leaves < self.total - 1, "hidden": len(self.there) <= self.leaves - self.enters,
            "stays": len(self.there) == self.total,
        }[state]  # fmt: skip


def replay(example):
    """Checks the steps of a thought, and returns the last ids."""
    things = {thing.id: thing for thing in example.scene}
    tracks = {i: Track(thing) for i, thing in things.items()}
    served = {use.name: use.labels for use in uses.USES}
    current, history = list(things), []
    for step in example.thought[:-1].split(". "):
        how, ids = split(step)
        timed = re.fullmatch(r"(before|after) (\d) (enters|leaves)", how)
        relation = re.fullmatch(rf"({'|'.join(words.RELATIONS)}) (\d) is", how)
        if how == "turns":
            right = ids if set(ids) <= set(current) and all(tracks[i].turned for i in ids) else None
        elif how in words.STATES:
            right = [i for i in current if tracks[i].does(how)]
        elif how in ("fastest", "slowest"):
            right = [(max if how == "fastest" else min)(current, key=lambda i: tracks[i].speed)]
        elif how in words.EXTREMES:
            first, _, event = how.split()
            time = {i: getattr(tracks[i], {"enter": "enters", "leave": "leaves"}[event]) for i in current}
            right = [(min if first == "first" else max)(time, key=time.get)]
        elif how in served:
            right = [i for i, thing in things.items() if thing.label in served[how]]
            assert len(right) == 1 and things[right[0]].label in step
            history.append(current)
        elif timed:
            when, anchor, event = timed[1], int(timed[2]), timed[3]
            assert tracks[anchor].does(event) and current == [anchor]
            current, own = history[-1], re.findall("enters|leaves", example.thought)[0]
            at = tracks[anchor].since(event)
            time = {i: tracks[i].since(own) for i in current if i != anchor}
            assert at not in time.values()
            right = [i for i in time if (time[i] < at) == (when == "before")]
        elif relation:
            name, anchor = relation[1], tracks[int(relation[2])]
            assert current == [int(relation[2])]
            others = [i for i in things if i != int(relation[2])]
            if name in ("towards", "away from"):
                assert not anchor.moves
                stands = anchor.centre[anchor.enters]
                ends = {i: [np.hypot(*(s.centre[t] - stands)) for t in (s.enters, s.leaves)] for i, s in tracks.items()}
                right = [i for i in others if tracks[i].moves and (ends[i][1] < ends[i][0]) == (name == "towards")]
            elif name == "same way as":
                way = next(w for w in list(words.STATES)[:4] if anchor.does(w))
                right = [i for i in others if tracks[i].does(way)]
            else:
                right = [i for i in others if (tracks[i].speed > anchor.speed) == (name[0] == "f") and tracks[i].moves]
        else:
            right = [i for i in current if how in things[i].attributes]
        assert ids == right, (step, right, example.thought, example.uid)
        current = ids
    return current


def test_every_thought_follows_from_the_tracks_and_ends_in_the_answer(about_time):
    for example in about_time:
        assert tuple(replay(example)) == example.answer_ids


def test_all_levels_and_numbers_of_answers_occur(examples):
    for part in examples.values():
        cells = Counter((example.category, example.level) for example in part)
        assert {(c, n) for c in ("temporal", "semantic") for n in (1, 2, 3, 4)} == set(cells)
        assert min(cells[("temporal", n)] for n in (1, 2, 3, 4)) >= 0.04 * COUNT
        answers = Counter(min(2, len(example.answer_ids)) for example in part)
        assert min(answers.values()) >= 0.08 * COUNT and len(answers) == 3


def test_the_thought_is_as_long_as_the_level_says(about_time):
    lengths = {n: [len(e.thought.split(". ")) for e in about_time if e.level == n] for n in (1, 2, 3, 4)}
    means = [np.mean(lengths[n]) for n in (1, 2, 3, 4)]
    assert means == sorted(means) and [min(lengths[n]) for n in (1, 2, 3, 4)] == [1, 2, 3, 4] and max(lengths[1]) == 1


def test_every_kind_of_step_occurs(about_time):
    hows = {re.sub(r" \d.*", "", split(step)[0]) for e in about_time for step in e.thought[:-1].split(". ")}
    assert set(words.STATES) <= hows and set(words.RELATIONS) <= hows and set(words.TIMES) <= hows
    assert set(words.EXTREMES) <= hows


def test_phrasings_of_the_splits_are_disjoint(examples):
    for pool in words.pools():
        assert pool.train and pool.heldout and not set(pool.train) & set(pool.heldout)
    queries = {split: {example.query for example in part} for split, part in examples.items()}
    assert not queries["train"] & queries["heldout"]


def test_a_query_never_names_the_category_of_its_target(examples):
    for example in (e for part in examples.values() for e in part):
        names = {thing.label for thing in example.scene if thing.id in example.answer_ids}
        assert not names & set(re.findall(r"\w+", example.query)), example.query


def test_objects_without_attributes_get_queries_without_attributes():
    scene = instances_along((RIGHT, 0.1), (SLOW, 0.3), (GONE, 0.5), (STILL, 0.7), label="dog ")
    counts = Counter()
    for seed in range(120):
        query = temporal.sample_temporal_query(
            np.random.default_rng(seed), "train", scene, 1 + seed % 4, "one", bare=True
        )
        if query:
            counts[query.level] += 1
            assert not set(uses.BY_LABEL) & set(re.findall(r"\w+", query.text))
    assert min(counts[n] for n in (1, 2, 3, 4)) >= 1 and min(counts[1], counts[2]) > 5
    invisible = [Instance(1, "dog", (0, 0, 0, 0), np.zeros((1, 1), bool), boxes=np.zeros((4, 4)))]
    rng = np.random.default_rng(0)
    assert temporal.sample_temporal_query(rng, "train", invisible, 1, "one", bare=True) is None
