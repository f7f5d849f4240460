"""TwinWorld: annotations that fit the pixels, answers that follow from the annotations, splits that do not leak."""

import itertools
import re
import types
from collections import Counter

import numpy as np
import pytest

from dtr1_jax.data.queries import attributes, chains, phrases, pointing, uses
from dtr1_jax.data.twinworld import categories, picture_examples, scenes
from dtr1_jax.types import Instance

COUNT = 500
SIDES = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}
FARTHEST_ALONG = {"leftmost": (0, -1), "rightmost": (0, 1), "highest": (1, -1), "lowest": (1, 1)}
WORDS = attributes.COLOURS + attributes.SIZES + attributes.MATERIALS


@pytest.fixture(scope="module")
def examples():
    return {split: [picture_examples.example(7, split, i) for i in range(COUNT)] for split in picture_examples.SPLITS}


@pytest.fixture(scope="module")
def every(examples):
    return [example for part in examples.values() for example in part]


def split(step):
    """("left of 3 is", [1, 2]) of the step "left of 3 is 1 2": how, and the ids it ends in; of "a: b 1, c 2", "a"."""
    how, colon, found = step.partition(": ")
    if not colon:
        how, found = re.fullmatch(r"(.*?)((?: \d)+| none)", step).groups()
    return how, [int(number) for number in re.findall(r"\d", found)]


def ids_of(step):
    return split(step)[1]


def steps_of(example):
    assert example.thought.endswith(".")
    return example.thought[:-1].split(". ")


def middle(thing, axis):
    return (thing.box[axis] + thing.box[axis + 2]) / 2


def area(thing):
    return (thing.box[2] - thing.box[0]) * (thing.box[3] - thing.box[1])


def test_same_arguments_same_example_and_others_differ():
    one, two, other = (picture_examples.example(3, "train", i) for i in (17, 17, 18))
    assert (one.uid, one.query, one.thought) == (two.uid, two.query, two.thought)
    assert one.uid == "twinworld/train/3/17"
    np.testing.assert_array_equal(one.image, two.image)
    np.testing.assert_array_equal(one.target.mask, two.target.mask)
    assert not np.array_equal(one.image, other.image)
    assert not np.array_equal(one.image, picture_examples.example(4, "train", 17).image)
    assert not np.array_equal(one.image, picture_examples.example(3, "heldout", 17).image)


def test_boxes_are_tight_and_masks_disjoint_and_ids_run_from_left_to_right(every):
    for example in every:
        assert example.image.shape == (96, 96, 3) and example.image.dtype == np.uint8
        assert np.sum([thing.mask for thing in example.scene], 0).max() == 1
        for thing in example.scene:
            rows, columns = np.nonzero(thing.mask)
            tight = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 96
            np.testing.assert_allclose(thing.box, tight)
        centres = [(round(middle(thing, 0), 6), round(middle(thing, 1), 6)) for thing in example.scene]
        assert centres == sorted(centres)
        assert [thing.id for thing in example.scene] == list(range(1, len(centres) + 1))
        assert sorted(thing.depth for thing in example.scene) == list(range(1, len(centres) + 1))


def test_attributes_are_colour_size_material_and_sizes_are_told_apart():
    assert len(categories.LABELS) >= 16
    rng = np.random.default_rng(0)
    for label, size in itertools.product(categories.LABELS, attributes.SIZES):
        for _ in range(5):
            item = scenes.sprite(rng, scenes.Kind(label, "red", size, "metal"), 96)
            low, high = {"small": (16, 23), "large": (28, 42)}[size]
            assert low <= max(item.tones.shape) <= high
            assert item.area == np.count_nonzero(item.tones) >= 75, label
            assert item.tones.any(0).all() and item.tones.any(1).all()


def test_attribute_words_stand_in_their_order(every):
    for thing in (thing for example in every for thing in example.scene):
        assert thing.label in categories.LABELS
        colour, size, material = thing.attributes
        assert colour in attributes.COLOURS and size in attributes.SIZES and material in attributes.MATERIALS


@pytest.mark.parametrize("split", picture_examples.SPLITS)
def test_nearer_objects_cover_farther_ones_which_stay_visible(split):
    rng = np.random.default_rng(1)
    covered = 0
    for count in [2, 5, 7, 9] * 6:
        scene = scenes.layout(rng, split, count, 96)
        painted = np.zeros((96, 96), int)
        bases = [top + item.tones.shape[0] for item, (_, top) in zip(scene.sprites, scene.corners)]
        assert len(bases) == count and np.diff(bases).min(initial=9) >= 3, "nearer objects stand lower in the picture"
        for k, (item, (left, top)) in enumerate(zip(scene.sprites, scene.corners), 1):
            height, width = item.tones.shape
            painted[top : top + height, left : left + width][item.tones > 0] = k
        np.testing.assert_array_equal(painted, scene.owner)
        seen = np.bincount(painted.ravel())[1:]
        for number, item in zip(seen, scene.sprites):
            assert number >= max(60, 0.4 * item.area)
            covered += number < item.area
        depths = {thing.depth: thing for thing in scenes.instances(scene)}
        for k, item in enumerate(scene.sprites, 1):
            assert depths[count - k + 1].label == item.kind.label
            np.testing.assert_array_equal(depths[count - k + 1].mask, painted == k)
    assert covered > 10, "no occlusion at all"


def test_the_grid_holds_as_many_objects_as_are_allowed():
    rng = np.random.default_rng(2)
    for size in (96, 200):
        for _ in range(20):
            drawn = scenes.kinds(rng, "train", scenes.MOST_OBJECTS)
            sprites = [scenes.sprite(rng, scenes.Kind(k.label, k.colour, "small", k.material), size) for k in drawn]
            scene = scenes._grid(rng, sprites, size)
            seen = np.bincount(scene.owner.ravel())[1:]
            assert [int(n) for n in seen] == [item.area for item in scene.sprites]


def test_target_is_the_union_of_the_answers(every):
    for example in every:
        wanted = [thing for thing in example.scene if thing.id in example.answer_ids]
        assert list(example.answer_ids) == [thing.id for thing in wanted]
        union = np.any([thing.mask for thing in wanted], 0) if wanted else np.zeros((96, 96), bool)
        np.testing.assert_array_equal(example.target.mask, union)
        assert example.target.boxes.dtype == np.float32 and example.target.boxes.shape == (len(wanted), 4)
        np.testing.assert_allclose(example.target.boxes, np.reshape([t.box for t in wanted], (-1, 4)), rtol=1e-6)


def replay(example):
    """Checks every step of a thought against the annotations, by its own small rules, and returns the last ids."""
    things = {thing.id: thing for thing in example.scene}
    labels = {use.name: use.labels for use in uses.USES + uses.GROUPS}
    previous, history = list(things), []
    for step in steps_of(example):
        how, ids = split(step)
        relation = re.fullmatch(rf"({'|'.join(chains.OFFSETS)}) (\d) is", how)
        if relation:
            name, anchor = relation[1], things[int(relation[2])]
            assert history[-1] == [anchor.id], step
            base = history[0] if example.thought.startswith("twice") else list(things)
            if name in SIDES:
                axis, sign = SIDES[name]
                right = [i for i in base if sign * (middle(things[i], axis) - middle(anchor, axis)) > 1e-9]
            elif name in ("in front of", "behind"):
                right = [i for i in base if i != anchor.id and (things[i].depth < anchor.depth) == (name != "behind")]
            else:
                right = [i for i in base if i != anchor.id and (area(things[i]) > area(anchor)) == (name[0] == "l")]
        elif how.removeprefix("not ").removeprefix("other ") in WORDS:
            word = how.split()[-1]
            base = list(things) if how.startswith("other") else previous
            right = [i for i in base if (word in things[i].attributes) != how.startswith("not")]
            if how.startswith("other"):
                right = [i for i in right if [i] != history[-1]]
        elif how in FARTHEST_ALONG:
            axis, sign = FARTHEST_ALONG[how]
            right = [max(previous, key=lambda i: sign * middle(things[i], axis))]
        elif how in ("nearest", "farthest"):
            right = [(min if how == "nearest" else max)(previous, key=lambda i: things[i].depth)]
        elif how in ("largest", "smallest"):
            right = [(max if how == "largest" else min)(previous, key=lambda i: area(things[i]))]
        elif how == "both":
            right = sorted(set(history[1]) & set(history[-1]))
        elif how.endswith("half"):
            axis, sign = {"left": (0, -1), "right": (0, 1), "upper": (1, -1), "lower": (1, 1)}[how.split()[0]]
            right = [i for i in things if sign * (middle(things[i], axis) - 0.5) > 0]
        elif how.startswith(("most ", "single ")):
            place = 0 if how.endswith("colour") else 2
            counts = Counter(thing.attributes[place] for thing in things.values())
            number = max(counts.values()) if how.startswith("most") else 1
            right = [i for i, thing in things.items() if counts[thing.attributes[place]] == number]
        elif how == "twice":
            counts = Counter(thing.label for thing in things.values())
            right = [i for i, thing in things.items() if counts[thing.label] == 2]
        elif how in categories.LABELS:
            right = [i for i, thing in things.items() if thing.label == how]
            assert len(right) == 1, "an anchor must be the only one of its name"
        else:
            right = [i for i, thing in things.items() if thing.label in labels[how]]
            assert re.search("|".join(labels[how]), step), "the category is named first"
            ids = sorted(ids)
        assert ids == right, (step, right, example.thought)
        assert ids or "none" in step
        history.append(ids)
        previous = ids
    return previous


def test_every_thought_follows_from_the_annotations_and_ends_in_the_answer(every):
    for example in every:
        assert tuple(replay(example)) == example.answer_ids
        assert len(example.thought.split()) <= 34
        assert len(set(steps_of(example))) == len(steps_of(example)), "no step is said twice"


def test_practice_asks_several_right_queries_of_a_scene():
    for index in range(60):
        things, asked = picture_examples.practice(3, index, 2 + index % 6, 4, 2)
        assert len(things) == 2 + index % 6 and len(asked) == 6
        for query in asked[2:]:
            scene = types.SimpleNamespace(scene=things, thought=query.thought)
            assert tuple(replay(scene)) == query.ids, query
    again = picture_examples.practice(3, 59, 7, 4)
    assert again[1] == picture_examples.practice(3, 59, 7, 4)[1] != picture_examples.practice(4, 59, 7, 4)[1]


def test_every_step_of_a_drill_is_right_by_itself():
    kinds = set()
    for index in range(100):
        things, (query,) = picture_examples.practice(5, index, 2 + index % 6, 0, 1)
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


def test_relations_leave_a_clear_gap():
    mask, words = np.zeros((1, 1), bool), ("red", "small", "wood")
    near, thin, far = (
        Instance(i, "key", (x, 0.4, x + 0.1, 0.6), mask, i, words) for i, x in enumerate((0.5, 0.46, 0.3), 1)
    )
    context = chains.Context(np.random.default_rng(0), "train", {1: near, 2: thin, 3: far}, "one")
    assert chains.filter_by_relation(context, chains.Draft((3,)), "left of", 1).ids == (3,)
    assert chains.filter_by_relation(context, chains.Draft((3,)), "right of", 1).ids == ()
    assert chains.filter_by_relation(context, chains.Draft((2, 3)), "left of", 1) is None
    assert chains.filter_by_extreme(context, chains.Draft((1, 3)), "largest") is None
    assert chains.filter_by_extreme(context, chains.Draft((1, 2, 3)), "rightmost") is None
    assert chains.filter_by_extreme(context, chains.Draft((1, 2, 3)), "leftmost").ids == (3,)


def test_a_query_never_names_the_category_of_its_target(every):
    for example in every:
        names = {thing.label for thing in example.scene if thing.id in example.answer_ids}
        assert not names & set(re.findall(r"\w+", example.query)), example.query


def test_no_phrase_of_a_use_says_its_category():
    for use in uses.USES + uses.GROUPS:
        said = " ".join(sum(use.clauses + use.needs, ()))
        assert not set(use.labels) & set(re.findall(r"\w+", said)), use.name
    assert set(uses.BY_LABEL) == set(categories.LABELS)


def test_unseen_combinations_are_a_fifth_and_stay_out_of_training(examples):
    assert 0.15 <= len(categories.UNSEEN) / (len(categories.LABELS) * len(attributes.COLOURS)) <= 0.25
    shown = {
        split: [{(thing.label, thing.attributes[0]) for thing in example.scene} for example in part]
        for split, part in examples.items()
    }
    assert not any(combinations & categories.UNSEEN for combinations in shown["train"])
    assert all(combinations & categories.UNSEEN for combinations in shown["heldout"])
    seen = set().union(*shown["train"])
    assert {label for label, _ in seen} == set(categories.LABELS)
    assert {colour for _, colour in seen} == set(attributes.COLOURS)


def test_phrasings_of_the_splits_are_disjoint(examples):
    for pool in (*phrases.pools(), *uses.pools()):
        assert pool.train and pool.heldout and not set(pool.train) & set(pool.heldout)
    queries_of = {split: {example.query for example in part} for split, part in examples.items()}
    assert not queries_of["train"] & queries_of["heldout"]


def test_all_kinds_of_queries_occur_about_equally_often(examples):
    for part in examples.values():
        cells = Counter((example.category, example.level) for example in part)
        assert set(cells) == set(pointing.KINDS)
        assert min(cells.values()) >= 0.03 * COUNT and max(cells.values()) <= 0.16 * COUNT
        answers = Counter(min(2, len(example.answer_ids)) for example in part)
        assert 0.05 <= answers[0] / COUNT <= 0.16
        assert 0.14 <= answers[2] / COUNT <= 0.30


@pytest.mark.parametrize("low, high", [(1, 1), (2, 2), (3, 4), (9, 9)])
def test_number_of_objects_is_kept(low, high):
    for i in range(40):
        example = picture_examples.example(0, picture_examples.SPLITS[i % 2], i, min_objects=low, max_objects=high)
        assert low <= len(example.scene) <= high
        assert tuple(replay(example)) == example.answer_ids


def test_larger_pictures():
    for i in range(6):
        example = picture_examples.example(0, "heldout", i, size=224)
        assert example.image.shape == (224, 224, 3) and example.target.mask.shape == (224, 224)
        for thing in example.scene:
            longest = max(thing.box[2] - thing.box[0], thing.box[3] - thing.box[1])
            assert longest <= 42 / 96 and thing.mask.sum() >= 60 * (224 / 96) ** 2


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"split": "test"}, "split"),
        ({"min_objects": 0}, "min_objects"),
        ({"min_objects": 5, "max_objects": 4}, "min_objects"),
        ({"max_objects": 10}, "max_objects"),
        ({"size": 32}, "size"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        picture_examples.example(**{"seed": 0, "split": "train", "index": 0} | arguments)
