"""Another order of the objects of an example, for training on twins that the prompt shows.

Most data number objects from left to right, so a number says something of the place, and the first object is more often
the right one than any other. A policy that is rewarded for its answers alone learns to answer such numbers. In a random
order a number says nothing.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from dtr1_jax.twin import ids, program_steps, things
from dtr1_jax.types import Example


def shuffled(example: Example, generator: np.random.Generator) -> Example:
    """The example with its objects in a random order, numbered 1, 2, ... in this order.

    Answer, relations and thought name the same objects by their new numbers. The example stays as it is if its thought
    has numbers in another form than the generated ones, because nobody can tell which of them are ids.
    """
    order = generator.permutation(len(example.scene)).tolist()
    new = {example.scene[old].id: place for place, old in enumerate(order, 1)}
    thought = _thought(example, new)
    if thought is None:
        return example
    return dataclasses.replace(
        example,
        scene=tuple(dataclasses.replace(example.scene[old], id=place) for place, old in enumerate(order, 1)),
        answer_ids=None if example.answer_ids is None else tuple(sorted(new[one] for one in example.answer_ids)),
        relations=tuple((new[a], words, new[b]) for a, words, b in example.relations),
        thought=thought,
    )


def _thought(example: Example, new: dict[int, int]) -> str | None:
    """The thought with new numbers; "" where the steps of the program say the same; None if it cannot be renumbered."""
    if example.program and example.thought == program_steps.steps(
        example.program, things.things_of_scene(example.scene)
    ):
        return ""  # it is computed from the program when it is needed (demonstrations.py), with ids in ascending order
    return ids.renumbered_thought(example.thought, new, (one.label for one in example.scene))
