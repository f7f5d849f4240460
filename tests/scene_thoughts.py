"""Checks of the steps of thoughts about pictures, by small rules of their own."""

import re
from collections import Counter

from dtr1_jax.data.queries import attributes, chains, uses
from dtr1_jax.data.twinworld import categories

SIDES = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}
FARTHEST_ALONG = {"leftmost": (0, -1), "rightmost": (0, 1), "highest": (1, -1), "lowest": (1, 1)}
WORDS = attributes.COLOURS + attributes.SIZES + attributes.MATERIALS


def split(step):
    """("left of 3 is", [1, 2]) from the step "left of 3 is 1 2"; the filter of a step "a: b 1, c 2" is "a"."""
    how, colon, rest = step.partition(": ")
    if not colon:
        how, rest = re.fullmatch(r"(.*?)((?: \d)+| none)", step).groups()
    return how, [int(number) for number in re.findall(r"\d", rest)]


def ids_of(step):
    return split(step)[1]


def steps_of(example):
    assert example.thought.endswith(".")
    return example.thought[:-1].split(". ")


def middle(thing, axis):
    return (thing.box[axis] + thing.box[axis + 2]) / 2


def area(thing):
    return (thing.box[2] - thing.box[0]) * (thing.box[3] - thing.box[1])


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
