"""Worked examples: earlier turns of the chat, from which a policy that never saw the format can copy it.

They are for the constructor "given", whose prompts show the twin in words, and for "specialists", where the twin stands
in the reply, behind the request for it. They are short, since every prompt has them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from dtr1_jax.twin.construct import DETECT, SEGMENT, Request
from dtr1_jax.twin.schema import Answer, Object, Twin
from dtr1_jax.twin.transcript import compose, dumps_reply, thought_about

PETS = Twin((80, 60), (Object(1, "dog", (0, 5, 4, 9)), Object(2, "cat", (6, 1, 9, 9))))
STREET = Twin((60, 80), (Object(1, "car", (1, 4, 4, 7)), Object(2, "tree", (5, 0, 9, 8))))

# (twin, query, thought, answer). Thoughts are as short as possible, and no answer is empty, because a small policy
# copies the examples: after one with an empty answer, SmolLM2-135M gave an empty answer to every query.
_POINTING = (
    (PETS, "Which pet takes up the most of the picture?", "cat 2.", Answer(objects=(2,))),
    (STREET, "Find every thing that has wheels.", "car 1.", Answer(objects=(1,))),
)
_QUESTION = ((PETS, "Which pet is to the right?", "pet: dog 1, cat 2. rightmost: 2.", Answer(text="cat")),)
_SUMMARY = ((STREET, "What is there to see?", "car 1, tree 2. right of 1: 2.", Answer(text="A tree right of a car.")),)
EXAMPLES = {"segmentation": _POINTING, "grounding": _POINTING, "vqa": _QUESTION, "summary": _SUMMARY}


def turns(task: str, user_text: Callable[[Twin, str], str], named: bool = False) -> list[dict[str, str]]:
    """The chat messages before the query: for each worked example a user's and an assistant's.

    Args:
      task: one of types.TASKS.
      user_text: (twin, query) -> the user's text, in the form that the real query has.
      named: whether ids are names.
    """
    messages = []
    for twin, query, thought, answer in EXAMPLES[task]:
        twin = dataclasses.replace(twin, named=named)
        reply = dumps_reply(twin, thought_about(twin, thought), answer)
        messages += [{"role": "user", "content": user_text(twin, query)}, {"role": "assistant", "content": reply}]
    return messages


def asking_turns(task: str, named: bool = False) -> list[dict[str, str]]:
    """The same for the constructor "specialists": the user's message is the query alone.

    The assistant asks for the labels of the twin, and for pixels where they are the answer.
    """
    messages = []
    for twin, query, thought, answer in EXAMPLES[task]:
        twin = dataclasses.replace(twin, named=named)
        ops = (DETECT, SEGMENT) if task == "segmentation" else (DETECT,)
        request = Request(tuple(item.label for item in twin.objects), ops)
        reply = compose(twin, thought_about(twin, thought), answer, request)
        messages += [{"role": "user", "content": query}, {"role": "assistant", "content": reply}]
    return messages
